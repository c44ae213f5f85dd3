from __future__ import annotations

import numpy as np
import pytest

from limbeck.laws import SU_2024_BATCH


def test_from_curves_to_a_schedule(limbeck, curves_csv, tmp_path):
    said = limbeck("fit", curves_csv, "--law", "annealing", "--bootstrap", 50, cwd=tmp_path)
    assert said.code == 0 and "S2 with momentum 0.99" in said.out, said.err
    plan = limbeck("plan", "schedule", "fit.json", "--steps", "6k", "--json", cwd=tmp_path).json()
    by_name = {option["name"]: option for option in plan["options"]}
    assert plan["best"] == plan["options"][0]["name"] != "constant"
    assert by_name["cosine"]["loss"]["value"] < by_name["constant"]["loss"]["value"]
    own = curves_csv.read_text().replace("flat", "mine").replace("0.0003", "0.0006")
    (tmp_path / "own.csv").write_text("\n".join(line.rsplit(",", 1)[0] for line in own.splitlines()) + "\n")
    text = limbeck("plan", "schedule", "fit.json", "--rates", "own.csv", "--plot", "curves.html", cwd=tmp_path)
    assert "mine" in text.out and "outside the law's validity: peaks at 0.0006" in text.out
    assert (tmp_path / "curves.html").is_file()


def test_mistakes_about_curves(limbeck, curves_csv, fitted, tmp_path):
    for arguments, words in (
        (["plan", "schedule", fitted[0], "--steps", "6k"], "by a fit of annealing; this is one of chinchilla"),
        (["plan", "schedule", fitted[0]], "give --steps"),
        (["fit", curves_csv, "--law", "annealing", "--map", "learning_rate="], "no column lr"),
        (["fit", curves_csv, "--law", "annealing-size"], "no column params"),
    ):
        said = limbeck(*arguments, cwd=tmp_path)
        assert said.code == 2 and words in said.err and "Traceback" not in said.err, said


def test_batches_from_runs_and_from_published_constants(limbeck, tmp_path):
    rows = [
        f"{n:g} {b:g},{n:g},{b:g},{s:g},{SU_2024_BATCH.value(params=n, batch_tokens=b, step=s):.9f}"
        for n in (1e6, 1e7)
        for b in (3e4, 3e5, 3e6)
        for s in np.geomspace(300, 3e5, 20).round()
    ]
    (tmp_path / "runs.csv").write_text("\n".join(["run,params,batch_tokens,step,loss", *rows]) + "\n")
    said = limbeck("fit", "runs.csv", "--law", "batch", "--bootstrap", 30, cwd=tmp_path)
    assert said.code == 0, said.err
    plan = limbeck("plan", "batch", "fit.json", "--params", "100M", "--loss", 3.2, "--json", cwd=tmp_path).json()
    assert plan["critical"]["value"] == pytest.approx(1.7e8 * 3.2 ** (-1 / 0.205), rel=1e-3)
    assert len(plan["options"]) == 5 and len(plan["options"][0]["curve"]) == 50
    said = limbeck(
        "plan", "batch", "--params", "1B", "--loss", 2.6, "--batches", "0.5M,2M", "--plot", "p.html", cwd=tmp_path
    )
    assert "refit on your own runs" in " ".join(said.out.split()) and (tmp_path / "p.html").is_file()
    for arguments, words in (
        (["--params", "1B", "--loss", 1.0], "the floor is 2.347"),
        (["--params", "1B"], "--params and --loss, above 0, are needed"),
        (["--params", "1B", "--loss", 2.6, "--batches", "x"], '"x" is not a number'),
    ):
        said = limbeck("plan", "batch", *arguments, cwd=tmp_path)
        assert said.code == 2 and words in said.err and "Traceback" not in said.err, said
