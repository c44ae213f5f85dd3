"""What every loss on logits does before and after its formula: check, mask, temperature, precision, reduction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from limbeck.errors import ConfigError, TrainingError

Reduction = Literal["mean", "sum", "none"]


def compare(
    formula: Callable[[Tensor, Tensor], Tensor],
    student: Tensor,
    teacher: Tensor,
    *,
    temperature: float,
    tau_squared: bool,
    mask: Tensor | None,
    reduction: Reduction,
) -> Tensor:
    """Reduce `formula(log p, log q)` over positions, p the teacher's and q the student's softmax at a temperature.

    Masked positions are cut out before anything is computed: they cost nothing, and even a NaN there stays without
    effect.

    Args:
        formula: maps log-probabilities [M, V] and [M, V] to values [M].
        student: logits [..., V]; computed in float32, or in float64 if they are float64.
        teacher: logits [..., V]; detached.
        temperature: divides both logits.
        tau_squared: multiply by temperature², which keeps the size of the gradient.
        mask: positions [...] that count; None counts all.
        reduction: "mean" over the positions that count (0 if there is none), "sum", or "none" for values [...], 0
            where masked.

    Raises:
        TrainingError: shapes that do not fit.
        ConfigError: a temperature or reduction that does not exist.
    """
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
    if tau_squared:
        values = values * temperature**2
    if reduction == "none":
        return values if mask is None else values.new_zeros(mask.shape).masked_scatter(mask.bool(), values)
    return values.sum() if reduction == "sum" else values.sum() / max(1, values.numel())
