"""Sandwich covariance of a fit: instant error bars without a bootstrap."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem
from limbeck.fitting.resampling import leverage


def sandwich(problem: Problem, z: Array, clusters: NDArray[np.int_] | None = None) -> Array:
    """Return H⁻¹ (Σ_g s_g s_gᵀ) H⁻¹ with cluster scores s_g = Σ_{i∈g} w_i J_i ψ(r_i)/(1 − h_i), in centred coordinates [p, p].

    ψ is the derivative of the loss and the division by 1 − h_i the HC3 correction (MacKinnon and White 1985). For a Huber
    loss that is nearly L1 the curvature is Σ w J Jᵀ times the density of residuals inside ±b, b = 1.06 σ n^(−1/5).

    Args:
        problem: model, data and loss.
        z: optimum, [p].
        clusters: run of each point, [n]; every point its own by default.
    """
    value, jacobian = problem.program.evaluate(problem.theta(z[None]))
    j = (problem.transform.T @ jacobian[0]).copy()
    r = value[0] - np.atleast_2d(problem.target)[0]
    weights, delta = np.atleast_2d(problem.weights)[0], problem.loss.delta
    prior = problem.transform.T @ (problem.prior_precision[:, None] * problem.transform)
    if math.isinf(delta):
        curvature = weights
    else:
        spread = 1.4826 * float(np.median(np.abs(r - np.median(r))))
        band = max(delta, 1.06 * spread * len(r) ** -0.2)
        curvature = weights * (np.abs(r) <= band) * (delta / band)
    hessian = (j * curvature) @ j.T + prior
    scores = j * (weights * np.clip(r, -delta, delta) / (1 - leverage(problem, z)))
    if clusters is not None:
        summed = np.zeros((len(z), int(clusters.max()) + 1))
        np.add.at(summed, (slice(None), clusters), scores)
        scores = summed
    inverse = np.linalg.pinv(hessian, hermitian=True)
    return np.asarray(inverse @ (scores @ scores.T + prior) @ inverse, float)
