from __future__ import annotations

import numpy as np
import pytest

from limbeck.laws import Annealing, Schedule

SCHEDULES = {
    "flat": Schedule(6000, 3e-4, warmup=200, decay=0.0).rates(),
    "cosine": Schedule(6000, 3e-4, "cosine", 3e-5, warmup=200).rates(),
}


@pytest.fixture(scope="session")
def curves_csv(tmp_path_factory):
    law, lines = Annealing(momentum=0.99), ["run,step,learning_rate,val_loss"]
    rng = np.random.default_rng(0)
    for run, rates in SCHEDULES.items():
        at = np.arange(200, 6000, 40)
        loss = law(
            {"L0": 2.8, "A": 0.6, "C": 12.0, "alpha": 0.45}, **{k: v[at] for k, v in law.columns_of(rates).items()}
        )
        loss = loss * np.exp(1e-3 * rng.standard_normal(len(at)))
        lines += [f"{run},{s},{rates[s]:.9g},{y:.6f}" for s, y in zip(at, loss, strict=True)]
    path = tmp_path_factory.mktemp("curves") / "curves.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


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
