"""What a training of a language model is made of: batches, a source that gives them, a signal that judges them.

A source decides where the student's inputs come from (a text, prompts with answers, its own rollouts), a signal what is
said about them (the next token, a teacher's distribution, a reward). Every method of this room is a choice of the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


class Batch(NamedTuple):
    """Sequences to learn from. Every tensor has the same first dimension, so that micro-batches are slices.

    Args:
        tokens: ids, int64 [B, T]; whatever stands where nothing is `present`.
        counted: the tokens that the loss is about, bool [B, T]: it predicts them from those before. Never the first.
        present: tokens that are there, bool [B, T]; the others are padding.
        weight: how much each sequence counts, float32 [B].
        domain: which teacher a sequence belongs to, int64 [B].
        told: what the teacher reads instead, if it is told more or otherwise; it counts the same tokens, in the same
            order.
        position: places of the tokens in their texts, int64 [B, T], where rows hold several that do not see each other.
        text: windows whose next tokens are learned beside (`Beside`).
    """

    tokens: Tensor
    counted: Tensor
    present: Tensor
    weight: Tensor
    domain: Tensor
    told: Batch | None = None
    position: Tensor | None = None
    text: Batch | None = None

    @classmethod
    def of(cls, tokens: Tensor, counted: Tensor | None = None, present: Tensor | None = None, **other: Any) -> Batch:
        """Fill in what is usual: everything present, all but the first token counted, equal weights, one teacher."""
        present = torch.ones_like(tokens, dtype=torch.bool) if present is None else present
        counted = present.clone() if counted is None else counted & present
        counted[:, 0] = False
        usual = {"weight": torch.ones(len(tokens)), "domain": torch.zeros(len(tokens), dtype=torch.int64)}
        return cls(tokens, counted, present, **(usual | other))

    def rows(self, chosen: Tensor) -> Batch:
        """Some of the sequences, by their places [n]."""
        parts = {name: one for name, one in self._asdict().items() if one is not None}
        picked: dict[str, Any] = {
            name: one.rows(chosen) if isinstance(one, Batch) else one[chosen] for name, one in parts.items()
        }
        return self._replace(**picked)

    @property
    def inputs(self) -> dict[str, Any]:
        """What a model reads, [B, T - 1]: all tokens but the last; a mask only where there is padding."""
        read: dict[str, Any] = {"input_ids": self.tokens[:, :-1], "use_cache": False}
        if self.position is not None:  # texts are told apart by positions that begin again
            return read | {"position_ids": self.position[:, :-1]}
        return read if bool(self.present.all()) else read | {"attention_mask": self.present[:, :-1].long()}

    @property
    def labels(self) -> Tensor:
        """What the inputs predict, int64 [B, T - 1]."""
        return self.tokens[:, 1:]

    @property
    def mask(self) -> Tensor:
        """Which labels count, bool [B, T - 1]."""
        return self.counted[:, 1:]

    @property
    def targets(self) -> Tensor:
        """The labels that count, int64 [M]."""
        return self.labels[self.mask]

    @property
    def weights(self) -> Tensor:
        """The weight of its sequence for every label that counts, float32 [M]."""
        return self.weight[:, None].expand(self.mask.shape)[self.mask]


class Source(Protocol):
    """Where batches come from: `source(step)` depends on the step, the seed and the student's weights at that step."""

    tokens: int
    """Tokens of a data set that is read again and again; 0 where every batch is new."""

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        ...


class Signal(Protocol):
    """What is said about a batch."""

    @property
    def frozen(self) -> Sequence[nn.Module]:
        """Teachers and references: in evaluation mode, never changed."""
        ...

    def loss(self, student: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Return `loss` (a mean over counted tokens), `weight` (their number) and whatever is worth recording."""
        ...

    def describe(self) -> str:
        """One phrase that tells two methods apart in a run table."""
        ...


class NextToken:
    """The text itself: cross-entropy of the next token, `-1/n sum w log q(token)`."""

    frozen: Sequence[nn.Module] = ()

    def loss(self, student: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        """See `Signal`; nats per counted token."""
        return {"loss": cross_entropy(counted_logits(student, batch), batch), "weight": batch.mask.sum()}

    def describe(self) -> str:
        """See `Signal`."""
        return ""


class Beside:
    """A source with windows of a text beside every batch: `loss + weight cross-entropy of the text`.

    Args:
        source: of the batches.
        text: of the windows.
        weight: of the text's cross-entropy, a mean over its tokens.

    Source: Yuxian Gu et al., MiniLLM: Knowledge Distillation of Large Language Models (2023), arXiv 2306.08543: the
        loss on pre-training text, L_PT.
    """

    def __init__(self, source: Source, text: Source, weight: float) -> None:
        self.source, self.text, self.weight, self.tokens = source, text, weight, source.tokens

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step; the text is weighed so that micro-batches add up to the weight."""
        batch, text = self.source(step), self.text(step)
        share = self.weight * batch.mask.sum() / text.mask.sum()
        return batch._replace(text=text._replace(weight=share * text.weight))


def joint_loss(signal: Signal, student: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
    """What a signal says about a batch and, where a text is beside it, what that adds to the loss, as `text`."""
    parts, beside = signal.loss(student, batch._replace(text=None), step), batch.text
    if beside is None:
        return parts
    mean = cross_entropy(counted_logits(student, beside), beside)
    added = mean * beside.mask.sum() / batch.mask.sum().clamp(min=1)
    return {**parts, "loss": parts["loss"] + added, "text": added}


def counted_logits(model: Any, batch: Batch) -> Tensor:
    """What a model says about the labels that count, [M, V]."""
    logits: Tensor = model(**batch.inputs).logits
    return logits[batch.mask]


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of the labels that count, each with the weight of its sequence; 0 if none counts.

    Args:
        logits: [M, V].
        batch: the labels.
    """
    each = F.cross_entropy(logits.float(), batch.targets, reduction="none")
    return (each * batch.weights).sum() / max(1, len(each))
