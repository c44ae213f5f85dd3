"""Recipes as files, what they write, and how mistakes in them are said."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from limbeck.cli import main
from limbeck.errors import ConfigError
from limbeck.recsys import evaluate_folder, load_network, read_click_recipe, run_recipe, synthetic

RECIPES = Path(__file__).parents[2] / "recipes" / "recsys"


@pytest.fixture
def log(tmp_path):
    """A small log as a file."""
    made = synthetic(users=30, events=40, items=30)
    item, genre, action = (
        [values[code - 1] for code in made.event[:, k].tolist()] for k, values in enumerate(made.schema.event.values())
    )
    columns = {"user": made.user.tolist(), "item": item, "item_genre": genre, "time": made.time.tolist()}
    pl.DataFrame(columns | {"label": action}).write_csv(tmp_path / "log.csv")
    return tmp_path / "log.csv"


def typed(monkeypatch, *words):
    """Exit code of a command."""
    monkeypatch.setattr("sys.argv", ["limbeck", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code


def recipe(tmp_path, text):
    (tmp_path / "recipe.yaml").write_text("room: recsys\ndata: log.csv\nout: out\n" + text)
    return tmp_path / "recipe.yaml"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_that_come_along_can_be_read(path):
    if "unimixer" not in path.stem:
        read_click_recipe(path)
    assert len(path.read_text().splitlines()) <= 15


def test_student_and_teacher_come_out_of_the_command_and_can_be_compared(tmp_path, log, monkeypatch, capsys):
    path = recipe(tmp_path, "teacher: {width: 8}\nstudent: {window: 2, dilation: 3, align: events}\nbatch: 32\n")
    assert typed(monkeypatch, "distill", path, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["steps"] == 960 // 32
    assert json.loads((tmp_path / "out" / "result.json").read_text())["judged"] == said["judged"]
    found = evaluate_folder(tmp_path / "out" / "student", tmp_path / "out" / "teacher", log)
    assert found.student.auc == pytest.approx(said["judged"]["auc"], abs=1e-12)
    assert found.teacher.auc == pytest.approx(said["teacher_judged"]["auc"], abs=1e-12)
    assert found.divergence > 0
    student = tmp_path / "out" / "student"
    assert evaluate_folder(student, student, log, limit=50).divergence == pytest.approx(0, abs=1e-12)
    words = ["evaluate", student, "--against", tmp_path / "out" / "teacher", "--data", log]
    assert typed(monkeypatch, *words) == 0
    assert f"student AUC {said['judged']['auc']:.4f}" in capsys.readouterr().out


def test_a_teacher_of_a_folder_reads_the_log_by_its_own_codes(tmp_path, log):
    run_recipe(read_click_recipe(recipe(tmp_path, "student: {width: 8}\nmethod: ce\nsteps: 4\n")), progress=False)
    later = pl.read_csv(log).with_columns(user=pl.col("user") + 10)
    later.write_csv(tmp_path / "later.csv")
    path = recipe(tmp_path, "teacher: out/student\nstudent: {}\nmethod: kd\nsteps: 4\n")
    found = run_recipe(read_click_recipe(path, ["data=later.csv", "out=next"]), progress=False)
    assert "10 users that the network does not know" in found.data
    codes = [load_network(tmp_path / name / "student").schema for name in ("out", "next")]
    assert codes[0] == codes[1]


def test_a_teacher_that_learns_first_is_kept_too(tmp_path, log):
    path = recipe(tmp_path, "teacher: {}\nstudent: {blocks: 0}\nmethod: kd\nsteps: 3\n")
    found = run_recipe(read_click_recipe(path), progress=False)
    again = evaluate_folder(tmp_path / "out" / "student", tmp_path / "out" / "teacher", log)
    assert again.teacher == found.found.teacher_judged


def test_a_ladder_is_climbed_and_planned_from(tmp_path, log, monkeypatch, capsys):
    grades = "ladder:\n  grades:\n    slow: {blocks: 2, width: 8}\n    fast: {blocks: 0}\n  seeds: 2\nsteps: 3\n"
    assert typed(monkeypatch, "distill", recipe(tmp_path, grades)) == 0
    assert typed(monkeypatch, "plan", "grade", tmp_path / "out", "--latency", "1000") == 0
    said = capsys.readouterr().out
    assert "slow" in said
    assert "← teacher" in said


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("student: {depth: 2}\nmethod: ce\n", 'suan has no size "depth"'),
        ("student: {kind: swan}\nmethod: ce\n", 'no click network is called "swan". Did you mean "suan"'),
        ("student: {width: wide}\nmethod: ce\n", "suan: width must be a valid integer"),
        ("student: {width: 0}\nmethod: ce\n", "sizes must be positive"),
        ("student: {}\n", "method online needs a teacher"),
        ("student: {}\nteacher: {}\nmethod: ce\n", "method ce takes no teacher"),
        ("student: {}\nteacher: somewhere\n", "a teacher in a folder has learnt already"),
        ("method: ce\n", "give a student, or a ladder"),
        ("ladder: {grades: {}}\n", "give a student, or a ladder"),
        ("student: {}\nteacher: 5\n", "line 5: a network is a folder, or sizes as in {blocks: 1, width: 4}, got 5"),
        ("student: {}\nteacher: {}\ntemprature: 3\n", 'unknown key "temprature". Did you mean "temperature"'),
        ("student: {}\nmethod: ce\nbatch: 5000\nlr: fast\n", '"lr" must be a valid number'),
    ],
)
def test_mistakes_in_a_recipe(tmp_path, log, text, why):
    with pytest.raises(ConfigError) as caught:
        read_click_recipe(recipe(tmp_path, text))
    assert why in str(caught.value)


def test_a_command_says_what_is_wrong_without_a_traceback(tmp_path, log, monkeypatch, capsys):
    assert typed(monkeypatch, "distill", recipe(tmp_path, "student: {heads: 7}\nmethod: ce\n")) == 2
    assert capsys.readouterr().err.startswith("7 heads do not divide a state of 12")
    assert typed(monkeypatch, "distill", recipe(tmp_path, "student: {}\nmethod: ce\n"), "data=nowhere.csv") == 2
    assert "is not a file of clicks" in capsys.readouterr().err
