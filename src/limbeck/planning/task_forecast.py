"""What a larger model will score on each task, through the losses that forecast the largest sizes best so far.

Two steps: size and tokens give an intermediate loss, the loss gives the accuracy. Which loss, and with which ceiling,
is decided per task by back-test: the largest size, and the largest two, are forecast from the smaller ones; the routes
(and the largest run's score carried forward) are averaged by how well they did. Targets are never looked at.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import polars as pl
from scipy.special import stdtrit

from limbeck.errors import LimbeckError, PlanningError, nearest
from limbeck.fitting import Fit, Interval, Loss, fit
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.fitting.selection import stacking_weights
from limbeck.laws.checkpoint_dynamics import FEWEST, MULTIPLE_CHOICE, WINDOW, ScoreCurve, TaskDynamics, task_dynamics
from limbeck.laws.loss import Chinchilla
from limbeck.laws.overtraining import TaskAccuracy
from limbeck.planning.estimate import Plan
from limbeck.runs import RunTable
from limbeck.runs.quantities import si

ACCURACY, OWN_LOSS, SHARED_LOSS = "_acc", "_bpb", ("_ce", "_loss")
SCATTER = Loss(delta=0.01)
"""Of the first step: a task's loss differs by about 1 % between runs that should agree."""
SKIPPED = 0.1
"""Share of a training whose checkpoints do not enter the second step."""
UNJUDGED = TaskDynamics("insufficient")
CUTS = (1, 2)
"""How many of the largest sizes a back-test holds out."""


@dataclass(frozen=True)
class Training:
    """One run.

    Args:
        name: as in the table.
        params: its size.
        columns: tokens (rising), losses and accuracies of its checkpoints, [n] each.
    """

    name: str
    params: float
    columns: Mapping[str, Array]

    @property
    def tokens(self) -> float:
        """Its full length."""
        return float(self.columns["tokens"][-1])

    def curve(self, column: str) -> ScoreCurve:
        """A column along the training."""
        return ScoreCurve.of(self.columns["tokens"], self.columns[column])

    def blocks(self, *columns: str, skip: float = SKIPPED) -> Array:
        """Means of five checkpoints each, counted from the end, [columns, m]; single ones of a training with few."""
        rows = np.stack([self.columns[name] for name in columns])
        rows = rows[:, np.isfinite(rows).all(0)]
        n = rows.shape[1]
        width = WINDOW if n >= FEWEST else 1
        count = max((n - math.ceil(skip * n)) // width, 1)
        return np.asarray(rows[:, n - count * width :].reshape(len(rows), count, width).mean(2))

    def final(self, column: str) -> float:
        """Mean of the last five checkpoints."""
        return float(self.blocks(column)[0, -1])


@dataclass(frozen=True)
class Route:
    """One way from size and tokens to an accuracy.

    Args:
        through: the intermediate loss, a column; or `last value`.
        ceiling: accuracy of the best model; None where the runs decide.
        error: root mean square error on the held-out sizes.
        weight: its share of the forecast.
        accuracy: what it says about each target, [targets].
    """

    through: str
    ceiling: float | None
    error: float
    weight: float
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class TaskForecast:
    """One task.

    Args:
        task: its name.
        dynamics: whether its score is worth tracking.
        accuracy: forecast at each target.
        measured: what the table of targets holds, None where it holds nothing, [targets].
        routes: best first.
        error, last_value: root mean square back-test errors of the forecast, and of the largest smaller run carried on.
        problem: why there is no forecast.
    """

    task: str
    dynamics: TaskDynamics = UNJUDGED
    accuracy: tuple[Interval, ...] = ()
    measured: tuple[float | None, ...] = ()
    routes: tuple[Route, ...] = ()
    error: float = math.nan
    last_value: float = math.nan
    problem: str = ""

    @property
    def doubt(self) -> str:
        """Why the forecast is not to be relied on; nothing where it is."""
        if self.problem:
            return self.problem
        if self.dynamics.verdict in ("noise", "late", "saturated"):
            return self.dynamics.advice
        return "" if self.error < self.last_value else "no better than the last value carried forward"

    def row(self, target: int) -> list[str]:
        """Cells for people: task, forecast, interval, route, back-test error, measured, miss (percent, points)."""
        if self.doubt:
            return [self.task, "–", self.doubt]
        found, known = self.accuracy[target], self.measured[target]
        percents = [found.value, found.lower, found.upper, self.error]
        value, low, high, error = (f"{100 * one:.1f}" for one in percents)
        seen = ["", ""] if known is None else [f"{100 * known:.1f}", f"{100 * (found.value - known):+.1f}"]
        return [self.task, value, f"{low} – {high}", self.routes[0].through, error, *seen]


@dataclass(frozen=True)
class TaskForecasts(Plan):
    """All tasks.

    Args:
        targets: name, params and tokens of each target, and how many times the largest run's compute it takes.
        tasks: in the order of the table.
        level: nominal coverage of the intervals.
        notes: what was left out, and why.
    """

    targets: tuple[dict[str, Any], ...]
    tasks: tuple[TaskForecast, ...]
    level: float
    notes: tuple[str, ...] = ()

    def _lines(self) -> list[str]:
        lines: list[str] = []
        for k, target in enumerate(self.targets):
            size = f"{si(target['params'])} parameters, {si(target['tokens'])} tokens"
            lines += [f"{target['name']}: {size}, {target['reach']:.2g}× beyond the largest run", ""]
            head = ["", "accuracy", f"{self.level:.0%} interval", "mainly through", "back-test", "measured", "error"]
            rows = [head, *(task.row(k) for task in self.tasks)]
            widths = [max(len(row[i]) for row in rows if len(row) > max(i, 3) or i < 2) for i in range(len(head))]
            for name, value, *cells in rows:
                if len(cells) > 1:
                    cells = [cell.rjust(width) for cell, width in zip(cells, widths[2:], strict=True)]
                lines.append("  ".join([name.ljust(widths[0]), value.rjust(widths[1]), *cells]).rstrip())
            lines.append("")
        return [
            *lines,
            "accuracy in percent; back-test: error on the largest sizes, forecast from the smaller ones, points",
        ]

    def plot(self) -> Any:
        """Draw every forecast with its interval, and what was measured."""
        shown = [task for task in self.tasks if not task.doubt]
        marks: list[dict[str, Any]] = []
        for k, target in enumerate(self.targets):
            value, low, high = 100 * np.array([astuple(task.accuracy[k])[:3] for task in shown]).reshape(-1, 3).T
            bars = {"array": high - value, "arrayminus": value - low, "symmetric": False}
            known = 100 * np.array([task.measured[k] for task in shown], float)
            base = {"x": [task.task for task in shown], "mode": "markers"}
            marks.append(base | {"y": value, "error_y": bars, "name": f"{target['name']}, forecast"})
            marks.append(base | {"y": known, "marker": {"symbol": "x"}, "name": f"{target['name']}, measured"})
        reach = max(target["reach"] for target in self.targets)
        title = f"{len(shown)} of {len(self.tasks)} tasks forecast {reach:.2g}× beyond the largest run"
        return chart(title, "", f"accuracy, % ({self.level:.0%} interval)", marks, scattermode="group")

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words; accuracies are fractions."""
        tasks = [asdict(task) | {"doubt": task.doubt} for task in self.tasks]
        return {"targets": list(self.targets), "tasks": tasks, "level": self.level, "notes": list(self.notes)}


def forecast_tasks(
    runs: RunTable, targets: RunTable, *, tasks: Sequence[str] | None = None, through: Sequence[str] | None = None,
    level: float = 0.8,
) -> TaskForecasts:  # fmt: skip
    """Forecast the accuracy of each task at targets, and say which tasks cannot be forecast.

    The interval is Student's t with one degree of freedom per back-test; its scale adds the back-test error of the
    average and the spread between the routes in squares.

    Args:
        runs: checkpoints (or final results) with `run`, `params`, `tokens`, losses, and accuracies named `TASK_acc`
            (fractions). Runs as large as a target are left out, and repeats of a run.
        targets: `params` and `tokens` of each; accuracies there are only compared.
        tasks: which ones; all by default.
        through: intermediate losses; by default `TASK_bpb` and all columns that end in `_ce` or `_loss`, and `loss`.
        level: nominal coverage of the intervals.

    Raises:
        RunsError: params or tokens are missing.
        PlanningError: no task, no intermediate loss, or too few sizes for a back-test.

    Source: after Establishing Task Scaling Laws via Compute-Efficient Model Ladders (Bhagia et al., 2024, arXiv
    2412.04403); the choice of the intermediate loss and the interval are ours.
    """
    names = _tasks(runs, tasks)
    if through is None:
        shared = [name for name in runs.columns if name == "loss" or name.endswith(SHARED_LOSS)]
    else:
        shared = list(through)
        runs = runs.require(*through)
    table = targets.require("params", "tokens")
    at = np.stack([table.column("params"), table.column("tokens")])
    pool, notes = trainings(runs, float(at[0].min()))
    sizes = sorted({one.params for one in pool})
    cuts = [[one for one in pool if one.params < sizes[-k]] for k in CUTS if k < len(sizes) - 2]
    cuts = [kept for kept in cuts if len(kept) >= 6]
    if not cuts:
        raise PlanningError(
            "a back-test holds out the largest size and needs six runs of three sizes below it; smaller than the "
            + "\n".join([f"target there are {len(pool)} runs of {len(sizes)} sizes. Add small runs.", *notes])
        )
    subsets = [pool, *cuts]

    @cache
    def loss_law(column: str, subset: int) -> Fit:
        n, d, y = np.array([(one.params, one.tokens, one.final(column)) for one in subsets[subset]]).T
        return fit(Chinchilla(), {"params": n, "tokens": d}, y, loss=SCATTER, bootstrap=0)

    done: list[TaskForecast] = []
    for task in names:
        column = task + ACCURACY
        known = table.column(column).tolist() if column in table.columns else [math.nan] * len(table)
        measured = tuple(None if math.isnan(value) else value for value in known)
        own = [task + OWN_LOSS] if through is None and task + OWN_LOSS in runs.columns else []
        try:
            found = _forecast(task, [*own, *shared], subsets, loss_law, at, level)
            done.append(replace(found, measured=measured))
        except LimbeckError as error:
            done.append(TaskForecast(task, measured=measured, problem=str(error)))
    largest = max(one.params * one.tokens for one in pool)
    name = pl.col("run") if "run" in table.columns else pl.format("target {}", pl.int_range(1, pl.len() + 1))
    goals = table.frame.select(
        "params", "tokens", name=name, reach=pl.col("params") * pl.col("tokens") / largest
    ).to_dicts()
    return TaskForecasts(tuple(goals), tuple(done), level, tuple(notes))


def trainings(runs: RunTable, below: float = math.inf) -> tuple[list[Training], list[str]]:
    """Return the runs of a table, smallest first, and what was left out: large ones, repeats, reversed checkpoints.

    Args:
        runs: with params and tokens; without run names every row is a run.
        below: size at and above which runs are left out.

    Raises:
        RunsError: params or tokens are missing.
    """
    frame = runs.require("params", "tokens").frame.with_columns(cluster=pl.Series(runs.clusters()))
    order = "step" if "step" in frame.columns and not frame["step"].has_nulls() else "tokens"
    numbers = [name for name, kind in frame.schema.items() if kind.is_numeric()]
    found: list[Training] = []
    left: dict[str, list[str]] = {}
    for (cluster,), checkpoints in frame.group_by("cluster", maintain_order=True):
        rows = checkpoints.sort(order)
        columns = {name: rows[name].cast(pl.Float64).fill_null(math.nan).to_numpy() for name in numbers}
        name = rows["run"][0] if "run" in rows.columns else f"run {cluster}"
        one = Training(name, rows["params"][0], columns)
        if one.params >= below:
            why = "as large as a target"
        elif (np.diff(one.columns["tokens"]) <= 0).any():
            why = "reversed checkpoints: tokens must rise with the steps"
        elif any(one.params == two.params and math.isclose(one.tokens, two.tokens, rel_tol=0.01) for two in found):
            why = "repeats of another run"
        else:
            found.append(one)
            continue
        left.setdefault(why, []).append(one.name)
    found.sort(key=lambda one: (one.params, one.tokens))
    return found, [f"left out, {why}: {', '.join(names)}" for why, names in left.items()]


def _tasks(runs: RunTable, wanted: Sequence[str] | None) -> list[str]:
    """The tasks of a table."""
    present = [name.removesuffix(ACCURACY) for name in runs.columns if name.endswith(ACCURACY)]
    for name in wanted or ():
        if name not in present:
            raise PlanningError(f'no column "{name}{ACCURACY}".{nearest(name, present)} Tasks: {", ".join(present)}.')
    if not present:
        derivable = [name for name in runs.columns if "err" in name and name != "error"][:3]
        hint = f" {derivable[0]} holds errors: accuracy is 1 - error." if derivable else ""
        raise PlanningError(
            f"{runs.source} has no accuracy of a task: name such columns TASK{ACCURACY}, fractions from 0 to 1.{hint}"
        )
    return list(wanted or present)


def _forecast(
    task: str, losses: Sequence[str], subsets: Sequence[Sequence[Training]], loss_law: Callable[[str, int], Fit],
    at: Array, level: float,
) -> TaskForecast:  # fmt: skip
    """Judge one task, back-test its routes and average them."""
    pool, column = subsets[0], task + ACCURACY
    if max(np.nanmax(one.columns[column], initial=0.0) for one in pool) > 1.0:
        raise PlanningError("holds accuracies above 1: write fractions, not percent")
    if not losses:
        raise PlanningError(f"no intermediate loss: add {task}{OWN_LOSS} or a held-out loss such as c4_ce")
    curves = [one.curve(column) for one in pool]
    longest = list({one.params: curve for one, curve in zip(pool, curves, strict=True)}.values())
    judged = task_dynamics(longest, curves, MULTIPLE_CHOICE.get(task))
    held = [pool[len(kept) :] for kept in subsets[1:]]
    truth = [np.array([one.final(column) for one in some]) for some in held]
    sizes = [at, *(np.array([(one.params, one.tokens) for one in some]).T for some in held)]
    ways: list[tuple[str, float | None]] = list(itertools.product(losses, (None, 1.0)))
    said: list[list[Array]] = [[] for _ in subsets]
    for loss, ceiling in ways:
        for k, kept in enumerate(subsets):
            x, y = np.hstack([one.blocks(loss, column) for one in kept])
            fixed = {} if ceiling is None else {"ceiling": ceiling}
            law = fit(TaskAccuracy(), {"loss": x}, y, loss=TaskAccuracy.preferred_loss, fixed=fixed, bootstrap=0)
            said[k].append(law.value(loss=loss_law(loss, k).value(params=sizes[k][0], tokens=sizes[k][1])))
    carried = [max(kept, key=lambda one: one.params * one.tokens).final(column) for kept in subsets]
    for answers, score, goals in zip(said, carried, sizes, strict=True):
        answers.append(np.full(len(goals[0]), score))
    ways.append(("last value", None))
    forecasts, *tested = [np.array(one) for one in said]
    misses = [one - y for one, y in zip(tested, truth, strict=True)]
    errors = _root_mean_square(misses)
    weights = stacking_weights(np.maximum(errors, 1e-9))  # a score that never moves is carried on without error
    error = float(_root_mean_square([weights @ one for one in misses]))
    value = weights @ forecasts
    half = stdtrit(len(truth), (1 + level) / 2) * np.hypot(error, np.sqrt(weights @ (forecasts - value) ** 2))
    ends = zip(*(np.clip([value, value - half, value + half], 0, 1).tolist()), strict=True)
    parts = zip(ways, errors.tolist(), weights.tolist(), forecasts.tolist(), strict=True)
    routes = sorted((Route(*way, e, w, tuple(f)) for way, e, w, f in parts), key=lambda route: route.error)
    accuracy = tuple(Interval(middle, low, high, level) for middle, low, high in ends)
    return TaskForecast(task, judged, accuracy, (), tuple(routes), error, float(errors[-1]))


def _root_mean_square(misses: Sequence[Array]) -> Array:
    """Over the last axis of each back-test, all back-tests counting alike."""
    return np.asarray(np.sqrt(np.mean([(one**2).mean(-1) for one in misses], axis=0)))
