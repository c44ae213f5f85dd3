"""Decoupled distillation: how sure the teacher is of the true class, and how it ranks the others, weighted freely.

In the KL divergence the second part is multiplied by the probability that the teacher gives to the other classes, which
a sure teacher makes vanish.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from limbeck.distill.divergences import forward_value
from limbeck.distill.losses import How, compare, register


@register()
def dkd(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *,
    alpha: float = 1.0, beta: float = 8.0, **how: Unpack[How],
) -> Tensor:  # fmt: skip
    """Decoupled knowledge distillation, in nats.

    `D = alpha KL([p_y, 1 - p_y] ‖ [q_y, 1 - q_y]) + beta KL(p_others ‖ q_others)`, the others renormalised

    `KL(p‖q)` is the case alpha = 1, beta = 1 - p_y. Two classes have no second part. As published: temperature 4 with
    `tau_squared=True`, plus a cross-entropy of weight 1 (`with_labels`), D growing from 0 over 20 epochs
    (`constant(epoch - 1, warmup=20)`). Narrow students want a smaller beta, 1 or 2.

    Args:
        target: true classes [...].
        alpha: weight of the true class against the others.
        beta: weight of the order among the others; 0.5 to 8 in the released configurations.

    Example:
        >>> logits = torch.tensor([2.0, 1.0, 0.0])
        >>> dkd(torch.zeros(3), logits, torch.tensor(0), alpha=1.0, beta=2.0)
        tensor(0.4510)

    Source: Borui Zhao, Quan Cui, Renjie Song, Yiyu Qiu, Jiajun Liang, Decoupled Knowledge Distillation (2022), arXiv
        2203.08679.
    """

    def formula(log_p: Tensor, log_q: Tensor, classes: Tensor) -> Tensor:
        sides, others = [], []
        for log in (log_p, log_q):
            rest = log.scatter(-1, classes[:, None], -torch.inf)
            sides.append(torch.stack([log.gather(-1, classes[:, None])[:, 0], rest.logsumexp(-1)], dim=-1))
            others.append(rest.log_softmax(-1))
        return alpha * forward_value(*sides) + beta * forward_value(*others)

    return compare(formula, student, teacher, target, **how)
