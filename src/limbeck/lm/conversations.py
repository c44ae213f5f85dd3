"""Prompts with answers: JSON lines, chat templates, and batches in which only the answer counts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.lm.slots import Batch, counted_logits, cross_entropy
from limbeck.lm.tokenizers import separator_token, token_strings

BY_NUMBER = "vLLM says tokens by their numbers with options: {extra_body: {return_tokens_as_token_ids: true}}"
Favourites = tuple[tuple[int, float], ...]  # ids and log-probabilities, the likeliest first


@dataclass(frozen=True)
class Example:
    """A prompt and, where there is one, its answer, in tokens.

    Args:
        prompt: ids; at least one.
        answer: ids with the end token; empty for a prompt alone.
        domain: number of the teacher it belongs to.
        told: the prompt as the teacher reads it, where that differs: with a context, or by another chat template.
        said: for every token of the answer the tokens that its writer had in mind, with their log-probabilities.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...] = ()
    domain: int = 0
    told: tuple[int, ...] = ()
    said: tuple[Favourites, ...] = ()


def has_prompts(path: Path | str) -> bool:
    """Whether a file holds prompts (JSON lines with `prompt` or `messages`) rather than text."""
    path = Path(path)
    if path.suffix not in (".jsonl", ".ndjson") or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return isinstance(row, dict) and bool(row.keys() & {"prompt", "messages"})


def read_prompts(path: Path | str) -> list[tuple[str, dict[str, Any]]]:
    """The rows of a file of prompts (JSON lines with `prompt` or `messages`), and where each stands.

    Raises:
        ConfigError: no such file, or no row in it; a row that is not one of these.
    """
    path, rows = Path(path), []
    if not path.is_file():
        raise ConfigError(f"file of prompts {path} does not exist")
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path}, row {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{where}: not JSON ({error})") from error
        if not isinstance(row, dict) or not row.keys() & {"prompt", "messages"}:
            raise ConfigError(f'{where}: expected {{"prompt": ..., "completion": ...}} or {{"messages": [...]}}')
        rows.append((where, row))
    if not rows:
        raise ConfigError(f"{path} holds no row")
    return rows


def read_examples(
    path: Path | str, tokenizer: Any, *, context: int, domains: Sequence[str] = (), teacher: Any = None,
    favourites: bool = False,
) -> list[Example]:  # fmt: skip
    """Read prompts from JSON lines.

    A row has `prompt` and, for training on answers, `completion`: texts, or lists of chat messages. A row of `messages`
    is a conversation whose last assistant turn is the answer. Messages go through the tokenizer's chat template, texts
    as they are. `domain` names the teacher; `context` is text before the prompt that only the teacher reads; an answer
    whose `finish` is `length` was cut and has no end.

    Args:
        path: the file.
        tokenizer: of the student.
        context: longest example in tokens.
        domains: names of the teachers, in their order.
        teacher: its tokenizer, if its chat template may be another one.
        favourites: read the `log_probs` that an endpoint gave with its answers, where they are.

    Raises:
        ConfigError: no such file; a row that is not one of these; an example longer than the context; a domain that is
            not a teacher's; messages without a chat template; answers in other tokens than the student's.
    """
    end, examples, strings = separator_token(tokenizer), [], token_strings(tokenizer) if favourites else {}
    for where, row in read_prompts(path):
        prompt, answer = _texts(row, tokenizer, where)
        theirs = prompt if teacher is None else _texts(row, teacher, where)[0]
        ids, told = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, row.get("context", "") + theirs)
        )
        reply, said = [*tokenizer(answer, add_special_tokens=False)["input_ids"], end], list[Favourites]()
        if favourites and row.get("log_probs") is not None:
            reply, said = _said(row, reply, strings, where)
            spelt = tokenizer.decode([one for one in reply if one != end], skip_special_tokens=True)
            if not spelt.strip().startswith(answer.strip()):
                raise ConfigError(f"{where}: its tokens spell {spelt!r}, not the answer: {BY_NUMBER}")
            if row.get("finish") != "length" and reply[-1:] != [end]:  # a server that does not speak of the end
                reply, said = [*reply, end], [*said, ((end, 0.0),)]
        elif row.get("finish") == "length" or not answer:
            reply = reply[:-1]
        if not ids:
            raise ConfigError(f"{where}: the prompt is empty")
        longest = max(len(ids), len(told))
        if longest + len(reply) > context or (not reply and longest >= context):
            raise ConfigError(f"{where}: {longest} + {len(reply)} tokens do not fit the context of {context}")
        name = str(row.get("domain", domains[0] if domains else ""))
        if domains and name not in domains:
            raise ConfigError(f'{where}: no teacher for the domain "{name}"; there are: {", ".join(domains)}')
        domain = domains.index(name) if domains else 0
        examples.append(Example(tuple(ids), tuple(reply), domain, tuple(told) if told != ids else (), tuple(said)))
    return examples


def _said(
    row: Mapping[str, Any], read: Sequence[int], strings: Mapping[str, int | None], where: str
) -> tuple[list[int], list[Favourites]]:
    """The tokens of an answer and the favourites at each; a favourite that is no token, or several, is left out.

    Args:
        row: with `tokens` and `log_probs`.
        read: the answer as the student's tokenizer reads it, with the end: decides between tokens that look the same.
        strings: of `token_strings`.
        where: the row stands.
    """
    names, places = row.get("tokens") or [], row["log_probs"]
    silent = not names and len(read) > 1
    if silent or len(names) != len(places) or any(name not in place for name, place in zip(names, places, strict=True)):
        raise ConfigError(f"{where}: log_probs need the tokens they are about, write the answers again")
    ids: list[Any] = [strings.get(name, -1) for name in names]
    if len(read) - len(ids) in (0, 1) and all(one in (None, other) for one, other in zip(ids, read, strict=False)):
        ids = list(read[: len(ids)])
    if wrong := [name for name, one in zip(names, ids, strict=True) if one in (None, -1)]:
        raise ConfigError(
            f"{where}: {wrong[0]!r} is no token of the student's, or several: log-probabilities need the teacher's "
            f"tokenizer. Take such a student, or method sft; {BY_NUMBER}"
        )
    said = []
    for name, one, place in zip(names, ids, places, strict=True):
        known = {strings.get(other): value for other, value in place.items()} | {one: place[name]}
        pairs = [(token, value) for token, value in known.items() if token is not None and value is not None]
        said.append(tuple(sorted(pairs, key=lambda pair: -pair[1])))
    return ids, said


def _texts(row: Mapping[str, Any], tokenizer: Any, where: str) -> tuple[str, str]:
    """Prompt and answer of a row as texts."""
    prompt, answer = row.get("prompt"), row.get("completion", "")
    if "messages" in row:
        messages = row["messages"]
        if not isinstance(messages, list) or not messages:
            raise ConfigError(f"{where}: messages must be a list of turns")
        last = messages[-1].get("role") == "assistant"
        prompt, answer = (messages[:-1], messages[-1].get("content", "")) if last else (messages, "")
    if isinstance(answer, list):
        answer = "".join(str(turn.get("content", "")) for turn in answer)
    if isinstance(prompt, list):
        if tokenizer.chat_template is None:
            raise ConfigError(f"{where}: the tokenizer has no chat template for messages; give prompt as text")
        prompt = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
    if not isinstance(prompt, str) or not isinstance(answer, str):
        raise ConfigError(f"{where}: prompt and completion must be texts or lists of messages")
    return prompt, answer


def collate(examples: Iterable[Example], answers: Iterable[Sequence[int]] | None = None, *, pad: int = 0) -> Batch:
    """Put examples into one batch, filled up on the right; the answer counts, the prompt does not.

    Args:
        examples: prompts, with their answers.
        answers: other answers to use instead, one for each.
        pad: id that fills up.

    Example:
        >>> batch = collate([Example((5, 6), (7, 0)), Example((5,), (0,))])
        >>> batch.tokens.tolist(), batch.counted.tolist()
        ([[5, 6, 7, 0], [5, 0, 0, 0]], [[False, False, True, True], [False, True, False, False]])
    """
    rows = list(examples)
    replies = [row.answer for row in rows] if answers is None else list(answers)
    width = max(2, *(len(row.prompt) + len(reply) for row, reply in zip(rows, replies, strict=True)))
    tokens = torch.full((len(rows), width), pad, dtype=torch.int64)
    counted, present = torch.zeros(2, len(rows), width, dtype=torch.bool)
    for k, (row, reply) in enumerate(zip(rows, replies, strict=True)):
        start, stop = len(row.prompt), len(row.prompt) + len(reply)
        tokens[k, :stop] = torch.tensor([*row.prompt, *reply])
        counted[k, start:stop], present[k, :stop] = True, True
    told = None
    if any(row.told for row in rows):
        told = collate([replace(row, prompt=row.told or row.prompt, told=()) for row in rows], replies, pad=pad)
    return Batch.of(tokens, counted, present, domain=torch.tensor([row.domain for row in rows]), told=told)


class Examples:
    """The order in which examples are read: a fresh permutation every epoch, a pure function of seed and step.

    Args:
        examples: what is read.
        batch: examples a step.
        seed: of the permutations.
    """

    def __init__(self, examples: Sequence[Example], batch: int, seed: int) -> None:
        if not examples:
            raise ConfigError("no examples to read")
        self.examples, self.batch, self.seed = list(examples), batch, seed

    def at(self, step: int) -> list[Example]:
        """The examples of one step; an epoch may end within it."""
        count = len(self.examples)
        places = range(step * self.batch, (step + 1) * self.batch)
        orders = {p // count: np.random.default_rng([self.seed, p // count]).permutation(count) for p in places}
        return [self.examples[orders[p // count][p % count]] for p in places]


class Conversations(Examples):
    """A source that reads answered prompts as they are.

    Args:
        examples: each with an answer.
        batch: examples a step.
        seed: of the order.

    Raises:
        ConfigError: no examples, or one without an answer.
    """

    def __init__(self, examples: Sequence[Example], batch: int, seed: int) -> None:
        super().__init__(examples, batch, seed)
        if silent := sum(not one.answer for one in self.examples):
            raise ConfigError(f"{silent} of {len(self.examples)} prompts have no answer to learn from")
        self.tokens = sum(len(one.answer) for one in self.examples)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        return collate(self.at(step))


class Packed(Examples):
    """A source that reads answered prompts several to a row: no padding is computed, and none sees another.

    Args:
        examples: each with an answer.
        batch: rows a step.
        seed: of the order of the rows.
        context: tokens of a row.

    Raises:
        ConfigError: an example without an answer, or that the teacher reads differently.
    """

    def __init__(self, examples: Sequence[Example], batch: int, seed: int, context: int) -> None:
        if any(not one.answer or one.told for one in examples):
            raise ConfigError("packing needs prompts with answers, which the teacher reads as the student does")
        rows: list[list[Example]] = []
        for one in sorted(examples, key=_length, reverse=True):  # first fit, the longest first
            room = next((row for row in rows if sum(map(_length, row)) + _length(one) <= context), None)
            if room is None:
                rows.append([one])
            else:
                room.append(one)
        self.rows = {row[0]: row for row in rows}
        super().__init__(list(self.rows), batch, seed)
        self.tokens = sum(len(one.answer) for one in examples)

    def __call__(self, step: int) -> Batch:
        """Return the batch of a step."""
        rows = [self.rows[first] for first in self.at(step)]
        joined = collate([Example((), tuple(t for one in row for t in (*one.prompt, *one.answer))) for row in rows])
        counted, position = torch.zeros_like(joined.counted), torch.zeros_like(joined.tokens)
        for k, row in enumerate(rows):
            start = 0
            for one in row:
                counted[k, start + len(one.prompt) : start + _length(one)] = True
                position[k, start : start + _length(one)] = torch.arange(_length(one))
                start += _length(one)
            position[k, start:] = torch.arange(joined.tokens.shape[1] - start)
        return joined._replace(counted=counted, position=position)


def _length(example: Example) -> int:
    return len(example.prompt) + len(example.answer)


@dataclass(frozen=True)
class AnswerLoss:
    """The loss of a model on held-out answers, as a run record has it.

    Args:
        examples: answered prompts.
        bytes_per_token: of the answers.
    """

    examples: Sequence[Example]
    bytes_per_token: float

    def __call__(self, model: Any) -> dict[str, float]:
        """Return `loss` (nats per byte) and `loss_per_token` (nats)."""
        nats = float(answer_loss(model, self.examples))
        return {"loss": nats / self.bytes_per_token, "loss_per_token": nats}


def answer_loss(model: Any, examples: Sequence[Example], at_once: int = 32) -> Tensor:
    """Mean cross-entropy of the answers, nats per token."""
    total, count = torch.zeros(()), 0
    with torch.no_grad():
        for start in range(0, len(examples), at_once):
            batch = collate(examples[start : start + at_once])
            here = int(batch.mask.sum())
            total, count = total + here * cross_entropy(counted_logits(model, batch), batch), count + here
    return total / max(1, count)
