"""What classic distillation adds to a divergence: true labels, the teacher's labels, and logits themselves."""

from __future__ import annotations

from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.distill.losses import How, Loss, compare_logits, get_loss, register


@register()
def cross_entropy(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, smoothing: float = 0.0, **how: Unpack[How]
) -> Tensor:
    """Cross-entropy with the true classes, in nats; the teacher is not heard.

    Args:
        target: true classes [...].
        smoothing: share of the label that is spread evenly over all classes.

    Example:
        >>> cross_entropy(torch.zeros(2), torch.zeros(2), torch.tensor(0))
        tensor(0.6931)
    """
    compared = partial(F.cross_entropy, reduction="none", label_smoothing=smoothing)
    return compare_logits(lambda t, s, classes: compared(s, classes), student, teacher, target, **how)


@register()
def hard_label(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Cross-entropy with the class that the teacher prefers, in nats.

    Example:
        >>> hard_label(torch.tensor([2.0, 0.0]), torch.tensor([0.0, 1.0]))
        tensor(2.1269)

    Source: Hugo Touvron et al., Training data-efficient image transformers & distillation through attention (2020),
        arXiv 2012.12877.
    """
    return compare_logits(lambda t, s: F.cross_entropy(s, t.argmax(-1), reduction="none"), student, teacher, **how)


@register()
def squared_logits(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Half the variance over classes of the difference of logits: temperature² forward KL at high temperature.

    `D = sum_c (d_c - mean d)^2 / (2 C)`, `d = s - t`; a class that both exclude differs by 0.

    Example:
        >>> squared_logits(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]))
        tensor(0.5000)

    Source: Geoffrey Hinton, Oriol Vinyals, Jeff Dean, Distilling the Knowledge in a Neural Network (2015), arXiv
        1503.02531, section 2.1.
    """

    def formula(t: Tensor, s: Tensor) -> Tensor:
        return 0.5 * torch.where(torch.maximum(s, t) > -torch.inf, s - t, 0.0).var(-1, correction=0)

    return compare_logits(formula, student, teacher, **how)


@register()
def squared_probabilities(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, alpha: float = 0.0, **how: Unpack[How]
) -> Tensor:
    """Mean square over classes of the difference of probabilities, from the teacher's and from the true class.

    `D = (1 - alpha) mean_c (q_c - p_c)^2 + alpha mean_c (q_c - y_c)^2`; its gradient vanishes where the student is sure
    and wrong.

    Args:
        target: true classes [...], for alpha above 0.
        alpha: weight of the true class.

    Example:
        >>> squared_probabilities(torch.zeros(2), torch.tensor([9.0, -9.0]), torch.tensor(1), alpha=0.5)
        tensor(0.2500)

    Source: Kenneth Borup, Lars N. Andersen, Even your Teacher Needs Guidance (2021), arXiv 2102.13088.
    """

    def formula(t: Tensor, s: Tensor, *classes: Tensor) -> Tensor:
        q, p = s.softmax(-1), t.softmax(-1)
        costs = (1 - alpha) * (q - p).square()
        return sum((alpha * (q - F.one_hot(y, q.shape[-1])).square() for y in classes), costs).mean(-1)

    return compare_logits(formula, student, teacher, *([target] if alpha else []), **how)


def with_labels(loss: str | Loss, ce_weight: float = 0.1, weight: float = 0.9, *, smoothing: float = 0.0) -> Loss:
    """Return a loss plus the cross-entropy with the true classes, which always has temperature 1.

    `ce_weight CE(y, softmax(s)) + weight D`; the default is classic distillation of small images, at temperature 4
    with `tau_squared=True`.

    Args:
        loss: a name, or a loss on logits.
        ce_weight: weight of the cross-entropy.
        weight: weight of the loss.
        smoothing: see `cross_entropy`.

    Example:
        >>> logits, classes = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
        >>> with_labels("forward_kl")(logits, logits, classes, temperature=4.0, tau_squared=True)
        tensor(0.0127)

    Source: Geoffrey Hinton, Oriol Vinyals, Jeff Dean, Distilling the Knowledge in a Neural Network (2015), arXiv
        1503.02531.
    """
    function: Loss = get_loss(loss).function if isinstance(loss, str) else loss

    def mixed(student: Tensor, teacher: Tensor, target: Tensor | None = None, **options: Any) -> Tensor:
        shared = {name: options[name] for name in ("mask", "reduction") if name in options}
        labels = cross_entropy(student, teacher, target, smoothing=smoothing, **shared)
        return ce_weight * labels + weight * function(student, teacher, target, **options)

    return mixed
