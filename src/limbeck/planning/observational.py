"""A task's score of models larger than any that was scored, from the benchmarks that everybody publishes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from limbeck.errors import PlanningError
from limbeck.fitting import Interval, fit
from limbeck.fitting.model import Array
from limbeck.laws.capability import LEAST_SQUARES, CapabilityScale, CapabilityScore
from limbeck.planning.crossover import decision_accuracy
from limbeck.planning.estimate import Estimate, Plan

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

    def _lines(self) -> list[str]:
        tried = ", ".join(f"{k}: {100 * error:.1f}" for k, error in self.validation.items())
        lines = [
            f"{len(self.score)} larger models forecast through {self.skills} components of their benchmarks",
            f"error in points on the largest quarter of the known models, by number of components: {tried}",
        ]
        if self.error is None or self.by_compute is None or not self.order or not self.order_by_compute:
            return lines
        errors, order = 100 * np.sqrt([self.error, self.by_compute]), [self.order.value, self.order_by_compute.value]
        lines.append(f"measured there: error {errors[0]:.1f} points, by compute alone {errors[1]:.1f}")
        return [*lines, f"pairs in the right order: {order[0]:.0%}, by compute alone {order[1]:.0%}"]


def observe_task(
    scores: ArrayLike,
    task: ArrayLike,
    flops: ArrayLike,
    *,
    cutoff: float,
    skills: int | None = None,
    ceiling: float | None = None,
    level: float = 0.8,
) -> ObservedTask:
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
            return fit(law, near, y[kept], loss=LEAST_SQUARES, fixed=fixed, bootstrap=0).value(**far)

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
    return ObservedTask(best, shares, validation, intervals, errors[0], errors[1], order[0], order[1], outside)
