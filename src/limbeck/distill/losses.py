"""What all losses share: the registry of names, and what happens before and after a formula on logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from limbeck.errors import ConfigError, TrainingError, nearest

LossFunction = TypeVar("LossFunction", bound=Callable[..., Tensor])
Loss = Callable[..., Tensor]
Reduction = Literal["mean", "sum", "none"]
BLOCK = 2**17  # logits that go through a closed form at once on a CPU: they stay in a core's cache


class How(TypedDict, total=False):
    """Options of every loss on logits.

    Args:
        temperature: divides both logits; 1 by default.
        tau_squared: multiply by temperature², as in the first paper; language-model distillation usually does not.
        mask: positions [...] that count; None counts all.
        reduction: "mean" over the positions that count (default), "sum", or "none" for values [...], 0 where masked. A
            loss over a whole batch gives every position that counts the same part of it, so that the mean is the loss.
    """

    temperature: float
    tau_squared: bool
    mask: Tensor | None
    reduction: Reduction


@dataclass(frozen=True)
class Generator:
    """An f-divergence, by its two formulas on log-probabilities [M, V] of the teacher p and the student q.

    Args:
        value: `sum_v q f(u)`, u = p / q, [M].
        slope: `q h(u)` with `h(u) = f(u) - u f'(u)`, up to a multiple of q, [M, V]: the gradient in the student's
            logits is `(slope - q sum_w slope_w) / temperature`.
        quick: both at once, `quick(log p, log q, p, q) -> (value [M], slope - q sum_w slope_w [M, V])`, for finite
            logarithms, which it may overwrite with the rest; None if there is no faster way.
    """

    value: Callable[..., Tensor]
    slope: Callable[..., Tensor]
    quick: Callable[..., tuple[Tensor, Tensor]] | None = None


@dataclass(frozen=True)
class Registered:
    """A loss that is known by name.

    Args:
        function: `name(student, teacher, target=None, *, ..., mask=None, reduction="mean")` on logits.
        generator: its formulas, for an f-divergence; they take the same options as the function.
    """

    function: Callable[..., Tensor]
    generator: Generator | None


_losses: dict[str, Registered] = {}


def register(generator: Generator | None = None) -> Callable[[LossFunction], LossFunction]:
    """Decorate a loss function to make it known under its name."""

    def remember(function: LossFunction) -> LossFunction:
        _losses[function.__name__] = Registered(function, generator)
        return function

    return remember


def get_loss(name: str) -> Registered:
    """Return a registered loss.

    Raises:
        ConfigError: no loss has that name.

    Example:
        >>> import limbeck.distill
        >>> get_loss("forward_kl").function is limbeck.distill.forward_kl
        True
    """
    if name not in _losses:
        raise ConfigError(f'unknown loss "{name}".{nearest(name, _losses)} Known: {", ".join(loss_names())}.')
    return _losses[name]


def loss_names() -> list[str]:
    """Names of all registered losses, sorted."""
    return sorted(_losses)


def precision(tensor: Tensor) -> torch.dtype:
    """What losses on a tensor are computed in: float32, or float64 if it is that."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def compare(
    formula: Callable[..., Tensor], student: Tensor, teacher: Tensor, *labels: Tensor | None, **how: Unpack[How]
) -> Tensor:
    """Reduce `formula(log p, log q)` over positions, p the teacher's and q the student's softmax at a temperature.

    As `compare_logits`, with log-probabilities [M, V] of both instead of logits.
    """

    def on_logits(theirs: Tensor, ours: Tensor, *classes: Tensor) -> Tensor:
        return formula(theirs.log_softmax(-1), ours.log_softmax(-1), *classes)

    return compare_logits(on_logits, student, teacher, *labels, **how)


def compare_logits(
    formula: Callable[..., Tensor], student: Tensor, teacher: Tensor, *labels: Tensor | None, **how: Unpack[How]
) -> Tensor:
    """Reduce `formula(t, s)` over positions, t the teacher's and s the student's logits divided by a temperature.

    Masked positions are cut out first: they cost nothing, and even a NaN there stays without effect. The mean over no
    position is 0.

    Args:
        formula: maps logits [M, V] and [M, V], and classes [M] if labels are given, to values [M].
        student, teacher: logits [..., V]; the teacher's are detached.
        labels: the true classes [...] of a formula that needs them.
        how: see `How`.

    Raises:
        TrainingError: shapes that do not fit; classes that are missing or do not exist; logits that
            are NaN or +inf, or -inf alone.
        ConfigError: a temperature or reduction that does not exist.
    """
    temperature, mask, reduction = how.get("temperature", 1.0), how.get("mask"), how.get("reduction", "mean")
    places, size = student.shape[:-1], student.shape[-1]
    if student.shape != teacher.shape:
        raise TrainingError(
            f"student logits {list(student.shape)} and teacher logits {list(teacher.shape)} differ in shape: "
            "both need the same positions and the same vocabulary."
        )
    if mask is not None and mask.shape != places:
        raise TrainingError(f"the mask {list(mask.shape)} must have the positions' shape {list(places)}.")
    if any(one is None or one.shape != places for one in labels):
        raise TrainingError(f"this loss needs the true classes, as a target of the positions' shape {list(places)}.")
    if temperature <= 0:
        raise ConfigError(f"temperature must be positive, got {temperature}.")
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f'reduction must be "mean", "sum" or "none", got "{reduction}".')

    rows = slice(None) if mask is None else mask.bool().flatten()
    both = (one.reshape(-1, size)[rows].to(precision(student)) for one in (student, teacher.detach()))
    ours, theirs = [one / temperature for one in both]
    most = torch.stack([one.detach().amax(-1) for one in (ours, theirs)])
    if not most.isfinite().all():
        sides = [name for name, one in zip(("student", "teacher"), most, strict=True) if not one.isfinite().all()]
        raise TrainingError(
            f"{' and '.join(sides)} logits hold NaN or +inf, or nothing but -inf, at positions that count: look at "
            "that model's weights and inputs, or mask these positions."
        )
    classes = [one.flatten()[rows] for one in labels if one is not None]
    for one in classes:
        if len(one) and not 0 <= one.min() <= one.max() < size:
            raise TrainingError(f"target classes must lie between 0 and {size - 1}: mask positions that have none.")
    values = formula(theirs, ours, *classes)
    if how.get("tau_squared"):
        values = values * temperature**2
    if reduction == "none":
        return values.reshape(places) if mask is None else values.new_zeros(places).masked_scatter(mask.bool(), values)
    return values.sum() if reduction == "sum" else values.sum() / max(1, values.numel())


def closed(both: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    """Make a formula for `compare_logits` of one that knows its gradient; the loss can be differentiated once.

    Args:
        both: maps the student's logits [M, V] and whatever has M rows, to values [M] and their gradients [M, V]; rows
            do not depend on each other.
    """

    def formula(theirs: Tensor, ours: Tensor, *more: Tensor) -> Tensor:
        values: Tensor = _Closed.apply(both, ours, theirs, *more)[0]
        return values

    return formula


class _Closed(torch.autograd.Function):
    """Values, and gradients that the backward pass only scales."""

    @staticmethod
    def forward(both: Any, student: Tensor, *more: Tensor) -> tuple[Tensor, Tensor]:
        values, gradient = student.new_empty(len(student)), torch.empty_like(student)
        few = max(1, BLOCK // student.shape[-1]) if student.device.type == "cpu" else max(1, len(student))
        for block in zip(*(one.split(few) for one in (values, gradient, student, *more)), strict=True):
            block[0][:], block[1][:] = both(*block[2:])
        return values, gradient

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return None, ctx.saved_tensors[0] * scale[:, None], *[None] * (len(ctx.needs_input_grad) - 2)
