"""Straight lines on log-log axes, y = coefficient x^exponent, and where a quality stops to follow one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting import aicc
from limbeck.fitting.model import Array


@dataclass(frozen=True)
class Trend:
    """A pure power law between two positive quantities, such as N_opt(C) = (C/C0)^beta or s(m) = kappa m^beta_p.

    Args:
        coefficient: y at x = 1.
        exponent: d ln y / d ln x.
        exponent_se: standard error of the exponent, NaN where it is not known.
        points: how many points the line was drawn through.

    Example:
        >>> Trend(2.0, 0.5).value(16.0)
        array(8.)
        >>> Trend(2.0, 0.5).inverse(8.0)
        array(16.)
    """

    coefficient: float
    exponent: float
    exponent_se: float = float("nan")
    points: int = 0

    @classmethod
    def through(cls, x: ArrayLike, y: ArrayLike, weights: ArrayLike | None = None) -> Trend:
        """Return the weighted least-squares line of ln y on ln x.

        Args:
            x, y: positive, shape [n], n >= 2 distinct x.
            weights: inverse variances of ln y, shape [n]; equal if not given.

        Raises:
            FittingError: fewer than two distinct x, or a value that is not positive.

        Example:
            >>> round(Trend.through([1, 10, 100], [3, 30, 300]).exponent, 9)
            1.0
        """
        x, y = np.asarray(x, float), np.asarray(y, float)
        if len(np.unique(x)) < 2 or not (np.all(x > 0) and np.all(y > 0)):
            raise FittingError(f"a power trend needs two or more distinct positive points; given x = {x}, y = {y}.")
        w = np.ones(len(x)) if weights is None else np.asarray(weights, float)
        u, v = np.log(x), np.log(y)
        centre, level = np.average(u, weights=w), np.average(v, weights=w)
        spread = np.sum(w * (u - centre) ** 2)
        slope = float(np.sum(w * (u - centre) * (v - level)) / spread)
        residual = v - level - slope * (u - centre)
        freedom = len(x) - 2
        se = float(np.sqrt(np.sum(w * residual**2) / freedom / spread)) if freedom > 0 else float("nan")
        return cls(float(np.exp(level - slope * centre)), slope, se, len(x))

    def value(self, x: ArrayLike) -> Array:
        """Return y at x."""
        return np.asarray(self.coefficient * np.asarray(x, float) ** self.exponent)

    def inverse(self, y: ArrayLike) -> Array:
        """Return the x where the trend takes the value y."""
        return np.asarray((np.asarray(y, float) / self.coefficient) ** (1.0 / self.exponent))

    @classmethod
    def of_optima(cls, flops: Array, params: Array, weights: Array | None = None) -> tuple[Trend, Trend]:
        """Return the trends of optimal sizes N* and of their data D* = C/(6 N*) in compute."""
        return cls.through(flops, params, weights), cls.through(flops, flops / (6 * params), weights)


def bottom(x: Array, y: Array, weights: Array | None = None) -> float | None:
    """Return where the parabola through points, weighted by 1/s.d., is least; None where it opens downwards."""
    centre = x.mean()
    c2, c1, _ = np.polyfit(x - centre, y, 2, w=weights)
    return None if c2 <= 0 else float(centre - c1 / (2 * c2))


@dataclass(frozen=True)
class QualityBreak:
    """Where a quality stops to follow the loss.

    Args:
        loss: quality saturates below this loss; None where it follows the loss to the end.
        slope: exponent of the quality in the loss above it: quality falls as loss^-slope.
        aicc: of the line and of the line that ends in a plateau; the lower is better.
    """

    loss: float | None
    slope: float
    aicc: dict[str, float]


def quality_break(loss: ArrayLike, quality: ArrayLike, *, least: int = 3) -> QualityBreak:
    """Fit ln Q = u - v ln L, and the same line with a plateau below a break; choose by AICc.

    The break costs two parameters in AICc: its place is searched for.

    Args:
        loss, quality: positive, [n].
        least: points that a plateau, and a line, must hold.

    Raises:
        FittingError: fewer points than both need, or values that are not positive.

    Source: Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv 2109.07740); the test is
    reconstructed.
    """
    x, y = np.asarray(loss, float), np.asarray(quality, float)
    if len(x) < 2 * least + 1 or not ((x > 0).all() and (y > 0).all()):
        raise FittingError(f"a break needs {2 * least + 1} points with positive loss and quality; {len(x)} are given.")
    ordered, n = np.sort(np.log(x)), len(x)
    breaks = np.concatenate([[-np.inf], np.linspace(ordered[least - 1], ordered[-least - 1], 400)])
    bent = np.maximum(np.log(x), breaks[:, None])
    u, v = bent - bent.mean(1, keepdims=True), np.log(y) - np.log(y).mean()
    slope = (u @ v) / (u**2).sum(1)
    squares = ((v - slope[:, None] * u) ** 2).sum(1)
    best = 1 + int(np.argmin(squares[1:]))
    scores = {"line": aicc(squares[0], n, 2), "plateau": aicc(squares[best], n, 4)}
    broken = scores["plateau"] < scores["line"]
    return QualityBreak(float(np.exp(breaks[best])) if broken else None, float(-slope[best if broken else 0]), scores)
