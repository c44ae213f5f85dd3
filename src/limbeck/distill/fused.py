"""A divergence from hidden states: no logit outlives its chunk, so memory is that of the heads.

For N positions and V tokens the logits of teacher and student, their softmaxes and the gradient are N x V each: at
V = 131 072 and 512 positions a quarter of a gigabyte apiece. Here positions go through both heads in chunks that fit
the processor's cache, each chunk leaves its loss and its gradients in hidden states and head, and the logits are gone.
Masked positions are cut out before the first multiplication.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F  # noqa: N812

from limbeck.distill.losses import Generator, get_loss, precision
from limbeck.errors import ConfigError, TrainingError

ROWS, CHUNK_BYTES = 128, 2**23  # multiplications want many rows, tiny vocabularies more of them
BLOCK_BYTES = 2**20  # of logits that go through a formula at once: they stay in a core's cache
Vocabulary = Literal["error", "common", "pad"]


def fused_divergence(
    student: Tensor,
    student_head: Tensor,
    teacher: Tensor,
    teacher_head: Tensor,
    target: Tensor | None = None,
    *,
    divergence: str | Generator = "forward_kl",
    temperature: float = 1.0,
    tau_squared: bool = False,
    ce_weight: float = 0.0,
    mask: Tensor | None = None,
    weight: Tensor | None = None,
    count: float | None = None,
    vocabulary: Vocabulary = "error",
    chunk: int | None = None,
    **options: Any,
) -> Tensor:
    """Mean divergence between the next-token distributions of two heads, with an optional cross-entropy.

    `sum_n weight_n [(1 - ce_weight) D(softmax(t_n / temperature), softmax(s_n / temperature)) - ce_weight log
    softmax(s_n)[target_n]] / count`, `s = student student_head^T`, `t = teacher teacher_head^T`

    Args:
        student: hidden states [..., d], any float type; softmax and sums in float32 (float64 stays).
        student_head: [V, d]; its gradient is summed in the precision of the softmax.
        teacher: hidden states [..., e]; no gradient.
        teacher_head: [W, e]; no gradient.
        target: next tokens [...], only with `ce_weight`.
        divergence: name of a registered f-divergence, or one's own (`of_generator`).
        temperature: divides both logits inside the divergence.
        tau_squared: multiply the divergence by temperature².
        ce_weight: share of the cross-entropy with the target at temperature 1, 0 to 1.
        mask: positions [...] that count; None counts all.
        weight: of positions [...]; None weighs all alike.
        count: what the sum is divided by; None is the number of positions that count. With gradient accumulation give
            the number in all micro-batches: the step then equals one large batch.
        vocabulary: where V and W differ: "error" refuses, "common" compares the tokens that both have, renormalised,
            "pad" gives the smaller side probability 0 on the others.
        chunk: positions at once; by default 128, or as many as have 8 MB of float32 logits.
        options: of the divergence, such as `beta`.

    Returns:
        A scalar; 0 with zero gradients if no position counts. It can be differentiated once.

    Raises:
        TrainingError: shapes or vocabularies that do not fit.
        ConfigError: an unknown divergence, or one that is no f-divergence; a value out of range.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> hidden, head = torch.randn(5, 4, generator=draw), torch.randn(7, 4, generator=draw)
        >>> fused_divergence(hidden, head, 1.1 * hidden, head, divergence="reverse_kl")
        tensor(0.0043)

    Source: the chunked form of Liger-Kernel's fused linear losses (Hsu et al., Liger Kernel: Efficient Triton Kernels
        for LLM Training, 2024, arXiv 2410.10989), here for every f-divergence and on any device.
    """
    generator = divergence if isinstance(divergence, Generator) else get_loss(divergence).generator
    if generator is None:
        raise ConfigError(f'"{divergence}" is no f-divergence: compare logits with limbeck.distill.{divergence}.')
    if temperature <= 0:
        raise ConfigError(f"temperature must be positive, got {temperature}.")
    if not 0 <= ce_weight <= 1:
        raise ConfigError(f"ce_weight must lie between 0 and 1, got {ce_weight}.")
    places = student.shape[:-1]
    for name, given in (("teacher", teacher.shape[:-1]), *_shapes(target=target, mask=mask, weight=weight)):
        if given != places:
            raise TrainingError(f"{name} {list(given)} must have the positions' shape {list(places)}.")
    if ce_weight and target is None:
        raise ConfigError("ce_weight needs the target tokens.")
    sizes = len(student_head), len(teacher_head)
    if sizes[0] != sizes[1] and vocabulary == "error":
        raise TrainingError(
            f"the student has {sizes[0]} tokens, the teacher {sizes[1]}: choose vocabulary common or pad."
        )
    if sizes[0] != sizes[1] and vocabulary == "common":
        student_head, teacher_head = student_head[: min(sizes)], teacher_head[: min(sizes)]
    keep = torch.ones(places, dtype=torch.bool, device=student.device) if mask is None else mask.bool()
    rows = keep.flatten().nonzero()[:, 0]
    hidden, other = student.flatten(0, -2)[rows], teacher.detach().flatten(0, -2)[rows]
    width = max(len(student_head), len(teacher_head))
    loss: Tensor = _Fused.apply(
        hidden,
        student_head,
        other,
        teacher_head.detach(),
        None if target is None or not ce_weight else target.flatten()[rows],
        None if weight is None else weight.flatten()[rows],
        generator,
        temperature,
        (1 - ce_weight) * (temperature**2 if tau_squared else 1.0),
        ce_weight,
        float(count if count is not None else max(1, len(rows))),
        chunk or max(ROWS, CHUNK_BYTES // (4 * width)),
        options,
    )
    return loss


def _shapes(**given: Tensor | None) -> list[tuple[str, torch.Size]]:
    return [(f"the {name}", one.shape) for name, one in given.items() if one is not None]


class _Fused(torch.autograd.Function):
    """Loss and gradients together, chunk by chunk; the backward pass only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        student_head: Tensor,
        teacher: Tensor,
        teacher_head: Tensor,
        target: Tensor | None,
        weight: Tensor | None,
        generator: Generator,
        temperature: float,
        share: float,
        ce_share: float,
        count: float,
        chunk: int,
        options: dict[str, Any],
    ) -> Tensor:
        dtype = precision(student)
        total = torch.zeros((), dtype=dtype, device=student.device)
        to_hidden = torch.empty_like(student)
        to_head = torch.zeros_like(student_head, dtype=dtype) if student_head.requires_grad else None
        head, other_head = student_head.to(student.dtype), teacher_head.to(teacher.dtype)
        width = max(len(head), len(other_head))
        room = torch.empty(2, min(chunk, len(student)), width, dtype=dtype, device=student.device)
        quick = generator.quick if len(head) == len(other_head) else None
        few = max(1, BLOCK_BYTES // (4 * width)) if student.device.type == "cpu" else chunk
        for start in range(0, len(student), chunk):
            rows = slice(start, start + chunk)
            mine, theirs = _logits(student[rows], head, room[0]), _logits(teacher[rows], other_head, room[1])
            scale = (torch.ones_like(mine[:, 0]) if weight is None else weight[rows].to(dtype)) / count
            for first in range(0, len(mine), few):
                block = slice(first, first + few)
                s, t = (one[block] if temperature == 1 else one[block] / temperature for one in (mine, theirs))
                log_q, q, log_p = s.log_softmax(-1), s.softmax(-1), t.log_softmax(-1)
                if quick is not None:
                    value, gradient = quick(log_p, log_q, t.softmax(-1), q, **options)
                else:
                    value, gradient = generator.value(log_p, log_q, **options), generator.slope(log_p, log_q, **options)
                    gradient.addcmul_(q, gradient.sum(-1, keepdim=True), value=-1.0)
                value, gradient = share * value, gradient.mul_(share / temperature)
                if target is not None:
                    wanted = target[rows][block, None]
                    value -= ce_share * mine[block].log_softmax(-1).gather(1, wanted)[:, 0]
                    gradient.add_(mine[block].softmax(-1), alpha=ce_share)
                    gradient.scatter_add_(1, wanted, torch.full_like(value, -ce_share)[:, None])
                total += value @ scale[block]
                mine[block] = gradient
            gradient, part = mine[:, : len(head)], student[rows].to(dtype) * scale[:, None]
            torch.mm(gradient.to(student.dtype), head, out=to_hidden[rows]).mul_(scale[:, None])
            if to_head is not None:
                to_head.addmm_(gradient.T, part)
        ctx.save_for_backward(to_hidden, to_head)
        ctx.head_dtype = student_head.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor | None, ...]:
        to_hidden, to_head = ctx.saved_tensors
        head = None if to_head is None else to_head.mul(scale).to(ctx.head_dtype)
        return (to_hidden * scale.to(to_hidden.dtype), head, *[None] * 11)


def _logits(hidden: Tensor, head: Tensor, room: Tensor) -> Tensor:
    """Logits of a chunk, in the room given; tokens that this side lacks have probability 0."""
    logits = room[: len(hidden)]
    logits[:, len(head) :] = -torch.inf
    own = logits[:, : len(head)]
    if hidden.dtype == room.dtype and not torch.is_autocast_enabled(hidden.device.type):
        torch.mm(hidden, head.T, out=own)
    else:
        own.copy_(F.linear(hidden, head))
    return logits
