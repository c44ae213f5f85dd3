from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.stats import kendalltau

from limbeck.errors import PlanningError
from limbeck.planning import LogRatio, crossings, decision_accuracy, lower_envelope, regime, value_of_rung


def gap(first, second):
    """B - A of two curves (E, A, alpha)."""
    (e, a, p), (f, b, q) = first, second
    return lambda c: f + b * c**-q - e - a * c**-p


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections):
    def equal_floor(cases):
        for case in cases:
            assert set(case) == {"A", "B", "C"}
            found = crossings(gap((0.0, *case["A"]), (0.0, *case["B"])), 1.0, 1e12)
            assert_allclose(found, [case["C"]], rtol=1e-10)

    def logratio(cases):
        for case in cases:
            assert set(case) == {"lnC", "lnratio", "target", "slope", "intercept", "mean", "sd", "p_A_better"}
            line = LogRatio.through(case["lnC"], case["lnratio"])
            at = case["target"]
            got = line.slope, line.intercept, line.mean(at), line.sd(at), line.first_better(at)
            expected = [case[name] for name in ("slope", "intercept", "mean", "sd", "p_A_better")]
            assert_allclose(got, expected, rtol=1e-10, atol=1e-15)

    checks = {"equal_floor": equal_floor, "logratio": logratio}
    walk_sections(parity("scaling-law-crossover"), checks, ignore=("reference",))


def test_crossings_in_closed_form():
    assert_allclose(crossings(gap((1.5, 10, 0.1), (1.5, 20, 0.15)), 1.0, 1e9), [2.0**20], rtol=1e-9)
    floor = (30.0 - 10.0) / 0.5  # (A_B - A_A)/(E_A - E_B), to the power 1/a
    assert_allclose(crossings(gap((2.0, 10, 0.25), (1.5, 30, 0.25)), 1.0, 1e9), [floor**4], rtol=1e-9)
    twice = crossings(lambda c: (np.log(c) - 1) * (np.log(c) - 3), 0.1, 1e3)
    assert_allclose(twice, np.exp([1.0, 3.0]), rtol=1e-9)
    assert crossings(gap((1.0, 8.0, 0.1), (1.0, 10.0, 0.1)), 1.0, 1e12) == ()
    assert crossings(lambda c: 0 * c, 1.0, 1e9) == ()


@pytest.mark.parametrize("seed", range(20))
def test_crossings_are_antisymmetric_and_scale(seed):
    rng = np.random.default_rng(seed)
    e, f = rng.uniform(0.5, 2.0, 2)
    a, b = rng.uniform(1.0, 30.0, 2)
    p, q = rng.uniform(0.05, 0.5, 2)
    low, high, s = 1.0, 1e8, rng.uniform(0.1, 100.0)
    found = crossings(gap((e, a, p), (f, b, q)), low, high)
    assert_allclose(crossings(gap((f, b, q), (e, a, p)), low, high), found, rtol=1e-12)
    scaled = gap((e, a * s**p, p), (f, b * s**q, q))
    assert_allclose(crossings(scaled, low * s, high * s), [s * x for x in found], rtol=1e-6)
    lifted = gap((e + 3.0, a, p), (f + 3.0, b, q))
    assert_allclose(crossings(lifted, low, high), found, rtol=1e-6)


def test_the_line_through_ratios_widens_with_distance():
    line = LogRatio(0.0, 0.0, 3.0, 10.0, 1.0, 5)  # five rungs at 1 to 5
    inside, one, two = line.sd([5.0, 6.0, 7.0])
    assert (one, two) == pytest.approx((1.449, 1.673), abs=1e-3)  # times the noise of one pair
    assert inside < one
    assert line.sd([3.0])[0] == pytest.approx(np.sqrt(1.2))
    rows = line.rows(np.array([6.0, 7.0]), 20000, 0)
    assert_allclose(rows[0], 0.0)
    # t of 3 degrees of freedom has variance 3; its quartile is 0.765 (s.e. 0.01)
    spread = np.quantile(np.abs(rows[1:]), 0.5, axis=0) / np.sqrt(1 / 5 + np.array([9.0, 16.0]) / 10)
    assert_allclose(spread, 0.765, atol=0.04)
    with pytest.raises(PlanningError, match="3 scales; given 2"):
        LogRatio.through([1.0, 2.0], [0.1, 0.2])


def test_ratio_is_antisymmetric():
    x, y = np.array([1.0, 2.0, 4.0, 5.0]), np.array([-0.1, 0.02, 0.05, 0.03])
    there, back = LogRatio.through(x, y), LogRatio.through(x, -y)
    assert there.first_better(7.0) + back.first_better(7.0) == pytest.approx(1.0)


def test_value_of_a_rung():
    rng = np.random.default_rng(0)
    now = rng.normal(0.0, 0.01, 500)
    then = 2 * now + rng.normal(0.0, 0.002, 500)
    value = value_of_rung(now, then, 0.003)
    assert 0 < value < np.maximum(0, then).mean()
    assert value_of_rung(-now, -then, 0.003) == pytest.approx(value, rel=0.3)  # other noise: s.e. 7 %
    small = [value_of_rung(s * now, s * then, s * 0.003) for s in (1e-2, 1e-4)]
    assert_allclose(small, [1e-2 * value, 1e-4 * value], rtol=1e-6)
    assert value_of_rung(now, np.full(500, 0.1), 0.003) == 0.0  # nothing to decide
    assert value_of_rung(np.zeros(5), np.zeros(5), 0.0) == 0.0


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 10**6), min_size=3, max_size=12, unique=True), st.integers(0, 1000))
def test_decision_accuracy_is_kendall(values, seed):
    other = np.random.default_rng(seed).permutation(len(values)).astype(float)
    found = decision_accuracy(values, other, bootstrap=50)
    assert found.value == pytest.approx((kendalltau(values, other).statistic + 1) / 2)
    assert 0 <= found.lower <= found.upper <= 1


def test_decision_accuracy_needs_two_methods():
    with pytest.raises(PlanningError, match="two or more methods; given 1"):
        decision_accuracy([1.0], [2.0])


def test_regimes():
    assert regime(0.9, 0.01, 0.01) == "scaling"
    assert regime(0.9, 0.03, 0.01) == regime(3.0, 0.0, 0.01) == "generalisation"


def test_envelope_of_a_sweep():
    lr, seeds = np.array([1e-4, 1e-3, 1e-2]), 2
    x, rate = np.repeat([1.0, 2.0], 3 * seeds), np.tile(np.repeat(lr, seeds), 2)
    k = 0.2
    best = np.where(x == 1.0, np.log(1e-3), np.log(1e-2))
    loss = 2.0 + k / 2 * (np.log(rate) - best) ** 2
    found = lower_envelope(x, loss, {"lr": rate})
    assert_allclose(rate[found.best], [1e-3, 1e-3, 1e-2, 1e-2])
    assert found.notes == ("best lr 0.01 at 2 lies at the border of its sweep",)
    assert found.mistuned == pytest.approx(k * np.log(10) ** 2 / 8)
