from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.errors import ConfigError
from limbeck.settings import check_settings
from limbeck.study import LossStudy, run_loss_study

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "vision").glob("compare*.yaml"))
QUICK = {
    "data": "digits", "per_class": 10, "teacher": {"hidden": [16], "steps": 60}, "student": {"hidden": [8]},
    "steps": 20, "methods": ["ce", "kd"], "seeds": 2,
}  # fmt: skip


def study(out, **changes: object) -> LossStudy:
    return check_settings(LossStudy, QUICK | {"out": out} | changes)


def test_values_in_lists_are_tried_beside_the_untuned_default(tmp_path):
    methods = study(tmp_path, methods=["ce", {"kd": {"weight": [0.9, 9], "temperature": [2, 4]}}]).expanded()
    assert list(methods) == ["ce", "kd", "kd weight=0.9 temperature=2", "kd weight=9 temperature=2",
                             "kd weight=9 temperature=4"]  # fmt: skip
    assert methods["kd weight=9 temperature=2"][1].weight.end == 9
    nested = study(tmp_path, methods=["ce", {"dkd": {"options": {"beta": [2, 4]}}}]).expanded()
    assert [m.options["beta"] for _, m in nested.values() if m.name == "dkd"] == [8.0, 2, 4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ["ce", "kdd"]}, 'no method is called "kdd"'),
        ({"methods": ["ce", {"kd": 9}]}, "write a name"),
        ({"method": "kd"}, "a comparison has no method"),
        ({"settings": {"a": {"seed": 1}}}, "seed cannot differ"),
    ],
)
def test_mistakes_in_a_study(tmp_path, changes, words):
    with pytest.raises(ConfigError, match=words):
        study(tmp_path, **changes)


def test_mistakes_before_any_training(tmp_path):
    with pytest.raises(ConfigError, match="methods lack the baseline top"):
        run_loss_study(study(tmp_path), "top")
    with pytest.raises(ConfigError, match='setting a: unknown key "per_clas"'):
        run_loss_study(study(tmp_path, settings={"a": {"per_clas": 3}}))
    assert not list(tmp_path.iterdir())


def test_a_study_goes_on_and_gives_the_same_rows(tmp_path):
    found = run_loss_study(study(tmp_path, settings={"few": {}, "same": {}}))
    assert [one.setting for one in found.settings] == ["digits, few", "digits, same"]
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and len(list((tmp_path / "trials").iterdir())) == 4
    assert len(list((tmp_path / "teachers").iterdir())) == 2
    by = {(r["regime"], r["method"], r["seed"]): r for r in rows}
    assert by["few", "ce", 0]["teacher_accuracy_percent"] == by["few", "kd", 0]["teacher_accuracy_percent"]
    assert by["few", "ce", 0]["test_nll_nats"] != by["few", "kd", 0]["test_nll_nats"]
    assert by["few", "kd", 0]["test_nll_nats"] != by["few", "kd", 1]["test_nll_nats"]
    lost = sorted((tmp_path / "trials").iterdir())[0]
    lost.unlink()
    run_loss_study(study(tmp_path, settings={"few": {}, "same": {}}))
    again = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [r | {"seconds": 0} for r in again] == [r | {"seconds": 0} for r in rows]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_shipped_study_runs_from_the_command_line(tmp_path, recipe):
    assert len(recipe.read_text().splitlines()) <= 15
    (tmp_path / recipe.name).write_text(recipe.read_text())
    changes = ["seeds=2", "steps=10", "teacher.steps=10", "methods=[ce, kd]", "out=short"]
    said = CliRunner().invoke(app, ["compare", "losses", str(tmp_path / recipe.name), *changes, "--json"])
    assert said.exit_code == 0, said.output
    found = json.loads(said.stdout)
    assert all({one["method"] for one in setting["results"]} == {"ce", "kd"} for setting in found["settings"])
    assert len((tmp_path / "short" / "results.jsonl").read_text().splitlines()) == 4 * len(found["settings"])


def test_other_data_under_the_same_name_are_other_trials(tmp_path):
    rows = []
    for seed in (0, 1, 0):
        rng = np.random.default_rng(seed)
        np.savez(tmp_path / "data.npz", inputs=rng.normal(size=(60, 3)), labels=np.arange(60) % 3)
        run_loss_study(study(tmp_path / "out", data=str(tmp_path / "data.npz"), per_class=None))
        rows.append((tmp_path / "out" / "results.jsonl").read_text())
    assert len(list((tmp_path / "out" / "trials").iterdir())) == 8
    assert rows[0] == rows[2] != rows[1]
