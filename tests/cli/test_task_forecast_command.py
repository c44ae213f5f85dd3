from __future__ import annotations

import math

import numpy as np
import pytest


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Five sizes at two lengths, twelve checkpoints each, and one row before the first step."""
    lines = ["run,n_params,tokens,c4_ce,quiz_acc", "small,1e8,0,11.0,0.25"]
    for params in (1e8, 2e8, 4e8, 8e8, 1.6e9):
        for length in (20, 100):
            for tokens in params * length * np.arange(1, 13) / 12:
                loss = 2 + 2000 * params**-0.4 + 60 * tokens**-0.2
                score = 0.25 + 0.7 / (1 + np.exp(2 * (loss - 3.0)))
                lines.append(f"{params:g}-{length},{params:g},{tokens:.0f},{loss:.6f},{score:.6f}")
    path = tmp_path_factory.mktemp("tasks") / "checkpoints.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_forecast_answers_in_a_table_and_in_json(limbeck, checkpoints, tmp_path):
    goal = ("params=7B", "tokens=4T", "--skip-bad")
    said = limbeck("task", "forecast", checkpoints, *goal, "--plot", "page.html", cwd=tmp_path)
    assert said.code == 0, said.err
    assert "7 B parameters, 4 T tokens" in said.out and "c4_ce" in said.out
    assert "dropped row 2: tokens 0: must be positive" in said.out
    assert "plotly" in (tmp_path / "page.html").read_text()
    record = limbeck("task", "forecast", checkpoints, *goal, "--json").json()
    found = record["tasks"][0]["accuracy"][0]
    truth = 0.25 + 0.7 / (1 + np.exp(2 * (2 + 2000 * 7e9**-0.4 + 60 * 4e12**-0.2 - 3.0)))
    assert found["lower"] <= found["value"] <= found["upper"] and found["value"] == pytest.approx(truth, abs=0.01)
    assert record["tasks"][0]["doubt"] == "" and record["dropped"]


def test_any_task_fits_a_sigmoid_of_its_loss(limbeck, tmp_path):
    lines = [
        "run,c4,quiz",
        *(f"r{k},{2 + 0.1 * k},{0.25 + 0.6 / (1 + math.exp(4 * (0.1 * k - 1)))}" for k in range(20)),
    ]
    (tmp_path / "scores.csv").write_text("\n".join(lines) + "\n")
    names = ("--map", "loss=c4", "--map", "accuracy=quiz", "--bootstrap", 0)
    said = limbeck("fit", "scores.csv", "--law", "task-accuracy", *names, "--holdout", 0, "--json", cwd=tmp_path)
    assert said.code == 0, said.err
    assert said.json()["parameters"] == pytest.approx({"floor": 0.25, "ceiling": 0.85, "k": 4.0, "L0": 3.0}, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["params=7B", "tokens=4T"], "--skip-bad"),
        (["--skip-bad"], "params=7B tokens=4T"),
        (["params=7B", "--skip-bad"], "params=7B tokens=4T"),
        (["params=7B", "tokens=4T", "--task", "quizz", "--skip-bad"], 'Did you mean "quiz"'),
        (["params=7B", "tokens=4T", "--through", "pile_ce", "--skip-bad"], "no column pile_ce"),
        (["params=2B", "tokens=4T", "--skip-bad", "--where", "params<=4e8"], "three sizes below it"),
    ],
)
def test_mistakes_get_one_message(limbeck, checkpoints, arguments, words):
    said = limbeck("task", "forecast", checkpoints, *arguments)
    assert said.code == 2 and words in said.err and "Traceback" not in said.err and said.out == ""
