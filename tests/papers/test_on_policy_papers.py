"""Papers about distillation on what the student wrote."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.papers import Numbers, get
from limbeck.papers.on_policy_distillation_survey import DIVERGENCES, ESTIMATORS, SEEKERS

pytest.importorskip("transformers")


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
    assert min(record.details["sequences"]) > 100  # as many sequences make up for it


def test_where_variances_meet_the_bias() -> None:
    flat = np.ones((2, 1 + len(DIVERGENCES)))
    one = {"noise": [9, 8, 7, 5, 2, 1], "size": 2.0, "bias": 0.5, "side": flat, "valley": flat}
    record = get("on-policy-distillation-survey").conclude([one] * 3)
    np.testing.assert_allclose(list(record.effects), np.log10(2))
    assert record.details["sequences"].tolist() == [16.0] * 3  # (5 - 1) / 0.25
    assert "miss 25 ± 0 %" in record.notes[0]
    assert record.figure is not None
    (reinforce, *_, full), n = record.figure.series, 3000
    assert reinforce.y[-1] == pytest.approx((9 / n) ** 0.5 / 2)
    assert full.y[-1] == pytest.approx((1 / n + 0.25) ** 0.5 / 2)
    assert not np.all(record.checks["forward KL fills the valley"])
