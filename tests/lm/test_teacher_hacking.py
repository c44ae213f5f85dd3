"""Proxy and golden distances, the verdict, and the alarm that needs no truth."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import TrainingError
from limbeck.lm import Batch, Example, HackingMonitor, Replay, Rollouts, distance, judge, law_alarm

STATES, LENGTH = 4, 6


class Markov(nn.Module):
    """The next token depends on the one before it."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(STATES, STATES, generator=torch.Generator().manual_seed(seed)))

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.table[input_ids])

    def sample(self, count: int, seed: int) -> Batch:
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.zeros(count, 1, dtype=torch.int64)
        for _ in range(LENGTH):
            chances = self.table.detach()[tokens[:, -1]].softmax(-1)
            tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=generator)], 1)
        return Batch.of(tokens)


def exact(a: Markov, b: Markov) -> float:
    """KL of whole sequences by a forward recursion over the states."""
    p, q = a.table.detach().double().softmax(-1), b.table.detach().double().softmax(-1)
    local, state, total = (p * (p / q).log()).sum(-1), torch.eye(STATES, dtype=torch.float64)[0], 0.0
    for _ in range(LENGTH):
        total += float(state @ local)
        state = state @ p
    return total


def test_sampled_distances_come_to_the_exact_one() -> None:
    a, b = Markov(0), Markov(1)
    found = distance(b, a, [a.sample(1500, seed) for seed in (1, 2)])
    assert abs(found.sequence - exact(a, b)) < 4 * found.error < 0.2
    assert found.token == pytest.approx(found.sequence / LENGTH)
    assert distance(a, a, [a.sample(10, 0)]).sequence == pytest.approx(0, abs=1e-6)
    reverse = distance(a, b, [a.sample(3000, 3)], "reverse_kl")  # the student writes
    assert abs(reverse.sequence - exact(a, b)) < 4 * reverse.error


def test_golden_is_proxy_where_the_teacher_is_the_truth() -> None:
    teacher, student, oracle = Markov(0), Markov(1), Markov(2)
    samples = [teacher.sample(64, 1)]
    same = HackingMonitor(teacher, samples, oracle=teacher, truth=samples).measure(student, 1)
    assert same["proxy"] == same["golden"] > 0
    truth = [oracle.sample(2000, 2)]
    copied = HackingMonitor(teacher, samples, oracle=oracle, truth=truth).measure(teacher, 1)
    assert copied["proxy"] == pytest.approx(0, abs=1e-6)
    error = distance(teacher, oracle, truth).error
    assert abs(copied["golden"] - exact(oracle, teacher)) < 4 * error < 0.3


@pytest.mark.parametrize(
    ("proxy", "golden", "verdict"),
    [
        ([3, 2, 1], [3, 2, 1], "healthy"),
        ([3, 2, 1], [3, 1, 1.01], "healthy"),
        ([3, 2, 1], [3, 1, 1.03], "hacking"),
        ([3, 1, 2], [3, 1, 1.03], "over-fitting"),
    ],
)
def test_the_verdict(proxy: list[float], golden: list[float], verdict: str) -> None:
    assert judge(proxy, golden) == verdict


def curve(rng: np.random.Generator, bend: float | None = None) -> tuple[Any, Any]:
    """A power law with a floor and 1 % noise; from the bend on a plateau, or a rise."""
    steps = np.unique(np.round(np.geomspace(50, 20_000, 30)))
    a, floor = rng.uniform(0.2, 0.8), rng.uniform(0, 0.15)
    level = rng.uniform(0.5, 2) * 50**a
    proxy = level * steps**-a + floor
    if bend is not None:
        turned = (level * bend**-a + floor) * (np.maximum(steps, bend) / bend) ** (0.1 * (rng.random() < 0.5))
        proxy = np.where(steps > bend, turned, proxy)
    return steps, proxy * np.exp(0.01 * rng.normal(size=len(steps)))


def alarms(count: int) -> tuple[float, float]:
    """Share of false alarms, and of bends found within a factor of two."""
    rng = np.random.default_rng(1)
    false = [law_alarm(*curve(rng)) is not None for _ in range(count)]
    found = [law_alarm(*curve(rng, bend=1000)) for _ in range(count)]
    return float(np.mean(false)), float(np.mean([one is not None and 500 <= one.step <= 2000 for one in found]))


def test_a_bend_alarms_and_a_law_does_not() -> None:
    false, found = alarms(12)
    assert false == 0 and found >= 11 / 12


@pytest.mark.slow
def test_rates_of_alarms() -> None:
    false, found = alarms(200)
    assert false < 0.05 and found >= 0.95


def test_an_alarm_tells_what_was_due() -> None:
    steps = np.geomspace(10, 10_000, 24)
    proxy = 2 * steps**-0.5 + 0.01
    assert law_alarm(steps, proxy * np.exp(0.003 * np.cos(7 * np.arange(24)))) is None
    bent = np.where(steps > 1000, 0.09, proxy)
    found = law_alarm(steps, bent * np.exp(0.003 * np.cos(7 * np.arange(24))))
    assert found is not None and found.step == steps[steps > 1000][0]
    assert found.expected == pytest.approx(proxy[steps == found.step][0], rel=0.02)
    assert "the curve leaves its law: 0.09" in found.summary()
    assert law_alarm(steps[:10], bent[:10]) is None  # too few to say


class Scripted(nn.Module):
    """A student as far from Markov(0) as it is told."""

    def __init__(self, base: Markov, far: float) -> None:
        super().__init__()
        self.base, self.far = base, far

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        logits = self.base.table[input_ids].clone()
        logits[..., 0] += self.far
        return SimpleNamespace(logits=logits)


def test_the_monitor_warns_once_or_stops(tmp_path: Path) -> None:
    teacher, steps = Markov(0), np.unique(np.round(np.geomspace(10, 10_000, 24))).astype(int)
    samples, path = [teacher.sample(32, 1)], tmp_path / "curves.json"
    far = np.where(steps > 1000, 0.4, 1.4 * steps**-0.25)  # the distance goes with its square

    def watch(monitor: HackingMonitor, which: slice) -> None:
        for step, value in zip(steps[which].tolist(), far[which].tolist(), strict=True):
            monitor.measure(Scripted(teacher, value), step)

    monitor = HackingMonitor(teacher, samples, path=path)
    watch(monitor, slice(0, 12))
    resumed = HackingMonitor(teacher, samples, path=path)
    assert resumed.report() == monitor.report()
    with pytest.warns(UserWarning, match="leaves its law") as caught:
        watch(resumed, slice(10, None))  # evaluated again from a checkpoint: no step twice
    assert len(caught) == 1
    report = resumed.report()
    assert report.steps == tuple(steps.tolist()) and report.golden == () and report.verdict is None
    assert "new teacher samples" in report.summary() and report.to_dict()["alarm"]["step"] > 1000
    assert report.plot().layout.xaxis.title.text == "step"
    with pytest.raises(TrainingError, match=r"stopped after step \d+"):
        watch(HackingMonitor(teacher, samples, act="stop"), slice(None))


def test_real_answers_are_a_truth_too() -> None:
    teacher, truth = Markov(0), [Markov(2).sample(16, 1), Markov(2).sample(5, 2)]
    monitor = HackingMonitor(teacher, [teacher.sample(8, 1)], truth=truth)
    found = monitor.measure(teacher, 3)["golden"]
    every = Batch.of(torch.cat([one.tokens for one in truth]))
    log_p = teacher.table.log_softmax(-1)[every.tokens[:, :-1]].gather(-1, every.labels[..., None])
    assert found == pytest.approx(-log_p.mean().item(), rel=1e-5)
    assert monitor.report().verdict == "healthy" and "best" in monitor.report().summary()


def test_replayed_pairs_come_back_and_fresh_ones_do_not() -> None:
    prompts = [Example((k,)) for k in range(6)]

    def sampler(asked: Any, seed: int) -> list[list[int]]:
        return np.random.default_rng(seed).integers(0, 10**9, (len(asked), 2)).tolist()

    epochs, seen = 5, []
    replay = Replay(prompts, 3, 0, [sampler], each=2)
    pairs = [pair for step in range(epochs * 4) for pair in replay.identities(step)]
    assert len(set(pairs)) == 12 and all(pairs.count(pair) == epochs for pair in set(pairs))
    online = Rollouts(
        prompts, 3, 0, sampler, watch=lambda _, rows, answers: seen.extend(zip(rows, map(tuple, answers), strict=True))
    )
    for step in range(20):
        online(step)
    assert len(seen) == len(set(seen)) == 60
