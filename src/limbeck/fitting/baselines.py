"""The simplest forecasts of larger runs from smaller ones: what a law has to beat."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.fitting.model import Array

LAST_VALUE = "last value carried forward"
LAST_TWO = "power law through the last two scales"
NO_FLOOR = "law without its floor"

SAME_SCALE = 2.0
"""Runs within this factor of the largest of them count as one scale."""


def last_value(size: Array, target: Array) -> float:
    """Return the mean observation at the largest size.

    Example:
        >>> last_value(np.array([1.0, 8.0, 8.0]), np.array([3.0, 2.0, 2.2]))
        2.1
    """
    return float(target[size >= size.max() * (1 - 1e-9)].mean())


def last_two_scales(size: Array, target: Array, at: Array) -> Array | None:
    """Extend the straight line in (ln size, ln target) through the means of the two largest scales.

    Args:
        size, target: the known runs, positive, [n].
        at: sizes to forecast, [m].

    Returns:
        The forecast [m], or None where there is one scale only or a target is not positive.

    Example:
        >>> last_two_scales(np.array([1.0, 10.0, 100.0]), np.array([9.0, 4.0, 2.0]), np.array([1000.0]))
        array([1.])
    """
    newest = size >= size.max() / SAME_SCALE
    if newest.all() or not (target > 0).all():
        return None
    before = ~newest & (size >= size[~newest].max() / SAME_SCALE)
    (x0, y0), (x1, y1) = (
        (float(np.log(size[scale]).mean()), float(np.log(target[scale]).mean())) for scale in (before, newest)
    )
    return np.asarray(np.exp(y1 + (y1 - y0) / (x1 - x0) * (np.log(at) - x1)))


def smaller(size: Array, clusters: NDArray[np.int_], fraction: float) -> NDArray[np.bool_]:
    """Return which points stay when the largest runs are left out, at most `fraction` of all points.

    A run is as large as its largest point; its points stay together, and so do runs of one size.

    Example:
        >>> smaller(np.array([1.0, 2.0, 3.0, 3.0]), np.array([0, 1, 2, 3]), 0.75)
        array([ True,  True, False, False])
    """
    whole = np.zeros(int(clusters.max()) + 1)
    np.maximum.at(whole, clusters, size)
    extent = whole[clusters]
    sizes, counts = np.unique(extent, return_counts=True)
    fits = np.cumsum(counts) <= fraction * len(size) + 1e-9
    return np.asarray(extent <= (sizes[fits].max() if fits.any() else -np.inf))
