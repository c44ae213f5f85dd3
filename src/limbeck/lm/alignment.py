"""Comparing models of different tokenizers: spans of the text that both end at the same byte, and their distributions.

The teacher reads the student's text in its own tokens. Where a token of each ends at the same byte, a span ends; the
tokens of a span become one distribution, and the distributions of the two vocabularies are compared sorted (ULD), or
by name on the tokens that both have and sorted on the others (hybrid).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch
from accelerate.utils import send_to_device
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import get_loss
from limbeck.errors import ConfigError, TrainingError
from limbeck.lm.conversations import Example, collate
from limbeck.lm.slots import Batch, counted_logits, cross_entropy
from limbeck.lm.tokenizers import END, separator_token, token_bytes

Merge = Literal["observed", "bayesian"]
Span = list[tuple[int, int]]  # of its tokens, where the logits stand and the id


def align_spans(student: ArrayLike, teacher: ArrayLike) -> list[tuple[range, range]]:
    """Spans of tokens that end at the same byte; what is left over at the end is one last span.

    Args:
        student, teacher: the byte at which every token ends, ascending.

    Returns:
        Places of the student's and of the teacher's tokens, for each span.

    Example:
        >>> align_spans([2, 5, 6, 9], [5, 7, 9])
        [(range(0, 2), range(0, 1)), (range(2, 4), range(1, 3))]
    """
    shared, cuts = np.intersect1d(student, teacher), []
    for ends in (np.asarray(student), np.asarray(teacher)):
        cuts.append([0, *(np.searchsorted(ends, shared) + 1).tolist(), len(ends)])
    spans = ([range(*pair) for pair in pairwise(one)] for one in cuts)
    return [(mine, theirs) for mine, theirs in zip(*spans, strict=True) if mine or theirs]


def merge_spans(log_p: Tensor, tokens: Tensor, sizes: Sequence[int], merge: Merge = "observed") -> Tensor:
    """Log of one distribution for each span, not normalised; [G, V].

    `observed`: what the first position says, times the probabilities of the tokens that came after it. `bayesian`: what
    the last position says, times the probabilities of the tokens before.

    Args:
        log_p: log-probabilities of the position before each token, [n, V].
        tokens: the tokens of all spans one after the other, [n].
        sizes: tokens of each span; at least one.
        merge: which.
    """
    counts = torch.tensor(sizes, device=tokens.device, dtype=torch.int64)
    kept = counts.cumsum(0) - (counts if merge == "observed" else 1)
    others = log_p.gather(1, tokens[:, None])[:, 0].index_fill(0, kept, 0.0)
    owner = torch.arange(len(counts), device=tokens.device).repeat_interleave(counts)
    return log_p[kept] + log_p.new_zeros(len(counts)).index_add(0, owner, others)[:, None]


def sorted_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """L1 distance between probabilities [..., V] and [..., W] sorted from the largest, the shorter filled up with 0.

    Example:
        >>> sorted_distance(torch.tensor([0.2, 0.8]), torch.tensor([0.7, 0.1, 0.2]))
        tensor(0.2000)

    Source: Nicolas Boizard, Kevin El Haddad, Céline Hudelot, Pierre Colombo, Towards Cross-Tokenizer Distillation: the
        Universal Logit Distillation Loss for LLMs (2024), arXiv 2402.12030.
    """
    width = max(student.shape[-1], teacher.shape[-1])
    both = [F.pad(one, (0, width - one.shape[-1])).sort(dim=-1, descending=True).values for one in (student, teacher)]
    return (both[0] - both[1]).abs().sum(-1)


def hybrid_distance(
    student: Tensor, teacher: Tensor, shared: Mapping[int, int], beta: float = 0.5
) -> tuple[Tensor, ...]:
    """Generalised Jensen-Shannon divergence on the tokens that both have, sorted distance on the others.

    `w matched + (1 - w) unmatched`, w the share of the teacher's vocabulary that the student has too. Matched
    probabilities are not renormalised: their divergence is never negative for 0 < beta < 1, but can be for 0 and 1.

    Args:
        student, teacher: log-probabilities [G, V] and [G, W], clamped at 1e-8.
        shared: the student's id of a teacher's token.
        beta: weight of the teacher in the mixture.

    Returns:
        Total, matched and unmatched [G].
    """
    sides, jsd = ((student, list(shared.values())), (teacher, list(shared))), get_loss("generalized_jsd").generator
    assert jsd is not None
    q, p = (one[:, ids].clamp(min=math.log(1e-8)) for one, ids in sides)
    places = [torch.tensor(ids, dtype=torch.int64, device=one.device) for one, ids in sides]
    others = (one.exp().index_fill(1, place, 0) for (one, _), place in zip(sides, places, strict=True))
    divergence, distance = jsd.value(p, q, beta=beta), sorted_distance(*others)
    share = len(shared) / teacher.shape[1]
    return share * divergence + (1 - share) * distance, divergence, distance


@dataclass(frozen=True)
class CrossTokenizer:
    """The signal of a teacher with another tokenizer.

    `loss = (1 - ce_weight) mean over spans of the distance + ce_weight cross-entropy`. A span counts if all tokens of
    the student in it count and all of the teacher's have a token before them.

    Args:
        teacher: a causal language model; frozen by the trainer.
        teacher_tokenizer, student_tokenizer: fast tokenizers that keep the text as it is.
        distance: `sorted` (ULD), or `hybrid` where the vocabularies have tokens in common.
        merge: how the tokens of a span become one distribution.
        beta: of the divergence in `hybrid`, between 0 and 1.
        temperature: divides both logits.
        ce_weight: share of the ordinary next-token loss, 0 to 1.

    Raises:
        ConfigError: a value out of range.

    Source: as for `sorted_distance`; the alignment by bytes and the hybrid are those of the GOLD trainer of the TRL
        library.
    """

    teacher: Any
    teacher_tokenizer: Any
    student_tokenizer: Any
    distance: Literal["sorted", "hybrid"] = "hybrid"
    merge: Merge = "observed"
    beta: float = 0.5
    temperature: float = 1.0
    ce_weight: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.beta < 1 and self.temperature > 0 and 0 <= self.ce_weight <= 1):
            raise ConfigError(
                f"needed are 0 < beta < 1, temperature > 0 and 0 <= ce_weight <= 1; given are beta {self.beta:g}, "
                f"temperature {self.temperature:g} and ce_weight {self.ce_weight:g}"
            )

    @property
    def frozen(self) -> tuple[Any, ...]:
        """The teacher."""
        return (self.teacher,)

    @cached_property
    def _bytes(self) -> tuple[dict[int, bytes], dict[int, bytes]]:
        return token_bytes(self.student_tokenizer), token_bytes(self.teacher_tokenizer)

    @cached_property
    def shared(self) -> dict[int, int]:
        """The student's id of every teacher's token that writes the same bytes."""
        mine, theirs = ({text: number for number, text in table.items() if text} for table in self._bytes)
        return {number: mine[text] for text, number in theirs.items() if text in mine}

    def read(self, tokens: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
        """The teacher's tokens for the text of the student's, and the bytes at which tokens of both end.

        Raises:
            TrainingError: the teacher's tokenizer changes the text.
        """
        table, written = self._bytes[1], [self._bytes[0][token] for token in tokens]
        # A character that is cut at an end of the window, or that a student invents, is one "?" a byte.
        text = re.sub("[\udc80-\udcff]", "?", b"".join(written).decode("utf-8", "surrogateescape"))
        ids, lengths = list[int](), list[int]()
        for part in text.split(END.decode()):
            found = self.teacher_tokenizer(part, add_special_tokens=False)["input_ids"] if part else []
            sizes, again = [len(table[one]) for one in found], b"".join(table[one] for one in found)
            if again == b" " + part.encode():  # some tokenizers put a space before a text
                sizes[0] -= 1
            elif again != part.encode():
                raise TrainingError(f"the teacher's tokenizer changes the text: {part[:40]!r} becomes {again[:40]!r}")
            ids, lengths = [*ids, *found, separator_token(self.teacher_tokenizer)], [*lengths, *sizes, 1]
        return ids[:-1], np.cumsum([len(one) for one in written]).tolist(), np.cumsum(lengths[:-1]).tolist()

    def loss(self, student: Any, batch: Batch, step: int = 0) -> dict[str, Tensor]:
        """Return `loss` and `weight`, the number of spans that it is a mean over.

        Raises:
            TrainingError: as `read`; the batch tells the teacher something else.
        """
        if batch.told is not None or batch.position is not None:
            raise TrainingError("a teacher with another tokenizer reads what the student reads: not told, not packed")
        begin = [one for one in self.teacher_tokenizer("")["input_ids"] if one == self.teacher_tokenizer.bos_token_id]
        label = (batch.mask.flatten().cumsum(0) - 1).view(batch.mask.shape).tolist()  # among those that count
        mine, theirs, weights, told, before = list[Span](), list[Span](), list[float](), list[Example](), len(begin) - 1
        for row, (tokens, counted, there) in enumerate(zip(*(one.tolist() for one in batch[:3]), strict=True)):
            places = [one for one, token in enumerate(tokens) if there[one] and self._bytes[0].get(token)]
            ids, my_ends, their_ends = self.read([tokens[one] for one in places])
            for own, other in align_spans(my_ends, their_ends):
                if own and other and all(counted[places[one]] for one in own) and other.start + len(begin):
                    mine.append([(label[row][places[one] - 1], tokens[places[one]]) for one in own])
                    theirs.append([(before + one, ids[one]) for one in other])
                    weights.append(float(batch.weight[row]))
            ids = [*begin, *ids]
            told.append(Example(tuple(ids[:1]), tuple(ids[1:])))
            before += len(ids) - 1
        read = send_to_device(collate(told), batch.tokens.device)
        logits = counted_logits(student, batch)
        log_q = self._merged(logits, mine)
        with torch.no_grad():
            log_p = self._merged(counted_logits(self.teacher, read), theirs)
        if self.distance == "sorted":
            each = sorted_distance(log_q.exp(), log_p.exp())
        else:
            each, _, _ = hybrid_distance(log_q, log_p, self.shared, self.beta)
        loss = (1 - self.ce_weight) * (each * each.new_tensor(weights)).sum() / max(1, len(each))
        if self.ce_weight:
            loss = loss + self.ce_weight * cross_entropy(logits, batch)
        return {"loss": loss, "weight": torch.tensor(len(each), device=loss.device)}

    def _merged(self, logits: Tensor, spans: list[Span]) -> Tensor:
        pairs = torch.tensor([one for span in spans for one in span], dtype=torch.int64, device=logits.device)
        rows, tokens = pairs.view(-1, 2).T
        picked = logits[rows].to(torch.promote_types(logits.dtype, torch.float32)) / self.temperature
        return merge_spans(picked.log_softmax(-1), tokens, [len(span) for span in spans], self.merge)

    def describe(self) -> str:
        """One phrase for a run table."""
        how = f"beta={self.beta:g} temperature={self.temperature:g} ce_weight={self.ce_weight:g}"
        return f"distil across tokenizers {self.distance} {self.merge} {how}"
