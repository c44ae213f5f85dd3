"""What a teacher says about a text, and how much the student's disagreement costs.

Teacher and student read the same sequences and a divergence compares the two next-token distributions at every
position that counts. Where the vocabularies differ in size, what happens to the extra tokens is the user's choice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import fused_divergence, get_loss
from limbeck.distill.losses import Generator
from limbeck.errors import ConfigError, TrainingError
from limbeck.lm.jobs import Vocabulary
from limbeck.lm.slots import Batch, counted_logits, cross_entropy
from limbeck.lm.states import bare, by_domain, counted_states, has_plain_head

FUSED_FROM = 4096  # tokens of a vocabulary from which the fused loss pays


@dataclass(frozen=True)
class Divergence:
    """Which divergence, at which temperature.

    Args:
        name: a registered loss on logits: `forward_kl`, `reverse_kl`, `generalized_jsd`, `skew_forward_kl`, ...
        temperature: divides both logits; the loss is multiplied by its square, which keeps the size of the gradient.
        beta, alpha, skew: of the divergences that have them; None for their own default.

    Raises:
        ConfigError: an unknown name, an option that the divergence does not have, or a value out of range.
    """

    name: str = "forward_kl"
    temperature: float = 1.0
    beta: float | None = None
    alpha: float | None = None
    skew: float | None = None

    def __post_init__(self) -> None:
        known = signature(get_loss(self.name).function).parameters
        for option in self.options:
            if option not in known:
                raise ConfigError(f"{self.name} has no {option}: remove it")
        self(torch.zeros(1, 2), torch.zeros(1, 2))  # a value out of range says so now

    @property
    def generator(self) -> Generator | None:
        """Its formulas, if it is an f-divergence: what the fused loss needs."""
        return get_loss(self.name).generator

    @property
    def options(self) -> dict[str, float]:
        """The options that were given."""
        given = {name: getattr(self, name) for name in ("beta", "alpha", "skew")}
        return {name: value for name, value in given.items() if value is not None}

    def __call__(self, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Tensor:
        """Values [...], 0 where masked; logits [..., V], mask [...]."""
        how = {"temperature": self.temperature, "tau_squared": True, "mask": mask, "reduction": "none"}
        function: Callable[..., Tensor] = get_loss(self.name).function
        return function(student, teacher, **how, **self.options)

    def describe(self) -> str:
        """One phrase for a run table."""
        options = "".join(f" {name}={value:g}" for name, value in self.options.items())
        return f"{self.name}{options} temperature={self.temperature:g}"


@dataclass(frozen=True)
class Teaching:
    """Teachers and the loss that they give.

    `loss = (1 - ce_weight) temperature² D(teacher, student) + ce_weight cross-entropy`

    Large vocabularies go through the fused loss, whose memory does not grow with positions times tokens.

    Args:
        teacher: a causal language model, or one for each domain of the batches; frozen by the trainer.
        divergence: D.
        ce_weight: share of the ordinary next-token loss, 0 to 1.
        vocabulary: for teachers with more or fewer tokens than the student: `common` compares both, renormalised, on
            the tokens they share; `pad` gives the smaller one probability 0 on the others.

    Raises:
        ConfigError: `ce_weight` outside 0 to 1.

    Source: Geoffrey Hinton, Oriol Vinyals, Jeff Dean, Distilling the Knowledge in a Neural Network (2015), arXiv
        1503.02531.
    """

    teacher: Any
    divergence: Divergence = Divergence()
    ce_weight: float = 0.0
    vocabulary: Vocabulary = "error"

    def __post_init__(self) -> None:
        if not 0 <= self.ce_weight <= 1:
            raise ConfigError(f"ce_weight must lie between 0 and 1, got {self.ce_weight}")

    @property
    def frozen(self) -> tuple[Any, ...]:
        """The teachers."""
        return tuple(self.teacher) if isinstance(self.teacher, Sequence) else (self.teacher,)

    def loss(self, student: Any, batch: Batch, step: int = 0) -> dict[str, Tensor]:
        """The loss and its parts.

        Returns:
            `loss` (what is minimised) and `weight`, the number of tokens that count; below the size where the fused
            loss pays also `divergence` and, with `ce_weight`, `cross_entropy`, in nats per counted token.
        """
        if not self._fusible(student):
            return self.compare(counted_logits(student, batch), by_domain(self.frozen, batch), batch)
        with torch.no_grad():
            theirs, their_head = counted_states(self.frozen[0], batch if batch.told is None else batch.told)
        mine, my_head = counted_states(student, batch)
        vocabulary: Any = self.vocabulary
        loss = fused_divergence(
            mine,
            my_head,
            theirs,
            their_head,
            batch.targets,
            divergence=self.divergence.name,
            temperature=self.divergence.temperature,
            tau_squared=True,
            ce_weight=self.ce_weight,
            weight=batch.weights,
            vocabulary=vocabulary,
            **self.divergence.options,  # type: ignore[arg-type]  # numbers, which none of the named options takes
        )
        return {"loss": loss, "weight": batch.mask.sum()}

    def _fusible(self, student: Any) -> bool:
        """Whether the fused loss can say the same, and pays."""
        models = (bare(student), *self.frozen)
        sizes = {model.config.vocab_size for model in models}
        apart = self.ce_weight and len(sizes) > 1  # there the cross-entropy is over more tokens than the divergence
        pays = max(sizes) >= FUSED_FROM and not apart and len(models) == 2
        return pays and self.divergence.generator is not None and all(map(has_plain_head, models))

    def compare(self, student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        """As `loss`, from the logits [M, V] of both on the labels that count."""
        each = self.divergence(*self.align(student, teacher))
        parts = {"divergence": (each * batch.weights).sum() / max(1, len(each))}
        loss = parts["divergence"]
        if self.ce_weight:
            parts["cross_entropy"] = cross_entropy(student, batch)
            loss = (1 - self.ce_weight) * loss + self.ce_weight * parts["cross_entropy"]
        return {"loss": loss, **parts, "weight": batch.mask.sum()}

    def align(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Bring logits [..., V_student] and [..., V_teacher] to one vocabulary."""
        sizes = student.shape[-1], teacher.shape[-1]
        if sizes[0] == sizes[1]:
            return student, teacher
        if self.vocabulary == "pad":
            padded = [
                F.pad(logits, (0, max(sizes) - logits.shape[-1]), value=-torch.inf) for logits in (student, teacher)
            ]
            return padded[0], padded[1]
        return student[..., : min(sizes)], teacher[..., : min(sizes)]

    def describe(self) -> str:
        """One phrase for a run table."""
        mix = f" ce_weight={self.ce_weight:g}" if self.ce_weight else ""
        vocabulary = "" if self.vocabulary == "error" else f" vocabulary={self.vocabulary}"
        return f"distil {self.divergence.describe()}{mix}{vocabulary}"


def require_vocabulary(teaching: Teaching, teacher: Any, student: Any, probe: Tensor, largest: int) -> None:
    """Check that teacher and student can be compared under the choice made for their vocabularies.

    Args:
        teaching: the divergence and the choice.
        teacher, student: the two models.
        probe: some tokens, int64 [n, T], to measure the teacher's mass on the shared ones.
        largest: largest token id of the whole text.

    Raises:
        TrainingError: sizes differ and no choice was made; `pad` with a divergence that would be infinite; the text
            holds a token that one of the two does not have.
    """
    theirs, mine = teacher.config.vocab_size, student.config.vocab_size
    common = min(theirs, mine)
    if largest >= common:
        raise TrainingError(
            f"the text holds token {largest}, but only {spaced(common)} tokens are known to both models"
        )
    if theirs == mine:
        return
    if teaching.vocabulary == "error":
        with torch.no_grad():
            logits = teacher(input_ids=probe.to(teacher.device), use_cache=False).logits.float()
        mass = logits.softmax(-1)[..., :common].sum(-1).mean().item()
        smaller, kept = ("student", f" (the teacher's mass there: {mass:.5f})") if mine < theirs else ("teacher", "")
        raise TrainingError(
            f"the teacher has {spaced(theirs)} tokens, the student {spaced(mine)}. "
            f"Choose what to do with the {spaced(abs(theirs - mine))} extra ones:\n"
            f"  vocabulary: common   compare on the shared {spaced(common)}{kept}\n"
            f"  vocabulary: pad      give the {smaller} −∞ on them"
        )
    missing = "reverse_kl" if mine > theirs else "forward_kl"
    name, beta = teaching.divergence.name, teaching.divergence.beta
    effective = {0: "forward_kl", 1: "reverse_kl"}.get(beta, name) if beta is not None else name  # type: ignore[call-overload]
    if teaching.vocabulary == "pad" and effective == missing:
        smaller = "teacher" if mine > theirs else "student"
        raise TrainingError(
            f"{missing} is infinite where the {smaller} has −∞ (vocabulary: pad). "
            "Use vocabulary: common, or the divergence generalized_jsd"
        )


def spaced(count: int) -> str:
    """A count with its thousands apart.

    Example:
        >>> spaced(152064)
        '152 064'
    """
    return f"{count:,}".replace(",", " ")
