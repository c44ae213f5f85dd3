"""What an endpoint says at every token, from a server that has a teacher: read, compared and trained on."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
import yaml
from fastapi import FastAPI

from limbeck.errors import ConfigError
from limbeck.lm import (
    CachedTeaching,
    Conversations,
    Divergence,
    Endpoint,
    byte_tokenizer,
    cache_answers,
    cache_teacher,
    distill,
    load_model,
    preview,
    read_examples,
    read_recipe,
    save_model,
    tiny_llama,
    trained_tokenizer,
    write_answers,
)

K, NUMBERS = 5, {"extra_body": {"return_tokens_as_token_ids": True}}
RECIPE = "student: student/\nsteps: 8\nbatch: 4\nout: out\ncontext: 48\nwarmup: 2\nlr: 1e-2\n"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher, a student and prompts."""
    folder = tmp_path_factory.mktemp("heard")
    for name, width, seed in (("teacher", 32, 1), ("student", 16, 3)):
        model = tiny_llama(width, context=64, seed=seed)
        with torch.no_grad():
            model.get_input_embeddings().weight.mul_(2 if name == "teacher" else 1)
            model.get_input_embeddings().weight[0] *= 4  # so that some answers end
        save_model(model, byte_tokenizer(), folder / name)
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"{k}+{k}="}) + "\n" for k in range(24)))
    return folder


class Speaking:
    """A server of the teacher: draws from its five favourites, names tokens by their numbers if it is asked to."""

    def __init__(self, folder: Path) -> None:
        self.model, self.asked = load_model(folder / "teacher").eval(), 0
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        app = FastAPI()
        app.post("/v1/completions")(self.complete)
        self.server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
        threading.Thread(target=self.server.run, daemon=True).start()
        while not self.server.started:
            time.sleep(0.01)

    @torch.no_grad()
    def complete(self, body: dict[str, Any]) -> dict[str, Any]:
        self.asked += 1
        ids, draw = list(body["prompt"].encode()), torch.Generator().manual_seed(body["seed"])
        start, places = len(ids), []
        while len(ids) < start + body["max_tokens"] and (len(ids) == start or ids[-1]):
            log_p = self.model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            best = log_p.topk(K)
            ids.append(int(best.indices[torch.multinomial(best.values.exp(), 1, generator=draw)]))
            places.append((ids[-1], log_p, best.indices.tolist()))
        by_number = body.get("return_tokens_as_token_ids")

        def name(token: int) -> str:
            return f"token_id:{token}" if by_number else bytes([token]).decode(errors="replace")

        said = {
            "tokens": [name(token) for token, *_ in places],
            "token_logprobs": [log_p[token].item() for token, log_p, _ in places],
            "top_logprobs": [{name(one): log_p[one].item() for one in best} for _, log_p, best in places],
        }
        text = bytes(ids[start:]).decode(errors="replace").removesuffix("\0")
        finish = "length" if ids[-1] else "stop"
        choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": said if "logprobs" in body else None}
        return {"id": "1", "object": "text_completion", "created": 0, "model": body["model"], "choices": [choice]}


@pytest.fixture(scope="module")
def server(shop: Path) -> Iterator[Speaking]:
    speaking = Speaking(shop)
    yield speaking
    speaking.server.should_exit = True


@pytest.fixture(scope="module")
def answers(shop: Path, server: Speaking) -> Path:
    endpoint = Endpoint(server.url, "tiny", length=8, log_probs=K, options=NUMBERS)
    write_answers(endpoint, shop / "prompts.jsonl", shop / "answers.jsonl")
    return shop / "answers.jsonl"


def write(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_what_was_said_over_http_is_what_the_teacher_would_say(shop: Path, answers: Path, tmp_path: Path) -> None:
    """The loss and its gradient, against a cache that the same teacher writes here."""
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert {row["finish"] for row in rows} == {"stop", "length"}
    examples = read_examples(answers, byte_tokenizer(), context=48, favourites=True)
    for row, one in zip(rows, examples, strict=True):
        assert one.answer == tuple(int(name[9:]) for name in row["tokens"]) and {len(p) for p in one.said} == {K}
        assert (one.answer[-1] == 0) == (row["finish"] == "stop")
    source = Conversations(examples, 4, 0)
    heard = cache_answers(examples, tmp_path / "heard")
    local = cache_teacher(shop / "teacher", source, 6, tmp_path / "local", form="topk", k=K)
    assert heard.mass() == pytest.approx(local.mass(), abs=1e-6)
    for divergence in (Divergence(), Divergence("reverse_kl"), Divergence("generalized_jsd", beta=0.3)):
        found = []
        for cache in (heard, local):
            student = load_model(shop / "student")
            loss = CachedTeaching(cache, divergence, ce_weight=0.25).loss(student, source(3))["loss"]
            loss.backward()
            found.append((loss.item(), student.get_input_embeddings().weight.grad))
        assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
        torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-6)


def test_places_with_fewer_favourites_and_an_end_of_which_nothing_was_said(shop: Path, tmp_path: Path) -> None:
    """Against the sum written out: KL over the favourites and one bucket, cross-entropy of the end."""
    said = [{"a": math.log(0.5), "b": math.log(0.3), "\ufffd": -5.0}, {"b": math.log(0.9)}]
    row = {"prompt": "x", "completion": "ab", "finish": "stop", "tokens": ["a", "b"], "log_probs": said}
    examples = read_examples(write(tmp_path / "row.jsonl", row), byte_tokenizer(), context=9, favourites=True)
    assert [[token for token, _ in place] for place in examples[0].said] == [[97, 98], [98], [0]]
    signal, student = CachedTeaching(cache_answers(examples, tmp_path / "cache")), load_model(shop / "student")
    loss = signal.loss(student, Conversations(examples, 1, 0)(0))["loss"].item()
    q = student(input_ids=torch.tensor([list(b"xab")])).logits[0].detach().double().softmax(-1)
    first = [(0.5, q[0, 97]), (0.3, q[0, 98]), (0.2, 1 - q[0, 97] - q[0, 98])]
    second = [(0.9, q[1, 98]), (0.1, 1 - q[1, 98])]
    expected = sum(p * math.log(p / mine) for p, mine in first + second) - math.log(q[2, 0])
    assert loss == pytest.approx(expected / 3, abs=1e-5)


def test_tokens_that_look_alike_are_told_apart_by_the_text(tmp_path: Path) -> None:
    parts = [{"\ufffd": -0.1, "n": -3.0}, {"\ufffd": -0.2}]
    row = {"prompt": "x", "completion": "é", "finish": "length", "tokens": ["\ufffd", "\ufffd"], "log_probs": parts}
    (one,) = read_examples(write(tmp_path / "row.jsonl", row), byte_tokenizer(), context=9, favourites=True)
    assert one.answer == tuple("é".encode()) and one.said == (((195, -0.1), (110, -3.0)), ((169, -0.2),))


def test_a_recipe_without_a_teacher_learns_from_log_probabilities(shop: Path, answers: Path) -> None:
    recipe = shop / "recipe.yaml"
    recipe.write_text(RECIPE + f"data: {answers.name}\n")
    result = distill(recipe, progress=False)
    (row,) = [json.loads(line) for line in (shop / "out/training/runs.jsonl").read_text().splitlines()]
    assert row["recipe"].startswith(f"distil cached topk float32 tail k={K} forward_kl temperature=1")
    assert (row["teacher"], row["teacher_params"], row["samples"]) == ("an endpoint", None, 32)
    held_out = [json.loads(line) for line in answers.read_text().splitlines()][::20]
    said = [place[name] for one in held_out for name, place in zip(one["tokens"], one["log_probs"], strict=True)]
    assert result.teacher_loss == pytest.approx(-sum(said) / len(said), rel=1e-6)
    assert result.student_loss < result.student_loss_before and "teacher" in result.summary()
    assert "parameters (without embeddings)" in result.summary()


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        ({"tokens": None}, {}, "row 1: log_probs need the tokens they are about"),
        ({"tokens": ["b"]}, {}, "row 1: log_probs need the tokens they are about"),
        ({"tokens": [], "log_probs": []}, {}, "row 1: log_probs need the tokens they are about"),
        ({"tokens": ["the"], "log_probs": [{"the": -1.0}]}, {}, "row 1: 'the' is no token of the student's"),
        ({"completion": "é", "tokens": ["\ufffd"], "log_probs": [{"\ufffd": -1.0}]}, {}, "row 1: '\ufffd' is no token"),
        ({"completion": "a b", "tokens": ["a", "b"], "log_probs": [{"a": -1.0}, {"b": -1.0}]}, {}, "tokens spell 'ab'"),
        ({"log_probs": None}, {}, "1 of 2 answers have log-probabilities"),
        ({}, {"method": {"name": "kd", "pack": True}}, "2 of 2 answers have log-probabilities: .* without pack"),
        ({}, {"divergence": {"temperature": 2.0}}, "the cache is at temperature 1, not 2"),
    ],
)
def test_what_cannot_be_learned_from(
    shop: Path, tmp_path: Path, change: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    row = {"prompt": "x", "completion": "a", "finish": "stop", "tokens": ["a"], "log_probs": [{"a": -1.0}]}
    first = {key: value for key, value in (row | change).items() if value is not None}
    data = write(tmp_path / "data.jsonl", first, row)
    recipe = {"student": shop / "student", "steps": 1, "out": tmp_path / "out", "data": data, "context": 24}
    with pytest.raises(ConfigError, match=words):
        distill(recipe | options, progress=False)
    assert distill(recipe | {"method": "sft"}, progress=False).steps == 1 or not change


def test_a_student_with_another_tokenizer_is_refused(shop: Path, answers: Path, tmp_path: Path) -> None:
    wide = trained_tokenizer(b"the quick brown fox jumps over the lazy dog " * 30, 280)
    save_model(tiny_llama(16, vocabulary=280, context=64), wide, tmp_path / "wide")
    row = {"prompt": "x", "completion": "qu", "tokens": ["q", "uz"], "log_probs": [{"q": -1.0}, {"uz": -1.0}]}
    data = write(tmp_path / "data.jsonl", row, row)
    recipe = {"student": tmp_path / "wide", "steps": 1, "out": tmp_path / "out", "data": data, "context": 24}
    with pytest.raises(ConfigError, match=r"'uz' is no token of the student's, or several: .* the teacher's"):
        distill(recipe, progress=False)


def far(server: Speaking, **more: Any) -> dict[str, Any]:
    return {"endpoint": server.url, "model": "tiny", **more}


@pytest.mark.parametrize(
    ("name", "more"),
    [("seqkd", {}), ("sft", {}), ("kd", {"log_probs": K, "concurrency": 2, "options": NUMBERS})],
    ids=["seqkd", "sft", "kd"],
)
def test_an_endpoint_in_a_recipe_writes_first(
    shop: Path, server: Speaking, tmp_path: Path, name: str, more: dict[str, Any]
) -> None:
    """Answers that are there are kept; the same training follows from a file of them."""
    out, method = tmp_path / "out", {"name": name, "length": 5}
    recipe = {"student": shop / "student", "data": shop / "prompts.jsonl", "steps": 6, "batch": 4, "context": 48}
    recipe |= {"lr": 1e-2, "warmup": 2, "method": method}
    before = server.asked
    with pytest.raises(ConfigError, match="give steps instead of tokens"):  # after the answers
        distill(recipe | {"teacher": far(server, **more), "out": out, "steps": None, "tokens": 9}, progress=False)
    written = out / "training" / "answers.jsonl"
    lines = written.read_text().splitlines(keepends=True)
    assert server.asked - before == 24 and all(len(json.loads(line)["completion"]) <= 5 for line in lines)
    written.write_text("".join(lines[:20]) + '{"row": 21, "comp')  # killed while it was written
    result = distill(recipe | {"teacher": far(server, **more), "out": out}, progress=False)
    assert server.asked - before == 28 and written.read_text().splitlines(keepends=True)[:20] == lines[:20]
    (row,) = [json.loads(line) for line in (out / "training" / "runs.jsonl").read_text().splitlines()]
    assert (row["teacher"], row["teacher_params"], row["samples"]) == ("tiny", None, 24)
    assert (result.teacher_loss is None) == (name != "kd") and "None" not in result.summary()
    assert result.to_dict()["teacher_loss_per_byte"] is None or name == "kd"
    trained = {"data": written, "out": tmp_path / "two", "method": "kd" if name == "kd" else "sft"}
    assert distill(recipe | trained, progress=False).student_loss == result.student_loss
    assert distill(recipe | {"teacher": far(server, **more), "out": out}, progress=False).already_finished
    assert server.asked - before == 28


@pytest.mark.parametrize(
    ("method", "more", "words"),
    [
        ("kd", {}, r"an endpoint only writes answers: method kd asks its teacher more\. Take seqkd or sft"),
        ("gkd", {"log_probs": 5}, "method gkd asks its teacher more"),
        ("opd", {}, "method opd asks its teacher more"),
        ("seqkd", {"modle": "x"}, r'teacher: unknown key "modle"\. Did you mean "model"'),
        ("seqkd", {"log_probs": -1}, 'teacher: "log_probs" must be'),
    ],
)
def test_an_endpoint_is_no_teacher_of_distributions(
    shop: Path, server: Speaking, tmp_path: Path, method: str, more: dict[str, Any], words: str
) -> None:
    recipe = {"student": shop / "student", "data": shop / "prompts.jsonl", "steps": 1, "out": tmp_path, "context": 48}
    before = server.asked
    with pytest.raises(ConfigError, match=words):
        distill(recipe | {"teacher": far(server, **more), "method": method}, progress=False)
    assert server.asked == before


def test_an_endpoint_reads_prompts_and_has_no_price(shop: Path, server: Speaking, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("a text\n" * 900)
    recipe = {"student": shop / "student", "steps": 1, "method": "seqkd", "teacher": far(server)}
    with pytest.raises(ConfigError, match=r"an endpoint answers prompts, and .*book.txt is no file of prompts"):
        distill(recipe | {"data": tmp_path / "book.txt", "out": tmp_path / "out"}, progress=False)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | {"student": str(shop / "student"), "data": "p.jsonl", "out": "out"}))
    with pytest.raises(ConfigError, match="what an endpoint costs nobody here can say"):
        preview(read_recipe(path))
    with pytest.raises(ConfigError, match='teacher: "model" is missing'):
        read_recipe(path, ["teacher={endpoint: http://localhost:1/v1}"])
