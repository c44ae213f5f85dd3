"""Losses that choose between the two directions of the KL divergence, token by token or position by position.

The forward KL makes the student cover the teacher, the reverse KL makes it keep to the teacher's favourites; which of
the two is better depends on where the student errs and on how sure the teacher is.
"""

from __future__ import annotations

import math
from typing import Any, Unpack

import torch
from torch import Tensor

from limbeck.distill.divergences import forward_value, reverse_value, weighted
from limbeck.distill.losses import How, compare, register


@register()
def adaptive_kl(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, head: float = 0.5, **how: Unpack[How]
) -> Tensor:
    """Forward KL where the student errs on the teacher's favourites, reverse KL where it errs on the rest, in nats.

    `D = (g_h KL(p‖q) + g_t KL(q‖p)) / (g_h + g_t)`, `g = sum |p - q|` over head and tail; g is not differentiated.

    Args:
        head: the largest probability that the head, the teacher's most probable tokens, sums to.

    Example:
        >>> adaptive_kl(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.1438)

    Source: Wu, Tao, Wang, Zhao, Wong, Rethinking Kullback-Leibler Divergence in Knowledge Distillation for Large
        Language Models (2024), arXiv 2404.02657.
    """

    def formula(log_p: Tensor, log_q: Tensor) -> Any:
        p, gap = log_p.exp(), (log_p.exp() - log_q.detach().exp()).abs()
        ordered = p.sort(dim=-1, descending=True, stable=True)
        first = (ordered.values.cumsum(-1) <= head).to(gap.dtype)
        heads = (gap.gather(-1, ordered.indices) * first).sum(-1)
        share = heads / gap.sum(-1).clamp(min=1e-30)
        return share * forward_value(log_p, log_q) + (1 - share) * reverse_value(log_p, log_q)

    return compare(formula, student, teacher, **how)


@register()
def todi(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """For every token of the vocabulary forward KL where the teacher gives it more, reverse KL where less, in nats.

    `D = sum_v a_v p_v log(p_v / q_v) + (1 - a_v) q_v log(q_v / p_v)`, `a = p / (p + q)`, not differentiated

    Example:
        >>> todi(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.2747)

    Source: Seongryong Jung et al., ToDi: Token-wise Distillation via Fine-Grained Divergence Control (2025), arXiv
        2505.16297; reconstructed from a survey.
    """

    def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
        ratio = log_p - log_q
        share = torch.nan_to_num(ratio.detach()).sigmoid()
        forward, reverse = weighted(log_p.exp(), ratio), weighted(log_q.exp(), -ratio)
        return (share * forward + (1 - share) * reverse).sum(-1)

    return compare(formula, student, teacher, **how)


@register()
def entropy_aware_kl(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Reverse KL where the teacher is sure, forward KL where it is not, in nats.

    `D = (1 - a) KL(q‖p) + a KL(p‖q)`, `a = H(p) / log V`

    Example:
        >>> entropy_aware_kl(torch.zeros(2), torch.tensor([3.0, 1.0]).log())
        tensor(0.1333)

    Source: Mingyang Song, Mao Zheng, A Survey of On-Policy Distillation for Large Language Models (2026), arXiv
        2604.00626, eq. 19; that the weight is the normalised entropy is reconstructed.
    """

    def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
        share = -weighted(log_p.exp(), log_p).sum(-1) / math.log(log_p.shape[-1])
        return (1 - share) * reverse_value(log_p, log_q) + share * forward_value(log_p, log_q)

    return compare(formula, student, teacher, **how)
