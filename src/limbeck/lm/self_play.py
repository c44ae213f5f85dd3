"""Self-play: no teacher; the student learns to tell the data's answers from those it gave when it started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.errors import TrainingError
from limbeck.lm.conversations import Conversations, Example, collate
from limbeck.lm.rollouts import Replay, Sampler
from limbeck.lm.slots import Batch


class Duels(Conversations):
    """Pairs of answers to one prompt: rows 0, 2, ... hold the data's, rows 1, 3, ... those of a sampler, written once.

    Args:
        examples: answered prompts.
        batch: pairs a step.
        seed: of the order and of the samples.
        sampler: the opponent.
        folder: of `Replay`.
    """

    def __init__(
        self, examples: Sequence[Example], batch: int, seed: int, sampler: Sampler, folder: Path | None = None
    ) -> None:
        super().__init__(examples, batch, seed)
        own = Replay(examples, batch, seed, [sampler], folder=folder).examples
        self.opponent = {one.prompt: one.answer for one in own}

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step, [2 batch, T]."""
        pairs = [(one, reply) for one in self.at(step) for reply in (one.answer, self.opponent[one.prompt])]
        return collate([one for one, _ in pairs], [reply for _, reply in pairs])


@dataclass(frozen=True)
class SelfPlay:
    """The signal of self-play fine-tuning, over whole answers.

    `loss = mean log(1 + exp(-weight (r(y_data) - r(y_own))))`, `r(y) = log q(y) - log q_start(y)`

    Args:
        start: the student as it starts; frozen.
        weight: of the log-ratios; 0.1.

    Raises:
        TrainingError: a micro-batch that separates a pair.

    Source: Zixiang Chen et al., Self-Play Fine-Tuning Converts Weak Language Models to Strong Language Models (2024),
        arXiv 2401.01335; its weight is reconstructed from a survey.
    """

    start: Any
    weight: float = 0.1

    @property
    def frozen(self) -> tuple[Any, ...]:
        """The opponent."""
        return (self.start,)

    def loss(self, student: Any, batch: Batch, step: int = 0) -> dict[str, Tensor]:
        """Return the loss, the share of pairs that are told apart (`accuracy`) and their number as `weight`."""
        if len(batch.tokens) % 2:
            raise TrainingError(f"self-play needs whole pairs in a micro-batch, got {len(batch.tokens)} answers")
        with torch.no_grad():
            before = _log_probability(self.start, batch)
        ratio = _log_probability(student, batch) - before
        margin = self.weight * (ratio[::2] - ratio[1::2])
        pairs = torch.tensor(len(margin))
        return {"loss": F.softplus(-margin).mean(), "accuracy": (margin > 0).float().mean(), "weight": pairs}

    def describe(self) -> str:
        """One phrase for a run table."""
        return f"self-play weight={self.weight:g}"


def _log_probability(model: Any, batch: Batch) -> Tensor:
    """Of whole answers, [B]."""
    logits = model(**batch.inputs).logits.float()
    each = -F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), reduction="none").view(batch.labels.shape)
    return (each * batch.mask).sum(1)
