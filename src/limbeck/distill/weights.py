"""How much each example counts, and each token: by pass rate, by reward, by what the student does not know yet.

A weight is a constant: no gradient goes through it. Scaled to a mean of 1, weights leave the size of a step as it is,
so that two ways to weigh are compared at one learning rate.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch  # noqa: F401  (the examples)
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from torch import Tensor

from limbeck.distill.divergences import generalized_jsd
from limbeck.errors import ConfigError

Weights = NDArray[np.float64]
Scale = Literal["none", "mean", "sum"]
"""What weights are brought to: left as they are, a mean of 1, a sum of 1."""


def beta_kernel(rates: ArrayLike, *, alpha: float = 1.0, beta: float = 1.0) -> Weights:
    """Weight of a problem that the student solves at a rate p: nothing is learnt from what is mastered or hopeless.

    `w = p^alpha (1 - p)^beta`, largest at `p = alpha / (alpha + beta)`

    Args:
        rates: p, 0 to 1.
        alpha, beta: positive; larger alpha turns to easier problems, larger beta to harder ones.

    Raises:
        ConfigError: a rate outside 0 to 1, or an exponent that is not positive.

    Example:
        >>> beta_kernel([0.0, 0.25, 0.5, 1.0]).tolist()
        [0.0, 0.1875, 0.25, 0.0]

    Source: Xu, Sang, Zhou, He, Wang, PACED: Distillation (and On-Policy Self-Distillation) at the Frontier of Student
        Competence (2026), arXiv 2603.11178.
    """
    p = np.asarray(rates, float)
    if not ((p >= 0) & (p <= 1)).all() or alpha <= 0 or beta <= 0:
        raise ConfigError(f"rates must lie between 0 and 1, alpha and beta be positive; got {p}, {alpha}, {beta}")
    return np.asarray(p**alpha * (1 - p) ** beta)


def pass_window(rates: ArrayLike, *, low: float = 0.2, high: float = 0.8) -> Weights:
    """The baseline of `beta_kernel`: 1 where `low <= p <= high`, 0 elsewhere.

    Example:
        >>> pass_window([0.1, 0.2, 0.9]).tolist()
        [0.0, 1.0, 0.0]
    """
    p = np.asarray(rates, float)
    return np.asarray((p >= low) & (p <= high), float)


def reward_weights(rewards: ArrayLike, temperature: float) -> Weights:
    """Weights of a batch by reward, `w_i = B softmax(r / temperature)_i`.

    Example:
        >>> reward_weights([1.0, 0.0], 1.0).round(3).tolist()
        [1.462, 0.538]
    """
    r = np.asarray(rewards, float)
    return np.asarray(r.size * softmax(r / temperature))


def scaled(weights: ArrayLike, to: Scale = "mean") -> Weights:
    """Bring weights to a mean or a sum of 1; where all are 0 they stay so.

    Example:
        >>> scaled([1.0, 3.0]).tolist(), scaled([1.0, 3.0], "sum").tolist()
        ([0.5, 1.5], [0.25, 0.75])
    """
    w = np.asarray(weights, float)
    total = {"none": 1.0, "mean": w.mean(), "sum": w.sum()}[to]
    return w / total if total else w


def effective_size(weights: ArrayLike) -> float:
    """How many equally weighted examples are worth as much, `(sum w)² / sum w²`.

    Example:
        >>> effective_size([1.0, 1.0, 0.0])
        2.0
    """
    w = np.asarray(weights, float)
    return float(w.sum() ** 2 / max((w**2).sum(), 1e-300))


def efficiency(weights: ArrayLike, best: ArrayLike, measure: ArrayLike = 1.0) -> float:
    """Variance of a weighted mean under the best weights over that under these, 1 at most.

    `(sum m w)² / (sum m w²/v · sum m v)`; weights off by a factor within `exp(±delta)` keep at least
    `1 / cosh²(delta)` of it (Kantorovich's inequality), which is how little the exact kernel matters.

    Args:
        weights: w.
        best: v, the signal-to-noise ratio of each kind of problem; positive where w is.
        measure: m, how many problems of each kind there are.

    Example:
        >>> round(efficiency([1.0, 1.0], [1.0, 2.0]), 4), round(1 / math.cosh(math.log(2) / 2) ** 2, 4)
        (0.8889, 0.8889)

    Source: as for `beta_kernel`; the inequality is reconstructed, not read there.
    """
    w, v, m = np.broadcast_arrays(*(np.asarray(one, float) for one in (weights, best, measure)))
    ratio = np.divide(w**2, v, out=np.zeros_like(v), where=v > 0)
    return float((m * w).sum() ** 2 / ((m * ratio).sum() * (m * v).sum()))


def gradient_signal(gradients: ArrayLike) -> tuple[float, float]:
    """Squared length of the mean gradient, without bias, and the variance of one gradient around it.

    `|mean|² - noise / n` and `noise = sum |g - mean|² / (n - 1)`; their ratio is the signal-to-noise ratio.

    Args:
        gradients: of n problems, [n, d].

    Example:
        >>> gradient_signal([[1.0, 0.0], [1.0, 2.0]])
        (1.0, 2.0)
    """
    g = np.asarray(gradients, float)
    noise = float(g.var(0, ddof=1).sum())
    return float((g.mean(0) ** 2).sum()) - noise / len(g), noise


def token_importance(
    student: Tensor, teacher: Tensor, *, alpha: float = 1.0, gamma: float = 1.0, k: int | None = None
) -> Tensor:
    """Weight of each token: where the student hesitates and the teacher disagrees.

    `(H(q) / ln V)^alpha (JSD(p, q) / ln 2)^gamma`

    Args:
        student, teacher: logits [..., V].
        alpha, gamma: exponents; 0 leaves a factor out.
        k: take the divergence on the teacher's k favourites, both renormalised; a biased one. None for all.

    Example:
        >>> token_importance(torch.zeros(1, 2), torch.tensor([[50.0, 0.0]]))
        tensor([0.3113])
    """
    log_q = student.detach().log_softmax(-1)
    entropy = -(log_q.exp() * log_q).nan_to_num().sum(-1) / math.log(log_q.shape[-1])
    top = teacher.topk(k or teacher.shape[-1], dim=-1).indices
    apart = generalized_jsd(student.detach().gather(-1, top), teacher.gather(-1, top), reduction="none") / math.log(2)
    return entropy**alpha * apart.clamp(min=0) ** gamma
