"""Operators of recursive distillation: soften, aggregate, anchor; what they must satisfy, and where a lineage ends.

Each generation learns from the last one mixed with its base teachers, M = (1 - λ) p + λ q. The weight λ decides whether
the lineage settles near q or drifts: exact students contract by 1 - λ a generation, students with an error ε settle
below ε/λ. All operators act on the last axis, one distribution over classes a row; natural logarithms.

Source: Recursive Meta-Distillation: An Axiomatic Framework for Iterative Knowledge Refinement (Flouro, Chadwick, 2026,
arXiv 2601.13100). Reconstructed from abstracts: the paper prescribes no algorithm; what is claimed here is proved.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr, softmax

from limbeck.errors import LimbeckError
from limbeck.fitting.model import Array
from limbeck.laws.law import SOURCES

FLOURO = SOURCES["flouro-2026"]
FLOOR = 1e-12
"""Least probability before a logarithm: geometric mixing with a zero would kill the class."""

Kind = Literal["arithmetic", "geometric"]


def floored(p: ArrayLike) -> Array:
    """Return distributions with every probability at least `FLOOR`, renormalised.

    Raises:
        LimbeckError: a negative or non-finite probability, or a row that sums to 0.
    """
    given: Array = np.asarray(p, float)
    if not np.isfinite(given).all() or (given < 0).any() or not (given.sum(-1) > 0).all():
        raise LimbeckError("probabilities must be finite and not negative, and no row of them all zero.")
    lifted = np.maximum(given / given.sum(-1, keepdims=True), FLOOR)
    return np.asarray(lifted / lifted.sum(-1, keepdims=True))


def kl(p: ArrayLike, q: ArrayLike) -> Array:
    """Return KL(p ‖ q) in nats, zeros floored.

    Example:
        >>> float(kl([0.5, 0.5], [0.25, 0.75]).round(4))
        0.1438
    """
    return np.asarray(rel_entr(floored(p), floored(q)).sum(-1))


def soften(p: ArrayLike, temperature: float) -> Array:
    """Return p^(1/T) normalised, which is softmax(logits/T) without needing the logits.

    Zeros stay zero, as T grows it tends to the uniform distribution on the support, as T falls to 0 to the argmax.

    Raises:
        LimbeckError: a temperature that is not positive.

    Example:
        >>> soften([0.8, 0.2], 2.0).round(4)
        array([0.6667, 0.3333])
    """
    if not temperature > 0:
        raise LimbeckError(f"a temperature must be positive; given {temperature:g}.")
    p = np.asarray(p, float)
    powers = (p / p.max(-1, keepdims=True)) ** (1 / temperature)
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def soften_uniform(p: ArrayLike, temperature: float) -> Array:
    """Return p/T + (1 - 1/T) u, u uniform on the support, for T >= 1; the power form below 1.

    Example:
        >>> soften_uniform([0.8, 0.2, 0.0], 2.0)
        array([0.65, 0.35, 0.  ])
    """
    if temperature < 1:
        return soften(p, temperature)
    p = np.asarray(p, float)
    support = (p > 0) / (p > 0).sum(-1, keepdims=True)
    return np.asarray(p / temperature + (1 - 1 / temperature) * support)


def aggregate(teachers: ArrayLike, weights: ArrayLike, kind: Kind = "arithmetic") -> Array:
    """Return the weighted mean of K distributions.

    The arithmetic mean Σ w_k p_k minimises Σ w_k KL(p_k ‖ m); the geometric one, ∝ Π p_k^w_k, minimises
    Σ w_k KL(m ‖ p_k) and commutes with `soften`.

    Args:
        teachers: [K, ..., V].
        weights: [K], not negative, sum 1.
        kind: of the mean.

    Raises:
        LimbeckError: weights that are negative, do not sum to 1 or are not one a teacher.

    Example:
        >>> aggregate([[0.9, 0.1], [0.5, 0.5]], [0.5, 0.5])
        array([0.7, 0.3])
        >>> aggregate([[0.9, 0.1], [0.5, 0.5]], [0.5, 0.5], "geometric").round(4)
        array([0.75, 0.25])
    """
    w, p = np.asarray(weights, float), np.asarray(teachers, float)
    if w.shape != p.shape[:1] or (w < 0).any() or abs(w.sum() - 1) > 1e-9:
        raise LimbeckError(f"{len(p)} teachers need {len(p)} weights, not negative, sum 1; given {w.tolist()}.")
    if kind == "arithmetic":
        return np.asarray(np.tensordot(w, p, 1))
    return np.asarray(softmax(np.tensordot(w, np.log(floored(p)), 1), -1))


def anchor(p: ArrayLike, q: ArrayLike, weight: float, kind: Kind = "arithmetic") -> Array:
    """Return the meta-teacher of the next generation: p with a weight λ of the base teacher q mixed in.

    Arithmetic: KL(q‖M) <= (1-λ) KL(q‖p), KL(M‖q) <= (1-λ) KL(p‖q), and total variation shrinks by exactly 1-λ.
    Geometric: KL(q‖M) = (1-λ) KL(q‖p) + ln Z with Z = Σ p^(1-λ) q^λ <= 1; KL(M‖q) falls, but not at that rate.

    Args:
        p: the last generation, [..., V].
        q: the base teacher or aggregate, [..., V].
        weight: λ, 0 to 1.
        kind: of the mixture.

    Example:
        >>> anchor([0.2, 0.8], [0.6, 0.4], 0.25)
        array([0.3, 0.7])
    """
    return aggregate([np.asarray(p, float), np.asarray(q, float)], [1 - weight, weight], kind)


def generations_to(target: float, start: float, weight: float) -> int:
    """Return how many exact generations bring KL(q‖p) from `start` below `target`: ln(start/target)/(-ln(1-λ)).

    Raises:
        LimbeckError: λ is not above 0, or a divergence not positive.

    Example:
        >>> generations_to(0.01, 1.0, 0.5)
        7
    """
    if not (0 < weight <= 1 and target > 0 and start > 0):
        raise LimbeckError(
            f"generations need a weight above 0 and at most 1, and divergences above 0; given weight {weight:g}, "
            f"from {start:g} to {target:g}. Without an anchor a lineage does not converge."
        )
    return 1 if weight == 1 else max(math.ceil(math.log(start / target) / -math.log1p(-weight) - 1e-9), 0)


def plateau(error: float, weight: float) -> float:
    """Return the bound ε/λ on KL(q‖p_t) as t grows, if each student adds at most ε nats; infinite for λ = 0.

    Example:
        >>> plateau(0.05, 0.25)
        0.2
    """
    return error / weight if weight > 0 else math.inf


def bounds(start: float, error: float, weights: Sequence[float]) -> Array:
    """Return the bound on KL(q‖p_t) after each generation of a schedule: b_t = (1 - λ_t) b_(t-1) + ε.

    For ε = 0 it tends to 0 if and only if Σ λ_t diverges.

    Example:
        >>> bounds(1.0, 0.1, [0.5, 0.5]).round(3)
        array([0.6, 0.4])
    """
    found = []
    for weight in weights:
        start = (1 - weight) * start + error
        found.append(start)
    return np.array(found)


def choose_lambda(error: float, target: float) -> float:
    """Return the smallest anchor weight whose plateau ε/λ is at most a target divergence.

    Args:
        error: ε, what one student adds to KL(q‖·) when it fits its meta-teacher, nats.
        target: KL(q‖p) that is still acceptable, nats.

    Raises:
        LimbeckError: the target is below the error of a single student, or a number is not positive.

    Example:
        >>> choose_lambda(0.05, 0.2)
        0.25
    """
    if not 0 < error <= target:
        raise LimbeckError(
            f"no anchor brings the plateau to {target:g} when one generation adds {error:g}: the error must be "
            "positive and at most the target. Fit students better, or accept more."
        )
    return error / target
