"""From data to a fit: a grid of starts, the global optimum, resamples, and a check against the largest runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting.data import Data
from limbeck.fitting.design import check_distinct
from limbeck.fitting.fit import Fit
from limbeck.fitting.holdout import validate
from limbeck.fitting.model import Model
from limbeck.fitting.multistart import best_of, grid_starts
from limbeck.fitting.objective import Loss, Prior, Problem
from limbeck.fitting.resampling import Method, prior_centres, resample, run_noise
from limbeck.fitting.solver import refit


def fit(
    model: Model, columns: Mapping[str, ArrayLike], target: ArrayLike, *, loss: Loss | None = None,
    delta: float | Literal["auto"] | None = None, weights: ArrayLike | None = None, clusters: ArrayLike | None = None,
    fixed: Mapping[str, float] | None = None, priors: Mapping[str, Prior] | None = None, prior_noise: float = 0.01,
    start: Mapping[str, float] | None = None, bootstrap: int = 1000, method: Method = "pairs",
    holdout: float | None = None, seed: int = 0, units: Mapping[str, str] | None = None,
) -> Fit:  # fmt: skip
    """Fit a model: grid of starts, global optimum, bootstrap.

    Args:
        model: the law.
        columns: one array [n] per column of the model.
        target: observations [n].
        loss: by default Huber δ = 1e-3 on log residuals, summed.
        delta: replaces the loss's δ; "auto" takes it from the residuals of a first fit (see `automatic_delta`).
        weights: [n], non-negative.
        clusters: points with the same value come from one run and are resampled together, [n].
        fixed: parameters held at a number.
        priors: normal beliefs about parameters. Every resample draws its own centres from them.
        prior_noise: standard deviation of one residual, which weighs data against priors.
        start: parameters to start from, in place of the model's grid of starts.
        bootstrap: number of resamples; 0 for none.
        method: "pairs" (runs with replacement), "residual", "wild", "mammen" or "block" (see `resampling`).
        holdout: share of the largest runs that is left out once to check the law (0.3 is usual).
        seed: of starts and resamples.
        units: unit by column name, for people.

    Returns:
        The fit. Draws that did not converge to a finite value are left out.

    Raises:
        FittingError: fewer distinct points than free parameters, non-finite data, or no finite start.

    Example:
        >>> from limbeck.fitting import Parameter
        >>> class Line(Model):
        ...     name = "line"; columns = ("x",); target = "y"; linear = ("slope", "offset")
        ...     parameters = (Parameter("slope"), Parameter("offset"))
        ...     def formula(self, p, x):
        ...         return p.offset + p.slope * x.x
        >>> line = fit(Line(), {"x": [0, 1, 2, 3]}, [1, 3, 5, 7], loss=Loss(space="linear"), bootstrap=0)
        >>> round(line.parameters["slope"], 6), round(line.parameters["offset"], 6)
        (2.0, 1.0)
    """
    if holdout is not None and not 0 < holdout < 1:
        raise FittingError(f"holdout is the share of the largest runs left out, between 0 and 1; got {holdout:g}.")
    data = Data.of(model, columns, target, weights, clusters)
    how: dict[str, Any] = {"fixed": dict(fixed or {}), "priors": dict(priors or {}), "prior_noise": prior_noise}
    if not priors:
        check_distinct(model, data, len(model.parameters) - len(how["fixed"]))
    loss = loss or Loss()
    if isinstance(delta, float | int):
        loss = replace(loss, delta=float(delta))
    problem = Problem.build(model, data.columns, data.target, loss=loss, weights=data.weights, **how)
    starts = grid_starts(problem, seed=seed) if start is None else problem.coordinates(start)[None]
    z, objective, agreement = best_of(problem, starts)
    if delta == "auto":
        problem = replace(problem, loss=replace(loss, delta=automatic_delta(problem.residuals(z[None])[0])))
        z, objective, agreement = best_of(problem, starts)
    result = Fit(
        model=model, parameters=problem.parameters(z), objective=objective, loss=problem.loss, data=data,
        starts=agreement, draws={}, noise=run_noise(problem, z), method=method, seed=seed,
        units=dict(units or {}), **how,
    )  # fmt: skip
    if bootstrap:
        rng = np.random.default_rng([seed, 0])
        drawn = resample(problem, z, data, method, bootstrap, rng)
        centres = prior_centres(problem, prior_noise, bootstrap, rng)
        rows = problem.with_rows(weights=drawn.weights, target=drawn.target, prior_mean=centres)
        result = replace(result, draws=refit(rows, z, bootstrap), degenerate=drawn.degenerate)
    return result if holdout is None else replace(result, holdout=validate(result, cuts=(1.0 - holdout,)))


def automatic_delta(residuals: ArrayLike) -> float:
    """Return δ = 1.345 · MAD / 0.6745, at which a Huber loss is 95 % as efficient as least squares on normal noise.

    MAD is the median absolute deviation of the residuals from their median.

    Raises:
        FittingError: more than half of the residuals are equal.

    Example:
        >>> round(automatic_delta([-2.0, -1.0, 0.0, 1.0, 2.0]), 3)
        1.994
    """
    r = np.asarray(residuals, float)
    mad = float(np.median(np.abs(r - np.median(r))))
    if mad == 0.0:
        raise FittingError('delta="auto" needs residuals with spread; more than half of them are equal. Give a number.')
    return 1.345 * mad / 0.6745
