"""A task's score of models larger than any that was scored, from the benchmarks that everybody publishes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from limbeck.errors import PlanningError
from limbeck.fitting import Interval, fit
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.laws.capability import CapabilityScale, CapabilityScore
from limbeck.laws.law import LINEAR
from limbeck.planning._points import ROW
from limbeck.planning.crossover import decision_accuracy
from limbeck.planning.estimate import Estimate, Plan
from limbeck.runs import COLUMNS, RunTable

HALF_WAY = 0.5
Rows = NDArray[np.int_] | NDArray[np.bool_]
HELD_OUT = 0.25
"""Share of the known models, those of the most compute, that a back-test forecasts from the others."""


@dataclass(frozen=True)
class ObservedTask(Plan):
    """Forecasts of the models above a compute, and what compute alone would have said.

    Args:
        skills: how many components the forecast reads.
        explained: share of the variance of the known models' benchmarks that each component has.
        validation: root mean square error on the largest quarter of the known models, by number of components.
        score: forecast of each larger model.
        error, by_compute: mean square error there of both; None where fewer than two were scored.
        order, order_by_compute: share of pairs of larger models in the right order, None as above.
        notes: caveats, in words.
        names, flops, measured: of each larger model; unknown scores are NaN.
        known: compute and score of the known models.
    """

    skills: int
    explained: tuple[float, ...]
    validation: dict[int, float]
    score: tuple[Interval, ...]
    error: float | None
    by_compute: float | None
    order: Estimate | None
    order_by_compute: Estimate | None
    notes: tuple[str, ...]
    names: tuple[str, ...] = ()
    flops: tuple[float, ...] = ()
    measured: tuple[float, ...] = ()
    known: tuple[tuple[float, float], ...] = ()

    def _lines(self) -> list[str]:
        tried = ", ".join(f"{k}: {100 * error:.1f}" for k, error in self.validation.items())
        lines = [
            f"{len(self.score)} larger models forecast through their benchmarks ({self.skills} of their components)",
            f"error in points on the largest quarter of the known models, by number of components: {tried}",
        ]
        if self.names:
            width = max(map(len, self.names)) + 2
            lines += ["", f"{'':{width}}forecast   {100 * self.score[0].level:.0f} % interval   measured, %"]
        for name, one, seen in zip(self.names, self.score, self.measured, strict=bool(self.names)):
            value, low, high = (f"{100 * x:.1f}" for x in (one.value, one.lower, one.upper))
            known = "" if math.isnan(seen) else f"{100 * seen:.1f}"
            lines.append(f"{name:<{width}}{value:>8}   {f'{low} – {high}':<13}  {known:>8}".rstrip())
        lines += [""] * bool(self.names)
        if self.error is None or self.by_compute is None or not self.order or not self.order_by_compute:
            return lines
        errors, order = 100 * np.sqrt([self.error, self.by_compute]), [self.order.value, self.order_by_compute.value]
        lines.append(f"measured there: error {errors[0]:.1f} points, by compute alone {errors[1]:.1f}")
        return [*lines, f"pairs in the right order: {order[0]:.0%}, by compute alone {order[1]:.0%}"]

    def plot(self) -> Any:
        """Draw scores against compute: the known models, and the larger ones as forecast and as measured."""
        score = 100 * np.array([(one.value, one.lower, one.upper) for one in self.score]).T
        bars = {"array": score[2] - score[0], "arrayminus": score[0] - score[1], "symmetric": False}
        base = {"x": self.flops, "mode": "markers", "text": self.names}
        known = np.array(self.known).reshape(-1, 2).T
        marks = [{"x": known[0], "y": 100 * known[1], "mode": "markers", "name": "known"}]
        marks += [base | {"y": score[0], "error_y": bars, "name": "forecast"}]
        marks += [base | {"y": 100 * np.array(self.measured), "marker": {"symbol": "x"}, "name": "measured"}]
        miss = "" if self.error is None else f", {100 * self.error**0.5:.1f} points off"
        title = f"{len(self.score)} larger models forecast from their benchmarks{miss}"
        return chart(title, "training compute, FLOP", "score, %", marks, log="x")


def observe_runs(
    runs: RunTable, task: str, *, scores: RunTable | None = None, benchmarks: Sequence[str] = (), **options: Any
) -> ObservedTask:
    """Forecast a task's score by `observe_task` from tables of models.

    Args:
        runs: one row a model: flops and benchmarks (fractions), cells may be empty.
        task: column of the score to forecast.
        scores: a second table with the task, where the first one lacks it; rows are joined by the text both have.
        benchmarks: columns; by default all numbers of the first table that are no size, data, compute or loss.
        options: cutoff, skills, ceiling and level of `observe_task`.

    Raises:
        PlanningError: no benchmarks, or tables without a column of text in common.
        RunsError: a column is missing or holds text.
    """
    table, text = runs, [name for name, kind in runs.frame.schema.items() if kind == pl.String]
    if scores is not None:
        shared = [name for name in text if name in scores.columns]
        if not shared:
            raise PlanningError(f"{runs.source} and {scores.source} share no column of text that names the models.")
        joined = runs.frame.with_columns(runs.rows.alias(ROW)).join(scores.frame, on=shared, maintain_order="left")
        table = replace(runs, frame=joined.drop(ROW), rows=joined[ROW])
    numbers = [name for name, kind in runs.frame.schema.items() if kind.is_numeric() and name not in COLUMNS]
    chosen = list(benchmarks) or [name for name in numbers if name != task]
    flops, own = table.column("flops"), max(text, key=lambda name: table.frame[name].n_unique(), default=None)
    read = {name: table.column(name) for name in chosen}
    small = flops <= options["cutoff"]
    known = {name: values[small & np.isfinite(values)] for name, values in read.items() if small.sum() > 1}
    useless = [name for name, values in known.items() if not len(values) or values.min() == values.max()]
    left = [f"{name} (no score that varies among the known models)" for name in useless]
    left += [f"{name} (text)" for name in text if name not in (own, *COLUMNS)] if not benchmarks else []
    if len(useless) == len(chosen):
        few = f" Left out: {', '.join(left)}." if left else ""
        raise PlanningError(f"{runs.source} has no benchmark: columns of scores, fractions from 0 to 1.{few}")
    x = np.stack([values for name, values in read.items() if name not in useless], 1)
    names = None if own is None else table.frame[own].fill_null("").to_numpy()
    found = observe_task(x, table.column(task), flops, names=names, **options)
    return replace(found, notes=(*found.notes, *(f"left out: {one}" for one in left)))


def observe_task(
    scores: ArrayLike, task: ArrayLike, flops: ArrayLike, *, cutoff: float, skills: int | None = None,
    ceiling: float | None = None, level: float = 0.8, names: ArrayLike | None = None,
) -> ObservedTask:  # fmt: skip
    """Forecast a task's score of models above a compute from those up to it, through their benchmarks.

    Components, empty cells and the sigmoid are those of the known models; larger ones are only measured by them. The
    comparison is the same sigmoid of ln C. The interval is Student's t with one degree of freedom, for one back-test,
    scaled by its error.

    Args:
        scores: of the benchmarks, NaN where unknown, [models, b].
        task: score to forecast, fractions, NaN where unknown, [models].
        flops: [models].
        cutoff: compute up to which a model is known.
        skills: number of components; by default the best of 1, 2, 3 on the largest quarter of the known models.
        ceiling: score h of the best model; None where the known models decide.
        level: nominal coverage of the intervals.
        names: of the models, for people.

    Raises:
        PlanningError: fewer than ten known models, no larger one, or a score outside 0 to 1.
        FittingError: a benchmark that no known model has.

    Source: Observational Scaling Laws and the Predictability of Language Model Performance (Ruan, Maddison,
    Hashimoto, 2024, arXiv 2405.10938); the share of ordered pairs is that of DataDecide (Magnusson et al., 2025,
    arXiv 2504.11393).

    Example:
        >>> c = np.geomspace(1e20, 1e24, 40)
        >>> level = 1 / (1 + np.exp(-np.log(c / 1e22) / 2))
        >>> found = observe_task(np.outer(np.log(c), [0.02, 0.03]), level, c, cutoff=1e23)
        >>> len(found.score), found.order.value, bool(found.error < 1e-6)
        (10, 1.0, True)
    """
    x, y, c = np.asarray(scores, float), np.asarray(task, float), np.asarray(flops, float)
    known, larger = (c <= cutoff) & np.isfinite(y), c > cutoff
    if known.sum() < 10 or not larger.any():
        counts = f"{known.sum()} and {larger.sum()}"
        raise PlanningError(f"needs ten scored models up to {cutoff:.3g} FLOP and one above; given {counts}.")
    if np.nanmin(y) < 0 or np.nanmax(y) > 1:
        raise PlanningError(f"scores must be fractions from 0 to 1; the largest is {np.nanmax(y):g}.")

    def forecast(place: Array, kept: Rows, asked: Rows) -> Array:
        law = CapabilityScore(place.shape[1])
        standard = (place - place[kept].mean(0)) / place[kept].std(0)
        near, far = (dict(zip(law.columns, standard[rows].T, strict=True)) for rows in (kept, asked))
        fixed = {} if ceiling is None else {"h": ceiling}
        with np.errstate(over="ignore"):
            return fit(law, near, y[kept], loss=LINEAR, fixed=fixed, bootstrap=0).value(**far)

    rising = np.flatnonzero(known)[np.argsort(c[known])]
    small, large = np.split(rising, [int((1 - HELD_OUT) * len(rising))])
    part = CapabilityScale.of(x[small])
    tried = [skills] if skills else [k for k in (1, 2, 3) if k <= x.shape[1]]
    miss = {k: forecast(part.measure(x, k), small, large) - y[large] for k in tried}
    validation = {k: float(np.sqrt((gap**2).mean())) for k, gap in miss.items()}
    best = min(validation, key=lambda k: validation[k])
    scale = CapabilityScale.of(x[known])
    found = forecast(scale.measure(x, best), rising, larger)
    plain = forecast(np.log(c)[:, None], rising, larger)
    half = float(stdtrit(1, (1 + level) / 2)) * validation[best]
    bounds = zip(found, np.clip(found - half, 0, 1), np.clip(found + half, 0, 1), strict=True)
    seen = np.isfinite(y[larger])
    truth, both = y[larger][seen], (found[seen], plain[seen])
    errors = [float(((one - truth) ** 2).mean()) for one in both] if len(truth) > 1 else [None, None]
    order = [decision_accuracy(one, truth, level=level) for one in both] if len(truth) > 1 else [None, None]
    top = float(y[known].max())
    notes = (f"no known model scores above {100 * top:.0f} %: the rise lies outside them, and so may the scores",)
    intervals = tuple(Interval(float(mean), float(low), float(high), level) for mean, low, high in bounds)
    shares, outside = tuple(scale.explained.tolist()), notes if top < HALF_WAY else ()
    told = () if names is None else tuple(np.asarray(names, str)[larger].tolist())
    above, before = (tuple(part.tolist()) for part in (c[larger], np.stack([c[known], y[known]], 1)))
    measured, known_ones = tuple(y[larger].tolist()), tuple((a, b) for a, b in before)
    judged = errors[0], errors[1], order[0], order[1]
    return ObservedTask(best, shares, validation, intervals, *judged, outside, told, above, measured, known_ones)
