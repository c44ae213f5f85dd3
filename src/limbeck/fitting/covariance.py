"""Sandwich covariance of a fit: instant error bars without a bootstrap."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem
from limbeck.fitting.resampling import leverage


def sandwich(problem: Problem, z: Array, clusters: NDArray[np.int_] | None = None) -> Array:
    """Return H⁻¹ (Σ_g s_g s_gᵀ) H⁻¹ with cluster scores s_g = Σ_{i∈g} w_i J_i ψ(r_i)/(1 − h_i), [p, p].

    ψ is the derivative of the loss, the division by 1 − h_i the HC3 correction (MacKinnon and White 1985), and H as in
    `inverse_hessian`. Coordinates are the centred ones.

    Args:
        problem: model, data and loss.
        z: optimum, [p].
        clusters: run of each point, [n], numbered from 0; every point its own by default.
    """
    residuals, jacobian, weights, prior = problem.local(z)
    delta = problem.loss.delta
    scores = jacobian * (weights * np.clip(residuals, -delta, delta)) / (1 - leverage(problem, z))
    if clusters is not None:
        scores = scores @ (clusters[:, None] == np.arange(int(clusters.max()) + 1)).astype(float)
    inverse = inverse_hessian(problem, z)
    return np.asarray(inverse @ (scores @ scores.T + prior) @ inverse, float)


def classical(problem: Problem, z: Array) -> Array:
    """Return s² (Jᵀ W J)⁻¹, s² = Σ w r² / (n − p), [p, p]: least squares with equal noise everywhere.

    Args:
        problem: model, data and a squared loss.
        z: optimum, [p].
    """
    residuals, _, weights, _ = problem.local(z)
    squares = float((weights * residuals**2).sum())
    return np.asarray(squares / (len(weights) - len(z)) * inverse_hessian(problem, z))


def inverse_hessian(problem: Problem, z: Array) -> Array:
    """Return H⁻¹, H = Σ w ψ' J Jᵀ plus the priors' precision with the smoothed ψ' of `curvature`, [p, p]."""
    residuals, j, weights, prior = problem.local(z)
    bend = weights * curvature(residuals, problem.loss.delta)
    return np.asarray(np.linalg.pinv((j * bend) @ j.T + prior, hermitian=True))


def curvature(residuals: Array, delta: float) -> Array:
    """Smoothed second derivative ψ' of a Huber loss at each residual, [n].

    1 for least squares. A loss that is nearly L1 has curvature in a sliver only; it is spread over the wider band |r|
    ≤ b, b = 1.06 σ n^(−1/5) with σ from the median absolute deviation, so that Σ ψ' = 2 δ n f(0), f the density of
    residuals.
    """
    if math.isinf(delta):
        return np.ones(len(residuals))
    spread = 1.4826 * float(np.median(np.abs(residuals - np.median(residuals))))
    band = max(delta, 1.06 * spread * len(residuals) ** -0.2)
    return np.asarray((np.abs(residuals) <= band) * (delta / band), float)
