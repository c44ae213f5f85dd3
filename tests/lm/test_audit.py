"""Agreement, BLEU, gains and trends on hand tables, and their bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from limbeck.errors import ConfigError
from limbeck.fitting import calibration_error, holm
from limbeck.lm import agreement, bleu, clustered_mean, paired_gain, trend
from limbeck.lm.audit import SPLIT, _rank_correlation


def test_agreement_on_a_hand_table() -> None:
    truth = list("aaaabbbbcc")
    teacher = list("aaabbbbacc")  # errs at 3 and 7
    student = list("aabbbbaaca")  # errs at 2, 3, 6, 7, 9
    found = agreement(student, teacher, truth)
    assert found.same.value == 0.7
    assert found.split == dict(zip(SPLIT, (0.5, 0, 0.3, 0.2, 0), strict=True))
    assert found.copied == 1.0
    chance = (5 * 4 + 4 * 4 + 1 * 2) / 100  # a, b and c in student and teacher
    assert found.kappa == pytest.approx((0.7 - chance) / (1 - chance))
    assert found.same.lower < 0.7 < found.same.upper


def test_kappa_of_two_who_guess_is_nothing() -> None:
    found = agreement(["x", "x", "y", "y"], ["x", "y", "x", "y"], ["x"] * 4)
    assert found.same.value == 0.5 and found.kappa == 0
    assert agreement(["x"] * 3, ["x"] * 3, ["x"] * 3).kappa == 1.0
    assert agreement(["x"] * 3, ["x"] * 3, ["x"] * 3).copied is None
    with pytest.raises(ConfigError, match="must be paired: 1, 2 and 2"):
        agreement(["x"], ["x", "y"], ["x", "y"])


def test_bleu_by_hand() -> None:
    assert bleu(["The cat, asleep."], ["the cat, asleep."]) == 100
    assert bleu(["one two"], ["three four"]) == 0
    # 3 of 4 words; 1 of 3 pairs, 0 of 2 triples, 0 of 1 quadruple, with one added to both
    expected = 100 * (3 / 4 * 2 / 4 * 1 / 3 * 1 / 2) ** 0.25
    assert bleu(["a b x d"], ["a b c d"]) == pytest.approx(expected)
    short = 100 * np.exp(1 - 4 / 2)
    assert bleu(["a b"], ["a b c d"]) == pytest.approx(short)
    assert bleu(["a a a"], ["a b c"]) == pytest.approx(100 * (1 / 3 * 1 / 3 * 1 / 2 * 1) ** 0.25)  # clipped


def test_holm_is_monotone_and_bounded() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        p = rng.random(7) ** 3
        found = holm(p)
        assert (np.diff(found[np.argsort(p)]) >= 0).all() and (found >= p).all() and found.max() <= 1
        assert found[p.argmin()] == min(1, 7 * p.min())
    assert holm([0.5]).tolist() == [0.5]


def test_duplicated_rows_do_not_narrow_a_clustered_interval() -> None:
    y = np.random.default_rng(1).normal(size=40)
    one = clustered_mean(y, level=0.9)
    copied = clustered_mean(np.repeat(y, 4), np.repeat(np.arange(40), 4), level=0.9)
    naive = clustered_mean(np.repeat(y, 4), level=0.9)
    assert copied.value == pytest.approx(one.value)
    assert copied.upper - copied.lower == pytest.approx(one.upper - one.lower)
    assert naive.upper - naive.lower < 0.6 * (copied.upper - copied.lower)
    half = (one.upper - one.lower) / 2
    assert half == pytest.approx(1.645 * y.std() / np.sqrt(40), rel=0.1)


def test_a_paired_gain_counts_who_changed() -> None:
    before = np.repeat([True, False, True, False], [50, 30, 4, 16])
    after = np.repeat([True, False, False, True], [50, 30, 4, 16])
    found = paired_gain(before, after)
    assert (found.before, found.after) == (0.54, 0.66)
    assert found.gain.value == pytest.approx(0.12) and found.headroom == pytest.approx(0.12 / 0.46)
    assert found.p == pytest.approx(2 * sum(__import__("math").comb(20, k) for k in range(5)) / 2**20)
    assert paired_gain([True], [True]).p == 1 and paired_gain([True], [True]).headroom is None


def test_a_trend_and_its_clusters() -> None:
    rng = np.random.default_rng(2)
    x = np.arange(30.0)
    found = trend(x, x + rng.normal(size=30))
    assert found.rho.value > 0.98 and found.p < 0.002 and found.rho.lower > 0.9
    none = trend(x, rng.normal(size=30))
    assert none.rho.lower < 0 < none.rho.upper and none.p > 0.05
    clusters = np.repeat(np.arange(6), 5)
    level = rng.normal(size=6)[clusters]
    alone, together = trend(x, level), trend(x, level, clusters)
    assert together.rho.upper - together.rho.lower > alone.rho.upper - alone.rho.lower
    assert alone.to_dict()["rho"]["value"] == together.rho.value


def test_weighted_ranks_are_those_of_repeated_points() -> None:
    rng = np.random.default_rng(3)
    x, y, w = rng.integers(0, 5, 12), rng.normal(size=12), rng.integers(0, 4, (6, 12))
    found = _rank_correlation(x.astype(float), y, w.astype(float))
    expected = [spearmanr(np.repeat(x, row), np.repeat(y, row)).statistic for row in w]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert trend(x, y).rho.value == pytest.approx(spearmanr(x, y).statistic)


def test_a_calibrated_model_has_no_error() -> None:
    assert calibration_error(np.full(10, 0.7), [1] * 7 + [0] * 3) == pytest.approx(0)
    assert calibration_error([1.0, 0.5], [0, 1]) == pytest.approx(0.75)
