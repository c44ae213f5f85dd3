"""Profile likelihood: how much worse the best fit becomes when one quantity is pulled away from its estimate.

A minimiser of S(θ) + λ h(g(θ) − v) also minimises S among all θ with the same g: its own pair (g, S) lies exactly on
the profile of g, whatever λ. So the profile of a parameter is one batch with moving priors, that of a prediction one
batch with a moving pseudo-observation; nothing is reparametrised.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import chdtri

from limbeck.errors import FittingError
from limbeck.fitting.covariance import curvature, inverse_hessian
from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem
from limbeck.fitting.plain import plain
from limbeck.fitting.prediction import check_level
from limbeck.fitting.solver import minimise

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit

STEPS = np.array([0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0])
"""Where a profile is computed, in standard errors on either side of the estimate."""


@dataclass(frozen=True)
class Profile:
    """The profile of one quantity.

    Args:
        name: the parameter or the predicted column.
        estimate: its best value.
        values: where the profile was computed, ascending and with the estimate, [k].
        deviance: n ln(S(v)/S_min) at each value, [k]; compare with a χ² quantile of one degree of freedom.
    """

    name: str
    estimate: float
    values: Array
    deviance: Array

    def interval(self, level: float = 0.8) -> tuple[float | None, float | None]:
        """Return {v: deviance ≤ χ²₁(level)}; an end is None where the profile stays below as far as it was computed."""
        check_level(level)
        limit = float(chdtri(1, 1 - level))
        middle = int(np.argmin(self.deviance))
        return self._crossing(slice(middle, None, -1), limit), self._crossing(slice(middle, None), limit)

    def flat(self, level: float = 0.95) -> tuple[str, ...]:
        """Return the sides, "below" and "above", on which the data do not bound the quantity."""
        ends = self.interval(level)
        return tuple(side for side, end in zip(("below", "above"), ends, strict=True) if end is None)

    def summary(self, level: float = 0.8) -> str:
        """Return the interval in words.

        Example:
            >>> profile = Profile("E", 1.8, np.array([0.1, 1.8, 1.9]), np.array([0.5, 0.0, 9.0]))
            >>> profile.summary()
            'E = 1.8 (80% profile interval: unbounded below – 1.843)'
        """
        low, high = self.interval(level)
        left = "unbounded below" if low is None else f"{low:.4g}"
        right = "unbounded above" if high is None else f"{high:.4g}"
        return f"{self.name} = {self.estimate:.4g} ({level:.0%} profile interval: {left} – {right})"

    def to_dict(self, level: float = 0.8) -> dict[str, Any]:
        """Return plain numbers."""
        return dict(plain({**asdict(self), "level": level, "interval": self.interval(level)}))

    def _crossing(self, side: slice, limit: float) -> float | None:
        """Where √deviance, which is nearly straight, first passes the limit when one walks away from the estimate."""
        values, root, edge = self.values[side], np.sqrt(self.deviance[side]), math.sqrt(limit)
        if not (root > edge).any():
            return None
        k = int(np.argmax(root > edge))
        return float(np.interp(edge, root[k - 1 : k + 1], values[k - 1 : k + 1]))


def profile(fit: Fit, parameter: str, *, robust: bool = True) -> Profile:
    """Return the profile of a free parameter.

    Args:
        fit: a fit.
        parameter: its name.
        robust: calibrate the deviance by the sandwich (see `evidence`); False takes noise to be equal everywhere.

    Raises:
        FittingError: the parameter is unknown or fixed.
    """
    if parameter not in fit.free:
        raise FittingError(f"{parameter} is not a free parameter of this fit; free are: {', '.join(fit.free)}.")
    problem, z, k = fit.problem, fit.z, fit.free.index(parameter)
    direction, centre = problem.transform[k], problem.theta(z[None])[0, k]
    positive = next(p for p in fit.model.parameters if p.name == parameter).log
    longest = 1.0 if positive else np.linalg.norm(direction)  # of one step of the coordinates
    error = np.clip(np.sqrt(max(direction @ fit.covariance() @ direction, 0.0)), 1e-6 * longest, longest)
    stiffness = 200 * fit.objective / (evidence(fit) * error**2)
    steps = STEPS * error
    if positive:  # it may vanish, or come back from nothing
        steps = np.concatenate([steps[steps < 2.0], [2.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0]])
    targets = centre + np.concatenate([-steps[::-1], [0.0], steps])
    own, precision = problem.prior_precision, problem.prior_precision + stiffness * (np.arange(len(z)) == k)
    mean = np.tile(problem.prior_mean, (len(targets), 1))
    mean[:, k] = (own[k] * mean[:, k] + stiffness * targets) / precision[k]
    ends = _follow(replace(problem, prior_precision=precision, prior_mean=mean), z, len(targets))
    values = problem.theta(ends)[:, k]
    return _profile(fit, parameter, np.exp(values) if positive else values, ends, direction if robust else None)


def profile_prediction(fit: Fit, *, robust: bool = True, **columns: ArrayLike) -> Profile:
    """Return the profile of the law's prediction at one setting (run-to-run noise not included).

    Args:
        fit: a fit.
        robust: see `profile`.
        columns: one number per column of the model.

    Raises:
        FittingError: a column is missing or unknown.
    """
    fit.model.check_names("column", columns, fit.model.columns)
    at = {name: np.atleast_1d(np.asarray(v, float))[:1] for name, v in columns.items()}
    data, here = fit.data, fit.value(**at)
    problem = fit.problem_on(data.joined(at, here, 10 * float(data.weights.sum())))
    error = float(fit.standard_error(**at)[0]) * (float(here[0]) if fit.loss.space == "relative" else 1.0)
    targets = np.concatenate([-STEPS[::-1], [0.0], STEPS]) * error
    rows = problem.target + targets[:, None] * (np.arange(len(data) + 1) == len(data))
    ends = _follow(problem.with_rows(target=rows), problem.coordinates(fit.parameters), len(targets))
    values = fit.model.by_rows(problem.natural(ends), at)[:, 0]
    direction = fit.slope(**at)[:, 0] if robust else None
    return _profile(fit, fit.model.target, values, fit.problem.centred(problem.theta(ends)), direction)


def evidence(fit: Fit, direction: Array | None = None) -> float:
    """Return the number that plays n in n ln(S/S_min).

    It is the number of runs for least squares on independent noise, and in general 2 S_min / (w̄ λ) per run, where λ
    = Σ w ψ² / Σ w ψ' makes the deviance χ² to first order (the robust likelihood ratio of Schrader and Hettmansperger
    1980): a loss that is nearly L1 gets up to twice the weight. With a direction [p] in z, λ is the ratio of the
    sandwich variance to the inverse Hessian along it, which also holds for unequal noise and for runs of several
    points; the smaller of the two is taken.
    """
    (residuals, _, weights, _), delta = fit.problem.local(fit.z), fit.loss.delta
    psi = np.clip(residuals, -delta, delta)
    spread = float((weights * psi**2).sum()) * float(weights.mean())
    spread /= max(float((weights * curvature(residuals, delta)).sum()), 1e-300)
    plain = 2 * fit.objective / max(spread, 1e-300) * fit.data.runs / len(fit.data)
    if direction is None:
        return plain
    along = float(direction @ inverse_hessian(fit.problem, fit.z) @ direction)
    return min(plain, 2 * fit.objective * along / max(float(direction @ fit.covariance() @ direction), 1e-300))


def deviance(fit: Fit, objective: ArrayLike, direction: Array | None = None) -> Array:
    """Return n ln(S/S_min) of constrained objectives, with n from `evidence`."""
    ratio = np.asarray(objective, float) / max(fit.objective, 1e-300)
    return evidence(fit, direction) * np.log(np.maximum(ratio, 1.0))


def _follow(problem: Problem, z: Array, count: int) -> Array:
    """Minimise every row, then again from its neighbours' ends, and keep the best, [count, p]."""
    rows = np.arange(count)
    ends = minimise(problem, np.repeat(z[None], count, 0), rows)
    best, height = ends.z, ends.objective
    for shift in (1, -1):
        again = minimise(problem, np.roll(best, shift, 0), rows)
        better = again.objective < height
        best, height = np.where(better[:, None], again.z, best), np.where(better, again.objective, height)
    return best


def _profile(fit: Fit, name: str, values: Array, ends: Array, direction: Array | None) -> Profile:
    objective = fit.problem.objective(ends, np.zeros(len(ends), int))
    order = np.argsort(values)
    order = order[np.isfinite(objective + values)[order]]
    values, objective = values[order], objective[order]
    return Profile(name, float(values[np.argmin(objective)]), values, deviance(fit, objective, direction))
