"""Error that starts at a plateau and ends at a floor, and the frontier of runs that such a curve is drawn through."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError
from limbeck.fitting.model import Parameter
from limbeck.laws.law import LINEAR, SOURCES, published_family
from limbeck.laws.loss import OneColumn, exponent, scale

NEZHURINA = SOURCES["nezhurina-2025"]


@dataclass(frozen=True)
class ShiftedPower(OneColumn):
    """Power law that starts late and levels off: y = E + A (x + x0)^-alpha; of compute, unless another column is named.

    Below x0 the error stays near its plateau E + A x0^-alpha (chance), far above it falls to E. E = 0, x0 = 0 or both
    give the simpler laws of the paper: fix them. Fitted by least squares on y itself, as in the paper.

    Source: Scaling Laws for Robust Comparison of Open Foundation Language-Vision Models and Datasets (Nezhurina et al.,
    2025, arXiv 2506.04598).

    Example:
        >>> law = ShiftedPower("flops", "error")
        >>> law({"E": 0.1, "A": 80.0, "x0": 1e4, "alpha": 0.5}, flops=[0.0, 3e4]).round(2).tolist()
        [0.9, 0.5]
    """

    column: str = "flops"
    quantity: str = "error"

    name = "shifted-power"
    source = NEZHURINA
    shape = "E + A / (x + x0)^alpha"
    linear = ("E", "A")
    floor = "E"
    preferred_loss = LINEAR

    declared = (
        Parameter("E", "irreducible part", log=True),
        Parameter("A", "reducible part at x + x0 = 1", log=True, dimension={"x": "alpha"}),
        replace(scale("x0", "where the plateau ends", "x", (1e-3, 0.03, 0.3, 1.0, 10.0)), lower=1e-9),
        exponent("alpha", "exponent"),
    )

    def curve(self, p: Any, x: Any) -> Any:
        """E + A (x + x0)^-alpha."""
        return p.E + p.A * (x + p.x0) ** -p.alpha


NEZHURINA_2025 = published_family("nezhurina-2025")
"""Published curves of the error, by model."""


def pareto(x: ArrayLike, y: ArrayLike) -> NDArray[np.bool_]:
    """Return which points no other point beats in both x and y (less is better), the first of equal points, [n].

    Example:
        >>> pareto([1, 2, 2, 3], [5, 4, 4, 6]).tolist()
        [True, True, False, False]
    """
    cost, error = np.asarray(x, float), np.asarray(y, float)
    order = np.lexsort((error, cost))
    keep = np.zeros(len(cost), bool)
    values = error[order]
    keep[order] = values < np.concatenate([[np.inf], np.minimum.accumulate(values)[:-1]])
    return keep


def binned_frontier(
    x: ArrayLike, y: ArrayLike, *, smallest: float = 1500.0, bins: int | None = None
) -> NDArray[np.bool_]:
    """Return the frontier of runs by compute: the least error of each logarithmic bin, where it improves on all before.

    The edges are K = floor(log2(x_max / smallest)) log-spaced numbers from x_min to x_max, bins are half-open, and the
    run of x_max stands alone.

    Args:
        x: compute, [n].
        y: error or loss, [n].
        smallest: compute that sets K, in the units of x (1500 GFLOP in the paper's code).
        bins: number of bins, in place of `smallest`.

    Raises:
        FittingError: fewer than one bin.

    Source: Scaling Laws for Robust Comparison of Open Foundation Language-Vision Models and Datasets (Nezhurina et al.,
    2025, arXiv 2506.04598), `pareto_frontier_bins` of its code.

    Example:
        >>> binned_frontier([1, 2, 10, 20, 100], [5, 6, 7, 3, 2], bins=2).tolist()
        [True, False, False, True, True]
    """
    cost, error = np.asarray(x, float), np.asarray(y, float)
    edges = math.floor(math.log2(cost.max() / smallest)) if bins is None else bins + 1
    if edges < 2:
        raise FittingError(f"a frontier needs at least one bin; got {edges - 1}. Lower smallest, or give bins.")
    member = np.searchsorted(np.geomspace(cost.min(), cost.max(), edges)[1:-1], cost, side="right")
    member[cost == cost.max()] = edges
    order = np.lexsort((error, member))
    best = order[np.unique(member[order], return_index=True)[1]]
    keep = np.zeros(len(cost), bool)
    keep[best[pareto(cost[best], error[best])]] = True
    return keep
