"""Losses on the tokens that the teacher prefers, and on a teacher of whom only those were kept."""

from __future__ import annotations

import math
from functools import partial
from typing import Literal, Unpack

import torch
from torch import Tensor

from limbeck.distill.divergences import FORWARD, REVERSE, forward_value, reverse_value, weighted
from limbeck.distill.losses import Generator, How, compare, get_loss, precision, register
from limbeck.errors import ConfigError

Kept = Literal["tail", "renormalised", "truncated", "sampled"]


def with_rest(logits: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits [..., k + 1] of the tokens [..., k] and of one bucket for all others, whose softmax is the exact one.

    `rest = temperature log sum_(v not in K) exp(z_v / temperature)`

    Args:
        logits: [..., V].
        tokens: ids [..., k], all different.
        temperature: at which the softmax will be taken.

    Example:
        >>> with_rest(torch.tensor([0.5, 0.3, 0.2]).log(), torch.tensor([0])).softmax(-1)
        tensor([0.5000, 0.5000])
    """
    others = (logits / temperature).scatter(-1, tokens, torch.finfo(logits.dtype).min).logsumexp(-1, keepdim=True)
    return torch.cat([logits.gather(-1, tokens), temperature * others], dim=-1)


@register()
def topk_kl(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    k: int | None = None,
    variant: Literal["forward", "reverse"] = "forward",
    weight: float = 1.0,
    **how: Unpack[How],
) -> Tensor:
    """Forward KL and a divergence on the k tokens that the teacher prefers, which top-k sampling sees, in nats.

    `D = KL(p‖q) + weight KL(p_K‖q_K)`, or `+ weight KL(q_K‖p_K)` for the reverse variant; p_K and q_K are p and q on
    those tokens, renormalised. With k = 1 the second term is 0, with k = V it is the divergence of all tokens.

    Args:
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
    if k is not None and k < 1:
        raise ConfigError(f"k must be at least 1, got {k}.")
    divergence = forward_value if variant == "forward" else reverse_value

    def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
        size = k or math.ceil(0.22 * log_p.shape[-1])
        top = log_p.sort(dim=-1, descending=True, stable=True).indices[..., :size]
        inner = divergence(*(log.gather(-1, top).log_softmax(-1) for log in (log_p, log_q)))
        return forward_value(log_p, log_q) + weight * inner

    return compare(formula, student, teacher, **how)


def _cakld_value(log_p: Tensor, log_q: Tensor, gamma: float = 0.5) -> Tensor:
    return gamma * reverse_value(log_p, log_q) + (1 - gamma) * forward_value(log_p, log_q)


def _cakld_slope(log_p: Tensor, log_q: Tensor, gamma: float = 0.5) -> Tensor:
    return gamma * REVERSE.slope(log_p, log_q) + (1 - gamma) * FORWARD.slope(log_p, log_q)


@register(Generator(_cakld_value, _cakld_slope))
def cakld(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, gamma: float = 0.5, **how: Unpack[How]
) -> Tensor:
    """Confidence-aware KL divergence: the surer the teacher of the data, the more reverse, in nats.

    `D = gamma KL(q‖p) + (1 - gamma) KL(p‖q)`

    Args:
        gamma: the teacher's mean probability of the true token over the data, measured once:
            `(-cross_entropy(logits, logits, target, reduction="none")).exp().mean()` of its logits; 0 is forward KL,
            1 reverse KL, the default half of Jeffreys.

    Example:
        >>> cakld(torch.zeros(2), torch.tensor([3.0, 1.0]).log(), gamma=0.75)
        tensor(0.1406)

    Source: Dayou Du et al., BitDistiller: Unleashing the Potential of Sub-4-Bit LLMs via Self-Distillation (2024),
        arXiv 2402.10631.
    """
    if not 0 <= gamma <= 1:
        raise ConfigError(f"gamma must lie between 0 (forward KL) and 1 (reverse KL), got {gamma}.")
    return compare(partial(_cakld_value, gamma=gamma), student, teacher, **how)


def kept_divergence(
    student: Tensor, tokens: Tensor, log_p: Tensor, tail: Tensor, *, kept: Kept = "tail",
    divergence: str = "forward_kl", temperature: float = 1.0, **options: float,
) -> Tensor:  # fmt: skip
    """A divergence from a teacher of whom k tokens a position were kept, in nats; values [...].

    With K the tokens kept and `P = sum_K p` the teacher's mass there:
    * `tail`: D between the distributions over K and one bucket for all others. A divergence, zero where both agree on
      K, and a lower bound of the full one; the student's tail keeps its own shape.
    * `renormalised`: `D(p_K / P, q)`. Its minimum gives every other token probability 0.
    * `truncated`: `sum_K p log(p / q)`, no divergence: the same minimum, where it is `P log P < 0`.
    * `sampled`: `mean (log p - log q)` over tokens drawn from p: without bias for KL(p‖q) and its gradient, with a
      variance that falls as 1 / k.

    Args:
        student: logits [..., V].
        tokens: ids [..., k]; all different unless they are samples.
        log_p: the teacher's log-probabilities of them at `temperature`, [..., k].
        tail: log of the teacher's mass on all others, [...]; read by `tail` alone.
        kept: what is made of them.
        divergence: name of a registered one; `truncated` and `sampled` know forward KL alone.
        temperature: divides the student's logits.
        options: of the divergence, such as `beta`.

    Raises:
        ConfigError: a form that does not exist, or one that does not have the divergence.

    Example:
        >>> p, tokens = torch.tensor([0.6, 0.3]), torch.tensor([0, 2])
        >>> [round(kept_divergence(torch.zeros(3), tokens, p.log(), torch.tensor(0.1).log(), kept=kept).item(), 4)
        ...  for kept in ("tail", "renormalised", "truncated")]
        [0.2007, 0.4621, 0.3211]
    """
    if kept not in ("tail", "renormalised", "truncated", "sampled"):
        raise ConfigError(f'kept must be "tail", "renormalised", "truncated" or "sampled", got "{kept}".')
    if kept in ("truncated", "sampled") and divergence != "forward_kl":
        raise ConfigError(f'"{kept}" tokens give forward_kl alone, not {divergence}: keep a "tail".')
    dtype = precision(student)
    log_q = torch.log_softmax(student.to(dtype) / temperature, dim=-1)
    log_p, near = log_p.to(dtype), log_q.gather(-1, tokens)
    if kept == "sampled":
        return (log_p - near).mean(-1)
    if kept == "truncated":
        return weighted(log_p.exp(), log_p - near).sum(-1)
    tail = tail.to(dtype) if kept == "tail" else torch.full_like(log_p[..., 0], -torch.inf)
    joined = with_rest(log_q, tokens), torch.cat([log_p, tail[..., None]], -1)
    values: Tensor = get_loss(divergence).function(*joined, reduction="none", **options)
    return values
