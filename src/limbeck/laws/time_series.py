"""Loss of a forecaster against one scale, for each split of the data: how steep, how sure, and how it carries over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Interval
from limbeck.fitting import fit as fit_model
from limbeck.fitting.model import Array
from limbeck.laws.law import SOURCES, TABLES
from limbeck.laws.loss import Henighan, PowerFloor
from limbeck.laws.modalities import PETAFLOP_DAY
from limbeck.laws.trend import Trend

YAO = SOURCES["yao-2024"]
STEPS_PER_VALIDATION = 1000
"""Optimiser steps between two validations of the official runs: 10 epochs of 100 batches."""


def training_pf_days(
    params: ArrayLike, validation: ArrayLike, *, batch: int = 128, patches: int = 512, legacy: bool = False
) -> Array:
    """Return the compute of a run up to a validation, 6 B N T steps / 8.64e19, in PF-days.

    Args:
        params: N.
        validation: number of the validation, from 1.
        batch, patches: sequences in a batch, B, and patches in a sequence, T.
        legacy: count validations as steps, as the official code does: 1000 times too little, and A_0 with it.

    Source: Towards Neural Scaling Laws for Time Series Foundation Models (Yao et al., 2024, arXiv 2410.12360).

    Example:
        >>> float(training_pf_days(1e9, 100).round(3))
        0.455
    """
    steps = np.asarray(validation, float) * (1 if legacy else STEPS_PER_VALIDATION)
    return np.asarray(6.0 * batch * np.asarray(params, float) * patches * steps / PETAFLOP_DAY)


def compute_envelope(flops: ArrayLike, loss: ArrayLike) -> tuple[Array, Array]:
    """Return the least loss of every cell of compute, log10 C rounded to 0.1: the points of a law in compute.

    Args:
        flops, loss: checkpoints of all sizes together, [n].

    Example:
        >>> cells, best = compute_envelope([1e20, 1.01e20, 1e21], [2.0, 1.9, 1.5])
        >>> cells.tolist(), best.tolist()
        ([1e+20, 1e+21], [1.9, 1.5])
    """
    cell = np.round(np.log10(np.asarray(flops, float)), 1)
    cells, place = np.unique(cell, return_inverse=True)
    best = np.full(len(cells), np.inf)
    np.minimum.at(best, place.ravel(), np.asarray(loss, float))
    return 10.0**cells, best


def best_validation(loss: ArrayLike, smallest: int = 1) -> float:
    """Return the loss that stands for a run: the mean of its smallest validation losses, by default the least one.

    The least of many noisy values is too small, and more so the more there are: compare runs with equally many.

    Args:
        loss: at each validation of the run, [n].
        smallest: how many enter the mean.

    Example:
        >>> best_validation([2.0, 1.5, 1.6, 1.4]), round(best_validation([2.0, 1.5, 1.6, 1.4], 2), 3)
        (1.4, 1.45)
    """
    return float(np.sort(np.asarray(loss, float))[:smallest].mean())


@dataclass(frozen=True)
class SplitLaw:
    """Loss of one split along one scale: L = (x0/x)^alpha. Build it with `split_law`.

    Args:
        trend: the line through ln L and ln x.
        left_out: least and largest alpha with one scale left out; empty with two scales.
        dropped: points without a loss, which were left out.

    Source: Towards Neural Scaling Laws for Time Series Foundation Models (Yao et al., 2024, arXiv 2410.12360).
    """

    trend: Trend
    left_out: tuple[float, ...] = ()
    dropped: int = 0

    @property
    def alpha(self) -> float:
        """The exponent."""
        return -self.trend.exponent

    @property
    def log10_x0(self) -> float:
        """Decimal logarithm of the scale at which the loss would be 1."""
        return math.log10(self.trend.coefficient) / self.alpha

    def interval(self, level: float = 0.8) -> Interval:
        """Return alpha with Student's interval: wide for few scales, and rightly so; without ends for two."""
        half = float(stdtrit(max(self.trend.points - 2, 1), (1 + level) / 2)) * self.trend.exponent_se
        return Interval(self.alpha, self.alpha - half, self.alpha + half, level)

    def gain(self, factor: float) -> float:
        """Return the relative change of the loss when the scale is multiplied: factor^-alpha - 1.

        Example:
            >>> law = split_law([1e6, 1e8], [1.0, 100**-0.03])
            >>> round(law.gain(10.0), 3), round(law.gain(100.0), 3)
            (-0.067, -0.129)
        """
        return float(factor**-self.alpha - 1.0)


def split_law(x: ArrayLike, loss: ArrayLike) -> SplitLaw:
    """Fit L = (x0/x)^alpha by least squares of ln L on ln x.

    Args:
        x: the scale: parameters, time points or compute, [n].
        loss: best loss of each run on the split, above zero, [n]; NaN where it was not measured.

    Raises:
        FittingError: a loss at or below zero, which a continuous density may give, or fewer than two scales.

    Source: Towards Neural Scaling Laws for Time Series Foundation Models (Yao et al., 2024, arXiv 2410.12360).

    Example:
        >>> law = split_law([1e6, 1e7, 1e8, 1e9], [2.0, 1.8, 1.62, 1.458])
        >>> round(law.alpha, 4), round(law.log10_x0, 2)
        (0.0458, 12.58)
    """
    known = np.isfinite(np.asarray(loss, float))
    scale, y = np.asarray(x, float)[known], np.asarray(loss, float)[known]
    _check_positive(y)
    left_out = [scale != one for one in np.unique(scale)]
    without = [-Trend.through(scale[kept], y[kept]).exponent for kept in left_out if len(left_out) > 2]
    return SplitLaw(Trend.through(scale, y), (min(without), max(without)) if without else (), int((~known).sum()))


def _check_positive(loss: Array) -> None:
    if (loss <= 0).any():
        raise FittingError(
            f"a pure power law needs losses above zero; the least is {loss.min():g}. The density of a continuous value "
            "may exceed 1: add one constant to all losses and say so, or compare another metric."
        )


def floor_gain(x: ArrayLike, loss: ArrayLike) -> float:
    """Return Akaike's criterion of the pure power law minus that of one with a floor: positive where a floor pays.

    Args:
        x, loss: as for `split_law`, five points or more.

    Example:
        >>> x = [1e6, 1e7, 1e8, 1e9, 1e10, 1e11]
        >>> floor_gain(x, [1 + 1e3 * n**-0.5 for n in x]) > 2
        True
    """
    given = {"params": np.asarray(x, float)}, np.asarray(loss, float)
    held: tuple[dict[str, float], ...] = ({"E": 0.0}, {})
    rss = [fit_model(PowerFloor("params"), *given, loss=SQUARED, fixed=e, bootstrap=0).objective for e in held]
    return float(len(given[1]) * np.log(max(rss[0], 1e-30) / max(rss[1], 1e-30)) - 2.0)


def slope_ratio(x: ArrayLike, reference: ArrayLike, other: ArrayLike, *, level: float = 0.8) -> Interval:
    """Return alpha of one split over that of another, from runs measured on both.

    The interval is Fieller's: all ratios r for which ln L_other - r ln L_reference has no slope in ln x at this level.
    What a run does to both losses cancels. It is the whole line where the reference itself has no clear slope.

    Args:
        x: the scale, [n].
        reference, other: losses of the same runs, [n]; rows that lack one are left out.
        level: nominal coverage.

    Raises:
        FittingError: fewer than three runs with both losses, or a loss at or below zero.

    Source: Some Problems in Interval Estimation (Fieller, 1954, Journal of the Royal Statistical Society B 16).

    Example:
        >>> x = [1e6, 1e7, 1e8, 1e9]
        >>> ratio = slope_ratio(x, [4.0, 3.1, 2.5, 2.0], [4.0, 3.6, 3.2, 2.8])
        >>> round(ratio.value, 2), round(ratio.upper, 2)
        (0.52, 0.58)
    """
    scale, losses = np.asarray(x, float), np.stack([np.asarray(reference, float), np.asarray(other, float)])
    both = np.isfinite(losses).all(0)
    _check_positive(losses[:, both])
    scale, y = scale[both], np.log(losses[:, both])
    if len(np.unique(scale)) < 3:
        raise FittingError(f"a ratio of slopes needs three or more scales with both losses; there are {both.sum()}.")
    u = np.log(scale) - np.log(scale).mean()
    slopes = y @ u / (u @ u)
    residual = y - y.mean(1, keepdims=True) - slopes[:, None] * u
    freedom = len(u) - 2
    (v11, v12), (_, v22) = stdtrit(freedom, (1 + level) / 2) ** 2 * (residual @ residual.T) / freedom / (u @ u)
    a, b, c = map(float, (slopes[0] ** 2 - v11, slopes[0] * slopes[1] - v12, slopes[1] ** 2 - v22))
    half = math.sqrt(max(b * b - a * c, 0.0))
    ends = ((b - half) / a, (b + half) / a) if a > 0 else (-math.inf, math.inf)
    return Interval(float(slopes[1] / slopes[0]), *ends, level)


def slope_difference(first: SplitLaw, second: SplitLaw, *, level: float = 0.8) -> Interval:
    """Return alpha of one law minus that of another from other runs, with Welch's interval.

    Raises:
        FittingError: a law of two points, which has no standard error.
    """
    (s1, n1), (s2, n2) = ((law.trend.exponent_se**2, law.trend.points - 2) for law in (first, second))
    if min(n1, n2) < 1:
        raise FittingError("a difference of slopes needs three or more points in each law.")
    freedom = max((s1 + s2) ** 2 / max(s1**2 / n1 + s2**2 / n2, 1e-300), 1.0)
    value, half = first.alpha - second.alpha, float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(s1 + s2)
    return Interval(value, value - half, value + half, level)


def crossing(first: SplitLaw, second: SplitLaw) -> float | None:
    """Return the scale at which two laws give the same loss, (x1^a1 / x2^a2)^(1/(a1 - a2)); None if it is out of reach.

    Example:
        >>> x = [1.0, 10.0, 100.0]
        >>> first, second = split_law(x, [4.0, 2.0, 1.0]), split_law(x, [2.0, 1.5, 1.125])
        >>> round(crossing(first, second), 2)
        51.23
    """
    if first.alpha == second.alpha:
        return None
    log10 = (first.alpha * first.log10_x0 - second.alpha * second.log10_x0) / (first.alpha - second.alpha)
    return 10.0**log10 if abs(log10) < 300 else None


YAO_2024 = {
    (kind, column, split): Henighan(column).published(
        {"L_inf": 0.0, "x0": x0 * (STEPS_PER_VALIDATION * PETAFLOP_DAY if column == "flops" else 1.0), "alpha": alpha},
        YAO, where="figures of its notebooks",
        note="negative log-likelihood of standardised values, nats per time point; compare under one normalisation",
    )
    for name, rows in TABLES["yao-2024"].items()
    for kind, column in [name.split("-")]
    for split, (x0, alpha) in zip(("id", "lsf", "monash"), rows, strict=True)
}  # fmt: skip
"""Published laws (x0/x)^alpha by (encoder or decoder, params, samples or flops, id, lsf or monash).

A sample is a time point. The compute scales are brought from the code's axis, which omits a factor of 1000, to FLOP.
"""
