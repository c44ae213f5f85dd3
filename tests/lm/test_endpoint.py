"""Answers over HTTP, from real servers on this machine: an application of the test, and `transformers serve`."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, HTTPException
from typer.testing import CliRunner

from limbeck.cli.app import app
from limbeck.errors import ConfigError, MissingExtraError, TrainingError
from limbeck.lm import byte_tokenizer, read_examples, save_model, tiny_llama
from limbeck.lm.conversations import Example
from limbeck.lm.endpoint import Endpoint, write_answers


class Served:
    """An application that answers with the prompt in capitals, and notes what it was asked and how."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.asked: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.refuse: list[tuple[int, dict[str, str]]] = []
        self.pause, self.now, self.most = 0.0, 0, 0
        app = FastAPI()
        app.post("/v1/completions")(self.continue_text)
        app.post("/v1/chat/completions")(self.chat)
        self.app = app

    def start(self) -> None:
        self.server = uvicorn.Server(uvicorn.Config(self.app, port=self.port, log_level="error"))
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join()

    def _note(self, body: dict[str, Any]) -> None:
        self.times.append(time.monotonic())
        self.now += 1
        self.most = max(self.most, self.now)
        time.sleep(self.pause)
        self.now -= 1
        if self.refuse:
            status, headers = self.refuse.pop()
            raise HTTPException(status, "not now", headers)
        self.asked.append(body)

    def continue_text(self, body: dict[str, Any]) -> dict[str, Any]:
        self._note(body)
        text = body["prompt"].upper()[: body["max_tokens"]]
        top = [{letter: -0.5, "?": -1.5} for letter in text] if "logprobs" in body and body["model"] != "mute" else None
        finish = "stop" if len(body["prompt"]) <= body["max_tokens"] else "length"
        said = top and {"tokens": list(text), "token_logprobs": [-0.5] * len(text), "top_logprobs": top}
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": said}
        return {"id": "1", "object": "text_completion", "created": 0, "model": body["model"], "choices": [choice]}

    def chat(self, body: dict[str, Any]) -> dict[str, Any]:
        self._note(body)
        text = " | ".join(f"{turn['role']}: {turn['content']}" for turn in body["messages"]).upper()
        best = [{"token": "A", "logprob": -0.5, "bytes": None}, {"token": "B", "logprob": -1.5, "bytes": None}]
        top = [{**best[0], "top_logprobs": best}] if body.get("logprobs") else None
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": top and {"content": top}}
        return {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}


@pytest.fixture
def served() -> Iterator[Served]:
    server = Served()
    server.start()
    yield server
    server.stop()


def prompts(tmp_path: Path, *rows: dict[str, Any]) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_texts_are_continued_and_messages_are_chats(served: Served) -> None:
    endpoint = Endpoint(served.url, "big", length=5, temperature=0.7, options={"top_p": 0.9}, key="secret")
    assert endpoint.answer("abc", seed=3) == {"completion": "ABC", "finish": "stop"}
    asked = {"model": "big", "prompt": "abc", "max_tokens": 5, "temperature": 0.7, "seed": 3, "top_p": 0.9}
    assert served.asked.pop() == asked
    assert endpoint.answer("abcdefg")["finish"] == "length"
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert endpoint.answer(turns)["completion"] == "SYSTEM: BE BRIEF | USER: HI"
    assert Endpoint(served.url, "big", chat=True).answer("hi")["completion"] == "USER: HI"
    assert "secret" not in repr(endpoint)


def test_log_probabilities_where_they_are_offered(served: Served) -> None:
    said = Endpoint(served.url, "big", log_probs=2).answer("ab")
    assert said["log_probs"] == [{"A": -0.5, "?": -1.5}, {"B": -0.5, "?": -1.5}] and said["tokens"] == ["A", "B"]
    assert served.asked[-1]["logprobs"] == 2
    chat = Endpoint(served.url, "big", log_probs=2, chat=True)
    said = chat.answer("hi")
    assert said["log_probs"] == [{"A": -0.5, "B": -1.5}] and said["tokens"] == ["A"]
    assert (served.asked[-1]["logprobs"], served.asked[-1]["top_logprobs"]) == (True, 2)
    with pytest.raises(ConfigError, match="no log-probabilities of mute: set log_probs to 0"):
        Endpoint(served.url, "mute", log_probs=2).answer("ab")


def test_answers_of_a_file_can_be_trained_on(served: Served, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "old"}]
    rows = [{"prompt": "x\u2028y", "domain": "math"}, {"messages": turns}, {"prompt": "x", "completion": "old"}]
    out = tmp_path / "out" / "answers.jsonl"
    assert write_answers(Endpoint(served.url, "big"), prompts(tmp_path, *rows), out, seed=10) == 3
    found = read(out)
    assert [row["row"] for row in found] == [1, 2, 3] and {row["model"] for row in found} == {"big"}
    assert [row["completion"] for row in found] == ["X\u2028Y", "USER: A", "X"]
    assert found[0]["domain"] == "math" and found[1]["prompt"] == turns[:1]
    assert sorted(one["seed"] for one in served.asked) == [11, 12, 13]
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}:"
    assert read_examples(out, tokenizer, context=64)[1] == Example(tuple(b"a:"), (*b"USER: A", 0))
    assert write_answers(Endpoint(served.url, "big"), tmp_path / "prompts.jsonl", out, seed=10) == 0
    assert read(out) == found and len(served.asked) == 3


def test_the_command_writes_answers_and_says_how_many(served: Served, tmp_path: Path) -> None:
    path, out = prompts(tmp_path, {"prompt": "ab"}, {"prompt": "cd"}), tmp_path / "answers.jsonl"
    how = ["answer", str(path), "--model", "tiny", "--url", served.url, "--out", str(out), "--json"]
    for written in (2, 0):
        said = CliRunner().invoke(app, how)
        assert json.loads(said.output) == {"answers": str(out), "written": written}
    assert [row["prompt"] for row in read(out)] == ["ab", "cd"] and all(row["completion"] for row in read(out))


def test_concurrency_and_rate_are_bounded(served: Served, tmp_path: Path) -> None:
    served.pause = 0.2
    path = prompts(tmp_path, *({"prompt": str(number)} for number in range(9)))
    write_answers(Endpoint(served.url, "big", concurrency=3), path, tmp_path / "fast.jsonl")
    assert served.most == 3
    served.pause, started = 0.0, time.monotonic()
    write_answers(Endpoint(served.url, "big", per_minute=1200), path, tmp_path / "slow.jsonl")
    assert time.monotonic() - started > 8 * 60 / 1200


def test_busy_servers_are_asked_again_and_refusals_are_named(served: Served, tmp_path: Path) -> None:
    served.refuse = [(503, {}), (429, {"retry-after": "0.2"})]
    started = time.monotonic()
    assert Endpoint(served.url, "big").answer("a")["completion"] == "A"
    assert len(served.times) == 3 and time.monotonic() - started > 0.2
    served.refuse = [(400, {})]
    path = prompts(tmp_path, {"prompt": "a"}, {"prompt": "b"})
    with pytest.raises(TrainingError, match=r"gives no answer of big: .*400.*not now"):
        write_answers(Endpoint(served.url, "big", concurrency=1), path, tmp_path / "out.jsonl")
    served.pause = 0.5
    with pytest.raises(TrainingError, match="timed out"):
        Endpoint(served.url, "big", timeout=0.1, retries=0).answer("a")
    with pytest.raises(TrainingError, match="gives no answer of big: Connection error"):
        Endpoint("http://127.0.0.1:9/v1", "big", retries=0).answer("a")


def test_a_server_that_dies_for_two_seconds_is_waited_for(served: Served, tmp_path: Path) -> None:
    served.pause = 0.02
    path = prompts(tmp_path, *({"prompt": str(number)} for number in range(60)))
    endpoint, out = Endpoint(served.url, "big", concurrency=2), tmp_path / "out.jsonl"
    writer = threading.Thread(target=write_answers, args=(endpoint, path, out))
    writer.start()
    while len(served.asked) < 10:
        time.sleep(0.01)
    served.stop()
    before = len(served.asked)
    time.sleep(2)
    assert before == len(served.asked) < 60 and writer.is_alive()
    served.start()
    writer.join()
    assert [row["completion"] for row in read(out)] == [str(number) for number in range(60)]


def test_a_killed_writer_goes_on_where_it_was(served: Served, tmp_path: Path) -> None:
    served.pause = 0.02
    path, out = prompts(tmp_path, *({"prompt": str(number)} for number in range(40))), tmp_path / "out.jsonl"
    endpoint = Endpoint(served.url, "big", concurrency=2)
    writer = multiprocessing.get_context("fork").Process(target=_write, args=(served.url, path, out))
    writer.start()
    while not out.exists() or len(read_complete(out)) < 5:
        time.sleep(0.01)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    with out.open("a") as file:
        file.write('{"row": 40, "completion": "cut sh')
    kept = read_complete(out)
    served.pause = 0.0
    assert write_answers(endpoint, path, out) == 40 - len(kept) and 5 <= len(kept) < 40
    found = read(out)
    assert [row["completion"] for row in found] == [str(number) for number in range(40)]
    assert all(row in found for row in kept)


def _write(url: str, path: Path, out: Path) -> None:
    write_answers(Endpoint(url, "big", concurrency=2), path, out)


def read_complete(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().rpartition("\n")[0].splitlines()]


def test_other_answers_and_bad_rows_are_refused(served: Served, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    write_answers(Endpoint(served.url, "big"), prompts(tmp_path, {"prompt": "a"}, {"prompt": "b"}), out)
    for model, rows in (("bigger", ["a", "b"]), ("big", ["a", "c"]), ("big", ["a"])):
        path = prompts(tmp_path, *({"prompt": row} for row in rows))
        with pytest.raises(TrainingError, match=rf"row \d: not what {model} answers to this prompt"):
            write_answers(Endpoint(served.url, model), path, out)
    with pytest.raises(TrainingError, match="row None: not what big answers"):
        write_answers(Endpoint(served.url, "big"), path, path)
    for row, words in (
        ({"text": "a"}, "expected"),
        ({"prompt": ""}, "the prompt is empty"),
        ({"messages": []}, "empty"),
    ):
        with pytest.raises(ConfigError, match=f"row 1: .*{words}"):
            write_answers(Endpoint(served.url, "big"), prompts(tmp_path, row), tmp_path / "new.jsonl")


def test_the_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'limbeck\[endpoint\]'"):
        Endpoint("http://127.0.0.1:9/v1", "big").answer("a")


@pytest.mark.slow
def test_the_server_of_transformers_dies_for_ten_seconds(tmp_path: Path) -> None:
    """Starts in five seconds on a free machine. It has no log-probabilities and repeats a sample with its seed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    model = save_model(tiny_llama(16, context=256), byte_tokenizer(), tmp_path / "model")
    path = prompts(tmp_path, *({"prompt": f"number {number}"} for number in range(40)))
    endpoint, out = (
        Endpoint(f"http://127.0.0.1:{port}/v1", str(model), length=24, concurrency=2),
        tmp_path / "out.jsonl",
    )

    def serve() -> subprocess.Popen[bytes]:
        command = [str(Path(sys.executable).with_name("transformers")), "serve", str(model), "--port", str(port)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    server = serve()
    try:
        _wait_for(port)
        writer = threading.Thread(target=write_answers, args=(endpoint, path, out))
        writer.start()
        while not out.exists() or len(read_complete(out)) < 5:
            time.sleep(0.01)
        server.kill()
        server.wait()
        time.sleep(10)
        assert writer.is_alive() and len(read_complete(out)) < 40
        server = serve()
        writer.join(timeout=120)
        found = read(out)
        assert [row["row"] for row in found] == list(range(1, 41))
        assert {row["finish"] for row in found} <= {"stop", "length"} and any(row["completion"] for row in found)
        with pytest.raises(ConfigError, match="no log-probabilities"):
            Endpoint(endpoint.url, str(model), log_probs=2).answer("number")
    finally:
        server.kill()
        server.wait()


def _wait_for(port: int) -> None:
    for _ in range(600):
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health"):
            return
        time.sleep(0.1)
    pytest.fail("the server did not start within a minute")
