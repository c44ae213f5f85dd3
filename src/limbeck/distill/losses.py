"""What all losses share: the registry of names, and what happens before and after a formula on logits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor

from limbeck.errors import ConfigError, TrainingError, nearest

LossFunction = TypeVar("LossFunction", bound=Callable[..., Tensor])
Reduction = Literal["mean", "sum", "none"]


class How(TypedDict, total=False):
    """Options of every loss on logits.

    Args:
        temperature: divides both logits; 1 by default.
        tau_squared: multiply by temperature², as in the first paper; language-model distillation usually does not.
        mask: positions [...] that count; None counts all.
        reduction: "mean" over the positions that count (default), "sum", or "none" for values [...], 0 where masked.
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


def compare(
    formula: Callable[[Tensor, Tensor], Tensor],
    student: Tensor,
    teacher: Tensor,
    **how: Unpack[How],
) -> Tensor:
    """Reduce `formula(log p, log q)` over positions, p the teacher's and q the student's softmax at a temperature.

    Masked positions are cut out first: they cost nothing, and even a NaN there stays without effect. The mean over no
    position is 0.

    Args:
        formula: maps log-probabilities [M, V] and [M, V] to values [M].
        student, teacher: logits [..., V]; the teacher's are detached.
        how: see `How`.

    Raises:
        TrainingError: shapes that do not fit.
        ConfigError: a temperature or reduction that does not exist.
    """
    temperature, mask, reduction = how.get("temperature", 1.0), how.get("mask"), how.get("reduction", "mean")
    if student.shape != teacher.shape:
        raise TrainingError(
            f"student logits {list(student.shape)} and teacher logits {list(teacher.shape)} differ in shape: "
            "both need the same positions and the same vocabulary."
        )
    if mask is not None and mask.shape != student.shape[:-1]:
        raise TrainingError(f"the mask {list(mask.shape)} must have the positions' shape {list(student.shape[:-1])}.")
    if temperature <= 0:
        raise ConfigError(f"temperature must be positive, got {temperature}.")
    if reduction not in ("mean", "sum", "none"):
        raise ConfigError(f'reduction must be "mean", "sum" or "none", got "{reduction}".')

    dtype = torch.float64 if student.dtype == torch.float64 else torch.float32
    positions = ... if mask is None else mask.bool()
    log_q = torch.log_softmax(student[positions].to(dtype) / temperature, dim=-1)
    log_p = torch.log_softmax(teacher.detach()[positions].to(dtype) / temperature, dim=-1)
    values = formula(log_p, log_q)
    if how.get("tau_squared"):
        values = values * temperature**2
    if reduction == "none":
        return values if mask is None else values.new_zeros(mask.shape).masked_scatter(mask.bool(), values)
    return values.sum() if reduction == "sum" else values.sum() / max(1, values.numel())
