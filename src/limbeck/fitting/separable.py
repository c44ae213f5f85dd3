"""Variable projection as a start: a model's linear parameters are solved for where the others stand.

Source: Golub and Pereyra 1973, SIAM Journal on Numerical Analysis 10; Kaufman 1975, BIT 15.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem

LEAST = 0.5
"""Share of the target that a positive term gets where least squares would give it nothing.

With less, a search that starts there first crosses a long flat valley.
"""


def linear_parameters(problem: Problem) -> list[int]:
    """Return the positions of the free parameters in which the formula is linear."""
    return [k for k, name in enumerate(problem.free) if name in problem.model.linear]


def basis(problem: Problem, z: Array, index: NDArray[np.int_] | None = None) -> tuple[Array, Array]:
    """Return what the linear parameters multiply, φ [B, L, n], and the rest of the formula, f₀ [B, n].

    f = f₀ + Σ_k c_k φ_k, where c_k is the centred coordinate, or its exponential where the parameter is positive.
    """
    linear = linear_parameters(problem)
    z = z.copy()
    z[:, linear] = 0.0
    value, jacobian = problem.plain.evaluate(problem.theta(z, index), index)
    transform = problem.rows(problem.transform, np.arange(len(z)) if index is None else index, 2)
    phi = transform.swapaxes(-1, -2)[..., linear, :] @ jacobian
    return phi, value - phi[:, _positive(problem, linear)].sum(1)


def solve_linear(problem: Problem, z: Array, index: NDArray[np.int_]) -> Array:
    """Return z [B, p] with its linear parameters replaced by their least-squares values (weight w/y² on log residuals).

    The normal equations are solved on columns of unit length. A parameter that must be positive and is not gets
    `LEAST` of the target's length, and the others are solved again. One that no point sees is 1.

    Args:
        problem: model, data and loss.
        z: centred coordinates; those of the linear parameters are ignored.
        index: row of weights and targets of each, [B].
    """
    linear = linear_parameters(problem)
    positive = _positive(problem, linear)
    target, weights = problem.rows(problem.target, index), problem.rows(problem.weights, index)
    if problem.loss.space == "log":
        target = np.exp(target)
        weights = weights / target**2
    with np.errstate(all="ignore"):
        phi, rest = basis(problem, z, index)
        root = np.broadcast_to(np.sqrt(weights), rest.shape)
        phi = phi * root[:, None]
        length = np.maximum(np.sqrt((phi**2).sum(2)), 1e-300)
        phi /= length[:, :, None]
        wanted = (np.broadcast_to(target, rest.shape) - rest) * root
        gram, right = phi @ phi.swapaxes(1, 2), (phi @ wanted[:, :, None])[:, :, 0]
        least = LEAST * np.sqrt((wanted**2).sum(1))[:, None]
        coefficients = normal_solution(gram, right, least, positive, rest.shape[1]) / length
        coefficients = np.where(length > 1e-300, coefficients, 1.0)
        z = z.copy()
        z[:, linear] = np.where(positive, np.log(np.where(positive, coefficients, 1.0)), coefficients)
    return z


def normal_solution(gram: Array, right: Array, least: Array, positive: NDArray[np.bool_], n: int) -> Array:
    """Return the coefficients [B, L] of unit columns by their products [B, L, L] and those with the target [B, L].

    Args:
        gram, right: the normal equations.
        least: what a positive coefficient gets where it would be none, [B, 1].
        positive: which must be, [L].
        n: number of points, which sets how much rounding two equal columns are apart.
    """
    held, rounding, identity = np.zeros(right.shape, bool), 4 * n * np.finfo(float).eps, np.eye(right.shape[1])
    for _ in positive:
        free = ~held
        system = gram * (free[:, :, None] & free[:, None, :]) + identity * (held + rounding)[:, :, None]
        wanted = np.where(held, least, right - (gram @ (held * least)[:, :, None])[:, :, 0])
        coefficients = np.linalg.solve(system, wanted[:, :, None])[:, :, 0]
        held = held | (positive & ~(coefficients > 0))
    return np.where(positive, np.maximum(coefficients, 1e-3 * least), coefficients)


def _positive(problem: Problem, linear: list[int]) -> NDArray[np.bool_]:
    """Which of the linear parameters are fitted as logarithms."""
    log = {parameter.name: parameter.log for parameter in problem.model.parameters}
    return np.array([log[problem.free[k]] for k in linear], bool)
