"""One-dimensional searches for many rows at once (one row per bootstrap draw)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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
