"""A straight line on log-log axes: y = coefficient x^exponent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
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
