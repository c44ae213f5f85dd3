"""One-dimensional searches for many rows at once (one row per bootstrap draw)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from limbeck.fitting.model import Array

Curve = Callable[[Array], Array]
"""Takes points [rows, k] and returns values [rows, k]."""


def minimise(function: Curve, low: Array, high: Array, *, points: int = 65, rounds: int = 7) -> Array:
    """Return where each row's function is least between low [rows] and high [rows].

    A grid, then finer grids around its best point. Seven rounds of 65 points narrow the bracket by 32^7; the answer is
    as exact as a flat minimum allows.
    """
    low, high = np.asarray(low, float), np.asarray(high, float)
    fractions = np.linspace(0.0, 1.0, points)
    rows = np.arange(len(low))
    for _ in range(rounds):
        grid = low[:, None] + (high - low)[:, None] * fractions
        best = np.nanargmin(function(grid), axis=1)
        low, high = grid[rows, np.maximum(best - 1, 0)], grid[rows, np.minimum(best + 1, points - 1)]
    return (low + high) / 2


def root(function: Curve, low: Array, high: Array, *, steps: int = 70) -> Array:
    """Return where each row's increasing function crosses zero between low and high (any shape), by bisection.

    Where it is positive everywhere the result tends to `low`, where it is negative everywhere to `high`.
    """
    low, high = np.array(low, float), np.array(high, float)
    for _ in range(steps):
        middle = (low + high) / 2
        above = function(middle) > 0
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


def last_crossing(x: Array, gap: Array, changes: NDArray[np.bool_]) -> Array:
    """Return the last x [k] at which each row of a gap [rows, k] is zero, by linear interpolation; NaN without one.

    Args:
        x: increasing.
        gap: values.
        changes: steps of the grid that count as a crossing, [rows, k - 1].
    """
    last = changes.shape[1] - 1 - changes[:, ::-1].argmax(1)
    row = np.arange(len(gap))
    left, right = gap[row, last], gap[row, last + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        place = x[last] + (x[last + 1] - x[last]) * left / (left - right)
    return np.where(changes.any(1), place, np.nan)
