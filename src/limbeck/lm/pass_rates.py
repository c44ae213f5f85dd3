"""How often the student solves a problem, and distillation that spends itself on what it solves sometimes.

A few rollouts and a verifier give the pass rate of each problem; problems that always pass or never do are dropped, the
others count by a kernel of their rate, and the rates are measured again when a second stage begins.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.distill import beta_kernel, effective_size, scaled
from limbeck.distill.processes import processes
from limbeck.distill.weights import Scale, Weights
from limbeck.errors import ConfigError
from limbeck.files import write_json
from limbeck.fitting.plain import Plain
from limbeck.lm.conversations import Example
from limbeck.lm.rollouts import Sampler
from limbeck.lm.slots import Batch, Signal, Source
from limbeck.lm.tokenizers import separator_token

Verifier = Callable[[Example, Sequence[int]], bool]
"""Whether an answer to a problem is right; the problem's own answer is the reference."""


def same_tokens(example: Example, answer: Sequence[int]) -> bool:
    """The plainest verifier: the answer is the reference, token by token."""
    return tuple(answer) == example.answer


def final_answer(text: str) -> str:
    r"""What a worked solution comes to: the last `\boxed{}`, what follows `####` or "answer is", or the last line.

    Example:
        >>> final_answer("3 + 4 = 7, so \\boxed{7}."), final_answer("Sum.\n#### 1,234"), final_answer("x\nParis.")
        ('7', '1234', 'Paris')
    """
    marks = r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}", r"####\s*(.+)", r"(?i)answer(?: is|:)\s*(.+)"
    found = next((hits[-1] for mark in marks if (hits := re.findall(mark, text))), None)
    last = found if found is not None else (text.strip().splitlines() or [""])[-1]
    return re.sub(r"(?<=\d),(?=\d{3})", "", last.strip().strip("$").rstrip(".").strip())


def answer_text(tokenizer: Any, answer: Sequence[int]) -> str:
    """The text of an answer without its end token."""
    end = separator_token(tokenizer)
    return str(tokenizer.decode([token for token in answer if token != end], skip_special_tokens=True))


def same_final_answer(tokenizer: Any) -> Verifier:
    """Return a verifier that compares `final_answer` of both texts."""

    def verify(example: Example, answer: Sequence[int]) -> bool:
        mine, right = (final_answer(answer_text(tokenizer, ids)) for ids in (answer, example.answer))
        return mine == right

    return verify


@dataclass(frozen=True)
class PassRates(Plain):
    """What the rollouts of every problem came to.

    Args:
        passes: rollouts that passed, one number for each problem.
        rollouts: of each problem; with 8 a rate is uncertain by up to 0.18.
        step: of the student that wrote them: the older, the less they say.
    """

    passes: tuple[int, ...]
    rollouts: int
    step: int = 0

    def rates(self, shrink: float = 0.0) -> Weights:
        """Return `(passes + shrink) / (rollouts + 2 shrink)`; without shrinkage 0 and 1 occur, and are dropped."""
        return np.asarray((np.array(self.passes) + shrink) / (self.rollouts + 2 * shrink))

    def spread(self) -> Weights:
        """Return estimates of p (1 - p) without bias, `K / (K - 1) p (1 - p)` of the rates measured."""
        return self.rollouts / (self.rollouts - 1) * beta_kernel(self.rates())

    def summary(self) -> str:
        """Return the histogram of the rates, and how many problems the default kernel works with."""
        rates, weights = self.rates(), beta_kernel(self.rates())
        bins = np.histogram(rates, np.linspace(0, 1, 6))[0]
        return (
            f"{len(rates)} problems, {self.rollouts} rollouts each at step {self.step}, "
            f"mean pass rate {rates.mean():.2f}\n"
            f"  never {np.mean(rates == 0):.0%}, always {np.mean(rates == 1):.0%} (weight 0); "
            f"worth {effective_size(weights):.0f} problems of equal weight\n"
            f"  pass rate 0 – 0.2 – 0.4 – 0.6 – 0.8 – 1: {' · '.join(map(str, bins))} problems"
        )

    @classmethod
    def kept(cls, path: Path | str, measure: Callable[[], PassRates]) -> PassRates:
        """Return what was measured before, or measure now and keep it: a resumed training sees the same rates."""
        if Path(path).is_file():
            known = json.loads(Path(path).read_text())
            return cls(tuple(known["passes"]), known["rollouts"], known["step"])
        found = measure()
        if processes().is_main_process:  # the others have found the same
            write_json(path, found.to_dict())
        return found


def measure_pass_rates(
    problems: Sequence[Example],
    sampler: Sampler,
    verify: Verifier = same_tokens,
    *,
    rollouts: int = 8,
    seed: int = 0,
    step: int = 0,
    at_once: int = 64,
) -> PassRates:
    """Let the student answer every problem several times and count what the verifier accepts.

    Args:
        problems: prompts with their reference answers.
        sampler: the student's.
        verify: judges an answer.
        rollouts: K, of each problem; at least 2.
        seed: of the samples.
        step: of the student, for the record.
        at_once: answers written together.

    Raises:
        ConfigError: no problems, or fewer than two rollouts.

    Source: as for `beta_kernel`.
    """
    if not problems or rollouts < 2:
        raise ConfigError(f"pass rates need a problem and two rollouts of each; got {len(problems)} and {rollouts}")
    tries = [k for k in range(len(problems)) for _ in range(rollouts)]
    passes = [0] * len(problems)
    for start in range(0, len(tries), at_once):
        rows = tries[start : start + at_once]
        state = np.random.SeedSequence([seed, step, start, 4]).generate_state(1)[0]
        for k, answer in zip(rows, sampler([problems[k].prompt for k in rows], int(state)), strict=True):
            passes[k] += verify(problems[k], answer)
    return PassRates(tuple(passes), rollouts, step)


class Weighted:
    """A source whose problems count by their weights, each through the mean over its own tokens.

    `loss = mean_x w_x · mean_t loss(x, t)` over a batch, `w` with a mean of 1

    Args:
        make: gives the source of the problems that are left, for instance `partial(Conversations, batch=8, seed=0)`;
            one that can say what it reads (`at`).
        problems: all of them.
        weights: one each, from `beta_kernel` or another; problems of weight 0 are dropped.
        to: what the weights of a batch are scaled to.

    Raises:
        ConfigError: no problem has a weight.
    """

    def __init__(
        self,
        make: Callable[[list[Example]], Any],
        problems: Sequence[Example],
        weights: Iterable[float],
        to: Scale = "mean",
    ) -> None:
        pairs = [(one, float(w)) for one, w in zip(problems, weights, strict=True) if w > 0]
        if not pairs:
            raise ConfigError("no problem is left to learn from: the student solves every one always or never")
        self.source, self.to = make([one for one, _ in pairs]), to
        self.weights: Mapping[tuple[int, ...], float] = {one.prompt: w for one, w in pairs}
        self.tokens = self.source.tokens

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        batch: Batch = self.source(step)
        weights = scaled([self.weights[one.prompt] for one in self.source.at(step)], self.to)
        lengths = batch.mask.sum(1)
        balance = lengths.sum() / (len(lengths) * lengths.clamp(min=1))
        return batch._replace(weight=torch.from_numpy(weights).float() * balance)


class StagedSource:
    """One source until a step, another from there on, made when it is needed (from rates measured anew, say).

    Args:
        first: the source of the first stage.
        second: makes that of the second; its steps count from 0 again.
        begin: step at which the second begins.
    """

    tokens = 0

    def __init__(self, first: Source, second: Callable[[], Source], begin: int) -> None:
        self.first, self.second, self.begin = first, cache(second), begin

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        return self.first(step) if step < self.begin else self.second()(step - self.begin)


@dataclass(frozen=True)
class StagedSignal:
    """One signal until a step, another from there on: forward KL to cover the teacher, then reverse KL to sharpen.

    Args:
        first, second: the signals.
        begin: step at which the second begins.

    Source: as for `beta_kernel`.
    """

    first: Signal
    second: Signal
    begin: int

    @property
    def frozen(self) -> tuple[Any, ...]:
        """Everything that either keeps frozen."""
        return tuple(dict.fromkeys([*self.first.frozen, *self.second.frozen]))

    def loss(self, student: Any, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """See `Signal`."""
        return (self.first if step < self.begin else self.second).loss(student, batch, step)

    def describe(self) -> str:
        """See `Signal`."""
        return f"{self.first.describe()}, from step {self.begin} {self.second.describe()}"
