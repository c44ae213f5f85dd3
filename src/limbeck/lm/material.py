"""What a distillation reads and is measured on: text, or prompts with or without answers.

On text a method whose answers are written takes the first half of every window as a prompt. Of prompts every twentieth
is held out; where it has no answer, the teacher writes one, so that the loss measured is the distance to the teacher.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.lm.conversations import AnswerLoss, Example, answer_loss, read_examples
from limbeck.lm.corpus import load_corpus
from limbeck.lm.evaluation import TextLoss, text_loss
from limbeck.lm.jobs import DistilJob
from limbeck.lm.methods import Method
from limbeck.lm.rollouts import Replay, TransformersSampler
from limbeck.lm.slots import Source
from limbeck.lm.tokenizers import load_tokenizer, separator_token, tokenize
from limbeck.lm.windows import Windows, evaluation_windows

HELD_OUT = 20


@dataclass(frozen=True)
class Cast:
    """Who takes part in a distillation.

    Args:
        method: its choices.
        tokenizer: of all.
        teachers: one for each domain; the student as it starts where there is no other.
        start: gives the student as it starts.
    """

    method: Method
    tokenizer: Any
    teachers: Sequence[Any]
    start: Callable[[], Any]


@dataclass(frozen=True)
class Material:
    """What a job reads and is measured on.

    Args:
        source: `source(student, steps, folder)`, as `train_student` asks for it.
        evaluate: loss of a model on what is held out.
        teacher_loss: of each teacher on what is held out of its domain, nats per byte.
        prompts: held-out prompts, to see what a student writes.
        probe: some of the held-out tokens, int64 [n, T].
        largest: largest token id.
        dataset: name and hash.
        counted_in: column that says how much was read.
    """

    source: Callable[[Any, int, Path], Source]
    evaluate: Callable[[Any], dict[str, float]]
    teacher_loss: Callable[[], float]
    prompts: list[tuple[int, ...]]
    probe: Tensor
    largest: int
    dataset: str
    counted_in: str


def material(job: DistilJob, cast: Cast) -> Material:
    """Read the data of a job: a corpus folder or a file of prompts.

    Raises:
        ConfigError: what cannot be read; prompts without answers for a method that reads them.
    """
    return _text(job, cast) if job.data.is_dir() else _prompts(job, cast)


def _text(job: DistilJob, cast: Cast) -> Material:
    corpus, context = load_corpus(job.data), job.regime.context
    text = tokenize(corpus, cast.tokenizer)
    windows = evaluation_windows(text.validation, context)
    cut, evaluate = context // 2, TextLoss(windows, text.bytes_per_token)

    def source(student: Any, steps: int, folder: Path) -> Source:
        if cast.method.answers == "data":
            return Windows(text.train, context, job.regime.batch, job.seed)
        count = len(text.train) // context
        rows = text.train[: count * context].reshape(count, context).tolist()
        examples = [Example(tuple(row[:cut]), tuple(row[cut:])) for row in rows]
        return _written(job, cast, examples, student, steps, folder)

    return Material(
        source,
        evaluate,
        lambda: sum(text_loss(one, windows) for one in cast.teachers) / len(cast.teachers) / text.bytes_per_token,
        [tuple(row[:cut]) for row in windows[:, 0].tolist()],
        windows[:8, 0],
        text.largest,
        f"{corpus.facts.source} sha256:{corpus.facts.sha256[:16]}",
        "tokens" if cast.method.answers == "data" else "samples",
    )


def _prompts(job: DistilJob, cast: Cast) -> Material:
    context, end = job.regime.context, separator_token(cast.tokenizer)
    domains = [name for name in job.teachers if name]
    theirs = load_tokenizer(next(iter(job.teachers.values()))) if job.teachers else None
    examples = read_examples(job.data, cast.tokenizer, context=context, domains=domains, teacher=theirs)
    held_out, rest = examples[::HELD_OUT], [one for k, one in enumerate(examples) if k % HELD_OUT]
    if not rest:
        raise ConfigError(f"{job.data} holds one prompt: give at least two, of which one is held out")
    prompts = [one.prompt for one in held_out]
    if silent := [one for one in held_out if not one.answer]:
        room = min(cast.method.length, context - max(len(one.told or one.prompt) for one in silent))
        writers = [TransformersSampler(teacher, room, end) for teacher in cast.teachers]
        told = [replace(one, prompt=one.told or one.prompt) for one in silent]
        answers = {one.prompt: one.answer for one in Replay(told, 1, job.seed, writers).examples}
        held_out = [one if one.answer else replace(one, answer=answers[one.told or one.prompt]) for one in held_out]
    tokens = sum(len(one.answer) for one in held_out)
    size = sum(len(cast.tokenizer.decode(one.answer, skip_special_tokens=True).encode()) for one in held_out)
    evaluate = AnswerLoss(held_out, max(1, size) / tokens)

    def teacher_loss() -> float:
        nats = 0.0
        for domain, teacher in enumerate(cast.teachers):
            own = [replace(one, prompt=one.told or one.prompt) for one in held_out if one.domain == domain]
            nats += float(answer_loss(teacher, own)) * sum(len(one.answer) for one in own)
        return nats / max(1, size)

    longest = max(len(one.prompt) + len(one.answer) for one in held_out)
    return Material(
        lambda student, steps, folder: _written(job, cast, rest, student, steps, folder),
        evaluate,
        teacher_loss,
        prompts,
        torch.tensor([[*one.prompt, *one.answer, *[end] * longest][:longest] for one in held_out[:8]]),
        max(max((*one.prompt, *one.answer)) for one in examples),
        f"{job.data.name} sha256:{hashlib.sha256(job.data.read_bytes()).hexdigest()[:16]}",
        "samples",
    )


def _written(job: DistilJob, cast: Cast, examples: list[Example], student: Any, steps: int, folder: Path) -> Source:
    """The method's source, once it is sure that answers fit the context."""
    longest, length = max(len(one.told or one.prompt) for one in examples), cast.method.length
    if cast.method.answers != "data" and longest + length > job.regime.context:
        raise ConfigError(
            f"a prompt of {longest} tokens and an answer of {length} do not fit the context of {job.regime.context}: "
            f"use a longer context, or method: {{name: {cast.method.name}, length: "
            f"{max(1, job.regime.context - longest)}}}"
        )
    return cast.method.source(
        examples,
        job.regime.batch,
        job.seed,
        steps,
        student=student,
        start=cast.start,
        teachers=cast.teachers,
        end=separator_token(cast.tokenizer),
        kept=folder / "answers",
    )
