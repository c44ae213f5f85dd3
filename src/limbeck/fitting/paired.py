"""Differences between methods that share their seeds: what is visible, and what is noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.fitting.plain import Plain

BINS = 15


@dataclass(frozen=True)
class Paired(Plain):
    """A mean difference over pairs.

    Args:
        mean: of the differences.
        error: its standard error.
        lower, upper: of the mean, by Student's t.
        p: of Student's t test that the mean is 0; 0 or 1 where all differences are equal.
        pairs: how many.
    """

    mean: float
    error: float
    lower: float
    upper: float
    p: float
    pairs: int


def paired(differences: ArrayLike, level: float = 0.95) -> Paired:
    """Return the mean of differences between pairs, with what their scatter leaves open.

    `mean d`, `s / sqrt(n)`, `mean ± t s / sqrt(n)` with n - 1 degrees of freedom

    Args:
        differences: one for each seed or question, at least two.
        level: of the interval.

    Raises:
        FittingError: fewer than two differences, or one that is not finite.

    Example:
        >>> found = paired([1.0, 2.0, 3.0])
        >>> found.mean, round(found.error, 4), round(found.p, 4)
        (2.0, 0.5774, 0.0742)
    """
    d = np.asarray(differences, float)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise FittingError(f"a standard error needs at least two finite differences, got {d.tolist()}")
    mean, error = float(d.mean()), float(d.std(ddof=1) / np.sqrt(len(d)))
    half = float(stats.t.ppf((1 + level) / 2, len(d) - 1)) * error
    p = float(2 * stats.t.sf(abs(mean) / error, len(d) - 1)) if error else float(mean == 0)
    return Paired(mean, error, mean - half, mean + half, p, len(d))


def holm(p: ArrayLike) -> Array:
    """Return p-values corrected for their number by Holm's rule, in the order given.

    Example:
        >>> holm([0.04, 0.01, 0.03]).tolist()
        [0.06, 0.03, 0.06]
    """
    values = np.asarray(p, float)
    order = np.argsort(values)
    adjusted = np.maximum.accumulate(np.minimum(1, values[order] * np.arange(len(values), 0, -1)))
    return np.asarray(adjusted[np.argsort(order)])


def calibration_error(confidence: ArrayLike, right: ArrayLike) -> float:
    """Expected calibration error over 15 bins of equal width.

    Example:
        >>> calibration_error([0.9, 0.9], [1, 0])
        0.4
    """
    p, hit = np.asarray(confidence, float), np.asarray(right, float)
    return float(np.abs(np.bincount(np.minimum((p * BINS).astype(int), BINS - 1), p - hit)).sum() / len(p))
