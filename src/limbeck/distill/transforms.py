"""What is done to logits before a loss compares them; every transform wraps any loss, and wrapped losses wrap again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.distill.losses import Loss, get_loss, precision
from limbeck.distill.topk import with_rest
from limbeck.errors import ConfigError, TrainingError

Transform = Callable[[Tensor, Tensor, Tensor | None, float], tuple[Tensor, Tensor, Tensor | None]]


def transformed(loss: str | Loss, transform: Transform) -> Loss:
    """Return a loss on transformed logits; masked positions are never seen.

    Args:
        loss: a name, or a loss on logits.
        transform: maps student [..., C], teacher [..., C], target [...] or None, and the temperature that the loss will
            divide by, to what the loss compares.

    Example:
        >>> halved = transformed("forward_kl", lambda s, t, target, temperature: (s / 2, t / 2, target))
        >>> halved(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 2.0]))
        tensor(0.)
    """
    function: Loss = get_loss(loss).function if isinstance(loss, str) else loss

    def wrapped(student: Tensor, teacher: Tensor, target: Tensor | None = None, **options: Any) -> Tensor:
        s, t = (one.to(precision(student)) for one in (student, teacher.detach()))
        if (mask := options.get("mask")) is not None:
            s, t = (torch.where(mask.bool()[..., None], one, 0.0) for one in (s, t))
        return function(*transform(s, t, target, options.get("temperature", 1.0)), **options)

    return wrapped


def softened(loss: str | Loss, *, student: float = 1.0, teacher: float = 1.0) -> Loss:
    """Return a loss with a temperature for each side, beside the one that divides both.

    Example:
        >>> softened("forward_kl", student=2.0)(torch.tensor([0.0, 4.0]), torch.tensor([0.0, 2.0]))
        tensor(0.)
    """
    if min(student, teacher) <= 0:
        raise ConfigError(f"temperatures must be positive, got {student} and {teacher}.")
    return transformed(loss, lambda s, t, target, temperature: (s / student, t / teacher, target))


def standardise(logits: Tensor, *, ddof: int = 1, epsilon: float = 1e-7) -> Tensor:
    """Logits of mean 0 and standard deviation 1 over the classes.

    `z = (x - mean x) / (sigma + epsilon)`, `sigma^2 = sum_c (x_c - mean x)^2 / (C - ddof)`

    A row that is constant up to rounding gives 0 with gradient 0. Classes of logit -inf stay so and do not count. It
    can be differentiated once.

    Args:
        logits: [..., C] with C of at least 3: of two classes only the order would be left.
        ddof: 1 as in the released code, 0 as in the paper; the same as a temperature larger by `sqrt(C / (C - 1))`.
        epsilon: added to sigma.

    Raises:
        TrainingError: fewer than three classes.

    Example:
        >>> standardise(torch.tensor([0.0, 1.0, 2.0]))
        tensor([-1.0000,  0.0000,  1.0000])

    Source: Shangquan Sun, Wenqi Ren, Jingzhi Li, Rui Wang, Xiaochun Cao, Logit Standardization in Knowledge
        Distillation (2024), arXiv 2403.01427.
    """
    if logits.shape[-1] < 3:
        raise TrainingError(
            f"logits of {logits.shape[-1]} classes have nothing but their order left once standardised: "
            "use the loss without it."
        )
    value: Tensor = _Standardise.apply(logits.to(precision(logits)), ddof, epsilon)
    return value


class _Standardise(torch.autograd.Function):
    """`z = k (x - mean x)`, with gradient `k (g - mean g) - z sum(g z) / (|x - mean x| sqrt(C - ddof))`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ddof: int, epsilon: float) -> Tensor:
        there = x > -torch.inf
        size, whole = there.sum(-1, keepdim=True).to(x.dtype), bool(there.all())
        filled = x if whole else torch.where(there, x, 0.0)
        mean, free = filled.sum(-1, keepdim=True) / size, (size - ddof).sqrt()
        centred = filled - mean if whole else torch.where(there, filled - mean, 0.0)
        spread = torch.linalg.vector_norm(centred, dim=-1, keepdim=True)
        varies = spread > 8 * torch.finfo(x.dtype).eps * (spread.square() + size * mean.square()).sqrt()
        scale, inner = (torch.where(varies, 1 / one, 0.0) for one in (spread / free + epsilon, spread * free))
        ctx.save_for_backward(centred.mul_(scale), scale, inner, None if whole else there, size)
        return centred.clone() if whole else torch.where(there, centred, -torch.inf)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        z, scale, inner, there, size = ctx.saved_tensors
        g = g if there is None else torch.where(there, g, 0.0)
        found = (g - g.sum(-1, keepdim=True) / size).mul_(scale).addcmul_(z, (g * z).sum(-1, keepdim=True) * -inner)
        return found if there is None else torch.where(there, found, 0.0), None, None


def standardised(loss: str | Loss, *, ddof: int = 1, epsilon: float = 1e-7) -> Loss:
    """Return a loss on standardised logits: the student copies the pattern of the teacher's logits, not their size.

    Training is then robust to the loss's weight. The size of the student's logits is free: only a cross-entropy on raw
    logits (`with_labels` around this) sets it, and probabilities need a temperature afterwards. As published:
    temperature 2 with `tau_squared=True` and weight 9. Not for `pld`.

    Args:
        loss: a name, or a loss on logits.
        ddof, epsilon: see `standardise`.

    Example:
        >>> from limbeck.distill import with_labels
        >>> loss = with_labels(standardised("forward_kl"), 0.1, 9.0)
        >>> loss(torch.eye(3), 5 * torch.eye(3), torch.arange(3), temperature=2.0, tau_squared=True)
        tensor(0.0551)

    Source: as for `standardise`.
    """

    def transform(s: Tensor, t: Tensor, target: Tensor | None, temperature: float) -> Any:
        return *(standardise(one, ddof=ddof, epsilon=epsilon) for one in (s, t)), target

    return transformed(loss, transform)


def bucketed(loss: str | Loss, k: int) -> Loss:
    """Return a loss on the k classes that the teacher prefers and one bucket for all others.

    Ties go to the lower class; a true class among the others becomes the bucket. Without the bucket the student's other
    logits would be left free, which costs it most of its accuracy.

    Args:
        loss: a name, or a loss on logits.
        k: classes kept, at least 1 and fewer than there are.

    Raises:
        ConfigError: k below 1.

    Example:
        >>> bucketed("forward_kl", 1)(torch.zeros(3), torch.tensor([2.0, 1.0, 1.0]).log())
        tensor(0.0589)
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}.")

    def transform(s: Tensor, t: Tensor, target: Tensor | None, temperature: float) -> Any:
        kept = t.sort(dim=-1, descending=True, stable=True).indices[..., :k]
        if target is not None:
            found = kept == target[..., None]
            target = torch.where(found.any(-1), found.int().argmax(-1), kept.shape[-1])
        return with_rest(s, kept, temperature), with_rest(t, kept, temperature), target

    return transformed(loss, transform)
