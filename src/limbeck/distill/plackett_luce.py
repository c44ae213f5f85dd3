"""Plackett-Luce distillation: the student says how probable the teacher's ranking of the classes is.

A ranking is drawn class by class, each among those that are left, with probabilities as their exponentiated logits. The
order and its weights depend on the teacher alone: `rank` once, keep them, and give them to `ranking_loss`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal, NamedTuple, Unpack, get_args

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.distill.divergences import weighted
from limbeck.distill.losses import How, closed, compare_logits, precision, register
from limbeck.distill.topk import with_rest
from limbeck.errors import ConfigError

WIDE = 600.0  # nats between logits from which exponentials leave the range of doubles
Weights = Literal["teacher", "uniform", "each", "position", "label"]


class Ranking(NamedTuple):
    """Lists of classes, or of documents.

    Args:
        order: ids [..., K], best first, all different.
        weight: of each choice, [..., K].
    """

    order: Tensor
    weight: Tensor


@torch.no_grad()
def rank(
    teacher: Tensor, target: Tensor | None = None, *,
    weights: Weights = "teacher", teacher_temperature: float = 1.0, top: int | None = None,
) -> Ranking:  # fmt: skip
    """Order classes by a teacher's logits, the true one first, and weigh the choices.

    Ties go to the lower class. Classes of logit -inf come last, with weight 0. Where the mean of `weight[..., 0]`
    exceeds 0.97 the teacher is so sure that the loss is the cross-entropy: raise the temperature.

    Args:
        teacher: logits [..., C].
        target: true classes [...]; None leaves the teacher's own order.
        weights: "teacher" its probabilities; "uniform" 1 / C; "each" 1; "position" `2^(C - k) - 1` at rank k,
            normalised; "label" 1 for the first class, which makes the loss the cross-entropy.
        teacher_temperature: divides the logits in the teacher's weights.
        top: ranks that are kept.

    Raises:
        ConfigError: weights or a temperature that do not exist.

    Example:
        >>> rank(torch.tensor([3.0, 1.0, 2.0]), torch.tensor(1)).order
        tensor([1, 0, 2])
    """
    if weights not in get_args(Weights):
        raise ConfigError(f'weights must be one of {", ".join(get_args(Weights))}, got "{weights}".')
    if teacher_temperature <= 0:
        raise ConfigError(f"teacher_temperature must be positive, got {teacher_temperature}.")
    key = _key(teacher, target)
    order = key.sort(dim=-1, descending=True, stable=True).indices[..., :top]
    if weights == "teacher":
        return Ranking(order, (teacher.to(precision(teacher)) / teacher_temperature).softmax(-1).gather(-1, order))
    size = (key > -torch.inf).sum(-1, keepdim=True).double()
    after = size - 1 - torch.arange(teacher.shape[-1], device=teacher.device)
    if weights == "position":
        logs = after * math.log(2) + torch.log1p(-torch.exp2(-after))
        weight = torch.where(after > 0, logs, -torch.inf).softmax(-1).nan_to_num()
    else:
        weight = {"each": after >= 0, "uniform": (after >= 0) / size, "label": after == size - 1}[weights]
    return Ranking(order, weight[..., :top].to(precision(teacher)))


def ranking_loss(student: Tensor, ranking: Ranking, **how: Unpack[How]) -> Tensor:
    """Weighted negative log-likelihood of given rankings, in nats.

    `D = sum_(k <= K) a_k (log sum_(l >= k) exp(s_l) - s_k)`, s in the order of the ranking; classes after K are the
    unordered end of every list. It can be differentiated once.

    Args:
        student: logits [..., C]; -inf for a class, or a place of a list, that does not exist.
        ranking: from `rank`, or one's own.
        how: see `How`; the temperature divides the student's logits.

    Example:
        >>> ranking_loss(torch.zeros(3), Ranking(torch.tensor([2, 0, 1]), torch.tensor([1.0, 0.5, 0.0])))
        tensor(1.4452)

    Source: as for `pld`.
    """
    mask = how.get("mask")
    rows = slice(None) if mask is None else mask.bool().flatten()
    order, weight = (one.reshape(-1, one.shape[-1])[rows] for one in ranking)
    return compare_logits(lambda _, scores: _unlikelihood(scores, order, weight), student, student, **how)


@register()
def pld(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, weights: Weights = "teacher",
    teacher_temperature: float = 1.0, top: int | None = None, **how: Unpack[How],
) -> Tensor:  # fmt: skip
    """Plackett-Luce distillation: one loss instead of cross-entropy plus divergence, in nats.

    `D = sum_k a_k (log sum_(l >= k) exp(s_l) - s_k)`, s in the teacher's order with the true class first and a the
    teacher's probability of the class at rank k

    It is convex, moves no logit by a constant and has no finite minimum: it teaches order, not probabilities. The
    first term is the cross-entropy times the teacher's trust in the true class, so that samples count little where the
    teacher errs. Classes that the teacher gives -inf are left out.

    Args:
        target: true classes [...].
        weights, teacher_temperature, top: see `rank`; what `top` leaves out is positive. `How.temperature` divides both
            logits instead.

    Example:
        >>> pld(torch.zeros(2), torch.tensor([3.0, 1.0]).log(), torch.tensor(0))
        tensor(0.5199)

    Source: Ejafa Bassam, Dawei Zhu, Kaigui Bian, PLD: A Choice-Theoretic List-Wise Knowledge Distillation (2025), arXiv
        2506.12542.
    """

    own = partial(_by_teacher, weights=weights, teacher_temperature=teacher_temperature, top=top)
    return compare_logits(own, student, teacher, target, **how)


@register()
def list_mle(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Negative log-likelihood of the teacher's ranking, in nats: every choice counts alike.

    `D = sum_k (log sum_(l >= k) exp(s_l) - s_k)`

    Args:
        target: true classes [...], put first; None leaves the teacher's own order.

    Example:
        >>> list_mle(torch.zeros(3), torch.tensor([3.0, 1.0, 2.0]))
        tensor(1.7918)

    Source: Fen Xia, Tie-Yan Liu, Jue Wang, Wensheng Zhang, Hang Li, Listwise Approach to Learning to Rank (ICML 2008).
    """

    given = () if target is None else (target,)
    return compare_logits(partial(_by_teacher, weights="each"), student, teacher, *given, **how)


def _key(teacher: Tensor, target: Tensor | None) -> Tensor:
    """What classes are ordered by: the teacher's logits, infinite for the true class."""
    return teacher if target is None else teacher.scatter(-1, target[..., None], torch.inf)


def _by_teacher(teacher: Tensor, student: Tensor, target: Tensor | None = None, **options: Any) -> Tensor:
    lost = _key(teacher, target) == -torch.inf
    return _unlikelihood(student.masked_fill(lost, -torch.inf), *rank(teacher, target, **options))


def _unlikelihood(scores: Tensor, order: Tensor, weight: Tensor) -> Tensor:
    """Values [M] of scores [M, C] whose classes [M, K] were chosen in this order."""
    if order.shape[-1] < scores.shape[-1]:
        listed, weight = with_rest(scores, order), F.pad(weight, (0, 1))
    else:
        listed = scores.gather(-1, order)
    return closed(_plackett_luce)(weight, listed)


def _plackett_luce(listed: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Values with their gradients `exp(s_i) sum_(k <= i) a_k / Z_k - a_i`, `Z_k = sum_(l >= k) exp(s_l)`."""
    s, a = listed.double(), weight.double()
    top = s.amax(-1, keepdim=True)
    if (s.masked_fill(s == -torch.inf, torch.inf) > top - WIDE).all():
        e = (s - top).exp_()
        left = e.flip(-1).cumsum(-1).flip(-1).clamp_(min=torch.finfo(torch.double).tiny)
        logs, gradient = left.log() + top, e * (a / left).cumsum(-1) - a
    else:
        logs = s.flip(-1).logcumsumexp(-1).flip(-1)
        shares = torch.where(a > 0, a.log() - logs, -torch.inf).logcumsumexp(-1)
        gradient = torch.where(s > -torch.inf, s + shares, -torch.inf).exp() - a
    return weighted(a, logs - s).sum(-1), gradient
