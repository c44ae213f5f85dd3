"""A teacher that is known by its answers alone: a model behind an HTTP endpoint that speaks the OpenAI protocol.

Requests run side by side up to a bound, start no faster than a rate, and are repeated with growing pauses while the
server is away or busy. Answers go to a file row by row: whatever stops the writing, the rows that are there stay.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from pydantic import Field

from limbeck.distill.processes import processes
from limbeck.errors import ConfigError, MissingExtraError, TrainingError
from limbeck.files import write_text
from limbeck.lm.conversations import has_prompts, read_prompts
from limbeck.runs import RunRecorder
from limbeck.settings import Count, Number, Settings

if TYPE_CHECKING:
    from limbeck.lm.methods import Method

Prompt = str | list[dict[str, str]]  # a text, or chat messages


class EndpointSettings(Settings):
    """The group `teacher` of a model behind an endpoint, which answers every prompt of the data before the training.

    Args:
        endpoint: root of the protocol, such as `http://localhost:8000/v1`; the key comes from OPENAI_API_KEY.
        model: its name there.
        chat, log_probs, concurrency, per_minute, options: as for `Endpoint`; with log_probs method kd learns from them.
    """

    endpoint: str
    model: str
    chat: bool = False
    log_probs: Count = Field(default=0, ge=0)
    concurrency: Count = Field(default=8, gt=0)
    per_minute: Number = Field(default=float("inf"), gt=0)
    options: Mapping[str, Any] = {}


@dataclass
class Endpoint:
    """A model behind an endpoint.

    Args:
        url: of the protocol's root, such as `http://localhost:8000/v1`.
        model: its name there.
        length: most tokens of an answer.
        temperature: of the samples.
        chat: send a text as the message of a user; False has it continued. Messages are always a chat.
        log_probs: favourites of the model at every position, with their log-probabilities; 0 asks for none.
        concurrency: requests at once.
        per_minute: requests that may start in a minute.
        timeout: seconds until a request counts as failed.
        retries: of a failed request; pauses double from half a second to eight, 10 retries bridge about a minute.
        key: for the server; by default the environment's OPENAI_API_KEY.
        options: whatever else goes with a request, such as `{"top_p": 0.9}`.
    """

    url: str
    model: str
    length: int = 512
    temperature: float = 1.0
    chat: bool = False
    log_probs: int = 0
    concurrency: int = 8
    per_minute: float = float("inf")
    timeout: float = 60.0
    retries: int = 10
    key: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict)
    _next: float = field(default=0.0, init=False, repr=False)
    _lock: Lock = field(default_factory=Lock, init=False, repr=False)

    @cached_property
    def _client(self) -> Any:
        key = self.key or os.environ.get("OPENAI_API_KEY", "none")
        return _openai().OpenAI(base_url=self.url, api_key=key, timeout=self.timeout, max_retries=self.retries)

    def answer(self, prompt: Prompt, seed: int = 0) -> dict[str, Any]:
        """Ask once.

        Returns:
            `completion`, `finish` (`stop`, or `length` if it was cut) and, if asked for, `tokens` and `log_probs`: for
            every token a dictionary of the favourites there, itself among them, and their log-probabilities.

        Raises:
            TrainingError: the server refuses, or stays away for all retries.
            ConfigError: log-probabilities were asked for and the server has none.
            MissingExtraError: the package openai is missing.
        """
        client, top = self._client, self.log_probs
        tokens: list[tuple[str, float, dict[str, float]]] = []
        with self._lock:
            start = max(time.monotonic(), self._next)
            self._next = start + 60 / self.per_minute
        time.sleep(max(0.0, start - time.monotonic()))
        how = {"model": self.model, "max_tokens": self.length, "temperature": self.temperature, "seed": seed}
        how |= self.options
        try:
            if isinstance(prompt, str) and not self.chat:
                said = client.completions.create(prompt=prompt, **how, **({"logprobs": top} if top else {})).choices[0]
                text, kept = said.text, said.logprobs
                if kept and kept.tokens and kept.token_logprobs and kept.top_logprobs:
                    tokens = list(zip(kept.tokens, kept.token_logprobs, kept.top_logprobs, strict=True))
            else:
                how |= {"logprobs": True, "top_logprobs": top} if top else {}
                messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
                said = client.chat.completions.create(messages=messages, **how).choices[0]
                text, content = said.message.content or "", (said.logprobs and said.logprobs.content) or []
                near = [{other.token: other.logprob for other in one.top_logprobs} for one in content]
                tokens = [(one.token, one.logprob, there) for one, there in zip(content, near, strict=True)]
        except _openai().OpenAIError as error:
            reason = f"{error} {getattr(error, 'body', None) or ''}"
            raise TrainingError(f"{self.url} gives no answer of {self.model}: {reason}") from error
        if top and text and not tokens:
            raise ConfigError(f"{self.url} gives no log-probabilities of {self.model}: set log_probs to 0")
        answer = {"completion": text, "finish": said.finish_reason}
        if not top:
            return answer
        names, log_probs = [name for name, *_ in tokens], [there | {name: own} for name, own, there in tokens]
        return answer | {"tokens": names, "log_probs": log_probs}

    def answers(self, asked: Sequence[tuple[Prompt, int]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Ask for many (prompt, seed), side by side; give the place of each with its answer, as they come."""
        pool = ThreadPoolExecutor(self.concurrency)
        try:
            places = {pool.submit(self.answer, *one): place for place, one in enumerate(asked)}
            for done in as_completed(places):
                yield places[done], done.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def write_answers(endpoint: Endpoint, prompts: Path | str, out: Path | str, *, seed: int = 0) -> int:
    """Have an endpoint answer a file of prompts; the file of answers is one to train on (`read_examples`).

    Args:
        endpoint: who answers.
        prompts: JSON lines with a `prompt` (text or chat messages) or `messages`, whose last answer is left out.
        out: JSON lines: the row of the prompt, what `Endpoint.answer` gives, the number `row` and the `model`. Rows
            that are there are kept, so that the same call after a kill goes on.
        seed: of the samples; every row adds its number.

    Returns:
        How many rows were answered now.

    Raises:
        ConfigError: as `read_prompts`; an empty prompt.
        TrainingError: `out` holds answers to other prompts, or of another model; as `Endpoint.answer`.
    """
    rows = read_prompts(prompts)
    asked = [(_prompt(row, where), seed + number) for number, (where, row) in enumerate(rows, 1)]
    with RunRecorder(out, model=endpoint.model) as recorder:
        there = {row.get("row"): row for row in map(json.loads, Path(out).read_text().splitlines())}
        expected = {number: (endpoint.model, prompt) for number, (prompt, _) in enumerate(asked, 1)}
        for number, row in there.items():
            if (row.get("model"), row.get("prompt")) != expected.get(number):
                raise TrainingError(f"{out}, row {number}: not what {endpoint.model} answers to this prompt: delete it")
        missing = [place for place in range(len(rows)) if place + 1 not in there]
        for found, said in endpoint.answers([asked[place] for place in missing]):
            place = missing[found]
            kept = {name: value for name, value in rows[place][1].items() if name != "messages"}
            recorder.write(**{**kept, "row": place + 1, "prompt": asked[place][0], **said})
    lines = sorted(Path(out).read_text().splitlines(), key=lambda line: json.loads(line)["row"])
    write_text(out, "".join(line + "\n" for line in lines))
    return len(missing)


def answers_for(method: Method, teacher: EndpointSettings, prompts: Path, out: Path, seed: int) -> Path:
    """Have an endpoint answer the prompts of a distillation, where that is all the method wants of a teacher.

    Raises:
        ConfigError: a method that wants more; a text.
        TrainingError: as `write_answers`.
    """
    writes = method.says == "answers" and method.answers in ("data", "teacher")
    if not writes and not (method.reads and teacher.log_probs):
        raise ConfigError(
            f"an endpoint only writes answers: method {method.name} asks its teacher more. Take seqkd or sft, kd with "
            "log_probs (teacher: {endpoint: ..., model: ..., log_probs: 20}), or a model folder"
        )
    if not has_prompts(prompts):
        raise ConfigError(f"an endpoint answers prompts, and {prompts} is no file of prompts (JSON lines)")
    how = teacher.model_dump(exclude={"endpoint", "model"})
    how |= {"length": method.length, "temperature": method.temperature}
    how["options"] |= {"top_p": method.top_p} if method.top_p < 1 else {}
    if processes().is_main_process:
        write_answers(Endpoint(teacher.endpoint, teacher.model, **how), prompts, out, seed=seed)
    return out


def _prompt(row: Mapping[str, Any], where: str) -> Prompt:
    turns = row.get("messages") or [{}]
    prompt: Any = row.get("prompt") or (turns[:-1] if turns[-1].get("role") == "assistant" else row.get("messages"))
    if not prompt:
        raise ConfigError(f"{where}: the prompt is empty")
    return prompt  # type: ignore[no-any-return]


def _openai() -> Any:
    try:
        return importlib.import_module("openai")
    except ImportError as error:
        raise MissingExtraError("openai", "endpoint") from error
