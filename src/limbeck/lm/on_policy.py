"""On-policy distillation: the student writes, teachers and a reference say what they would have written.

Every method of this family compares the student with the target `scale log p + (1 - scale) log reference`: scale = 1
is plain on-policy distillation from the teacher (the reference cancels and is never run), scale < 1 stops between
reference and teacher, scale > 1 goes on beyond the teacher, away from the reference. An estimator says how the gradient
of the sequence divergence is taken (`sequence_kl`); MiniLLM is scale = 1 with the estimator `minillm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limbeck.distill.divergences import reverse_value
from limbeck.errors import ConfigError
from limbeck.lm.estimators import Estimator, sequence_kl
from limbeck.lm.slots import Batch
from limbeck.lm.states import by_domain


def extrapolate(
    teacher: Tensor, reference: Tensor, scale: float, max_log_ratio: float | None = None
) -> tuple[Tensor, Tensor]:
    """Log of the target of reward extrapolation, without its normalisation.

    `reference + scale (teacher - reference)`: minus the student's log-probability of a token, it is the advantage of
    that token under the reward `scale log(teacher / reference)` with a KL penalty to the reference.

    Args:
        teacher, reference: log-probabilities, of any one shape.
        scale: 0 gives the reference, 1 the teacher, more goes beyond it.
        max_log_ratio: bound on |teacher - reference|, 10 is a sensible one; None for none.

    Returns:
        The target, and which elements were bounded.

    Example:
        >>> extrapolate(torch.tensor([-1.0]), torch.tensor([-2.0]), scale=1.25)[0]
        tensor([-0.7500])

    Source: Yang, Liu, Xie, Yang, Yang, Lin, Learning beyond Teacher: Generalized On-Policy Distillation with Reward
        Extrapolation (2026), arXiv 2602.12125, eq. 11; its eq. 14 prints the advantage with the opposite sign.
    """
    ratio = teacher - reference
    if max_log_ratio is None:
        return reference + scale * ratio, torch.zeros_like(ratio, dtype=torch.bool)
    return reference + scale * ratio.clamp(-max_log_ratio, max_log_ratio), ratio.abs() > max_log_ratio


@dataclass(frozen=True)
class OnPolicy:
    """The signal of on-policy distillation.

    Args:
        teachers: one for each domain of the batches, in the order of their labels.
        reference: frozen policy, usually the student as it starts ("reward correction": the teacher before its
            reinforcement learning); needed unless scale = 1.
        scale: of the reward; 1.25 is the paper's.
        estimator: of the gradient; `full` has the least variance and the same fixed point.
        discount, normalise: of the future, for the estimators `sampled` and `minillm`.
        max_log_ratio: bound on the log-ratio of teacher and reference; None for none.
        mixed: share of the tokens that were drawn from the teacher; each token then counts q / (mixed p + (1 - mixed)
            q), its importance weight under the student.

    Raises:
        ConfigError: no teacher; a scale other than 1 without a reference.

    Source: as for `extrapolate`.
    """

    teachers: Sequence[Any]
    reference: Any = None
    scale: float = 1.0
    estimator: Estimator = "full"
    discount: float = 0.0
    normalise: bool = False
    max_log_ratio: float | None = None
    mixed: float = 0.0

    def __post_init__(self) -> None:
        if not self.teachers:
            raise ConfigError("on-policy distillation needs at least one teacher")
        if self.scale != 1 and self.reference is None:
            raise ConfigError(f"scale {self.scale:g} needs a reference: without one only scale 1 is defined")

    @property
    def frozen(self) -> tuple[Any, ...]:
        """Teachers and reference."""
        return (*self.teachers, *([] if self.reference is None else [self.reference]))

    def loss(self, student: Any, batch: Batch, step: int = 0) -> dict[str, Tensor]:
        """Return the loss and what to watch, as means over the counted tokens.

        Returns:
            `loss`, `weight`, `teacher_kl` (KL(student‖teacher), exact), `agreement` (how often both have one favourite)
            and, with a scale other than 1, `reward` (log-ratio of teacher and reference on the tokens written),
            `reference_kl` and `bounded` (share of log-ratios that met their bound).

        Raises:
            TrainingError: a domain without a teacher.
        """
        mask, counted = batch.mask, batch.mask.sum().clamp(min=1)
        log_q = _log_softmax(student(**batch.inputs).logits)
        log_p = _log_softmax(_spread(by_domain(self.teachers, batch), mask))
        target, watch = log_p, dict[str, Tensor]()
        if self.scale != 1:
            with torch.no_grad():
                log_r = _log_softmax(self.reference(**batch.inputs).logits)
                target, bounded = extrapolate(log_p, log_r, self.scale, self.max_log_ratio)
                written = (log_p - log_r).gather(-1, batch.labels[..., None])[..., 0]
                watch |= {"reward": written, "reference_kl": reverse_value(log_r, log_q.detach())}
                watch["bounded"] = bounded.float().mean(-1)
        values = sequence_kl(
            log_q,
            target,
            batch.labels,
            mask,
            estimator=self.estimator,
            discount=self.discount,
            normalise=self.normalise,
        )
        with torch.no_grad():
            ratio = (log_p - log_q).gather(-1, batch.labels[..., None])[..., 0].exp()
            weights = batch.weight[:, None] / (1 - self.mixed + self.mixed * ratio)
            watch["teacher_kl"] = reverse_value(log_p, log_q)
            watch["agreement"] = (log_p.argmax(-1) == log_q.argmax(-1)).float()
        means = {name: (value * mask).sum() / counted for name, value in watch.items()}
        return {"loss": (values * weights).sum() / counted, **means, "weight": mask.sum()}

    def describe(self) -> str:
        """One phrase for a run table."""
        beyond = "" if self.scale == 1 else f" scale={self.scale:g}"
        return f"on-policy {self.estimator}{beyond} teachers={len(self.teachers)}"


def _spread(counted: Tensor, mask: Tensor) -> Tensor:
    """Values [M, V] of the labels that count at their places [B, T - 1, V], 0 elsewhere."""
    return counted.new_zeros(*mask.shape, counted.shape[-1]).masked_scatter(mask[..., None], counted)


def _log_softmax(logits: Tensor) -> Tensor:
    return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)
