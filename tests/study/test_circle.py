"""A study goes once round the circle: what it predicts stands on disk before the run that checks it."""

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from limbeck.errors import ConfigError, PlanningError, TrainingError
from limbeck.settings import check_settings
from limbeck.study import Stages, StudySettings, Trial, grid, on_this_machine, read_study, run_study
from limbeck.study.trials import needs_teacher, with_teacher

RECIPE = {"data": "digits", "teacher": {"hidden": [16], "steps": 20}, "method": "kd", "test": 0.9}
KEYS: dict[str, Any] = {
    "room": "vision", "recipe": RECIPE, "ladder": {"student.hidden": [[2], [4], [8]], "steps": [10, 20, 40]},
    "seeds": [0], "plan": {"student.hidden": [[8], [64]], "steps": [80]}, "verify": [7], "draws": 100,
}  # fmt: skip


def settings(out: Path, **changes: Any) -> StudySettings:
    return check_settings(StudySettings, KEYS | {"out": str(out)} | changes)


def planted(trials: Sequence[Trial], told: Callable[[int], None]) -> list[dict[str, Any]]:
    """What a world would measure that follows the law exactly."""
    rows = []
    for done, trial in enumerate(trials, 1):
        cost = trial.cost()
        rows.append({"run": trial.name, **cost, "loss": 0.5 + 30 / cost["params"] ** 0.6 + 60 / cost["tokens"] ** 0.8})
        told(done)
    return rows


def quiet() -> Stages:
    return Stages(5, quiet=True)


def test_an_exact_law_is_predicted(tmp_path: Path) -> None:
    seen: list[tuple[str, bool]] = []

    def watching(trials: Sequence[Trial], told: Callable[[int], None]) -> list[dict[str, Any]]:
        seen.extend((one.name, (tmp_path / "prediction.json").is_file()) for one in trials)
        return planted(trials, told)

    found = run_study(settings(tmp_path), watching, stages=quiet())
    assert found.chosen == {"student.hidden": [64], "steps": 80}
    assert found.outcome["predicted"] == pytest.approx(found.outcome["measured"], rel=1e-3)
    assert found.outcome["params"] == 64 * 64 + 64 + 64 * 10 + 10 and found.outcome["tokens"] == 80 * 64
    assert [before for _, before in seen] == [False] * 9 + [True]
    book = json.loads((tmp_path / "prediction.json").read_text())["forecasts"]
    assert [one["name"] for one in book] == ["chosen run"] and book[0]["basis"]["run"] == "hidden=64,steps=80"
    summary = json.loads((tmp_path / "summary.json").read_text())
    best = min(row["loss"] for row in map(json.loads, (tmp_path / "runs.jsonl").read_text().splitlines()[:9]))
    assert summary["baselines"]["chosen run"]["best of the ladder"] == pytest.approx(best)


def test_the_budget_decides(tmp_path: Path) -> None:
    found = run_study(settings(tmp_path / "a", within=3), planted, stages=quiet())
    assert found.chosen["student.hidden"] == [8]
    assert [one["affordable"] for one in found.candidates] == [True, False]
    with pytest.raises(PlanningError, match="least takes 2 times"):
        run_study(settings(tmp_path / "b", within=1), planted, stages=quiet())


def test_a_prediction_is_never_replaced(tmp_path: Path) -> None:
    first = run_study(settings(tmp_path), planted, stages=quiet())

    def worse(trials: Sequence[Trial], told: Callable[[int], None]) -> list[dict[str, Any]]:
        return [{**row, "loss": 1.5 * row["loss"]} for row in planted(trials, told)]

    again = run_study(settings(tmp_path), worse, stages=quiet())
    assert again.outcome["predicted"] == first.outcome["predicted"]
    assert again.outcome["measured"] == pytest.approx(1.5 * first.outcome["measured"])
    with pytest.raises(ConfigError, match=r"seeds = \[0\]; now it is \[1\]"):
        run_study(settings(tmp_path, seeds=[1]), planted, stages=quiet())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ladder": {}}, "give keys of the recipe"),
        ({"plan": {"steps": []}}, "give keys of the recipe"),
        ({"ladder": {"seed": [1]}}, "give keys of the recipe"),
        ({"verify": [0]}, "seeds that the ladder does not have"),
        ({"plan": {"student.hidden": [[8]], "steps": [40]}}, "which the ladder runs"),
        ({"ladder": {"student.hiden": [[8]]}}, 'unknown key "hiden"'),
        (
            {"plan": {"steps.much": [1], "student.hidden": [[3]]}, "recipe": RECIPE | {"steps": 3}},
            "not a group of keys",
        ),
        ({"room": "embeddings"}, "embeddings"),
        ({"law": "chinchila"}, "chinchilla"),
    ],
)
def test_mistakes(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said) as caught:
        run_study(settings(tmp_path, **changes), planted, stages=quiet())
    assert type(caught.value).__module__.startswith("limbeck")


def test_one_teacher_serves_all(tmp_path: Path) -> None:
    first, second = grid("vision", RECIPE | {"student": {"hidden": [2]}}, {"seed": [0, 1]}, Path(), tmp_path)
    assert needs_teacher(first) and not needs_teacher(with_teacher(first, first.out))
    assert with_teacher(second, first.out).recipe["teacher"] == str((first.out / "teacher-1").resolve())
    alone = grid(
        "vision", {"data": "digits", "method": "ce", "student": {"hidden": [2]}}, {"seed": [0]}, Path(), tmp_path
    )
    assert not needs_teacher(alone[0])
    assert needs_teacher(grid("diffusion", {"data": "ring8"}, {"seed": [0]}, Path(), tmp_path)[0])


def test_a_complete_trial_returns_at_once(tmp_path: Path) -> None:
    (trial,) = grid("vision", RECIPE | {"student": {"hidden": [2]}, "steps": 5}, {"seed": [3]}, Path(), tmp_path)
    row = trial()
    assert row["params"] == 64 * 2 + 2 + 2 * 10 + 10 and row["tokens"] == 5 * 64 and 1 < row["loss"] < 5
    note = tmp_path / "seed=3" / "trial.json"
    note.write_text(note.read_text().replace(repr(row["loss"]), "0.25"))
    assert trial()["loss"] == 0.25
    changed = Trial("vision", {**trial.recipe, "steps": 6}, Path(), tmp_path / "other")
    assert changed()["tokens"] == 6 * 64


@pytest.mark.parametrize(
    ("room", "recipe", "cost"),
    [
        (
            "lm",
            {"data": "t.txt", "teacher": "t", "student": {"width": 16}, "tokens": 5000},
            (2 * (4 * 256 + 3 * 16 * 48 + 32) + 16, 5000),
        ),
        (
            "lm",
            {"data": "t.txt", "teacher": "t", "student": {"width": 16}, "steps": 3, "batch": 2},
            (2 * (4 * 256 + 3 * 16 * 48 + 32) + 16, 768),
        ),
        ("diffusion", {"data": "ring8", "student": {"width": 8, "blocks": 1}, "updates": 7, "batch": 10}, (None, 70)),
    ],
)
def test_costs_are_known_before(tmp_path: Path, room: str, recipe: dict[str, Any], cost: tuple[int, int]) -> None:
    (trial,) = grid(room, recipe, {"seed": [0]}, Path(), tmp_path)
    found = trial.cost()
    assert found["tokens"] == cost[1]
    assert found["params"] == cost[0] or cost[0] is None
    if room == "diffusion":
        (wider,) = grid(room, recipe | {"student": {"width": 16, "blocks": 1}}, {"seed": [0]}, Path(), tmp_path)
        assert 2 < wider.cost()["params"] / found["params"] < 4


class Dying(Trial):
    """A trial whose process dies at its first calls."""

    def __call__(self) -> dict[str, Any]:
        self.out.mkdir(parents=True, exist_ok=True)
        died = len(list(self.out.glob("died-*")))
        if died < int(self.recipe["deaths"]):
            (self.out / f"died-{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"deaths": died}


def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    trials = [Dying("vision", {"deaths": deaths}, Path(), tmp_path / str(deaths)) for deaths in (0, 1)]
    assert on_this_machine(1, retries=1)(trials, lambda done: None) == [{"deaths": 0}, {"deaths": 1}]
    with pytest.raises(TrainingError, match="died 1 times"):
        on_this_machine(1, retries=0)([Dying("vision", {"deaths": 5}, Path(), tmp_path / "x")], lambda done: None)


def test_shipped_studies_are_sound(tmp_path: Path) -> None:
    for file in sorted((Path(__file__).parents[2] / "recipes" / "studies").glob("*.yaml")):
        study = read_study(file, [f"out={tmp_path / file.stem}"])
        ladder = grid(study.room, study.recipe, {**study.ladder, "seed": list(study.seeds)}, file.parent, tmp_path)
        if study.room != "lm":
            assert ladder[0].cost()["params"] > 0
        assert len(file.read_text().splitlines()) <= 15 and len(ladder) >= 8
