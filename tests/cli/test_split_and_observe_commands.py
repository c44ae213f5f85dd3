from __future__ import annotations

import numpy as np
import pytest

from limbeck.runs import read_runs


@pytest.fixture(scope="module")
def splits_csv(tmp_path_factory):
    sizes = np.geomspace(1e4, 1e9, 6)
    rows = [f"{n:g},1e10,{2 * (n / 1e9) ** -0.03:.6f},{2 * (n / 1e9) ** -0.01:.6f}" for n in sizes]
    path = tmp_path_factory.mktemp("splits") / "splits.csv"
    path.write_text("\n".join(["params,samples,id,ood", *rows]) + "\n")
    return path


def test_splits_from_a_table(limbeck, splits_csv, tmp_path):
    said = limbeck("compare", "splits", splits_csv, "--splits", "id,ood", "--plot", tmp_path / "s.html")
    assert said.code == 0 and "specialises" in said.out and (tmp_path / "s.html").is_file(), said.err
    record = limbeck("compare", "splits", splits_csv, "--splits", "id,ood", "--json").json()
    assert record["rows"][1]["ratio"]["value"] == pytest.approx(1 / 3, abs=1e-3)
    assert record["advice"] == {"id": "params", "ood": "params"} and len(record["rows"][0]["x"]) == 6


def test_mistakes_about_splits(limbeck, splits_csv):
    for arguments, words in (
        (["--splits", "id,odd"], "no column odd"),
        (["--splits", "id,ood", "--scales", "samples"], "three or more runs are needed along a scale"),
        (["--splits", "id,ood", "--scales", "flops"], "no column flops"),
    ):
        said = limbeck("compare", "splits", splits_csv, *arguments)
        assert said.code == 2 and words in said.err and "Traceback" not in said.err, said


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Forty models of one capability; the task lies in a second table of other order."""
    folder = tmp_path_factory.mktemp("models")
    flops = np.geomspace(1e20, 1e24, 40)
    score = 1 / (1 + np.exp(-np.log(flops / 1e22) / 2))
    rows = [f"m{k},{c:g},{0.02 * np.log(c) - 0.5:.6f},{0.01 * np.log(c):.6f}" for k, c in enumerate(flops)]
    (folder / "benchmarks.csv").write_text("\n".join(["name of it,flops,easy,other", *rows]) + "\n")
    tasks = [f"m{k},{y:.6f}" for k, y in reversed(list(enumerate(score)))]
    (folder / "tasks.csv").write_text("\n".join(["name of it,sums", *tasks]) + "\n")
    return folder / "benchmarks.csv", folder / "tasks.csv"


def test_a_task_observed_through_two_tables(limbeck, models, tmp_path):
    asked = ["task", "observe", models[0], "--scores", models[1], "--task", "sums", "--cutoff", "1e23"]
    record = limbeck(*asked, "--json").json()
    assert record["names"] == [f"m{k}" for k in range(30, 40)] and len(record["known"]) == 30
    assert record["error"] < 1e-6 and record["score"][0]["value"] == pytest.approx(record["measured"][0], abs=1e-3)
    said = limbeck(*asked, "--plot", tmp_path / "o.html")
    assert said.code == 0 and "m39" in said.out and (tmp_path / "o.html").is_file(), said.err


def test_mistakes_about_observed_tasks(limbeck, models):
    for arguments, words in (
        (["--task", "sums", "--cutoff", "1e23"], "no column sums"),
        (["--task", "sums", "--cutoff", "1e19", "--scores", models[1]], "needs ten scored models up to"),
        (["--task", "sums", "--cutoff", "1e23", "--scores", models[1], "--benchmarks", "easi"], "no column easi"),
    ):
        said = limbeck("task", "observe", models[0], *arguments)
        assert said.code == 2 and words in said.err and "Traceback" not in said.err, said


def test_decays_and_annealed_checkpoints(limbeck, curves_csv, tmp_path):
    said = limbeck("fit", curves_csv, "--law", "annealing", "--bootstrap", 50, cwd=tmp_path)
    assert said.code == 0, said.err
    record = limbeck("plan", "decay", "fit.json", "--steps", "6k", "--json", cwd=tmp_path).json()
    assert 0.05 < record["lower"] <= record["value"] <= record["upper"] < 0.5
    assert min(record["losses"]) == record["losses"][record["shares"].index(record["value"])]
    text = limbeck("plan", "decay", "fit.json", "--steps", "6k", "--plot", "d.html", cwd=tmp_path)
    assert text.out.startswith("decay (linear) over the last") and (tmp_path / "d.html").is_file()
    said = limbeck("plan", "annealed", "fit.json", curves_csv, "--out", "annealed.csv", "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    table = read_runs(tmp_path / "annealed.csv")
    change = table.column("loss") - table.column("raw_loss")
    assert said.json()["mean_change"] == pytest.approx(change.mean()) and change.mean() < -0.01
    refused = limbeck("plan", "decay", "fit.json", "--steps", "100", cwd=tmp_path)
    assert refused.code == 2 and "100 steps are too few" in refused.err


def test_benchmarks_that_say_nothing_are_left_out_and_named(limbeck, models, tmp_path):
    lines = models[0].read_text().splitlines()
    more = [f"{line},0.5,x" for line in lines[1:]]
    (tmp_path / "more.csv").write_text("\n".join([f"{lines[0]},same,words", *more]) + "\n")
    asked = ["--scores", models[1], "--task", "sums", "--cutoff", "1e23", "--json"]
    record = limbeck("task", "observe", tmp_path / "more.csv", *asked).json()
    assert record["notes"] == [
        "left out: same (no score that varies among the known models)",
        "left out: words (text)",
    ]
    assert record["score"] == limbeck("task", "observe", models[0], *asked).json()["score"]


def test_checkpoints_are_annealed_by_curves_that_anneal(limbeck, fitted, curves_csv, tmp_path):
    flat = [line for line in curves_csv.read_text().splitlines() if not line.startswith("cosine")]
    (tmp_path / "flat.csv").write_text("\n".join(flat) + "\n")
    said = limbeck("fit", "flat.csv", "--law", "annealing", "--bootstrap", 0, "--holdout", 0, cwd=tmp_path)
    assert said.code == 0, said.err
    for fit, words in ((fitted[0], "this is one of chinchilla"), ("fit.json", "C is not identified")):
        said = limbeck("plan", "annealed", fit, curves_csv, cwd=tmp_path)
        assert said.code == 2 and words in said.err and "Traceback" not in said.err, said
