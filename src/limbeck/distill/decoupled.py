"""Decoupled distillation: how sure the teacher is of the true class, and how it ranks the others, weighted freely.

In the KL divergence the second part is multiplied by the probability that the teacher gives to the other classes, which
a sure teacher makes vanish.
"""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.distill.divergences import forward_value
from limbeck.distill.losses import How, closed, compare_logits, register


@register()
def dkd(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *,
    alpha: float = 1.0, beta: float = 8.0, **how: Unpack[How],
) -> Tensor:  # fmt: skip
    """Decoupled knowledge distillation, in nats.

    `D = alpha KL([p_y, 1 - p_y] ‖ [q_y, 1 - q_y]) + beta KL(p_others ‖ q_others)`, the others renormalised

    `KL(p‖q)` is the case alpha = 1, beta = 1 - p_y. Two classes have no second part. It can be differentiated once. As
    published: temperature 4 with `tau_squared=True`, plus a cross-entropy of weight 1 (`with_labels`), D growing from 0
    over 20 epochs (`constant(epoch - 1, warmup=20)`). Narrow students want a smaller beta, 1 or 2.

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

    def both(s: Tensor, t: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        own, odds, others = classes[:, None], [], []  # odds: log of the others' mass over the true class's
        for one in (t, s):
            rest = one.scatter(-1, own, -torch.inf)
            others.append(rest.log_softmax(-1))
            odds.append(rest.amax(-1) - others[-1].amax(-1) - one.gather(-1, own)[:, 0])
        sides = [F.logsigmoid(torch.stack([-one, one], dim=-1)) for one in odds]
        p, q = (one.exp() for one in others)
        gradient = (q - p).mul_(beta)
        gradient.addcmul_(q.scatter_(-1, own, -1.0), alpha * (odds[1].sigmoid() - odds[0].sigmoid())[:, None])
        return alpha * forward_value(*sides) + beta * forward_value(*others), gradient

    return compare_logits(closed(both), student, teacher, target, **how)
