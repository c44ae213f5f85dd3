"""Sequences that a model writes: the sampler protocol, and the sources made of samples.

A sampler is any callable of the form of `Sampler`; whoever has a faster engine writes one. Samples of a step depend on
the model's weights, the seed and the step alone, so that a killed training repeats them to the bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from limbeck.distill.processes import processes
from limbeck.errors import ConfigError, TrainingError
from limbeck.files import write_json
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
        teacher, share: a second model, and how often a token is drawn from it instead.

    Raises:
        ConfigError: a value out of range.
        TrainingError: from a call, probabilities that are not finite.
    """

    def __init__(
        self,
        model: Any,
        length: int,
        end: int,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        teacher: Any = None,
        share: float = 0.0,
    ) -> None:
        if length < 1 or temperature <= 0 or not 0 < top_p <= 1 or top_k < 0:
            raise ConfigError(
                f"length {length} must be at least 1, temperature {temperature:g} positive, top_p {top_p:g} in (0, 1] "
                f"and top_k {top_k} not negative"
            )
        self.model, self.length, self.end = model, length, end
        self.options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        self.teacher, self.share = teacher, share

    @torch.no_grad()
    def __call__(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
        """See `Sampler`."""
        width = max(map(len, prompts))
        ids = torch.tensor([[self.end] * (width - len(prompt)) + list(prompt) for prompt in prompts])
        present = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        device, training = self.model.device, self.model.training
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            try:
                written = self.model.eval().generate(
                    input_ids=ids.to(device),
                    attention_mask=present.to(device),
                    max_new_tokens=self.length,
                    do_sample=True,
                    use_cache=True,
                    eos_token_id=self.end,
                    pad_token_id=self.end,
                    logits_processor=self._blend(present.to(device)),
                    **self.options,
                )
            except RuntimeError as error:
                if "probability tensor" not in str(error):
                    raise
                raise TrainingError(
                    "the model that writes answers gives probabilities that are not finite: its weights are broken. "
                    "Lower the learning rate, or begin with another model"
                ) from error
        self.model.train(training)
        return [self._cut(answer) for answer in written[:, width:].tolist()]

    def _blend(self, present: torch.Tensor) -> list[Callable[..., torch.Tensor]] | None:
        """What turns the model's logits into the log of the mixture with the teacher, which has a cache of its own."""
        if not self.share:
            return None
        cache: Any = None
        mask = present

        def blend(ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
            nonlocal cache, mask
            if cache is not None:
                mask = torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
            places = (mask.cumsum(1) - 1).clamp(min=0)
            new = ids if cache is None else ids[:, -1:]
            told = self.teacher(
                input_ids=new,
                attention_mask=mask,
                position_ids=places[:, -new.shape[1] :],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = told.past_key_values
            theirs: torch.Tensor = (told.logits[:, -1] / self.options["temperature"]).softmax(-1)
            return (self.share * theirs + (1 - self.share) * logits.softmax(-1)).log()

        return [blend]

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

    def write(self, step: int) -> tuple[list[Example], list[list[int]]]:
        """The prompts of a step and what is answered now."""
        examples = self.at(step)
        seed = int(np.random.SeedSequence([self.seed, step, 1]).generate_state(1)[0])
        answers = self.sampler([one.prompt for one in examples], seed)
        if self.watch is not None:
            self.watch(step, examples, answers)
        return examples, answers

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        return collate(*self.write(step))


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


class Kept:
    """Rollouts of which some are read again, a past step at a time; answers are kept on disk and survive a kill.

    Args:
        written: fresh rollouts.
        again: probability that a step reads a past one.
        seed: of the choices, which depend on it and on the step alone.
        folder: of the answers, one file for every step that wrote some.

    Source: Jongwoo Ko et al., DistiLLM: Towards Streamlined Distillation for Large Language Models (2024), arXiv
        2402.03898: a replay buffer of student outputs; there its share grows with the validation loss.
    """

    tokens = 0

    def __init__(self, written: Rollouts, again: float, seed: int, folder: Path) -> None:
        self.written, self.again, self.seed, self.folder = written, again, seed, folder

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        past = sorted(one for one in (int(file.stem) for file in self.folder.glob("*.json")) if one < step)
        if not past or np.random.default_rng([self.seed, step, 4]).random() >= self.again:
            examples, answers = self.written.write(step)
            if processes().is_main_process:  # the others have written the same
                write_json(self.folder / f"{step}.json", answers)
            return collate(examples, answers)
        chosen = past[int(np.random.default_rng([self.seed, step, 5]).integers(len(past)))]
        return collate(self.written.at(chosen), json.loads((self.folder / f"{chosen}.json").read_text()))


class Replay(Examples):
    """Answers that were written once and are read again, each with its identity.

    Args:
        examples: the prompts.
        batch: pairs a step.
        seed: of the order and of the samples.
        samplers: who writes, once, at the start: one, or one for each domain.
        each: answers for every prompt.
        folder: where answers are kept as they are written, so that nothing is written twice after a kill; None for not.
        told: whether who writes reads what the teacher is told.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        batch: int,
        seed: int,
        samplers: Sequence[Sampler],
        each: int = 1,
        folder: Path | None = None,
        told: bool = False,
    ) -> None:
        prompts = [one for one in examples for _ in range(each)]
        pairs: list[Example] = []
        for domain, sampler in enumerate(samplers):
            own = [one for one in prompts if one.domain == domain or len(samplers) == 1]
            for start in range(0, len(own), 64):
                some = own[start : start + 64]
                file = folder / f"{domain}-{start}.json" if folder else None
                if file and file.is_file():
                    answers = json.loads(file.read_text())
                else:
                    state = np.random.SeedSequence([seed, start, 3]).generate_state(1)[0]
                    answers = sampler([(one.told if told else ()) or one.prompt for one in some], int(state))
                    if file:
                        write_json(file, answers)
                pairs += [replace(one, answer=tuple(reply)) for one, reply in zip(some, answers, strict=True)]
        super().__init__(pairs, batch, seed)
        self.tokens = sum(len(one.answer) for one in pairs)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        return collate(self.at(step))

    def identities(self, step: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
        """The (prompt, answer) pairs of a step."""
        return [(one.prompt, one.answer) for one in self.at(step)]
