"""Methods by name: each is a choice of who writes the answers and what is said about them.

| name | answers | what is said | source |
|---|---|---|---|
| `kd` | data | divergence from the teacher | Hinton et al. 2015, arXiv 1503.02531 |
| `seqkd` | teacher, once | next token | Kim and Rush 2016, arXiv 1606.07947 |
| `gkd` | student in half of the steps, else data | generalised JSD, beta 1/2 | Agarwal et al. 2023, arXiv 2306.13649 |
| `distillm` | student, half of them again later | skew forward KL, 0.1 | Ko et al. 2024, arXiv 2402.03898 |
| `minillm` | student, each token with 0.2 by the teacher | reverse KL of sequences | Gu et al. 2023, arXiv 2306.08543 |
| `opd` | student | reverse KL, exact in each token | Song and Zheng 2026, arXiv 2604.00626 |
| `g-opd` | student | the same beyond the teacher, scale 1.25 | Yang et al. 2026, arXiv 2602.12125 |
| `spin` | data against the student as it starts | self-play, weight 0.1 | Chen et al. 2024, arXiv 2401.01335 |
| `opsd` | student | forward KL from itself, told more (`context`) | Song and Zheng 2026 |

`distillm` and `minillm` are reconstructed from the survey: the first takes back a fixed share of answers instead of
adapting it, the second leaves out the loss on pre-training text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from limbeck.errors import ConfigError, nearest
from limbeck.lm.conversations import Conversations, Example
from limbeck.lm.estimators import Estimator
from limbeck.lm.jobs import Vocabulary
from limbeck.lm.models import load_model
from limbeck.lm.on_policy import OnPolicy
from limbeck.lm.rollouts import Kept, Mixture, Replay, Rollouts, TransformersSampler
from limbeck.lm.self_play import Duels, SelfPlay
from limbeck.lm.slots import NextToken, Signal, Source
from limbeck.lm.teaching import Divergence, Teaching
from limbeck.settings import Count, FilePath, Number, Settings

Answers = Literal["data", "student", "teacher", "duel"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "kd": {},
    "seqkd": {"answers": "teacher"},
    "gkd": {"answers": "student", "share": 0.5, "divergence": {"name": "generalized_jsd", "beta": 0.5}},
    "distillm": {"answers": "student", "replay": 0.5, "divergence": {"name": "skew_forward_kl", "skew": 0.1}},
    "minillm": {"answers": "student", "mixed": 0.2, "estimator": "minillm", "discount": 1.0, "normalise": True},
    "opd": {"answers": "student", "estimator": "full"},
    "g-opd": {"answers": "student", "estimator": "full", "scale": 1.25},
    "spin": {"answers": "duel"},
    "opsd": {"answers": "student", "divergence": {"name": "forward_kl"}},
}


class Method(Settings):
    """The group `method`; a name alone stands for the whole group, and what is given beside it replaces its choices.

    Args:
        name: which one.
        answers: who writes them: `data`, `student` (anew in every step), `teacher` (once), `duel` (data and student).
        share: part of the steps with the student's answers, at the start; the others read the data.
        share_end: the same at the end, reached in a straight line.
        replay: part of the student's steps in which answers of an earlier step are read again.
        mixed: part of the student's tokens that the teacher writes.
        divergence: default of the recipe's.
        estimator: of the gradient of the sequence divergence; None compares token by token.
        scale, reference, max_log_ratio: of `OnPolicy`; the reference is by default the student as it starts.
        discount, normalise: of the future, for estimators that look there.
        weight: of the log-ratio in self-play.
        length: tokens of an answer. temperature, top_k, top_p: of sampling.
    """

    name: str = "kd"
    answers: Answers = "data"
    share: Number = Field(default=1.0, ge=0, le=1)
    share_end: Number | None = Field(default=None, ge=0, le=1)
    replay: Number = Field(default=0.0, ge=0, lt=1)
    mixed: Number = Field(default=0.0, ge=0, lt=1)
    divergence: Mapping[str, Any] = {"name": "forward_kl"}
    estimator: Estimator | None = None
    scale: Number = 1.0
    reference: FilePath | None = None
    max_log_ratio: Number | None = Field(default=None, gt=0)
    discount: Number = Field(default=0.0, ge=0, le=1)
    normalise: bool = False
    weight: Number = Field(default=0.1, gt=0)
    length: Count = Field(default=64, gt=0)
    temperature: Number = Field(default=1.0, gt=0)
    top_k: Count = Field(default=0, ge=0)
    top_p: Number = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        given = {"name": value} if isinstance(value, str) else dict(value)
        name = str(given.get("name", "kd"))
        if name not in PRESETS:
            raise ValueError(f'no method is called "{name}"{nearest(name, PRESETS)}')
        return {**PRESETS[name], **given}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scale != 1 and self.estimator is None:
            raise ValueError("scale needs an estimator: only on-policy methods go beyond the teacher")
        if self.answers != "student" and (self.estimator or self.replay or self.mixed or self.share < 1):
            raise ValueError("estimator, replay, mixed and share are about answers: student")
        return self

    def signal(
        self,
        teachers: Sequence[Any],
        start: Callable[[], Any],
        divergence: Divergence | None,
        ce_weight: float,
        vocabulary: Vocabulary,
    ) -> Signal:
        """What is said about a batch.

        Args:
            teachers: one for each domain.
            start: gives the student as it starts.
            divergence: None for the method's own.
            ce_weight, vocabulary: of `Teaching`.

        Raises:
            ConfigError: an option that this method has no use for.
        """
        compared = self.answers in ("data", "student") and self.estimator is None
        if not compared and (divergence is not None or ce_weight):
            raise ConfigError(f"method {self.name} has its own loss: remove divergence and ce_weight")
        if self.answers == "teacher":
            return NextToken()
        if self.answers == "duel":
            return SelfPlay(start(), self.weight)
        if self.estimator is None:
            teacher = teachers[0] if len(teachers) == 1 else tuple(teachers)
            return Teaching(teacher, divergence or Divergence(**self.divergence), ce_weight, vocabulary)
        reference = None
        if self.scale != 1:
            reference = load_model(self.reference) if self.reference else start()
        return OnPolicy(
            teachers,
            reference,
            self.scale,
            self.estimator,
            self.discount,
            self.normalise,
            self.max_log_ratio,
            self.mixed,
        )

    def source(
        self,
        examples: Sequence[Example],
        batch: int,
        seed: int,
        steps: int,
        *,
        student: Any,
        start: Callable[[], Any],
        teachers: Sequence[Any],
        end: int,
        kept: Path,
    ) -> Source:
        """Where batches come from.

        Args:
            examples: prompts, with answers where these are read.
            batch: prompts a step.
            seed: of order and samples.
            steps: of the whole training, for `share_end`.
            student, start, teachers: who may write.
            end: id that ends an answer.
            kept: folder of the answers that are read again.

        Raises:
            ConfigError: prompts without the answers that the method reads.
        """
        how: dict[str, Any] = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        if self.answers == "data":
            return Conversations(examples, batch, seed)
        if self.answers in ("teacher", "duel"):
            needed = np.random.default_rng([seed, 6]).permutation(len(examples))[: steps * batch]
            examples = [examples[place] for place in sorted(needed)]
        if self.answers == "teacher":
            writers = [TransformersSampler(teacher, self.length, end, **how) for teacher in teachers]
            return Replay(examples, batch, seed, writers, folder=kept)
        if self.answers == "duel":
            return Duels(examples, batch, seed, TransformersSampler(start(), self.length, end, **how), kept)
        own = TransformersSampler(student, self.length, end, teacher=teachers[0], share=self.mixed, **how)
        rollouts = Rollouts(examples, batch, seed, own)
        written: Source = Kept(rollouts, self.replay, seed, kept) if self.replay else rollouts
        last = self.share if self.share_end is None else self.share_end
        if self.share == last == 1:
            return written
        share = self.share
        return Mixture(
            written, Conversations(examples, batch, seed), lambda step: share + (last - share) * step / steps, seed
        )
