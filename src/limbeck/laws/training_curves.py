"""The compute frontier from training curves: which size is best at each budget (approach 1, and the convex hull)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.laws.trend import Trend


@dataclass(frozen=True)
class Curve:
    """One training run: its size and its loss along the way.

    Args:
        params: parameters of the model.
        tokens: tokens seen at each checkpoint, increasing, [n].
        loss: nats/token at each, [n].
    """

    params: float
    tokens: ArrayLike
    loss: ArrayLike

    @property
    def flops(self) -> Array:
        """6 N D at each checkpoint."""
        return 6.0 * self.params * np.asarray(self.tokens, float)


@dataclass(frozen=True)
class Envelope:
    """The best run at each budget, and the trends through them.

    Args:
        flops, params, loss: points of the frontier, [k].
        size, data: trends of N* and of D* = C/(6 N*) in compute (FLOP).
        resolution: half a step of the size grid in ln N: the uncertainty that few sizes leave.
        warnings: what limits the answer, in words.
    """

    flops: Array
    params: Array
    loss: Array
    size: Trend
    data: Trend
    resolution: float
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, flops: Array, params: Array, loss: Array, sizes: Array, weights: Array | None = None) -> Envelope:
        """Return the envelope with its trends drawn through the points."""
        if len(np.unique(params)) < 2:
            raise FittingError(
                "one size is best at every budget of these curves: no frontier can be drawn through them."
            )
        grid = np.unique(sizes)
        few = f"{len(grid)} sizes allow {len(grid) - 1} switch points: the exponent is biased, use 5 or more sizes"
        resolution, warnings = float(np.diff(np.log(grid)).mean() / 2), (few,) * (len(grid) < 5)
        return cls(flops, params, loss, *Trend.of_optima(flops, params, weights), resolution, warnings)


def _on_grid(curves: Sequence[Curve], points: int, smooth: float) -> tuple[Array, Array, Array]:
    """ln C [g]; ln loss of every curve there [k, g], infinite outside its checkpoints; sizes [k]."""
    from scipy.ndimage import gaussian_filter1d  # here, so that a fit does not wait for it

    if len(curves) < 2:
        raise FittingError(f"an envelope needs two or more training curves; given {len(curves)}.")
    ends = np.log([(c.flops.min(), c.flops.max()) for c in curves])
    grid, rows = np.linspace(ends[:, 0].min(), ends[:, 1].max(), points), []
    for curve in curves:
        x, y = np.log(curve.flops), np.log(np.asarray(curve.loss, float))
        y = gaussian_filter1d(y, smooth, mode="nearest") if smooth else y
        rows.append(np.interp(grid, x, y, left=np.inf, right=np.inf))
    return grid, np.array(rows), np.array([c.params for c in curves])


def envelope(
    curves: Sequence[Curve], *, points: int = 1500, smooth: float = 0.0, last_share: float | None = None
) -> Envelope:
    """Return approach 1: at each of many budgets the run with the least loss gives one (C, N*, D*).

    Budgets where the smallest or the largest size is best are left out: the optimum is not bracketed there.

    Args:
        curves: training curves of several sizes (and several schedule lengths each).
        points: number of log-spaced budgets.
        smooth: standard deviation of a Gaussian filter along the checkpoints, in checkpoints.
        last_share: keep only points in this last share of their run in tokens (0.15 in the source), where its
            learning-rate schedule has come down. None keeps all, which is right for a constant or an ideal schedule.

    Source: Training Compute-Optimal Large Language Models (Hoffmann et al., 2022, arXiv 2203.15556), section 3.1
    (reconstructed).
    """
    grid, rows, sizes = _on_grid(curves, points, smooth)
    best = rows.argmin(0)
    loss = rows[best, np.arange(points)]
    flops, params = np.exp(grid), sizes[best]
    keep = np.isfinite(loss) & (params > sizes.min()) & (params < sizes.max())
    if last_share is not None:
        ends = np.array([c.flops.max() for c in curves])[best]
        keep &= flops >= (1.0 - last_share) * ends
    if keep.sum() < 2:
        more = ": add sizes." if last_share is None else " and near its end: raise last_share or add schedule lengths."
        raise FittingError(f"fewer than two budgets have their best run inside the range of sizes{more}")
    return Envelope.of(flops[keep], params[keep], np.exp(loss[keep]), sizes)


def frontier(curves: Sequence[Curve], *, points: int = 2000, floor: float = 0.0) -> Envelope:
    """Return the compute frontier by the lower convex hull of (ln C, ln(L - floor)) over all curves.

    Each hull edge between two sizes is a switch; its midpoint in ln C gets the geometric mean of both, and weighs its
    length.

    Args:
        curves: training curves, at least two sizes.
        points: log-spaced budgets on which the curves are compared.
        floor: irreducible loss taken off first.

    Source: Scaling Laws for Autoregressive Generative Modeling (Henighan et al., 2020, arXiv 2010.14701), section 2
    (reconstructed).
    """
    grid, rows, sizes = _on_grid(curves, points, 0.0)
    rows = np.minimum.accumulate(rows, axis=1)
    best = rows.argmin(0)
    loss = np.exp(rows[best, np.arange(points)]) - floor
    keep = np.isfinite(loss) & (loss > 0)
    x, y, owner = grid[keep], np.log(loss[keep]), best[keep]
    hull, log_size = np.array(_lower_hull(x, y)), np.log(sizes[owner])
    left, right = hull[:-1], hull[1:]
    changed = log_size[left] != log_size[right]
    if changed.sum() < 2:
        raise FittingError("fewer than two changes of the best size along these curves: add sizes or longer runs.")
    left, right = left[changed], right[changed]
    middles, params = (x[left] + x[right]) / 2, np.exp((log_size[left] + log_size[right]) / 2)
    at = np.exp(np.interp(middles, x[hull], y[hull])) + floor
    return Envelope.of(np.exp(middles), params, at, sizes, x[right] - x[left])


def _lower_hull(x: Array, y: Array) -> list[int]:
    """Indices of the lower convex hull, by the monotone chain."""
    hull: list[int] = []
    for i in range(len(x)):
        while len(hull) > 1:
            a, b = hull[-2:]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]):
                break
            hull.pop()
        hull.append(i)
    return hull
