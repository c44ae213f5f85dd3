"""Pass rates, weighted problems and two stages."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbeck.distill import Player, Trainer, beta_kernel
from limbeck.errors import ConfigError
from limbeck.lm import (
    Conversations,
    Divergence,
    Example,
    PassRates,
    Rollouts,
    StagedSignal,
    StagedSource,
    Teaching,
    Weighted,
    byte_tokenizer,
    final_answer,
    measure_pass_rates,
    same_final_answer,
    tiny_llama,
)
from limbeck.lm.slots import Batch, counted_logits, cross_entropy

PROBLEMS = [Example((1, 2 + k), tuple(range(5, 8 + k % 3))) for k in range(6)]
CHANCES = dict(zip((one.prompt for one in PROBLEMS), (0.0, 0.2, 0.5, 0.5, 0.9, 1.0), strict=True))


def sampler(prompts: Sequence[Sequence[int]], seed: int) -> list[list[int]]:
    """Right with a known chance, else wrong."""
    rng = np.random.default_rng(seed)
    right = {one.prompt: one.answer for one in PROBLEMS}
    return [list(right[tuple(p)]) if rng.random() < CHANCES[tuple(p)] else [9] for p in prompts]


def model(seed: int) -> Any:
    return tiny_llama(16, layers=1, vocabulary=12, context=16, heads=2, seed=seed)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"So \boxed{1} or rather \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("Sum: 3.\n#### 1,204", "1204"),
        ("The answer is 12.", "12"),
        ("Answer: $5$", "5"),
        ("two lines\nBerlin ", "Berlin"),
        ("", ""),
    ],
)
def test_final_answers(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_a_verifier_of_final_answers() -> None:
    verify = same_final_answer(byte_tokenizer())
    problem = Example(tuple(b"1+1="), (*b"one and one\n2", 0))
    assert verify(problem, [*b"easy\n#### 2", 0]) and verify(problem, [*b"#### 2"]) and not verify(problem, [*b"22", 0])


def test_rates_are_counted_by_the_verifier() -> None:
    found = measure_pass_rates(PROBLEMS, sampler, rollouts=400, seed=1, at_once=7)
    # s.e. of a rate 0.025 at most
    np.testing.assert_allclose(found.rates(), list(CHANCES.values()), atol=0.1)
    assert found.passes[0] == 0 and found.passes[-1] == 400
    assert found == measure_pass_rates(PROBLEMS, sampler, rollouts=400, seed=1, at_once=7)
    words = found.summary()
    assert "never 17%, always 17%" in words and "6 problems, 400 rollouts" in words
    with pytest.raises(ConfigError, match="two rollouts"):
        measure_pass_rates(PROBLEMS, sampler, rollouts=1)


def test_shrunk_rates_and_the_spread_without_bias() -> None:
    found = PassRates((0, 4, 8), 8)
    np.testing.assert_allclose(found.rates(1.0), [0.1, 0.5, 0.9])
    rng = np.random.default_rng(0)
    for p in (0.15, 0.5):
        many = PassRates(tuple(rng.binomial(8, p, 40_000)), 8).spread()
        assert many.mean() == pytest.approx(p * (1 - p), abs=0.003)  # s.e. below 0.0005


def test_equal_rates_are_no_weights() -> None:
    student, plain = model(0), Conversations(PROBLEMS, 6, seed=3)
    weighted = Weighted(partial(Conversations, batch=6, seed=3), PROBLEMS, beta_kernel([0.3] * 6))
    batch = weighted(0)
    lengths = batch.mask.sum(1).float()
    torch.testing.assert_close(batch.weight * lengths, lengths.mean().expand(6))
    even = [Example((1, 2 + k), (5, 6, 7)) for k in range(6)]
    batches = Conversations(even, 6, 3)(0), Weighted(partial(Conversations, batch=6, seed=3), even, [0.21] * 6)(0)
    gradients = []
    for one in batches:
        student.zero_grad()
        loss = cross_entropy(counted_logits(student, one), one)
        loss.backward()
        gradients.append([loss.detach(), *(p.grad.clone() for p in student.parameters())])
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)
    assert plain(0).tokens.tolist() == batch.tokens.tolist()


def test_the_weighted_loss_is_a_weighted_mean_of_means() -> None:
    student, w = model(1), np.array([0.1, 0.2, 0.3, 0.2, 0.1, 0.25])
    source = Weighted(partial(Conversations, batch=4, seed=5), PROBLEMS, w)
    batch, examples = source(0), source.source.at(0)
    each = []
    for one in examples:
        single = Conversations([one], 1, 0)(0)
        each.append(cross_entropy(counted_logits(student, single), single).item())
    own = np.array([w[PROBLEMS.index(one)] for one in examples])
    expected = (own / own.mean() * each).mean()
    assert cross_entropy(counted_logits(student, batch), batch).item() == pytest.approx(expected, rel=1e-5)


def test_what_always_or_never_passes_is_not_learnt_from() -> None:
    source = Weighted(partial(Conversations, batch=4, seed=0), PROBLEMS, beta_kernel(list(CHANCES.values())))
    seen = {one.prompt for step in range(8) for one in source.source.at(step)}
    assert seen == {one.prompt for one in PROBLEMS[1:5]}
    with pytest.raises(ConfigError, match="no problem is left"):
        Weighted(partial(Conversations, batch=4, seed=0), PROBLEMS[:1], beta_kernel([0.0]))
    batch = Batch.of(torch.tensor([[1, 2, 3], [4, 5, 6]]), weight=torch.tensor([0.0, 1.0]))
    logits = torch.zeros(2, 2, 12, requires_grad=True)
    cross_entropy(logits[batch.mask], batch).backward()
    assert logits.grad[0].abs().max() == 0 and logits.grad[1].abs().max() > 0


def test_rates_are_kept_for_a_training_that_goes_on(tmp_path: Path) -> None:
    calls = []

    def measure() -> PassRates:
        calls.append(1)
        return PassRates((0, 3), 4, step=7)

    path = tmp_path / "out" / "rates.json"
    assert PassRates.kept(path, measure) == PassRates.kept(path, measure) == PassRates((0, 3), 4, step=7)
    assert len(calls) == 1


def train(signal: Any, source: Any, steps: int) -> list[torch.Tensor]:
    student = model(2)
    player = Player("student", student, torch.optim.SGD(student.parameters(), lr=0.1))

    def loss(_: str, batch: Any, step: int) -> Any:
        return signal.loss(student, batch, step)

    Trainer([player], loss, source, steps=steps, frozen=signal.frozen, progress=False).run()
    return [p.detach().clone() for p in student.parameters()]


def test_a_second_stage_of_no_steps_changes_nothing() -> None:
    teacher = model(9)
    forward, reverse = Teaching(teacher, Divergence("forward_kl")), Teaching(teacher, Divergence("reverse_kl"))
    first = Weighted(partial(Conversations, batch=3, seed=1), PROBLEMS, [0.25] * 6)
    made = []

    def second() -> Any:
        made.append(1)
        return Rollouts(PROBLEMS, 3, 1, sampler)

    plain = train(forward, first, 4)
    staged = [train(StagedSignal(forward, reverse, n), StagedSource(first, second, n), 4) for n in (4, 2)]
    assert all(torch.equal(a, b) for a, b in zip(plain, staged[0], strict=True))
    assert made == [1]  # once, and only where it begins
    assert not all(torch.equal(a, b) for a, b in zip(plain, staged[1], strict=True))
    signal = StagedSignal(forward, reverse, 2)
    assert signal.frozen == (teacher,)
    assert signal.describe().endswith("from step 2 distil reverse_kl temperature=1")
