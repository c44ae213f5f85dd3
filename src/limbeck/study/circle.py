"""`limbeck study study.yaml`: once round the circle with the recipes of any room.

```yaml
room: vision
recipe: {data: digits, teacher: {hidden: [128, 128]}, method: kd, lr: 0.003}
ladder: {student.hidden: [[4], [8], [16]], steps: [100, 200, 400]}   # every combination is run
seeds: [0, 1]
plan: {student.hidden: [[8], [16], [32]], steps: [800, 1600]}        # what may be chosen
within: 8                                                            # times the compute of the largest run
out: studies/digits
```

The ladder gives a law, the law a plan; what the chosen run will reach is on disk before it is run.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
from pydantic import Field, field_validator

from limbeck import laws
from limbeck.errors import ConfigError, PlanningError
from limbeck.files import write_json, write_text
from limbeck.fitting import Fit
from limbeck.runs import read_runs
from limbeck.runs.quantities import si
from limbeck.settings import Count, FilePath, Number, Settings, read_settings
from limbeck.study.folder import claim, longest, versions
from limbeck.study.forecast import Forecast, ForecastBook
from limbeck.study.stages import Stages
from limbeck.study.trials import ROOMS, Trial, grid, needs_teacher, with_teacher

Choices = Mapping[str, list[Any]]
Executor = Callable[[Sequence[Trial], Callable[[int], None]], list[dict[str, Any]]]
"""Runs trials and returns their rows in the same order; tells how many are finished."""


class StudySettings(Settings):
    """What a study needs.

    Args:
        room: whose recipes are varied.
        recipe: what all trials share.
        ladder: keys of the recipe (dots lead into groups) and their values; every combination is run.
        plan: the same for what may be chosen; none of it may be in the ladder.
        seeds: of the ladder's runs.
        verify: seeds of the runs that check the prediction; the ladder has none of them.
        within: budget of the plan, times the compute (parameters x examples) of the ladder's largest run.
        law: by name; it reads `params` or `tokens`, which stand for examples where there are no tokens.
        level: coverage of the interval.
        draws: bootstrap resamples.
        out: folder of everything.
    """

    room: Literal["lm", "vision", "diffusion", "atoms"]
    recipe: Mapping[str, Any]
    ladder: Choices
    plan: Choices
    seeds: tuple[Count, ...] = (0, 1)
    verify: tuple[Count, ...] = (100, 101, 102)
    within: Number | None = Field(default=None, gt=0)
    law: str = "chinchilla"
    level: Number = 0.8
    draws: Count = Field(default=500, ge=100)
    out: FilePath

    @field_validator("ladder", "plan")
    @classmethod
    def _several(cls, value: Choices) -> Choices:
        empty = [key for key, values in value.items() if not values or key in ("out", "seed")]
        if empty or not value:
            raise ValueError(f"give keys of the recipe, each with a list of values, got {dict(value)}")
        return value

    @field_validator("verify")
    @classmethod
    def _unseen(cls, value: tuple[int, ...], info: Any) -> tuple[int, ...]:
        if not value or set(value) & set(info.data.get("seeds", ())):
            raise ValueError(f"verify needs seeds that the ladder does not have, got {list(value)}")
        return value


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Args:
        fit: the law through the ladder.
        chosen: what the plan chose.
        outcome: the prediction beside what was measured.
        candidates: every choice with its predicted loss and relative compute.
        out: folder of everything.
    """

    fit: Fit
    chosen: Mapping[str, Any]
    outcome: Mapping[str, Any]
    candidates: Sequence[Mapping[str, Any]]
    out: Path

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        known = {"chosen": dict(self.chosen), "outcome": dict(self.outcome), "candidates": list(self.candidates)}
        return known | {"law": self.fit.model.name, "parameters": self.fit.parameters, "out": str(self.out)}


def read_study(path: Path | str, overrides: Sequence[str] = ()) -> StudySettings:
    """Read a study file; `key=value` overrides may follow.

    Raises:
        ConfigError: with the line of every mistake.
    """
    return read_settings(StudySettings, path, overrides)


def run_study(
    study: StudySettings, execute: Executor, *, base: Path = Path(), stages: Stages | None = None
) -> StudyResult:
    """Go round the circle: ladder, law, plan, distillation, verification. The same call goes on after a stop.

    Args:
        study: what to do.
        execute: who runs trials, see `limbeck.study.executors`.
        base: folder that paths in the recipe are relative to.
        stages: where progress goes.

    Raises:
        ConfigError: a mistake in the recipe; `out` holds another study.
        PlanningError: nothing that may be chosen is within the budget, or the law cannot be fitted.
        TrainingError: a trial failed; the rest is kept.
    """
    stages = stages or Stages(5)
    study.out.mkdir(parents=True, exist_ok=True)
    claim(study.out / "study.json", {"study": study.model_dump(mode="json")})
    trials = study.out / "trials"
    ladder = grid(study.room, study.recipe, {**study.ladder, "seed": list(study.seeds)}, base, trials)
    choices = grid(study.room, study.recipe, study.plan, base, trials)
    if known := [one.name for one in choices if any(one.changes.items() <= run.changes.items() for run in ladder)]:
        raise ConfigError(f"the plan may choose {known[0]}, which the ladder runs: a prediction needs what is not run")
    for trial in (ladder[0], ladder[-1], choices[-1]):
        trial.settings()

    def run(jobs: Sequence[Trial]) -> list[dict[str, Any]]:
        return execute(jobs, lambda done: stages.update(f"{done}/{len(jobs)} runs"))

    with stages.stage("ladder"):
        first = run(ladder[:1])
        if needs_teacher(ladder[0]):
            made = ladder[0].out
            ladder = [ladder[0], *(with_teacher(one, made) for one in ladder[1:])]
            choices = [with_teacher(one, made) for one in choices]
        rows = [*first, *run(ladder[1:])]
        stages.done(f"{len(rows)} runs, {si(min(map(_compute, rows)), 2)} to {si(max(map(_compute, rows)), 2)} compute")
    with stages.stage("law"):
        fit = laws.fit(study.law, read_runs(pl.DataFrame(rows)), bootstrap=study.draws, seed=0)
        fit.save(study.out / "fit.json")
        stages.done(fit.model.equation)
    with stages.stage("plan"):
        candidates = _candidates(study, fit, choices, max(map(_compute, rows)))
        best = min((one for one in candidates if one["affordable"]), key=lambda one: float(one["predicted"]))
        book = ForecastBook(study.out / "prediction.json")
        forecast = book.write(_forecast(study, fit, best, min(float(row["loss"]) for row in rows)))
        chosen = choices[[one.name for one in choices].index(forecast.basis["run"])]
        stages.done(
            f"{chosen.name}: {forecast.predicted:.4g} ({100 * forecast.level:.0f} %: {forecast.lower:.4g} – "
            f"{forecast.upper:.4g}), {forecast.extrapolation:.3g}× the compute of the largest",
            f"   written to {book.path}",
        )
    with stages.stage("distil"):
        checks = grid(study.room, chosen.recipe, {"seed": list(study.verify)}, base, trials / chosen.name)
        found = run(checks)
        stages.done(f"{len(found)} runs of {chosen.name}")
    with stages.stage("verify"):
        losses = [float(row["loss"]) for row in found]
        facts = {"runs": losses, "params": found[0]["params"], "tokens": found[0]["tokens"]}
        outcome = forecast.outcome(float(np.mean(losses)), unit=ROOMS[study.room].unit, **facts)
        inside = sum(forecast.lower <= one <= forecast.upper for one in losses)
        error = f"{100 * outcome['relative_error']:+.1f} %"
        stages.done(f"measured {outcome['measured']:.4g}: {error}; {inside} of {len(losses)} runs inside the band")
    _write(study, [*rows, *found], forecast, outcome, stages)
    return StudyResult(fit, chosen.changes, outcome, candidates, study.out)


def _compute(row: Mapping[str, Any]) -> float:
    return float(row["params"]) * float(row["tokens"])


def _candidates(study: StudySettings, fit: Fit, choices: Sequence[Trial], largest: float) -> list[dict[str, Any]]:
    """What the law says of every choice, and whether the budget allows it."""
    costs = [one.cost() for one in choices]
    columns = {name: np.array([cost[name] for cost in costs], float) for name in fit.model.columns}
    said = fit.predict(study.level, **columns)
    found: list[dict[str, Any]] = []
    for trial, cost, predicted in zip(choices, costs, said.mean, strict=True):
        times = _compute(cost) / largest
        said_of = {"run": trial.name, **cost, "predicted": float(predicted), "compute": times}
        found.append(said_of | {"affordable": study.within is None or times <= study.within})
    if not any(one["affordable"] for one in found):
        least = min(one["compute"] for one in found)
        raise PlanningError(
            f"nothing in the plan is within {study.within:g} times the compute of the ladder's largest run: the least "
            f"takes {least:.3g} times. Raise within, or plan smaller runs."
        )
    return found


def _forecast(study: StudySettings, fit: Fit, best: Mapping[str, Any], last: float) -> Forecast:
    said = fit.predict(study.level, **{name: best[name] for name in fit.model.columns})
    predicted, lower, upper = (float(one[0]) for one in (said.mean, said.lower, said.upper))
    basis = {"law": fit.model.name, "parameters": fit.parameters, "last_value": last, **best}
    return Forecast("chosen run", predicted, lower, upper, study.level, float(best["compute"]), basis)


def _write(
    study: StudySettings, rows: Sequence[Mapping[str, Any]], forecast: Forecast, outcome: Mapping[str, Any],
    stages: Stages,
) -> None:  # fmt: skip
    baseline = {"chosen run": {"best of the ladder": forecast.basis["last_value"]}}
    write_text(study.out / "runs.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    write_json(study.out / "summary.json", {
        "predictions": [dict(outcome)], "baselines": baseline, "settings": {"seed": study.seeds[0]},
        "seconds": longest(study.out / "summary.json", stages.seconds),
        "command": shlex.join(["limbeck", *sys.argv[1:]]), "versions": versions(),
    })  # fmt: skip
