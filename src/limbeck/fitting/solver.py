"""A batched Newton method for robust losses: thousands of small fits as one computation.

Each row of a batch is one fit (a start, a resample, a simulated data set). Rows are independent, so a batch of one
and a batch of thousands give the same answer; rows that have converged leave the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem

CONVERGED, STALLED, EXHAUSTED, NOT_FINITE = 0, 1, 2, 3
"""Status of a row: converged; no descent at the largest damping; out of iterations; no finite value at its start."""

COMPILED_PAYS = 2e7
"""Fits times points from which the compiled solver is worth its start."""

EXTRA = 0.1
"""Share of the diagonal damping, which keeps vanishing terms of a sum from being lost."""

CHUNK = 2048
"""Rows whose state is held at once."""


@dataclass(frozen=True)
class Optima:
    """Where every row ended.

    Args:
        z: centred coordinates [B, p].
        objective: [B]; infinite where the start was not finite.
        status: [B], one of the codes above.
        iterations: evaluations of the objective after the one at the start, [B].
    """

    z: Array
    objective: Array
    status: NDArray[np.int_]
    iterations: NDArray[np.int_]

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Rows that ended at a stationary point, [B]."""
        return np.asarray(self.status == CONVERGED)


@dataclass
class _Rows:
    """The rows that are still moving: where each came from, where it stands, and the local model of its objective."""

    origin: NDArray[np.int_]
    noise: Array
    z: Array
    mu: Array
    f: Array
    gradient: Array
    majoriser: Array
    newton: Array

    def keep(self, which: NDArray[np.bool_]) -> _Rows:
        """Return the rows where `which` is true."""
        return self if which.all() else _Rows(*(getattr(self, column.name)[which] for column in fields(self)))


def minimise(
    problem: Problem, starts: Array, rows: NDArray[np.int_] | None = None, *, damping: float = 1.0,
    tolerance: float = 1e-13, iterations: int = 300, compiled: bool | None = None,
) -> Optima:  # fmt: skip
    """Minimise the problem from every start.

    One iteration solves (H_N + μ H_I + (1e-9 + 0.1 μ) diag H_I) step = −gradient, shortens the step to at most 1 in
    any coordinate and takes it if the objective falls; then μ ← max(μ/4, 1e-6), else μ ← 5 μ. H_I alone descends surely
    but slowly, H_N alone is singular when most residuals lie in the linear part of a Huber loss. A row has converged
    when the fall that the step predicts, −½ stepᵀ gradient, is below `tolerance` times the objective (at μ ≤ 1, where
    damping does not hold the step back).

    Args:
        problem: model, data, loss and coordinates.
        starts: centred coordinates [B, p].
        rows: which row of weights and targets each start uses, [B]; by default its own.
        damping: first μ; 1 from a generic start, 0.01 from the optimum of a similar data set.
        tolerance: relative fall of the objective that counts as none.
        iterations: limit per row.
        compiled: whether the same algorithm runs compiled (extra `fast`; equal to twelve digits). By default where
            NumPy would take ten seconds or more and numba is installed.

    Raises:
        FittingError: the compiled solver is asked for and cannot be had.

    Example:
        >>> from limbeck.fitting import SQUARED, Model, Parameter, Problem
        >>> class Power(Model):
        ...     name, columns, target = "power", ("x",), "y"
        ...     parameters = (Parameter("a", log=True), Parameter("b"))
        ...     def formula(self, p, x):
        ...         return p.a * x.x**-p.b
        >>> x = np.array([1.0, 10.0, 100.0])
        >>> problem = Problem.build(Power(), {"x": x}, 3 * x**-0.5, loss=SQUARED)
        >>> end = minimise(problem, np.zeros((1, 2)))
        >>> {name: value.round(9).tolist() for name, value in problem.natural(end.z).items()}
        {'a': [3.0], 'b': [0.5]}
    """
    total = len(starts)
    rows = np.arange(total) if rows is None else rows
    fast = compiled or (compiled is None and total * problem.program.n > COMPILED_PAYS)
    if fast and problem.transform.ndim == 2 and find_spec("numba"):
        from limbeck.fitting import _compiled

        return _compiled.minimise(problem, starts, rows, (float(damping), EXTRA, float(tolerance), int(iterations)))
    if compiled:
        raise FittingError("the compiled solver needs numba (install limbeck[fast]) and data sets with one design.")
    z = np.clip(starts, problem.lower, problem.upper)
    ends = Optima(z, np.full(total, np.inf), np.full(total, EXHAUSTED), np.zeros(total, int))
    for first in range(0, total, CHUNK):
        origin = np.arange(first, min(first + CHUNK, total))
        noise = problem.rounding(rows[origin])
        at = _Rows(origin, noise, z[origin], np.full(len(origin), damping), *problem.quadratic(z[origin], rows[origin]))
        usable = _usable(at.f, at.gradient, at.majoriser, at.newton)
        ends.status[origin[~usable]] = NOT_FINITE
        at = at.keep(usable)
        ends.objective[at.origin] = at.f
        for _ in range(iterations):
            step, fall = _step(problem, at)
            flat, stalled = (fall <= tolerance * at.f + at.noise) & (at.mu <= 1.0), at.mu > 1e6
            ends.status[at.origin[stalled]] = STALLED
            ends.status[at.origin[flat]] = CONVERGED
            moving = ~(flat | stalled)
            at, step = at.keep(moving), step[moving]
            if not len(at.f):
                break
            step /= np.maximum(np.abs(step).max(1, keepdims=True), 1.0)
            trial = np.clip(at.z + step, problem.lower, problem.upper)
            _try(problem, at, trial, rows)
            ends.z[at.origin], ends.objective[at.origin] = at.z, at.f
            ends.iterations[at.origin] += 1
    return ends


def lowest(problem: Problem, starts: Array, count: int) -> Optima:
    """Minimise each of `count` rows of weights or targets from all of a few starts [S, p] and keep its best end."""
    ends = minimise(problem, np.tile(starts, (count, 1)), np.repeat(np.arange(count), len(starts)), damping=0.1)
    best = ends.objective.reshape(count, -1).argmin(1) + len(starts) * np.arange(count)
    return Optima(*(getattr(ends, column.name)[best] for column in fields(ends)))


def refit(problem: Problem, z: Array, count: int) -> dict[str, Array]:
    """Return every row's optimum in natural units, sought from z [p]; rows without a finite one are left out."""
    ends = minimise(problem, np.repeat(z[None], count, 0), damping=0.01)
    return problem.natural(ends.z[np.isfinite(ends.objective)])


def _step(problem: Problem, at: _Rows) -> tuple[Array, Array]:
    """Damped Newton steps [B, p] and the falls they predict [B]. Coordinates that push against a bound stay."""
    diagonal = np.arange(at.z.shape[1])
    scale = at.majoriser[:, diagonal, diagonal]
    scale = np.maximum(scale, 1e-8 * scale.max(1, keepdims=True))
    hessian = at.newton + at.mu[:, None, None] * at.majoriser
    hessian[:, diagonal, diagonal] += (1e-9 + EXTRA * at.mu[:, None]) * scale + 1e-300
    blocked = ((at.z <= problem.lower) & (at.gradient > 0)) | ((at.z >= problem.upper) & (at.gradient < 0))
    hessian[blocked[:, :, None] | blocked[:, None, :]] = 0.0
    hessian[:, diagonal, diagonal] += blocked
    gradient = np.where(blocked, 0.0, at.gradient)
    step = np.asarray(-np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0], float)
    return step, -0.5 * (step * gradient).sum(1)


def _try(problem: Problem, at: _Rows, trial: Array, rows: NDArray[np.int_]) -> None:
    """Take the trial points [B, p] that descend and set the damping of the next steps."""
    model = problem.quadratic(trial, rows[at.origin])
    better = (model[0] < at.f) & _usable(*model)
    at.mu = np.where(better, np.maximum(at.mu / 4, 1e-6), 5 * at.mu)
    for here, there in zip((at.z, at.f, at.gradient, at.majoriser, at.newton), (trial, *model), strict=True):
        here[better] = there[better]


def _usable(f: Array, gradient: Array, majoriser: Array, newton: Array) -> NDArray[np.bool_]:
    """Return which rows have a finite objective and local model (the Newton part is smaller than the majoriser)."""
    diagonal = majoriser.diagonal(axis1=1, axis2=2)
    return np.asarray(np.isfinite(f) & np.isfinite(gradient).all(1) & np.isfinite(diagonal).all(1))
