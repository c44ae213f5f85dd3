"""What a distillation reads and is measured on: text, or prompts with or without answers.

On text a method whose answers are written takes the first half of every window as a prompt. Of prompts every twentieth
is held out; where it has no answer, the teacher writes one, so that the loss measured is the distance to the teacher.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.lm.conversations import AnswerLoss, Example, answer_loss, read_examples
from limbeck.lm.corpus import load_corpus
from limbeck.lm.evaluation import TextLoss
from limbeck.lm.jobs import DistilJob, Evaluations
from limbeck.lm.methods import Cast, Method
from limbeck.lm.rollouts import Replay, TransformersSampler
from limbeck.lm.slots import Source
from limbeck.lm.tokenizers import separator_token, tokenize
from limbeck.lm.windows import Windows, evaluation_windows

HELD_OUT = 20


@dataclass(frozen=True)
class Material:
    """What a job reads and is measured on.

    Args:
        source: `source(student, steps, folder, evaluations)`, as `train_student` asks for it.
        evaluate: loss of a model on what is held out.
        teacher_loss: of each teacher on what is held out of its domain, nats per byte.
        prompts: held-out prompts, to see what a student writes.
        probe: some of the held-out tokens, int64 [n, T].
        largest: largest token id.
        dataset: name and hash.
        counted_in: column that says how much was read.
        heard: answers with what an endpoint said at every token, where that is what is taught.
    """

    source: Callable[..., Source]
    evaluate: Callable[[Any], dict[str, float]]
    teacher_loss: Callable[[], float]
    prompts: list[tuple[int, ...]]
    probe: Tensor
    largest: int
    dataset: str
    counted_in: str
    heard: Sequence[Example] = ()


def material(job: DistilJob, method: Method, cast: Cast) -> Material:
    """Read the data of a job: a corpus folder or a file of prompts.

    Raises:
        ConfigError: what cannot be read; prompts without answers for a method that reads them.
    """
    return _text(job, method, cast) if job.data.is_dir() else _prompts(job, method, cast)


def _text(job: DistilJob, method: Method, cast: Cast) -> Material:
    corpus, context = load_corpus(job.data), job.regime.context
    text, theirs = tokenize(corpus, cast.tokenizer), tokenize(corpus, cast.teacher_tokenizer)
    cut, windows = context // 2, evaluation_windows(text.validation, context)
    judged = TextLoss(evaluation_windows(theirs.validation, context), theirs.bytes_per_token)

    def source(*how: Any) -> Source:
        if method.reads:
            return Windows(text.train, context, job.regime.batch, job.seed)
        count = len(text.train) // context
        rows = text.train[: count * context].reshape(count, context).tolist()
        examples = [Example(tuple(row[:cut]), tuple(row[cut:])) for row in rows]
        return _written(job, method, cast, examples, *how)

    return Material(
        source,
        TextLoss(windows, text.bytes_per_token),
        lambda: sum(judged(one)["loss"] for one in cast.teachers) / len(cast.teachers),
        [tuple(row[:cut]) for row in windows[:, 0].tolist()],
        windows[:8, 0],
        text.largest,
        f"{corpus.facts.source} sha256:{corpus.facts.sha256[:16]}",
        "tokens" if method.reads else "samples",
    )


def _prompts(job: DistilJob, method: Method, cast: Cast) -> Material:
    context, end = job.regime.context, separator_token(cast.tokenizer)
    same = cast.teacher_tokenizer.get_vocab() == cast.tokenizer.get_vocab()
    examples = read_examples(
        job.data,
        cast.tokenizer,
        context=context,
        domains=[name for name in job.teachers if name],
        teacher=cast.teacher_tokenizer if same else None,
        favourites=method.reads and method.says == "teacher" and not job.teachers,
    )
    heard = [one for one in examples if one.said]
    if heard and (len(heard) < len(examples) or method.pack or job.vocabulary == "align"):
        raise ConfigError(
            f"{job.data}: {len(heard)} of {len(examples)} answers have log-probabilities: to learn from them all must, "
            "without pack and vocabulary: align"
        )
    held_out, rest = examples[::HELD_OUT], [one for k, one in enumerate(examples) if k % HELD_OUT]
    if not rest:
        raise ConfigError(f"{job.data} holds one prompt: give at least two, of which one is held out")
    prompts = [one.prompt for one in held_out]
    if silent := [one for one in held_out if not one.answer]:
        if not same:
            raise ConfigError(f"{job.data}: with another tokenizer the teacher cannot write the held-out answers")
        room = min(method.length, context - max(len(one.told or one.prompt) for one in silent))
        writers = [TransformersSampler(teacher, room, end) for teacher in cast.teachers]
        written = Replay(silent, 1, job.seed, writers, told=True).examples
        held_out = [one for one in held_out if one.answer] + written
    size = sum(len(cast.tokenizer.decode(one.answer, skip_special_tokens=True).encode()) for one in held_out)

    def teacher_loss() -> float:
        if heard:
            said = (dict(place)[token] for one in held_out for place, token in zip(one.said, one.answer, strict=True))
            return -sum(said) / max(1, size)
        read = held_out
        if not same:
            read = read_examples(job.data, cast.teacher_tokenizer, context=2**31)[::HELD_OUT]
        nats = 0.0
        for domain, teacher in enumerate(cast.teachers):
            own = [replace(one, prompt=one.told or one.prompt) for one in read if one.domain == domain]
            nats += float(answer_loss(teacher, own)) * sum(len(one.answer) for one in own)
        return nats / max(1, size)

    longest = max(len(one.prompt) + len(one.answer) for one in held_out)
    return Material(
        partial(_written, job, method, cast, rest),
        AnswerLoss(held_out, max(1, size) / sum(len(one.answer) for one in held_out)),
        teacher_loss,
        prompts,
        torch.tensor([[*one.prompt, *one.answer, *[end] * longest][:longest] for one in held_out[:8]]),
        max(max((*one.prompt, *one.answer)) for one in examples),
        f"{job.data.name} sha256:{hashlib.sha256(job.data.read_bytes()).hexdigest()[:16]}",
        "samples",
        heard,
    )


def _written(
    job: DistilJob, method: Method, cast: Cast, examples: list[Example], student: Any, steps: int, folder: Path,
    evaluations: Callable[[], Evaluations],
) -> Source:  # fmt: skip
    """The method's source, once it is sure that answers fit the context."""
    longest, length, context = max(len(one.told or one.prompt) for one in examples), method.length, job.regime.context
    if not method.reads and longest + length > context:
        raise ConfigError(
            f"a prompt of {longest} tokens and an answer of {length} do not fit the context of {context}: use a longer "
            f"context, or method: {{name: {method.name}, length: {max(1, context - longest)}}}"
        )
    how: dict[str, Any] = {"batch": job.regime.batch, "seed": job.seed, "context": context, "evaluations": evaluations}
    return method.source(cast, examples, steps=steps, student=student, kept=folder / "answers", **how)
