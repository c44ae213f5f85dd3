"""Sequences that a model writes: the sampler protocol, and the sources made of samples.

A sampler is any callable of the form of `Sampler`; whoever has a faster engine writes one. Samples of a step depend on
the model's weights, the seed and the step alone, so that a killed training repeats them to the bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from limbeck.errors import ConfigError
from limbeck.lm.conversations import Example, Examples, collate
from limbeck.lm.slots import Batch, Source


class Sampler(Protocol):
    """What writes answers."""

    def __call__(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """Return an answer for every prompt, with its end token if it came to one."""
        ...


class TransformersSampler:
    """Batched sampling with a causal model of the transformers library and its key-value cache.

    Args:
        model: the model; its mode is put back afterwards.
        length: most tokens of an answer.
        end: id that ends one.
        temperature: divides the logits.
        top_k, top_p: 0 and 1 sample from all tokens, which on-policy gradients need.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self, model: Any, length: int, end: int, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
    ) -> None:
        if length < 1 or temperature <= 0 or not 0 < top_p <= 1 or top_k < 0:
            raise ConfigError(
                f"length {length} must be at least 1, temperature {temperature:g} positive, top_p {top_p:g} in (0, 1] "
                f"and top_k {top_k} not negative"
            )
        self.model, self.length, self.end = model, length, end
        self.options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """See `Sampler`."""
        width = max(map(len, prompts))
        ids = torch.tensor([[self.end] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        present = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        device, training = self.model.device, self.model.training
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            written = self.model.eval().generate(
                input_ids=ids.to(device),
                attention_mask=present.to(device),
                max_new_tokens=self.length,
                do_sample=True,
                use_cache=True,
                eos_token_id=self.end,
                pad_token_id=self.end,
                **self.options,
            )
        self.model.train(training)
        return [self._cut(answer) for answer in written[:, width:].tolist()]

    def _cut(self, answer: list[int]) -> list[int]:
        """Up to the first end token, which stays."""
        return answer[: answer.index(self.end) + 1] if self.end in answer else answer


class Rollouts(Examples):
    """Fresh answers in every step: of the student (on-policy), or of a teacher.

    Args:
        examples: the prompts.
        batch: prompts a step.
        seed: of their order and of the samples.
        sampler: who writes.
        watch: called as `watch(step, examples, answers)`: to log samples, or to keep the pairs for a replay.
    """

    tokens = 0

    def __init__(
        self,
        examples: Sequence[Example],
        batch: int,
        seed: int,
        sampler: Sampler,
        watch: Callable[[int, list[Example], list[list[int]]], None] | None = None,
    ) -> None:
        super().__init__(examples, batch, seed)
        self.sampler, self.watch = sampler, watch

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        examples = self.at(step)
        seed = int(np.random.SeedSequence([self.seed, step, 1]).generate_state(1)[0])
        answers = self.sampler([one.prompt for one in examples], seed)
        if self.watch is not None:
            self.watch(step, examples, answers)
        return collate(examples, answers)


class Mixture:
    """One of two sources in every step: the first with a probability that may change.

    Args:
        often: taken with the probability `share`.
        otherwise: taken if not.
        share: a number, or a function of the step.
        seed: of the choice, which depends on it and on the step alone.

    Source: Rishabh Agarwal et al., On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes
        (2023), arXiv 2306.13649: student samples with probability 1/2, else the data set.
    """

    def __init__(self, often: Source, otherwise: Source, share: float | Callable[[int], float], seed: int) -> None:
        self.often, self.otherwise, self.share, self.seed = often, otherwise, share, seed
        self.tokens = 0

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        share = self.share(step) if callable(self.share) else self.share
        chosen = self.often if np.random.default_rng([self.seed, step, 2]).random() < share else self.otherwise
        return chosen(step)


class Replay(Examples):
    """Answers that were written once and are read again, each with its identity.

    Args:
        examples: the prompts.
        batch: pairs a step.
        seed: of the order and of the samples.
        sampler: who writes, once, at the start.
        each: answers for every prompt.
    """

    def __init__(self, examples: Sequence[Example], batch: int, seed: int, sampler: Sampler, each: int = 1) -> None:
        prompts = [one for one in examples for _ in range(each)]
        answers: list[list[int]] = []
        for start in range(0, len(prompts), 64):
            state = np.random.SeedSequence([seed, start, 3]).generate_state(1)[0]
            answers += sampler([one.prompt for one in prompts[start : start + 64]], int(state))
        pairs = [Example(one.prompt, tuple(reply), one.domain) for one, reply in zip(prompts, answers, strict=True)]
        super().__init__(pairs, batch, seed)
        self.tokens = sum(map(len, answers))

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        return collate(self.at(step))

    def identities(self, step: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The (prompt, answer) pairs of a step."""
        return [(one.prompt, one.answer) for one in self.at(step)]
