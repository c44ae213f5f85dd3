"""Methods by name: each is a choice of who writes the answers and what is said about them.

| name | answers | what is said | source |
|---|---|---|---|
| `kd` | data | divergence from the teacher | Hinton et al. 2015, arXiv 1503.02531 |
| `sft` | data | next token | |
| `seqkd` | teacher, once | next token | Kim and Rush 2016, arXiv 1606.07947 |
| `gkd` | student in half of the steps, else data | generalised JSD, beta 1/2 | Agarwal et al. 2023, arXiv 2306.13649 |
| `distillm` | student, half of them again later | skew forward KL, 0.1 | Ko et al. 2024, arXiv 2402.03898 |
| `minillm` | student, each token with 0.2 by the teacher | reverse KL of sequences | Gu et al. 2023, arXiv 2306.08543 |
| `opd` | student | reverse KL, exact in each token | Song and Zheng 2026, arXiv 2604.00626 |
| `g-opd` | student | the same beyond the teacher, scale 1.25 | Yang et al. 2026, arXiv 2602.12125 |
| `spin` | data against the student as it starts | self-play, weight 0.1 | Chen et al. 2024, arXiv 2401.01335 |
| `paced` | data, then student, weighed by pass rates | forward, then reverse KL | Xu et al. 2026, arXiv 2603.11178 |
| `opsd` | student | forward KL from itself, told more (`context`) | Song and Zheng 2026 |

`distillm` and `minillm` are reconstructed from the survey. The first takes back a fixed share of answers; the share of
the student's grows with the validation loss where `{share: 0, adaptive: 0.1}` says so. The second has its loss on
pre-training text where the recipe gives a `text`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from limbeck.distill import beta_kernel
from limbeck.errors import ConfigError
from limbeck.lm.alignment import CrossTokenizer
from limbeck.lm.conversations import Conversations, Example, Packed
from limbeck.lm.estimators import Estimator
from limbeck.lm.jobs import Evaluations, Vocabulary
from limbeck.lm.models import load_model
from limbeck.lm.on_policy import OnPolicy
from limbeck.lm.pass_rates import PassRates, StagedSignal, StagedSource, Weighted, measure_pass_rates, same_final_answer
from limbeck.lm.rollouts import Kept, Mixture, Replay, Rollouts, TransformersSampler
from limbeck.lm.self_play import Duels, SelfPlay
from limbeck.lm.slots import NextToken, Signal, Source
from limbeck.lm.teaching import Divergence, Teaching
from limbeck.lm.tokenizers import separator_token
from limbeck.settings import Count, FilePath, Number, Settings, filled

Answers = Literal["data", "student", "teacher", "duel"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "kd": {},
    "sft": {"says": "answers"},
    "seqkd": {"answers": "teacher", "says": "answers"},
    "gkd": {"answers": "student", "share": 0.5, "divergence": {"name": "generalized_jsd", "beta": 0.5}},
    "distillm": {"answers": "student", "replay": 0.5, "divergence": {"name": "skew_forward_kl", "skew": 0.1}},
    "minillm": {"answers": "student", "mixed": 0.2, "estimator": "minillm", "discount": 1.0, "normalise": True},
    "opd": {"answers": "student", "estimator": "full"},
    "g-opd": {"answers": "student", "estimator": "full", "scale": 1.25},
    "spin": {"answers": "duel"},
    "paced": {"rollouts": 8},
    "opsd": {"answers": "student", "divergence": {"name": "forward_kl"}},
}


@dataclass(frozen=True)
class Cast:
    """Who takes part in a distillation.

    Args:
        tokenizer: of the student; `teacher_tokenizer` of the teachers.
        teachers: one for each domain; the student as it starts where there is no other.
        start: gives the student as it starts.
    """

    tokenizer: Any
    teacher_tokenizer: Any
    teachers: Sequence[Any]
    start: Callable[[], Any]


class Method(Settings):
    """The group `method`; a name alone stands for the whole group, and what is given beside it replaces its choices.

    Args:
        name: which one.
        answers: who writes them: `data`, `student` (anew in every step), `teacher` (once), `duel` (data and student).
        says: `teacher`: what it makes of them; `answers`: nothing but the next token.
        pack: read several prompts with their answers in one row of the context.
        share: part of the steps with the student's answers, at the start; the others read the data.
        share_end: the same at the end, reached in a straight line.
        adaptive: what is added to it whenever the validation loss has risen by `tolerance` nats per token above where
            it was at the last rise, at first above the first evaluation (DistiLLM; 0.1 and 0.1 there).
        replay: part of the student's steps in which answers of an earlier step are read again.
        mixed: part of the student's tokens that the teacher writes.
        divergence: default of the recipe's.
        estimator: of the gradient of the sequence divergence; None compares token by token.
        scale, reference, max_log_ratio: of `OnPolicy`; the reference is by default the student as it starts.
        discount, normalise: of the future, for estimators that look there.
        weight: of the log-ratio in self-play.
        rollouts: of every problem to measure how often the student solves it; 0 weighs all alike.
        second: with rollouts, part of the steps with the student's answers and the reverse KL, at the end.
        length: tokens of an answer. temperature, top_k, top_p: of sampling.
    """

    name: str = "kd"
    answers: Answers = "data"
    says: Literal["teacher", "answers"] = "teacher"
    pack: bool = False
    share: Number = Field(default=1.0, ge=0, le=1)
    share_end: Number | None = Field(default=None, ge=0, le=1)
    adaptive: Number = Field(default=0.0, ge=0, le=1)
    tolerance: Number = Field(default=0.1, ge=0)
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
    rollouts: Count = Field(default=0, ge=0)
    second: Number = Field(default=0.5, ge=0, le=1)
    length: Count = Field(default=64, gt=0)
    temperature: Number = Field(default=1.0, gt=0)
    top_k: Count = Field(default=0, ge=0)
    top_p: Number = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return filled(value, PRESETS, "kd")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.scale != 1 and self.estimator is None:
            raise ValueError("scale needs an estimator: only on-policy methods go beyond the teacher")
        own = (self.estimator, self.replay, self.mixed, self.share < 1, self.adaptive)
        if self.answers != "student" and any(own):
            raise ValueError("estimator, replay, mixed, share and adaptive are about answers: student")
        if self.pack and (self.answers != "data" or self.rollouts):
            raise ValueError("pack is about answers: data")
        return self

    @property
    def reads(self) -> bool:
        """Whether it reads the data and nothing else."""
        return self.answers == "data" and not self.rollouts

    def signal(
        self, cast: Cast, steps: int, divergence: Divergence | None, ce_weight: float, vocabulary: Vocabulary
    ) -> Signal:
        """What is said about a batch.

        Args:
            cast: who takes part.
            steps: of the whole training.
            divergence: None for the method's own.
            ce_weight, vocabulary: of `Teaching`; `align` compares across tokenizers.

        Raises:
            ConfigError: an option that this method has no use for.
        """
        compared = self.says == "teacher" and self.answers != "duel" and self.estimator is None and not self.rollouts
        if not compared and (divergence is not None or ce_weight):
            raise ConfigError(f"method {self.name} has its own loss: remove divergence and ce_weight")
        if vocabulary == "align" and (not compared or len(cast.teachers) > 1 or divergence):
            raise ConfigError(
                "vocabulary: align compares one teacher token by token with a loss of its own (GOLD): it goes with the "
                "methods kd, gkd, distillm and opsd, without divergence"
            )
        if self.mixed and len(cast.teachers) > 1:
            raise ConfigError(f"mixed: one teacher can write with the student, there are {len(cast.teachers)}")
        if self.answers == "duel":
            return SelfPlay(cast.start(), self.weight)
        if self.says == "answers":
            return NextToken()
        if vocabulary == "align":
            return CrossTokenizer(cast.teachers[0], cast.teacher_tokenizer, cast.tokenizer, ce_weight=ce_weight)
        if self.estimator is not None:
            reference = None
            if self.scale != 1:
                reference = load_model(self.reference) if self.reference else cast.start()
            named = ("scale", "estimator", "discount", "normalise", "max_log_ratio", "mixed")
            return OnPolicy(cast.teachers, reference, **{name: getattr(self, name) for name in named})
        teacher = cast.teachers[0] if len(cast.teachers) == 1 else tuple(cast.teachers)
        teaching = Teaching(teacher, divergence or Divergence(**self.divergence), ce_weight, vocabulary)
        if not self.rollouts:
            return teaching
        return StagedSignal(teaching, replace(teaching, divergence=Divergence("reverse_kl")), self.turn(steps))

    def turn(self, steps: int) -> int:
        """The step at which the second stage begins."""
        return round(steps * (1 - self.second))

    def source(
        self, cast: Cast, examples: Sequence[Example], batch: int, seed: int, steps: int, student: Any, kept: Path,
        context: int, evaluations: Callable[[], Evaluations],
    ) -> Source:  # fmt: skip
        """Where batches come from.

        Args:
            cast: who takes part.
            examples: prompts, with answers where these are read.
            batch: prompts a step.
            seed: of order and samples.
            steps: of the whole training.
            student: who writes.
            kept: folder of what is written once: answers and pass rates.
            context: tokens of a row that is packed.
            evaluations: gives those so far.

        Raises:
            ConfigError: prompts without the answers that the method reads.
        """

        def writer(model: Any, **more: Any) -> TransformersSampler:
            more |= {name: getattr(self, name) for name in ("temperature", "top_k", "top_p")}
            return TransformersSampler(model, self.length, separator_token(cast.tokenizer), **more)

        read = partial(Conversations, batch=batch, seed=seed)
        write = partial(Rollouts, batch=batch, seed=seed)
        if self.answers in ("teacher", "duel"):
            needed = np.random.default_rng([seed, 6]).permutation(len(examples))[: steps * batch]
            examples = [examples[place] for place in sorted(needed)]
        if self.rollouts:
            own = writer(student)

            def weighted(make: Callable[[list[Example]], Any], step: int) -> Source:
                verify = same_final_answer(cast.tokenizer)
                measure = partial(
                    measure_pass_rates, examples, own, verify, rollouts=self.rollouts, seed=seed, step=step
                )
                rates = PassRates.kept(kept / f"pass-rates-{step}.json", measure)
                return Weighted(make, examples, beta_kernel(rates.rates()))

            begin = self.turn(steps)
            first = weighted(read, 0)
            return StagedSource(first, lambda: weighted(partial(write, sampler=own), begin), begin)
        if self.reads:
            return Packed(examples, batch, seed, context) if self.pack else read(examples)
        if self.answers == "teacher":
            return Replay(examples, batch, seed, [writer(one) for one in cast.teachers], folder=kept, told=True)
        if self.answers == "duel":
            return Duels(examples, batch, seed, writer(cast.start()), kept)
        rollouts = write(examples, sampler=writer(student, teacher=cast.teachers[0], share=self.mixed))
        written: Source = Kept(rollouts, self.replay, seed, kept) if self.replay else rollouts
        last = self.share if self.share_end is None else self.share_end
        if self.share == last == 1:
            return written

        def share(step: int) -> float:
            losses = [values["loss_per_token"] for _, values in sorted(evaluations().items())]
            return self.share + (last - self.share) * step / steps + self.adaptive * rises(losses, self.tolerance)

        return Mixture(written, read(examples), share, seed)


def rises(losses: Sequence[float], tolerance: float) -> int:
    """How often a loss has risen by a tolerance above its first value, or above its value at the last rise.

    Example:
        >>> rises([2.0, 1.5, 2.2, 2.25, 2.4], 0.1)
        2

    Source: Jongwoo Ko et al., DistiLLM: Towards Streamlined Distillation for Large Language Models (2024), arXiv
        2402.03898: the adaptive share of student outputs, which starts at 0; reconstructed.
    """
    count, last = 0, next(iter(losses), 0.0)
    for loss in losses:
        if loss > last and loss >= last + tolerance:
            count, last = count + 1, loss
    return count
