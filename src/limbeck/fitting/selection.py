"""Which law? The one that predicts the largest runs best from the smaller ones; and an average where several do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError, nearest
from limbeck.fitting.baselines import NO_FLOOR
from limbeck.fitting.fit import Fit
from limbeck.fitting.holdout import CUTS, validate
from limbeck.fitting.model import Array
from limbeck.fitting.prediction import Prediction, check_level, tails
from limbeck.fitting.validation import Validation


@dataclass(frozen=True)
class Candidate:
    """One law of a comparison.

    Args:
        fit: the law on all data.
        validation: its held-out errors.
        weight: its share of the average; the shares add up to 1.
    """

    fit: Fit
    validation: Validation
    weight: float

    @property
    def name(self) -> str:
        """Name of the law."""
        return self.fit.model.name

    @property
    def fitted_error(self) -> float:
        """Root mean square residual on the data that were fitted: small for a flexible law, whatever it predicts."""
        residuals = self.fit.problem.residuals(self.fit.z[None])[0]
        if self.fit.loss.space == "relative":
            residuals = residuals / self.fit.data.target
        return float(np.sqrt(np.mean(residuals**2)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {
            "law": self.name, "parameters": dict(self.fit.parameters), "held_out_error": self.validation.error,
            "fitted_error": self.fitted_error, "weight": self.weight, "validation": self.validation.to_dict(),
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Laws on the same data, best held-out error first.

    Args:
        candidates: the laws.
        baselines: mean held-out root mean square residual of the simplest forecasts.
        left_out: reason for every law that could not be fitted.
    """

    candidates: tuple[Candidate, ...]
    baselines: dict[str, float]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Fit:
        """The fit of the law with the smallest held-out error."""
        return self.candidates[0].fit

    @property
    def beaten_by(self) -> list[str]:
        """Simple forecasts that predict the held-out runs better than every law."""
        return [name for name, error in self.baselines.items() if error < self.candidates[0].validation.error]

    def predict(self, level: float = 0.8, **columns: ArrayLike) -> Prediction:
        """Predict one new run at each setting by the average of the laws; `form_spread` says how far they are apart.

        The interval is that of the mixture: each law contributes its simulated runs in proportion to its weight.

        Args:
            level: nominal coverage.
            columns: every column that one of the laws reads.

        Raises:
            FittingError: a column is missing or unknown, or a fit has no draws.
        """
        check_level(level)
        needed = dict.fromkeys(name for c in self.candidates for name in c.fit.model.columns)
        if other := next((name for name in columns if name not in needed), None):
            raise FittingError(f'no law here reads "{other}".{nearest(other, needed)} They read: {", ".join(needed)}.')
        fits, weight = [c.fit for c in self.candidates], np.array([c.weight for c in self.candidates])
        own = [{name: columns[name] for name in fit.model.columns if name in columns} for fit in fits]
        each = [fit.predict(level, **at) for fit, at in zip(fits, own, strict=True)]
        runs = [fit.simulate(**at) for fit, at in zip(fits, own, strict=True)]
        length = max(len(p.mean) for p in each)
        means = np.array([np.broadcast_to(p.mean, length) for p in each])
        reach = np.max([np.broadcast_to(p.extrapolation, length) for p in each], axis=0)
        pool = np.concatenate([np.broadcast_to(rows, (len(rows), length)) for rows in runs])
        share = np.concatenate([np.full(len(rows), w / len(rows)) for rows, w in zip(runs, weight, strict=True)])
        lower, upper = _weighted_interval(pool, share, level)
        mean = weight @ means
        outside = tuple(name for name in needed if any(name in p.outside for p in each))
        return Prediction(mean, lower, upper, level, reach, outside, np.sqrt(weight @ (means - mean) ** 2))

    def summary(self) -> str:
        """Return a table: held-out error, error on the fitted data, weight; then the baselines."""
        lines = [f"{'':34}{'held-out error':>15}{'fitted error':>14}{'weight':>8}"]
        for c in self.candidates:
            lines.append(f"{c.name:34}{c.validation.error:>15.3g}{c.fitted_error:>14.3g}{c.weight:>8.2f}")
        lines += [f"{name:34}{error:>15.3g}" for name, error in self.baselines.items()]
        lines += [f"no law here predicts the held-out runs better than the {name}" for name in self.beaten_by[:1]]
        return "\n".join([*lines, *(f"{name} left out: {reason}" for name, reason in self.left_out.items())])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        judged = [candidate.to_dict() for candidate in self.candidates]
        return {"laws": judged, "baselines": self.baselines, "left_out": self.left_out}


def compare(fits: Sequence[Fit], cuts: Sequence[float] = CUTS, *, resamples: int = 200) -> Comparison:
    """Compare laws on the same data by their mean held-out error, not by how well they fit.

    Weights are exp(−error² / (2 s²)), normalised, with s the smallest held-out error among the laws: a law with twice
    the best error has a fifth of the best law's weight, one with four times the error next to none.

    Args:
        fits: one per law; the columns may differ, the observations may not.
        cuts: shares of the points that are fitted (see `validate`).
        resamples: bootstrap fits per cut for the coverage of the intervals.

    Raises:
        FittingError: no fits, different data or residual spaces, or too few runs to hold any out for one of the laws.
    """
    if not fits:
        raise FittingError("nothing to compare: give at least one fit.")
    for other in fits[1:]:
        if other.loss.space != fits[0].loss.space or not np.array_equal(other.data.target, fits[0].data.target):
            raise FittingError(
                f"{other.model.name} and {fits[0].model.name} were fitted to different observations or residuals "
                f"({other.loss.describe()}; {fits[0].loss.describe()}): held-out errors would not compare."
            )
    validations = [validate(fit, cuts, resamples=resamples) for fit in fits]
    for fit, validation in zip(fits, validations, strict=True):
        if len(validation.cuts) < len(validations[0].cuts) or not validation.cuts:
            raise FittingError(f"{fit.model.name} cannot be compared: {'; '.join(validation.skipped)}.")
    errors = np.array([validation.error for validation in validations])
    weights = stacking_weights(errors)
    order = np.argsort(errors, kind="stable")
    baselines: dict[str, float] = {}
    for k in order:
        for name, error in validations[k].baseline_errors().items():
            baselines.setdefault(f"{name}" if name != NO_FLOOR else f"{fits[k].model.name} without its floor", error)
    return Comparison(tuple(Candidate(fits[k], validations[k], float(weights[k])) for k in order), baselines)


def stacking_weights(errors: ArrayLike) -> Array:
    """Return exp(−error² / (2 s²)), normalised, s the smallest error.

    Example:
        >>> stacking_weights([0.01, 0.02, 0.04]).round(3)
        array([0.817, 0.182, 0.   ])
    """
    e = np.asarray(errors, float)
    raw = np.exp(-0.5 * (e / max(float(e.min()), 1e-300)) ** 2)
    return np.asarray(raw / raw.sum())


def _weighted_interval(values: Array, weights: Array, level: float) -> tuple[Array, Array]:
    """Quantiles [n] of rows [B, n] that count as much as their weights [B], which add up to 1."""
    order = np.argsort(values, axis=0)
    below, ranked = np.cumsum(weights[order], axis=0), np.take_along_axis(values, order, 0)
    low, high = (ranked[np.argmax(below >= q - 1e-12, axis=0), np.arange(values.shape[1])] for q in tails(level))
    return low, high


def aicc(rss: float, points: int, parameters: int) -> float:
    """Return Akaike's criterion for small samples, n ln(RSS/n) + 2 k n/(n - k - 1), k the parameters and the noise.

    It is infinite where there are not two points more than parameters; a mean square below 1e-20 counts as exact.

    Example:
        >>> round(aicc(0.04, 10, 2), 2), aicc(0.04, 3, 2)
        (-45.21, inf)
    """
    k, left = parameters + 1, points - parameters - 2
    exact = 1e-20
    return points * math.log(max(rss / points, exact)) + 2 * k * points / left if left > 0 else math.inf
