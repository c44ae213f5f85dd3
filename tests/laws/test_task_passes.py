from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import binom, nbinom

from limbeck.errors import FittingError
from limbeck.laws import PassCounts, draw_until, expected_draws, mle_mean, pass_at_k


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections):
    def one_pass(rows):
        for row in rows:
            assert_allclose(mle_mean(row["p"]), row["E_1_over_K"], rtol=1e-9)
            assert_allclose(mle_mean(row["p"]) / row["p"], row["ratio"], rtol=1e-9)

    def several(rows):
        for row in rows:
            assert_allclose(mle_mean(row["p"], row["r"]), row["value"], rtol=1e-9)

    def data(rows):
        for row in rows:
            done = [k is not None for k in row["K"]]
            passes = [row["r"] if finished else 0 for finished in done]
            counts = PassCounts(passes, [k or row["cap"] for k in row["K"]], row["r"])
            assert counts.finished.tolist() == done
            for estimator in ("mle", "umvu"):
                expected = [0.0 if value is None else value for value in row[estimator]]  # given up: counts as 0
                assert_allclose(counts.rates(estimator), expected, rtol=1e-9)

    walk_sections(
        parity("passuntil"),
        {"closed_form_r1": one_pass, "E_r_over_K": several, "dataset": data},
        ignore=["reference"],
    )


def test_bias_of_the_paper_s_estimator_at_the_ends():
    assert_allclose(mle_mean([0.0, 1.0]), [0.0, 1.0], atol=1e-12)
    assert_allclose(mle_mean(1e-9, 5), 1.25e-9, rtol=1e-6)  # r / (r - 1)


@pytest.mark.parametrize("p", [0.3, 1e-3])
@pytest.mark.parametrize("r", [2, 5, 20])
def test_default_rate_is_unbiased(p, r):
    draws = r + np.random.default_rng(0).negative_binomial(r, p, 100_000)
    rates = PassCounts(np.full(len(draws), r), draws, r).rates()
    assert abs(rates.mean() - p) < 4 * rates.std() / np.sqrt(len(rates))
    mle = PassCounts(np.full(len(draws), r), draws, r).rates("mle")
    assert abs(mle.mean() - mle_mean(p, r)) < 4 * mle.std() / np.sqrt(len(mle))


@pytest.mark.parametrize("p", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("r, cap", [(2, 7), (3, 20)])
def test_a_cap_leaves_the_rate_unbiased(p, r, cap):
    """Exact: sum over every way to stop."""
    k, c = np.arange(r, cap + 1), np.arange(r)
    counts = PassCounts(np.r_[np.full(len(k), r), c], np.r_[k, np.full(r, cap)], r)
    chance = np.r_[nbinom.pmf(k - r, r, p), binom.pmf(c, cap, p)]
    assert_allclose(chance.sum(), 1, rtol=1e-12)
    assert_allclose(chance @ counts.rates(), p, rtol=1e-12)
    assert_allclose(chance @ counts.draws, expected_draws(p, r, cap), rtol=1e-12)


@pytest.mark.parametrize("p", [0.004, 0.05, 0.5, 0.97])
def test_exact_intervals_cover(p):
    r, cap, level = 3, 200, 0.95
    k, c = np.arange(r, cap + 1), np.arange(r)
    counts = PassCounts(np.r_[np.full(len(k), r), c], np.r_[k, np.full(r, cap)], r)
    chance = np.r_[nbinom.pmf(k - r, r, p), binom.pmf(c, cap, p)]
    low, high = counts.intervals(level)
    assert chance @ ((low <= p) & (p <= high)) >= level
    assert high[-r] == pytest.approx(1 - 0.025 ** (1 / cap)) and low[-r] == 0  # no pass in `cap` draws
    assert high[0] == 1  # r passes in r draws
    assert PassCounts([0], [1000], 5).intervals(0.9)[1] == pytest.approx(3 / 1000, rel=5e-3)


@pytest.mark.parametrize("batch", [1, 3, 64, 1000])
def test_batches_draw_the_same_as_one_by_one(batch):
    stream = np.random.default_rng(0).random(1200) < 0.02

    def drawer():
        place = iter(range(0, 10**6))
        return lambda number: [stream[next(place)] for _ in range(number)]

    assert draw_until(drawer(), 5, cap=1000, batch=batch) == draw_until(drawer(), 5, cap=1000, batch=1)
    assert draw_until(lambda n: np.zeros(n), 5, cap=1000, batch=batch) == (0, 1000)


def test_instances_given_up_lower_the_mean():
    done = PassCounts([5, 5], [10, 20], 5)
    more = PassCounts([5, 5, 0, 2], [10, 20, 100, 100], 5)
    assert more.mean().value < done.mean().value
    assert more.censored == 0.5 and more.pooled == 12 / 230
    assert more.mean().lower <= more.mean().value <= more.mean().upper
    assert PassCounts([3, 0], [100, 100], None).rates().tolist() == [0.03, 0] and done.censored == 0


def test_pass_at_k_is_unbiased():
    n, k, p = 12, 4, 0.15
    c = np.arange(n + 1)
    assert_allclose(binom.pmf(c, n, p) @ pass_at_k(c, n, k), 1 - (1 - p) ** k, rtol=1e-12)
    with pytest.raises(FittingError, match="pass@13 needs 13 draws"):
        pass_at_k([1], [12], 13)


@pytest.mark.parametrize(
    "passes, draws, needed, words",
    [
        ([3], [2], 5, "instance 0 has 3 passes in 2 draws"),
        ([1, 7], [9, 9], 5, r"instance 1 has 7 passes in 9 draws: .* at most needed=5 \(None: a fixed number"),
        ([0], [0], None, "instance 0 has 0 passes in 0 draws"),
        ([float("nan")], [5], None, "instance 0 has nan passes"),
    ],
)
def test_counts_that_cannot_be_are_refused(passes, draws, needed, words):
    with pytest.raises(FittingError, match=words):
        PassCounts(passes, draws, needed)


def test_unbiased_rate_needs_two_passes():
    counts = PassCounts([1, 1], [4, 10], 1)
    with pytest.raises(FittingError, match="no unbiased rate from one pass"):
        counts.rates()
    assert counts.rates("mle").tolist() == [0.25, 0.1]
    with pytest.raises(FittingError, match='unknown estimator "mean"'):
        counts.rates("mean")
