"""Divergences between a teacher's and a student's distribution, as functions of logits.

With p the teacher's and q the student's softmax and u = p / q, each is an f-divergence `D(p, q) = sum_v q f(u)`. Its
gradient in the student's logits is `q (h(u) - sum_w q_w h(u_w)) / temperature` with `h(u) = f(u) - u f'(u)`, and the
registry holds `h` beside each function.
(Mingyang Song, Mao Zheng, A Survey of On-Policy Distillation for Large Language Models, 2026, arXiv 2604.00626.)

No probability is ever clamped before a logarithm: logits of ±60, −1e9 or −inf give the right limits, with 0·log 0 = 0.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from limbeck.distill.losses import Reduction, compare, register
from limbeck.errors import ConfigError


def _weighted(probability: Tensor, log_ratio: Tensor) -> Tensor:
    """`sum_v probability · log_ratio` with 0 where the probability is 0, whatever the ratio is there."""
    return (probability * torch.where(probability > 0, log_ratio, 0.0)).sum(-1)


def _forward_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return _weighted(log_p.exp(), log_p - log_q)


def _reverse_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return _weighted(log_q.exp(), log_q - log_p)


def _jsd_h(u: Tensor, *, beta: float = 0.5, normalised: bool = False) -> Tensor:
    if beta == 0:
        return -u
    if beta == 1:
        return -u.log()
    h = -(1 - beta) * torch.log(beta * u + 1 - beta)
    return h / (beta * (1 - beta)) if normalised else h


@register(h=lambda u: -u)
def forward_kl(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    tau_squared: bool = False,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Forward Kullback-Leibler divergence KL(p‖q), in nats: covers every mode of the teacher.

    `D = sum_v p log(p / q)`, with gradient `(q - p) / temperature` in the student's logits.

    Args:
        student: logits [..., V]; computed in float32, or in float64 if they are float64.
        teacher: logits [..., V]; detached.
        target: not used.
        temperature: divides both logits.
        tau_squared: multiply by temperature², as in the paper; language-model distillation usually does not.
        mask: positions [...] that count; None counts all.
        reduction: "mean" over the positions that count, "sum", or "none" for values [...], 0 where masked.

    Raises:
        TrainingError: shapes that do not fit.
        ConfigError: a temperature or reduction that does not exist.

    Example:
        >>> forward_kl(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.1308)

    Source: Geoffrey Hinton, Oriol Vinyals, Jeff Dean, Distilling the Knowledge in a Neural Network (2015), arXiv
        1503.02531.
    """
    return compare(_forward_kl, student, teacher, temperature, tau_squared, mask, reduction)


@register(h=lambda u: -u.log())
def reverse_kl(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    temperature: float = 1.0,
    tau_squared: bool = False,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Reverse Kullback-Leibler divergence KL(q‖p), in nats: seeks the teacher's modes.

    `D = sum_v q log(q / p)`, with gradient `q (log(q / p) - D) / temperature` in the student's logits.

    Args and errors as for `forward_kl`.

    Example:
        >>> reverse_kl(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.1438)

    Source: Yuxian Gu, Li Dong, Furu Wei, Minlie Huang, MiniLLM: Knowledge Distillation of Large Language Models
        (2023), arXiv 2306.08543; here per position with the prefix held fixed.
    """
    return compare(_reverse_kl, student, teacher, temperature, tau_squared, mask, reduction)


@register(h=_jsd_h)
def generalized_jsd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    beta: float = 0.5,
    normalised: bool = False,
    temperature: float = 1.0,
    tau_squared: bool = False,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Generalised Jensen-Shannon divergence, between forward KL (beta = 0) and reverse KL (beta = 1), in nats.

    `JSD_beta = beta KL(p‖m) + (1 - beta) KL(q‖m)`, `m = beta p + (1 - beta) q`

    JSD_beta itself goes to 0 at both ends. As in common trainers, `beta=0` and `beta=1` *are* forward and reverse KL,
    so the loss jumps there: beta = 0.001 gives about a thousandth of forward KL. In float32 keep beta at least 1e-4
    away from an end, or on it.

    Args and errors as for `forward_kl`, and:
        beta: weight of the teacher in the mixture, 0 to 1.
        normalised: divide by beta (1 - beta): continuous up to the ends, so that a sweep over beta does not silently
            rescale the learning rate.

    Example:
        >>> p, q = torch.tensor([3.0, 1.0]).log(), torch.zeros(2)
        >>> [round(generalized_jsd(q, p, beta=beta).item(), 4) for beta in (0, 0.001, 0.5, 1)]
        [0.1308, 0.0001, 0.0338, 0.1438]
        >>> [round(generalized_jsd(q, p, beta=beta, normalised=True).item(), 4) for beta in (0, 0.001, 0.5, 1)]
        [0.1308, 0.1308, 0.1353, 0.1438]

    Source: Rishabh Agarwal et al., On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes
        (2023), arXiv 2306.13649.
    """
    if not 0 <= beta <= 1:
        raise ConfigError(f"beta must lie between 0 (forward KL) and 1 (reverse KL), got {beta}.")

    def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
        if beta == 0:
            return _forward_kl(log_p, log_q)
        if beta == 1:
            return _reverse_kl(log_p, log_q)
        p, q = log_p.exp(), log_q.exp()
        mixture = beta * p + (1 - beta) * q
        log_m = torch.where(mixture > 0, mixture, 1.0).log()
        divergence = beta * _weighted(p, log_p - log_m) + (1 - beta) * _weighted(q, log_q - log_m)
        return divergence / (beta * (1 - beta)) if normalised else divergence

    return compare(formula, student, teacher, temperature, tau_squared, mask, reduction)


@register()
def topk_kl(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    k: int | None = None,
    variant: Literal["forward", "reverse"] = "forward",
    weight: float = 1.0,
    temperature: float = 1.0,
    tau_squared: bool = False,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Forward KL and a divergence on the k tokens that the teacher prefers, which top-k sampling sees, in nats.

    `D = KL(p‖q) + weight KL(p_K‖q_K)`, or `+ weight KL(q_K‖p_K)` for the reverse variant; p_K and q_K are p and q on
    those tokens, renormalised. With k = 1 the second term is 0, with k = V it is the divergence of all tokens.

    Args and errors as for `forward_kl`, and:
        k: number of tokens; 22 % of the vocabulary by default, as in top-k sampling of 900 among 4096.
        variant: direction of the second term.
        weight: of the second term.

    Example:
        >>> topk_kl(torch.zeros(3), torch.tensor([3.0, 1.0, 1.0]).log(), k=2)
        tensor(0.2792)

    Source: Ding, Cao, Cao, Chen, Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative
        Models (2025), arXiv 2501.06218; both variants are reconstructed from its abstract, neither is its formula.
    """
    if variant not in ("forward", "reverse"):
        raise ConfigError(f'variant must be "forward" or "reverse", got "{variant}".')
    divergence = _forward_kl if variant == "forward" else _reverse_kl

    def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
        size = k or math.ceil(0.22 * log_p.shape[-1])
        top = log_p.sort(dim=-1, descending=True, stable=True).indices[..., :size]
        inner = divergence(*(log.gather(-1, top).log_softmax(-1) for log in (log_p, log_q)))
        return _forward_kl(log_p, log_q) + weight * inner

    return compare(formula, student, teacher, temperature, tau_squared, mask, reduction)
