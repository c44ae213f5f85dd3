"""Divergences between a teacher's and a student's distribution, as functions of logits.

With p the teacher's and q the student's softmax and u = p / q, each is an f-divergence `D(p, q) = sum_v q f(u)`. Its
gradient in the student's logits is `q (h(u) - sum_w q_w h(u_w)) / temperature` with `h(u) = f(u) - u f'(u)`. The
registry holds both formulas of each (`Generator`), from which `fused_divergence` makes a loss on hidden states.
(Mingyang Song, Mao Zheng, A Survey of On-Policy Distillation for Large Language Models, 2026, arXiv 2604.00626.)

No probability is ever clamped before a logarithm: logits of ±60, −1e9 or −inf give the right limits, with 0·log 0 = 0.
Every function takes logits [..., V] (computed in float32, or in float64 if the student's are float64), the options of
`How`, and raises TrainingError for shapes that do not fit and ConfigError for an option that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from limbeck.distill.losses import Generator, How, closed, compare, compare_logits, register
from limbeck.errors import ConfigError


def weighted(probability: Tensor, log_ratio: Tensor) -> Tensor:
    """`probability · log_ratio` with 0 where the probability is 0, whatever the ratio is there."""
    return probability * torch.where(probability > 0, log_ratio, 0.0)


def _log(probability: Tensor) -> Tensor:
    """A logarithm that no weight sees where the probability is 0."""
    return torch.where(probability > 0, probability, 1.0).log()


def forward_value(log_p: Tensor, log_q: Tensor) -> Tensor:
    """`KL(p‖q)` from log-probabilities [M, V]."""
    return weighted(log_p.exp(), log_p - log_q).sum(-1)


def reverse_value(log_p: Tensor, log_q: Tensor) -> Tensor:
    """`KL(q‖p)` from log-probabilities [M, V]."""
    return weighted(log_q.exp(), log_q - log_p).sum(-1)


def _forward_slope(log_p: Tensor, log_q: Tensor) -> Tensor:
    return -log_p.exp()


def _reverse_slope(log_p: Tensor, log_q: Tensor) -> Tensor:
    return weighted(log_q.exp(), log_q - log_p)


def _forward_quick(log_p: Tensor, log_q: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    return log_p.sub_(log_q).mul_(p).sum(-1), q.sub_(p)


def _forward_both(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    log_p, log_q = t.log_softmax(-1), s.log_softmax(-1)
    value, gradient = _forward_quick(log_p.clone(), log_q, log_p.exp(), s.softmax(-1))
    return (forward_value(log_p, s.log_softmax(-1)) if value.isnan().any() else value), gradient


def _reverse_quick(log_p: Tensor, log_q: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    ratio = log_q.sub_(log_p)
    value = torch.mul(q, ratio, out=p).sum(-1)
    return value, ratio.sub_(value[:, None]).mul_(q)


FORWARD = Generator(forward_value, _forward_slope, _forward_quick)
REVERSE = Generator(reverse_value, _reverse_slope, _reverse_quick)


@register(FORWARD)
def forward_kl(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Forward Kullback-Leibler divergence KL(p‖q), in nats: covers every mode of the teacher.

    `D = sum_v p log(p / q)`, with gradient `(q - p) / temperature` in the student's logits, which is computed with the
    value: it can be differentiated once.

    Example:
        >>> forward_kl(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.1308)

    Source: Geoffrey Hinton, Oriol Vinyals, Jeff Dean, Distilling the Knowledge in a Neural Network (2015), arXiv
        1503.02531.
    """
    return compare_logits(closed(_forward_both), student, teacher, **how)


@register(REVERSE)
def reverse_kl(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Reverse Kullback-Leibler divergence KL(q‖p), in nats: seeks the teacher's modes.

    `D = sum_v q log(q / p)`, with gradient `q (log(q / p) - D) / temperature` in the student's logits.

    Example:
        >>> reverse_kl(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.1438)

    Source: Yuxian Gu, Li Dong, Furu Wei, Minlie Huang, MiniLLM: Knowledge Distillation of Large Language Models
        (2023), arXiv 2306.08543; here per position with the prefix held fixed.
    """
    return compare(reverse_value, student, teacher, **how)


def _jsd_value(log_p: Tensor, log_q: Tensor, beta: float = 0.5, normalised: bool = False) -> Tensor:
    if beta in (0, 1):
        return (reverse_value if beta else forward_value)(log_p, log_q)
    p, q = log_p.exp(), log_q.exp()
    log_m = _log(beta * p + (1 - beta) * q)
    divergence = beta * weighted(p, log_p - log_m).sum(-1) + (1 - beta) * weighted(q, log_q - log_m).sum(-1)
    return divergence / (beta * (1 - beta)) if normalised else divergence


def _jsd_slope(log_p: Tensor, log_q: Tensor, beta: float = 0.5, normalised: bool = False) -> Tensor:
    if beta in (0, 1):
        return (_reverse_slope if beta else _forward_slope)(log_p, log_q)
    q = log_q.exp()
    slope = (1 - beta) * weighted(q, log_q - _log(beta * log_p.exp() + (1 - beta) * q))
    return slope / (beta * (1 - beta)) if normalised else slope


def _jsd_quick(
    log_p: Tensor, log_q: Tensor, p: Tensor, q: Tensor, beta: float = 0.5, normalised: bool = False
) -> tuple[Tensor, Tensor]:
    if beta in (0, 1):
        return (_reverse_quick if beta else _forward_quick)(log_p, log_q, p, q)
    log_m = torch.lerp(q, p, beta).clamp_(min=torch.finfo(q.dtype).tiny).log_()
    theirs = log_p.sub_(log_m).mul_(p).sum(-1)
    mine, gradient = _reverse_quick(log_m, log_q, p, q)
    scale = 1 / (beta * (1 - beta)) if normalised else 1.0
    return scale * (beta * theirs + (1 - beta) * mine), gradient.mul_(scale * (1 - beta))


@register(Generator(_jsd_value, _jsd_slope, _jsd_quick))
def generalized_jsd(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    beta: float = 0.5,
    normalised: bool = False,
    **how: Unpack[How],
) -> Tensor:
    """Generalised Jensen-Shannon divergence, between forward KL (beta = 0) and reverse KL (beta = 1), in nats.

    `JSD_beta = beta KL(p‖m) + (1 - beta) KL(q‖m)`, `m = beta p + (1 - beta) q`

    JSD_beta itself goes to 0 at both ends. As in common trainers, `beta=0` and `beta=1` *are* forward and reverse KL,
    so the loss jumps there: beta = 0.001 gives about a thousandth of forward KL. In float32 keep beta at least 1e-4
    away from an end, or on it.

    Args:
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
    return compare(partial(_jsd_value, beta=beta, normalised=normalised), student, teacher, **how)


def _tv_value(log_p: Tensor, log_q: Tensor) -> Tensor:
    return 0.5 * (log_p.exp() - log_q.exp()).abs().sum(-1)


def _tv_slope(log_p: Tensor, log_q: Tensor) -> Tensor:
    return -0.5 * log_q.exp() * (log_p.exp() - log_q.exp()).sign()


@register(Generator(_tv_value, _tv_slope))
def total_variation(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Total variation distance, between 0 and 1.

    `D = 1/2 sum_v |p - q|`

    Example:
        >>> total_variation(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.2500)

    Source: Yuqiao Wen, Zichao Li, Wenyu Du, Lili Mou, f-Divergence Minimization for Sequence-Level Knowledge
        Distillation (2023), arXiv 2307.15190.
    """
    return compare(_tv_value, student, teacher, **how)


def _power(log_p: Tensor, log_q: Tensor, alpha: float) -> Tensor:
    """`p^alpha q^(1 - alpha)`, 0 where both are 0."""
    least = torch.finfo(log_p.dtype).min
    return (alpha * log_p.clamp(min=least) + (1 - alpha) * log_q.clamp(min=least)).exp()


def _alpha_value(log_p: Tensor, log_q: Tensor, alpha: float = 0.5) -> Tensor:
    if alpha in (0, 1):
        return (forward_value if alpha else reverse_value)(log_p, log_q)
    return (_power(log_p, log_q, alpha).sum(-1) - 1) / (alpha * (alpha - 1))


def _alpha_slope(log_p: Tensor, log_q: Tensor, alpha: float = 0.5) -> Tensor:
    if alpha in (0, 1):
        return (_forward_slope if alpha else _reverse_slope)(log_p, log_q)
    return -_power(log_p, log_q, alpha) / alpha


@register(Generator(_alpha_value, _alpha_slope))
def alpha_divergence(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, alpha: float = 0.5, **how: Unpack[How]
) -> Tensor:
    """Alpha-divergence: reverse KL at alpha = 0, forward KL at 1, squared Hellinger · 2 at 1/2, Pearson / 2 at 2.

    `D = (sum_v p^alpha q^(1 - alpha) - 1) / (alpha (alpha - 1))`

    Example:
        >>> alpha_divergence(torch.zeros(2), torch.tensor([3.0, 1.0]).log(), alpha=2.0)
        tensor(0.1250)
    """
    return compare(partial(_alpha_value, alpha=alpha), student, teacher, **how)


def _skew_forward_value(log_p: Tensor, log_q: Tensor, skew: float = 0.1) -> Tensor:
    p = log_p.exp()
    return weighted(p, log_p - _log(skew * p + (1 - skew) * log_q.exp())).sum(-1)


def _skew_forward_slope(log_p: Tensor, log_q: Tensor, skew: float = 0.1) -> Tensor:
    p, q = log_p.exp(), log_q.exp()
    mixture = skew * p + (1 - skew) * q
    return -(1 - skew) * p * q / torch.where(mixture > 0, mixture, 1.0)


@register(Generator(_skew_forward_value, _skew_forward_slope))
def skew_forward_kl(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, skew: float = 0.1, **how: Unpack[How]
) -> Tensor:
    """Skew forward KL: finite where the student excludes a token of the teacher.

    `D = KL(p‖skew p + (1 - skew) q)`; skew = 0 is forward KL.

    Example:
        >>> skew_forward_kl(torch.tensor([0.0, -torch.inf]), torch.zeros(2))
        tensor(0.8304)

    Source: Jongwoo Ko, Sungnyun Kim, Tianyi Chen, Se-Young Yun, DistiLLM: Towards Streamlined Distillation for Large
        Language Models (2024), arXiv 2402.03898.
    """
    return compare(partial(_skew_forward_value, skew=_share(skew)), student, teacher, **how)


def _skew_reverse_value(log_p: Tensor, log_q: Tensor, skew: float = 0.1) -> Tensor:
    return _skew_forward_value(log_q, log_p, skew)


def _skew_reverse_slope(log_p: Tensor, log_q: Tensor, skew: float = 0.1) -> Tensor:
    p, q = log_p.exp(), log_q.exp()
    mixture = (1 - skew) * p + skew * q
    return weighted(q, log_q - _log(mixture)) + (1 - skew) * p * q / torch.where(mixture > 0, mixture, 1.0)


@register(Generator(_skew_reverse_value, _skew_reverse_slope))
def skew_reverse_kl(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, skew: float = 0.1, **how: Unpack[How]
) -> Tensor:
    """Skew reverse KL: finite where the teacher excludes a token of the student.

    `D = KL(q‖(1 - skew) p + skew q)`; skew = 0 is reverse KL.

    Example:
        >>> skew_reverse_kl(torch.zeros(2), torch.tensor([0.0, -torch.inf]))
        tensor(0.8304)

    Source: as for `skew_forward_kl`.
    """
    return compare(partial(_skew_reverse_value, skew=_share(skew)), student, teacher, **how)


def _share(skew: float) -> float:
    if not 0 <= skew < 1:
        raise ConfigError(f"skew must lie between 0 (no skew) and 1, got {skew}.")
    return skew


def _jeffreys_value(log_p: Tensor, log_q: Tensor) -> Tensor:
    return forward_value(log_p, log_q) + reverse_value(log_p, log_q)


def _jeffreys_slope(log_p: Tensor, log_q: Tensor) -> Tensor:
    return _forward_slope(log_p, log_q) + _reverse_slope(log_p, log_q)


@register(Generator(_jeffreys_value, _jeffreys_slope))
def jeffreys(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Jeffreys divergence, in nats.

    `D = KL(p‖q) + KL(q‖p)`

    Example:
        >>> jeffreys(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.2747)
    """
    return compare(_jeffreys_value, student, teacher, **how)


def _hellinger_value(log_p: Tensor, log_q: Tensor) -> Tensor:
    return ((0.5 * log_p).exp() - (0.5 * log_q).exp()).square().sum(-1)


def _hellinger_slope(log_p: Tensor, log_q: Tensor) -> Tensor:
    return -_power(log_p, log_q, 0.5)


@register(Generator(_hellinger_value, _hellinger_slope))
def squared_hellinger(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Squared Hellinger distance, between 0 and 2.

    `D = sum_v (sqrt(p) - sqrt(q))^2`

    Example:
        >>> squared_hellinger(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.0681)
    """
    return compare(_hellinger_value, student, teacher, **how)


def _pearson_value(log_p: Tensor, log_q: Tensor) -> Tensor:
    return _power(log_p, log_q, 2.0).sum(-1) - 1


def _pearson_slope(log_p: Tensor, log_q: Tensor) -> Tensor:
    return -_power(log_p, log_q, 2.0)


@register(Generator(_pearson_value, _pearson_slope))
def pearson(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Pearson's chi-squared divergence: not bounded, it punishes what the student excludes hardest.

    `D = sum_v (p - q)^2 / q`

    Example:
        >>> pearson(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.2500)
    """
    return compare(_pearson_value, student, teacher, **how)


def _neyman_value(log_p: Tensor, log_q: Tensor) -> Tensor:
    return _power(log_q, log_p, 2.0).sum(-1) - 1


def _neyman_slope(log_p: Tensor, log_q: Tensor) -> Tensor:
    return 2 * _power(log_q, log_p, 2.0)


@register(Generator(_neyman_value, _neyman_slope))
def neyman(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Neyman's chi-squared divergence: not bounded, it punishes what the teacher excludes hardest.

    `D = sum_v (p - q)^2 / p`

    Example:
        >>> neyman(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.3333)
    """
    return compare(_neyman_value, student, teacher, **how)


def of_generator(f: Callable[[Tensor], Tensor]) -> Generator:
    """Return the f-divergence of one's own convex f with f(1) = 0, which autograd can differentiate.

    Example:
        >>> own = of_generator(lambda u: u * u.log())
        >>> p, q = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.5, 0.5]])
        >>> own.value(p.log(), q.log())
        tensor([0.1308])
    """

    def value(log_p: Tensor, log_q: Tensor) -> Tensor:
        return (log_q.exp() * f((log_p - log_q).exp())).sum(-1)

    def slope(log_p: Tensor, log_q: Tensor) -> Tensor:
        with torch.enable_grad():
            u = (log_p - log_q).exp().detach().requires_grad_()
            found = f(u)
            (derivative,) = torch.autograd.grad(found.sum(), u)
        return log_q.exp() * (found.detach() - u.detach() * derivative)

    return Generator(value, slope)
