"""A batched Newton method for robust losses: thousands of small fits as one computation.

Each row of a batch is one fit (a start, a resample, a simulated data set). Rows are independent, so a batch of one and a batch of
thousands give the same answer; finished rows leave and waiting rows enter, so that a block always fits the cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem

CONVERGED, STALLED, EXHAUSTED, NOT_FINITE = 0, 1, 2, 3
"""Status of a row: converged; no descent at the largest damping; out of iterations; no finite value at its start."""

BLOCK = 64
"""Rows that are worked on together (64 rows of 240 points stay in the second-level cache)."""


@dataclass(frozen=True)
class Optima:
    """Where every row ended.

    Args:
        z: centred coordinates [B, p].
        objective: [B]; infinite where the start was not finite.
        status: [B], one of the codes above.
        iterations: [B].
    """

    z: Array
    objective: Array
    status: NDArray[np.int_]
    iterations: NDArray[np.int_]


def minimise(
    problem: Problem,
    starts: Array,
    rows: NDArray[np.int_] | None = None,
    *,
    damping: float = 1.0,
    extra: float = 0.1,
    longest_step: float = 1.0,
    tolerance: float = 1e-12,
    iterations: int = 200,
) -> Optima:
    """Minimise the problem from every start.

    One iteration solves (H_N + μ H_I + (1e-9 + extra·μ) diag H_I) step = −gradient, takes the step if the objective falls
    (then μ ← max(μ/4, 1e-6), else μ ← 5 μ), and stops a row after two successive relative changes below `tolerance`. H_I
    alone descends surely but slowly, H_N alone is singular when most residuals lie in the linear part of a Huber loss.

    Args:
        problem: model, data, loss and coordinates.
        starts: centred coordinates [B, p].
        rows: which row of weights and targets each start uses, [B]; by default its own.
        damping: first μ; 1 from a generic start, 0.01 from the optimum of a similar data set.
        extra: share of the diagonal damping, which keeps vanishing terms of a sum from being lost.
        longest_step: largest change of one coordinate in one iteration.
        tolerance: relative change of the objective that counts as none.
        iterations: limit per row.
    """
    total, p = starts.shape
    rows = np.arange(total) if rows is None else rows
    z_out, f_out = starts.astype(float).copy(), np.full(total, np.inf)
    status, spent = np.full(total, EXHAUSTED), np.zeros(total, int)
    waiting = 0
    diagonal = np.arange(p)

    index = np.empty(0, int)
    z, f, gradient = np.empty((0, p)), np.empty(0), np.empty((0, p))
    majoriser, newton = np.empty((0, p, p)), np.empty((0, p, p))
    mu, calm, age = np.empty(0), np.empty(0, int), np.empty(0, int)
    while True:
        entering = np.arange(waiting, min(total, waiting + BLOCK - len(index)))
        if len(entering):
            waiting += len(entering)
            k = len(entering)
            index = np.concatenate([index, entering])
            z = np.concatenate([z, np.clip(starts[entering], problem.lower, problem.upper)])
            f = np.concatenate([f, np.full(k, np.inf)])
            gradient = np.concatenate([gradient, np.zeros((k, p))])
            majoriser = np.concatenate([majoriser, np.broadcast_to(np.eye(p), (k, p, p))])
            newton = np.concatenate([newton, np.broadcast_to(np.eye(p), (k, p, p))])
            mu = np.concatenate([mu, np.full(k, damping)])
            calm, age = np.concatenate([calm, np.zeros(k, int)]), np.concatenate([age, np.zeros(k, int)])
        if not len(index):
            return Optima(z_out, f_out, status, spent)

        scale = majoriser[:, diagonal, diagonal]
        scale = np.maximum(scale, 1e-8 * scale.max(1, keepdims=True))
        hessian = newton + mu[:, None, None] * majoriser
        hessian[:, diagonal, diagonal] += (1e-9 + extra * mu[:, None]) * scale + 1e-300
        blocked = ((z <= problem.lower) & (gradient > 0)) | ((z >= problem.upper) & (gradient < 0))
        if blocked.any():
            hessian[blocked[:, :, None] | blocked[:, None, :]] = 0.0
            hessian[:, diagonal, diagonal] += blocked
        step = -np.linalg.solve(hessian, np.where(blocked, 0.0, gradient)[:, :, None])[:, :, 0]
        step *= np.minimum(1.0, longest_step / np.maximum(np.abs(step).max(1, keepdims=True), 1e-300))
        trial = np.clip(z + step, problem.lower, problem.upper)
        f_trial, gradient_trial, majoriser_trial, newton_trial = problem.quadratic(trial, rows[index])

        finite = np.isfinite(f_trial) & np.isfinite(gradient_trial).all(1)
        fresh = np.isinf(f)
        with np.errstate(invalid="ignore"):
            better = finite & (f_trial < f)
            still = finite & ~fresh & (np.abs(f - f_trial) <= tolerance * np.abs(f))
        calm = np.where(still, calm + 1, 0)
        z[better], f[better], gradient[better] = trial[better], f_trial[better], gradient_trial[better]
        majoriser[better], newton[better] = majoriser_trial[better], newton_trial[better]
        mu = np.where(fresh, mu, np.where(better, np.maximum(mu / 4, 1e-6), 5 * mu))
        age += 1

        lost = fresh & ~better
        stalled = mu > 1e6
        done = (calm >= 2) | stalled | lost | (age >= iterations) | (f == 0.0)
        if done.any():
            out = index[done]
            z_out[out], f_out[out], spent[out] = z[done], f[done], age[done]
            status[out] = np.select(
                [lost[done], (calm[done] >= 2) | (f[done] == 0.0), stalled[done]],
                [NOT_FINITE, CONVERGED, STALLED],
                EXHAUSTED,
            )
            keep = ~done
            index, z, f, gradient, mu, calm, age = (a[keep] for a in (index, z, f, gradient, mu, calm, age))
            majoriser, newton = majoriser[keep], newton[keep]
