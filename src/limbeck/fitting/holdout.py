"""Leave-largest-out validation: fit the smaller runs, predict the larger ones, and compare with the simplest forecasts.

Leaving a run out is giving it weight 0, so that all cuts and all their resamples are rows of one batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FittingError
from limbeck.fitting.baselines import LAST_TWO, LAST_VALUE, NO_FLOOR, last_two_scales, last_value, smaller
from limbeck.fitting.floor import floorless
from limbeck.fitting.model import Array
from limbeck.fitting.prediction import run_interval
from limbeck.fitting.resampling import pairs, prior_centres, run_noise
from limbeck.fitting.solver import lowest, minimise
from limbeck.fitting.validation import Cut, Score, Validation

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit

CUTS = (0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of the points, smallest first, that the rolling origin fits."""

LEVELS = (0.5, 0.8, 0.95)
"""Nominal coverages that are checked."""


Intervals = dict[float, tuple[Array, Array]]
"""By nominal coverage the lower and upper ends at all points, [n] each."""


def validate(fit: Fit, cuts: Sequence[float] = CUTS, *, resamples: int = 200) -> Validation:
    """Fit below each cut, predict above it.

    Points are ordered by `Model.size`. Each cut starts from the fit's optimum and its resamples (whole runs with
    replacement) from the cut's. Baselines: the last value carried forward; a pure power law through the last two
    scales; and the law with its floor at 0 where it names one.

    Args:
        fit: a fit; its draws are not needed.
        cuts: shares of the points that are fitted, each between 0 and 1.
        resamples: bootstrap fits per cut for the intervals.

    Returns:
        One `Cut` per share that leaves enough runs on both sides, and the reasons for the others.

    Raises:
        FittingError: a cut is not between 0 and 1, or there are too few resamples for an interval.
    """
    if not all(0 < cut < 1 for cut in cuts):
        raise FittingError(f"cuts and held-out shares lie between 0 and 1; got {', '.join(f'{c:g}' for c in cuts)}.")
    if resamples < 20:
        raise FittingError(f"intervals of held-out runs need at least 20 resamples (200 is usual); got {resamples}.")
    size, target = fit.sizes, fit.data.target
    sides = [(fraction, smaller(size, fit.data.clusters, fraction)) for fraction in cuts]
    chosen = [(fraction, train) for fraction, train in sides if not _too_few(fit, train)]
    skipped = tuple(f"largest {1 - f:.0%} not held out: {why}" for f, train in sides if (why := _too_few(fit, train)))
    if not chosen:
        return Validation((), skipped, fit.loss.space)
    masks = np.array([train for _, train in chosen])
    parameters, intervals = _refit(fit, masks, resamples)
    values = fit.model.by_rows(parameters, fit.data.columns)
    bare = _refit_floorless(fit, masks)
    results = []
    for k, (fraction, train) in enumerate(chosen):
        test = ~train
        forecasts: dict[str, Array | None] = {
            LAST_VALUE: np.full(int(test.sum()), last_value(size[train], target[train])),
            LAST_TWO: last_two_scales(size[train], target[train], size[test]),
            NO_FLOOR: None if bare is None else bare[k, test],
        }
        inside = {level: ((target >= low) & (target <= high))[test] for level, (low, high) in intervals[k].items()}
        score = partial(Score.of, observed=target[test], space=fit.loss.space)
        cut = Cut(
            fraction=fraction, train=int(train.sum()), test=int(test.sum()),
            extrapolation=float(size[test].max() / size[train].max()), score=score(values[k, test]),
            coverage={level: float(share.mean()) for level, share in inside.items()},
            parameters={name: float(v[k]) for name, v in parameters.items()},
            baselines={name: score(forecast) for name, forecast in forecasts.items() if forecast is not None},
        )  # fmt: skip
        results.append(cut)
    return Validation(tuple(results), skipped, fit.loss.space)


def _too_few(fit: Fit, train: NDArray[np.bool_]) -> str:
    """Why the runs that stay cannot be fitted and resampled, or nothing."""
    kinds, runs = len(np.unique(fit.data.design[train], axis=0)), len(np.unique(fit.data.clusters[train]))
    need = len(fit.free) + 1 + (len(fit.free) > 4)  # hardly a resample of six runs holds all six
    if kinds >= need and runs > 1 and not train.all():
        return ""
    return f"{kinds} configurations from {runs} runs would remain, {len(fit.free)} parameters need {need}"


def _refit(fit: Fit, masks: NDArray[np.bool_], resamples: int) -> tuple[dict[str, Array], list[Intervals]]:
    """Parameters of each cut's fit, [cuts] each, and per cut and level the prediction intervals at all points."""
    problem, cuts = fit.problem, len(masks)
    ends = lowest(problem.with_rows(weights=masks.astype(float)), fit.z[None], cuts)
    rng = np.random.default_rng([fit.seed, 3])
    weights = np.zeros((cuts, resamples, len(fit.data)))
    for k, train in enumerate(masks):
        part = fit.data.subset(train)
        weights[k][:, train] = pairs(part.design, part.clusters, resamples, len(fit.free) + 1, rng).weights
    centres = prior_centres(problem, fit.prior_noise, cuts * resamples, rng)
    rows = problem.with_rows(weights=weights.reshape(-1, len(fit.data)), prior_mean=centres)
    draws = minimise(rows, np.repeat(ends.z, resamples, 0), damping=0.01)
    intervals = []
    for k, train in enumerate(masks):
        of_cut = slice(k * resamples, (k + 1) * resamples)
        z = draws.z[of_cut][np.isfinite(draws.objective[of_cut])]
        noise = run_noise(problem.with_rows(weights=train.astype(float)), ends.z[k])[train]
        mean = fit.model(problem.parameters(ends.z[k]), **fit.data.columns)
        values = fit.model.by_rows(problem.natural(z), fit.data.columns)
        simulated = fit.shifted(values, rng.choice(noise, (len(z), 1)))
        freedom, log = int(train.sum()) - len(fit.free), fit.loss.space == "log"
        intervals.append({level: run_interval(simulated, mean, level, freedom, log=log) for level in LEVELS})
    return problem.natural(ends.z), intervals


def _refit_floorless(fit: Fit, masks: NDArray[np.bool_]) -> Array | None:
    """Predictions [cuts, n] of the law without its floor, fitted below each cut."""
    if (without := floorless(fit)) is None:
        return None
    problem, ends = without
    best = lowest(problem.with_rows(weights=masks.astype(float)), ends.z, len(masks))
    return fit.model.by_rows(problem.natural(best.z), fit.data.columns)
