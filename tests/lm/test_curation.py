"""Choosing teachers, questions and answers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from limbeck.errors import ConfigError
from limbeck.lm import (
    Example,
    byte_tokenizer,
    farthest,
    fault,
    hardest,
    latent_shift,
    same_final_answer,
    smoke_test,
    token_entropy,
    trace_distance,
    try_questions,
)


def plain_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """The textbook table."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def words(rng: np.random.Generator, longest: int = 12) -> list[int]:
    return rng.integers(0, 4, rng.integers(0, longest)).tolist()


def test_the_distance_is_a_metric_and_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    assert trace_distance("kitten", "sitting") == 3 and trace_distance([], [5, 6]) == 2
    for _ in range(200):
        a, b, c = words(rng), words(rng), words(rng)
        d = trace_distance(a, b)
        assert d == plain_distance(a, b) == trace_distance(b, a)
        assert trace_distance(a, a) == 0 and d <= trace_distance(a, c) + trace_distance(c, b)
        relabelled = [[900 - 7 * x for x in one] for one in (a, b)]
        assert trace_distance(*relabelled) == d
        if a or b:
            assert trace_distance(a, b, normalised=True) == pytest.approx(d / max(len(a), len(b)))


def spread(traces: Sequence[Sequence[int]], some: Sequence[int]) -> float:
    return sum(trace_distance(traces[i], traces[j]) for i, j in combinations(some, 2))


def test_few_answers_are_chosen_exactly() -> None:
    rng = np.random.default_rng(1)
    for m, keep in product((3, 6, 8), (1, 2, 4)):
        traces = [words(rng) for _ in range(m)]
        found = farthest(traces, keep)
        if keep >= m:
            assert found == list(range(m))
        else:
            assert spread(traces, found) == max(spread(traces, some) for some in combinations(range(m), keep))
    assert farthest(["a", "b"], 5) == [0, 1]
    assert farthest(["x", "y", "z", "w"], 2) == [0, 1]  # all alike: the first
    assert farthest(["ab", "ab", "cd"], 1) == [0]


def test_many_answers_are_chosen_greedily_and_well(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    cases = [[words(rng) for _ in range(9)] for _ in range(30)]
    best = [spread(traces, farthest(traces, 4)) for traces in cases]
    monkeypatch.setattr("limbeck.lm.curation.EXACT", 0)
    greedy = [farthest(traces, 4) for traces in cases]
    ratios = [spread(traces, some) / most for traces, some, most in zip(cases, greedy, best, strict=True)]
    assert min(ratios) >= 0.5 and np.mean(ratios) > 0.95
    assert farthest(["x", "y", "z", "w"], 3) == [0, 1, 2] and farthest(["a", "b", "c"], 1) == [0]
    assert greedy == [farthest(traces, 4) for traces in cases]


@pytest.mark.parametrize("keep", [0.0, 0.25, 0.3, 1.0])
def test_the_hardest_questions_stay(keep: float) -> None:
    rng = np.random.default_rng(3)
    for n in (1, 7, 40):
        rates = rng.integers(0, 9, n) / 8
        kept = hardest(rates, keep)
        rest = np.setdiff1d(np.arange(n), kept)
        assert len(kept) == round(keep * n)
        if len(kept) and len(rest):
            assert rates[kept].max() <= rates[rest].min()


def test_of_equally_hard_questions_the_longer_stays() -> None:
    assert hardest([0.5, 0.5, 0.5, 0.9], 0.25, [3, 9, 4, 99]).tolist() == [1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<think>1 and 1</think>\n2", None),
        ("2", "not one block of thinking and an answer"),
        ("<think>1 and 1 2", "not one block of thinking and an answer"),
        ("1</think>2", "not one block of thinking and an answer"),
        ("<think>a</think><think>b</think>2", "not one block of thinking and an answer"),
        ("<think>a</think>  ", "not one block of thinking and an answer"),
        ("<think>a</think>3", "wrong"),
        ("<think>" + "a" * 60 + "</think>2", "76 tokens, more than 60"),
    ],
)
def test_every_fault_has_a_reason(text: str, reason: str | None) -> None:
    tokenizer = byte_tokenizer()
    question = Example(tuple(b"1+1="), tuple(b"2"))
    verify = same_final_answer(tokenizer)
    assert fault(question, [*text.encode()], tokenizer, lambda e, a: text.endswith("2"), longest=60) == reason
    assert fault(question, [*b"2", 0], tokenizer, verify, think=("", "")) is None


class Uniform(nn.Module):
    """Says nothing; or always one token."""

    def __init__(self, size: int, sure: bool = False) -> None:
        super().__init__()
        self.size, self.sure = size, sure

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        logits = torch.zeros(*input_ids.shape, self.size)
        logits[..., 0] += 100.0 * self.sure
        return SimpleNamespace(logits=logits)


def test_a_corpus_is_as_surprising_as_the_model_is_unsure() -> None:
    examples = [Example((1, 2), (3, 0)), Example((4,), (1, 2, 0))] * 10
    assert token_entropy(Uniform(7), examples) == pytest.approx(np.log(7), rel=1e-6)
    assert token_entropy(Uniform(7, sure=True), examples) == pytest.approx(0, abs=1e-6)


def test_the_latent_shift_is_that_of_the_means() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(size=(200, 2)) @ rng.normal(size=(2, 8))
    step = 2 * base[0] / np.linalg.norm(base[0])
    assert latent_shift(base, base + step) == pytest.approx(2.0, rel=1e-6)  # within the plane of the states
    assert latent_shift(base, base) == 0


def test_the_smoke_test_never_takes_the_teacher_of_random_labels() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        truth = rng.integers(0, 4, 400)
        good = [(k, int(truth[k])) for k in range(60)]
        noise = [(k, int(rng.integers(0, 4))) for k in range(90)]

        def trial(items: Sequence[tuple[int, int]], s: int, truth: Any = truth) -> float:
            return float(np.mean([truth[k] == label for k, label in items])) + 0.01 * s

        found = smoke_test({"noise": noise, "good": good}, trial)
        assert found.best == "good" and found.sizes == {"noise": 60, "good": 60}
    assert "good: the student learns most from it" in found.summary()
    with pytest.raises(ConfigError, match="every teacher needs examples"):
        smoke_test({"a": [], "b": [1]}, trial)


def test_equal_teachers_are_told_apart_by_entropy() -> None:
    corpora = {"a": [1, 2], "b": [3, 4]}
    assert smoke_test(corpora, lambda items, seed: 0.5, entropy={"a": 0.7, "b": 0.4}).best == "b"
    assert smoke_test(corpora, lambda items, seed: 0.5).best == "a"


def test_questions_that_lose_to_chance_are_not_recommended() -> None:
    questions, chosen = list(range(40)), list(range(10))

    def easy(items: Sequence[int], seed: int) -> float:
        return len(set(items)) / 40 + np.mean(items) / 100 + seed / 1000

    found = try_questions(questions, chosen, easy)
    assert found.best == "all" and "do not beat as many at random" in found.reason
    assert found.sizes == {"chosen": 10, "random": 10, "all": 40}

    def hard(items: Sequence[int], seed: int) -> float:
        return 1 - float(np.mean(items)) / 40 + seed / 1000

    found = try_questions(questions, chosen, hard)
    assert found.best == "chosen" and "chosen questions beat" in found.reason
    assert found.scores["chosen"][1] == pytest.approx(1 - 4.5 / 40 + 0.001)
    assert found.to_dict()["best"] == "chosen"
