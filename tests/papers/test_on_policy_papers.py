"""Papers about distillation on what the student wrote."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.papers import Numbers, g_opd, get
from limbeck.papers.g_opd import SCALES
from limbeck.papers.on_policy_distillation_survey import DIVERGENCES, ESTIMATORS, SEEKERS

pytest.importorskip("transformers")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def survey() -> Numbers:
    return get("on-policy-distillation-survey").measure(0, quick=True)


def test_a_bell_curve_covers_or_seeks(survey: Numbers) -> None:
    (teacher, *best), (_, *stuck) = survey["side"]
    by_name = dict(zip(DIVERGENCES, best, strict=True))
    assert 0.6 < teacher < 0.7 and abs(by_name["forward_kl"] - teacher) < 0.03
    assert all(by_name[name] > 0.99 for name in SEEKERS)
    assert dict(zip(DIVERGENCES, stuck, strict=True))["reverse_kl"] < 0.01
    assert survey["valley"][0, 1] > 0.3 > 0.01 > survey["valley"][0, 0]


def test_a_whole_vocabulary_is_less_noisy_and_as_myopic_as_samples(survey: Numbers) -> None:
    record = get("on-policy-distillation-survey").conclude([survey] * 3)
    assert all(np.all(passed) for passed in record.checks.values())
    variance = dict(zip(ESTIMATORS, survey["noise"], strict=True))
    assert variance["sampled"] > 4 * variance["full"]
    assert next(iter(record.effects)) == pytest.approx(np.log10(variance["sampled"] / variance["full"]))
    assert 0.1 < survey["bias"] / survey["size"] < 0.5
    assert min(record.details["equal"]) > 100  # as many sequences make up for it


def test_where_variances_meet_the_bias() -> None:
    flat = np.ones((2, 1 + len(DIVERGENCES)))
    one = {"noise": [9, 8, 7, 5, 2, 1], "size": 2.0, "bias": 0.5, "side": flat, "valley": flat}
    record = get("on-policy-distillation-survey").conclude([one] * 3)
    np.testing.assert_allclose(list(record.effects), np.log10(2))
    assert record.details["equal"].tolist() == [16.0] * 3  # (5 - 1) / 0.25
    assert "miss 25 ± 0 %" in record.notes[0]
    assert record.figure is not None
    (reinforce, *_, full), n = record.figure.series, 3000
    assert reinforce.y[-1] == pytest.approx((9 / n) ** 0.5 / 2)
    assert full.y[-1] == pytest.approx((1 / n + 0.25) ** 0.5 / 2)
    assert not np.all(record.checks["forward KL fills the valley"])


def test_larger_scales_carry_a_student_further(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(g_opd, "SCALES", SCALES[:3])
    found = get("g-opd").measure(0, quick=True)
    start, teacher, longer, small = found["before"]
    assert 35 < start < 45 and small < 25 and start + 10 < teacher < longer
    ((half, plain, beyond),) = found["students"]
    assert start < half < plain < beyond
    assert abs(plain - teacher) < 2  # as many points, s.e. 0.3 over seeds
    low, high = found["experts"]
    assert low > teacher + 5 and high > teacher + 5
    merged, alone = np.array(found["merged"]), np.array(found["experts"])
    assert (merged > start + 15).all() and (merged < alone).all()


def extrapolated(seed: int, shift: float = 0.0) -> Numbers:
    students = np.array([[60, 80, 83 + shift, 84, 86, 85], [61, 81, 84 + shift, 85, 88, 87.0]]) + 0.1 * seed
    before = [40 + 0.1 * seed, 80.5 + 0.1 * seed, 87, 20]
    pair = [[70, 72], [71, 70]]
    return {"before": before, "students": students, "small": pair, "experts": [90, 91], "merged": pair}


def test_the_verdict_on_scales_follows_from_the_numbers() -> None:
    record = get("g-opd").conclude([extrapolated(seed) for seed in range(3)])
    np.testing.assert_allclose(list(record.effects), 3.0)
    assert all(np.all(passed) for passed in record.checks.values())
    assert record.notes[0] == "λ = 1.25 over the teacher: +3.5 ± 0.0 points"
    assert record.notes[-1].endswith("-2.0 ± 0.0 points")
    assert record.figure is not None
    assert [one.name for one in record.figure.series][:2] == ["sampled, 200 steps", "full, 200 steps"]
    assert list(record.figure.series[0].x) == [*SCALES]
    worse = get("g-opd").conclude([extrapolated(seed, -4.0) for seed in range(3)])
    np.testing.assert_allclose(list(worse.effects), -1.0)
    assert [bool(np.all(passed)) for passed in worse.checks.values()] == [True, False, False]
