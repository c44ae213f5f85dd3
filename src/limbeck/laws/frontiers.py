"""The compute frontier from runs: from training curves (approach 1, convex hull) and from profiles of equal compute.

Approach 2 comes with the bias of its parabola measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.laws.compute_frontier import ComputeFrontier
from limbeck.laws.loss import Chinchilla
from limbeck.laws.trend import Trend, bottom


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


@dataclass(frozen=True)
class Profile:
    """The runs of one budget.

    Args:
        flops: the budget, FLOP.
        params, loss: its runs, sorted by size.
        optimum: N* of this budget; None where the profile does not bracket it.
        log_sd: standard deviation of ln N*, where noise was propagated, else 0.
        flag: why there is no optimum, or an empty string.
    """

    flops: float
    params: Array
    loss: Array
    optimum: float | None
    log_sd: float = 0.0
    flag: str = ""


@dataclass(frozen=True)
class IsoFlop:
    """Approach 2: one optimum per budget, and log-log lines through them.

    Args:
        profiles: one per budget, in order of compute.
        size, data: trends of N* and D* = C/(6 N*) in compute.
    """

    profiles: tuple[Profile, ...]
    size: Trend
    data: Trend

    def bias(self, parameters: Mapping[str, float]) -> ParabolaBias:
        """Return what parabolas get wrong on these runs if the Chinchilla law of `parameters` holds exactly."""
        return parabola_bias(parameters, {p.flops: p.params for p in self.profiles})


@dataclass(frozen=True)
class ParabolaBias:
    """The error of approach 2 on noise-free losses of a known law at the user's own sizes and budgets.

    Args:
        flops: budgets with a vertex, [k].
        ratio: N* of the parabola divided by the true N*, [k].
        exponent: exponent from the parabolas minus the true one.
    """

    flops: Array
    ratio: Array
    exponent: float

    def summary(self) -> str:
        """Return the bias in words."""
        worst = int(np.abs(np.log(self.ratio)).argmax())
        return (
            f"parabolas misplace the optimum of these runs by {100 * (self.ratio[worst] - 1):+.1f} % at "
            f"{self.flops[worst]:.1e} FLOP and its exponent by {self.exponent:+.4f}, without any noise "
            "(the fitted law, evaluated at your sizes and budgets); prefer the parametric fit"
        )


def budgets(flops: ArrayLike, *, tolerance: float = 0.1) -> list[Array]:
    """Return groups of rows whose compute agrees within a relative tolerance, in order of compute.

    Example:
        >>> [g.tolist() for g in budgets([1e18, 1.02e18, 3e18])]
        [[0, 1], [2]]
    """
    log = np.log(np.asarray(flops, float))
    order = np.argsort(log, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(log[order]) > tolerance) + 1)


def vertex(params: ArrayLike, loss: ArrayLike) -> tuple[float | None, float, str]:
    """Return the size at the vertex of loss = c0 + c1 ln N + c2 ln² N, 0.0, and why there is none where it is None.

    Example:
        >>> size, _, flag = vertex([1e8, 1e9, 1e10], [2.3, 2.2, 2.3])
        >>> round(size), flag
        (1000000000, '')
        >>> vertex([1e8, 1e9, 1e10], [2.3, 2.2, 2.15])[2]
        'optimum outside the sizes tried (above)'
    """
    x, y = np.log(np.asarray(params, float)), np.asarray(loss, float)
    if len(np.unique(x)) < 3:
        return None, 0.0, "fewer than three sizes"
    if (log_size := bottom(x, y)) is None:
        return None, 0.0, "no minimum: the parabola opens downwards"
    if not x.min() <= log_size <= x.max():
        return None, 0.0, f"optimum outside the sizes tried ({'above' if log_size > x.max() else 'below'})"
    return float(np.exp(log_size)), 0.0, ""


def _akima(
    params: Array, loss: Array, noise: float, resamples: int, rng: np.random.Generator
) -> tuple[float | None, float, str]:
    """Noise-and-interpolate: ln N* and its spread from minima of Akima curves through noisy losses."""
    from scipy.interpolate import Akima1DInterpolator  # here, so that a fit does not wait for it

    x, index = np.unique(np.log(params), return_index=True)
    if len(x) < 4:
        return None, 0.0, "fewer than four sizes"
    grid = np.linspace(x[0], x[-1], 1000)
    draws = loss[index] + noise * rng.standard_normal((resamples, len(x)))
    minima = Akima1DInterpolator(x, draws, axis=1)(grid).argmin(1)
    inside = (minima > 0) & (minima < len(grid) - 1)
    if inside.mean() < 0.5:
        return None, 0.0, "optimum at the edge of the sizes tried"
    logs = grid[minima[inside]]
    return float(np.exp(logs.mean())), float(logs.std()), ""


def isoflop(
    params: ArrayLike, flops: ArrayLike, loss: ArrayLike, *, method: str = "parabola", noise: float = 0.002,
    resamples: int = 400, seed: int = 0, tolerance: float = 0.1,
) -> IsoFlop:  # fmt: skip
    """Return the compute-optimal size of every budget and the trend through them.

    Args:
        params, flops, loss: one entry per finished run, [n].
        method: `parabola` (a quadratic in ln N; biased, see `IsoFlop.bias`) or `akima` (noise-and-interpolate: minima
            of Akima curves through losses with `noise` added; the trend is weighted by their spread).
        noise: run-to-run standard deviation of the loss, for `akima`.
        resamples, seed: of the noise, for `akima`.
        tolerance: runs whose compute agrees within this share belong to one budget.

    Raises:
        FittingError: fewer than two budgets bracket their optimum.

    Source: Training Compute-Optimal Large Language Models (Hoffmann et al., 2022, arXiv 2203.15556), section 3.2
    (reconstructed); the robust variant is from Resolving Discrepancies in Compute-Optimal Scaling of Language Models
    (Porian et al., 2024, arXiv 2406.19146).
    """
    n, c, y = (np.asarray(a, float) for a in (params, flops, loss))
    if method not in ("parabola", "akima"):
        raise FittingError(f'method must be "parabola" or "akima", not "{method}".')
    rng = np.random.default_rng(seed)
    profiles = []
    for rows in budgets(c, tolerance=tolerance):
        rows = rows[np.argsort(n[rows], kind="stable")]
        budget = float(np.exp(np.log(c[rows]).mean()))
        own = n[rows], y[rows]
        optimum, sd, flag = vertex(*own) if method == "parabola" else _akima(*own, noise, resamples, rng)
        profiles.append(Profile(budget, *own, optimum, sd, flag))
    good = [p for p in profiles if p.optimum is not None]
    if len(good) < 2:
        reasons = "; ".join(f"{p.flops:.2g} FLOP: {p.flag}" for p in profiles if p.flag)
        raise FittingError(f"{len(good)} of {len(profiles)} budgets bracket their optimum, two are needed. {reasons}.")
    compute, optima, spreads = np.array([(p.flops, p.optimum, p.log_sd) for p in good], float).T
    weights = 1 / np.maximum(spreads, 1e-3) ** 2 if method == "akima" else None
    return IsoFlop(tuple(profiles), *Trend.of_optima(compute, optima, weights))


def parabola_bias(parameters: Mapping[str, float], grid: Mapping[float, ArrayLike]) -> ParabolaBias:
    """Return the bias of approach 2 on noise-free losses of a Chinchilla law.

    Args:
        parameters: E, A, B, alpha, beta.
        grid: the sizes tried at each budget: {FLOP: params [k]}.

    Source: Problems with Chinchilla Approach 2: Systematic Biases in IsoFLOP Parabola Fits (2026, arXiv 2603.22339).
    """
    law, truth = Chinchilla(), ComputeFrontier.of(parameters)
    sizes = [np.asarray(params, float) for params in grid.values()]
    budget = np.repeat([float(f) for f in grid], [len(s) for s in sizes])
    params = np.concatenate(sizes)
    fit = isoflop(params, budget, law(parameters, params=params, tokens=budget / (6 * params)))
    flops, optima = np.array([(p.flops, p.optimum) for p in fit.profiles if p.optimum is not None]).T
    ratio = optima / truth.params(flops)
    return ParabolaBias(flops, ratio, fit.size.exponent - float(truth.size_exponent))
