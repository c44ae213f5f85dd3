from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import norm

from limbeck.errors import FittingError
from limbeck.theory import max_margin, pruned_perceptron, pruning_frontier


@pytest.mark.parity
def test_reference_solutions(parity, walk_sections):
    def check(cases):
        alpha, fraction, angle = (np.array([case[key] for case in cases]) for key in ("alpha_prune", "f", "theta"))
        found = pruned_perceptron(alpha, fraction, angle, [case["keep"] for case in cases])
        assert {key for case in cases for key in case} <= {
            *("alpha_prune", "f", "theta", "keep", "eps", "kappa", "R", "rho"),
        }
        assert (np.abs(found.error - [case["eps"] for case in cases]) < np.where(angle == 0, 1e-6, 3e-5)).all()
        assert_allclose(found.margin, [case["kappa"] for case in cases], atol=1e-6)
        assert_allclose(found.overlap, [case["R"] for case in cases], atol=3e-5)
        with_rho = [i for i, case in enumerate(cases) if "rho" in case]
        assert_allclose(found.probe_overlap[with_rho], [cases[i]["rho"] for i in with_rho], atol=3e-5)

    walk_sections(parity("data-pruning"), {"cases": check}, ignore=("note",))


def legendre(low, high, count):
    x, w = np.polynomial.legendre.leggauss(count)
    return low + (high - low) * (x + 1) / 2, (high - low) * w / 2


@pytest.mark.parametrize("keep", ["hard", "easy"])
@pytest.mark.parametrize(("alpha", "fraction", "angle"), [(1.0, 0.3, 0.3), (3.0, 0.6, 0.8), (8.0, 0.4, 1.2)])
def test_saddle_point_equations_hold(alpha, fraction, angle, keep):
    found = pruned_perceptron(alpha, fraction, angle, keep)
    R, rho, kappa = float(found.overlap), float(found.probe_overlap), float(found.margin)
    sin, cos = np.sin(angle), np.cos(angle)
    cut = norm.isf((1 - fraction) / 2) if keep == "hard" else norm.isf(fraction / 2)
    one, weight = legendre(0, cut, 200) if keep == "hard" else legendre(cut, 9, 200)
    z, wz = np.concatenate([-one, one])[:, None], np.tile(weight * norm.pdf(one), 2)[:, None] / fraction
    t, wt = legendre(-9, kappa, 400)
    width = np.sqrt(sin**2 - R**2 - rho**2 + 2 * rho * R * cos)
    gamma = z * (rho * R - cos) - t * (R - rho * cos)
    delta = z**2 * (rho**2 + cos**2 - 2 * rho * R * cos) + 2 * t * z * (R * cos - rho) + t**2 * sin**2
    rest = 1 - rho**2
    w = norm.pdf(t, rho * z, np.sqrt(rest)) * norm.sf(gamma / (np.sqrt(rest) * width))
    bell, short = np.exp(-delta / (2 * width**2)), kappa - t

    def mean(values):
        return float((wz * wt * values).sum())

    first = (R - rho * cos) / sin**2 - alpha / (np.pi * width) * mean(bell * short)
    second = 1 - (rho**2 + R**2 - 2 * rho * R * cos) / sin**2 - 2 * alpha * mean(w * short**2)
    inner = w * (z - rho * t) / rest + bell / (2 * np.pi * width) * (rho * R - cos) / rest
    third = (rho - R * cos) / sin**2 - 2 * alpha * mean(inner * short)
    assert max(abs(first), abs(second), abs(third)) < 1e-5


@pytest.mark.parametrize(("alpha", "fraction"), [(1.0, 0.3), (4.0, 0.3), (10.0, 0.8)])
def test_saddle_point_equations_of_an_exact_probe(alpha, fraction):
    found = pruned_perceptron(alpha, fraction)
    R, kappa, cut = float(found.overlap), float(found.margin), norm.isf((1 - fraction) / 2)
    t, w = legendre(-9, kappa, 400)
    w, rest = w * norm.pdf(t), 1 - R**2
    kept = np.exp(-(R**2) * t**2 / (2 * rest)) * (1 - np.exp(-cut * (cut - 2 * R * t) / (2 * rest)))
    scale = 2 * alpha / (fraction * np.sqrt(2 * np.pi * rest))
    assert abs(R - scale * (w * kept * (kappa - t)).sum()) < 1e-5
    tails = norm.sf(-R * t / np.sqrt(rest)) - norm.sf(-(R * t - cut) / np.sqrt(rest))
    assert abs(rest - 2 * alpha / fraction * (w * tails * (kappa - t) ** 2).sum()) < 1e-5


def test_nothing_pruned_and_a_blind_probe_are_the_unpruned_curve():
    plain = pruned_perceptron([0.5, 4.0, 30.0]).error
    for keep in ("hard", "easy", "random"):
        assert_allclose(pruned_perceptron([0.5, 4.0, 30.0], 1.0, 0.7, keep).error, plain, rtol=1e-9)
        assert_allclose(pruned_perceptron([0.5, 4.0, 30.0], 0.3, np.pi / 2, keep).error, plain, rtol=1e-9)
        assert_allclose(pruned_perceptron([0.5, 4.0, 30.0], 0.3, np.pi / 2 - 1e-5, keep).error, plain, atol=1e-4)
    near = pruned_perceptron([1.0, 4.0], 0.3, 1e-3, ["easy", "hard"]).error
    assert_allclose(near, pruned_perceptron([1.0, 4.0], 0.3, 0.0, ["easy", "hard"]).error, atol=3e-4)


def test_the_unpruned_curve_ends_as_half_over_alpha():
    alpha = np.geomspace(20, 1e6, 9)
    found = pruned_perceptron(alpha)
    assert ((found.error * alpha > 0.49) & (found.error * alpha < 0.51)).all()
    assert_allclose(found.margin[-1] * alpha[-1], 1.0, atol=0.01)
    assert_allclose(pruned_perceptron(50.0).error * 50, 0.5001, atol=1e-4)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 1.9])
def test_the_hardest_examples_alone_say_nothing_below_capacity(alpha):
    gardner = brentq(lambda k: alpha * ((k * k + 1) * ndtr(k) + k * norm.pdf(k)) - 1, -3, 9)
    found = pruned_perceptron(alpha, 1e-5)
    assert found.overlap < 0.05
    assert_allclose(found.margin, gardner, atol=1e-4)


def test_above_capacity_the_error_is_proportional_to_the_fraction():
    assert_allclose(pruned_perceptron([2.5, 4.0], 1e-6).error / 1e-6, [0.24, 0.13], atol=0.01)
    assert_allclose(pruned_perceptron(4.0, 1e-7).error / pruned_perceptron(4.0, 1e-6).error, 0.1, rtol=1e-3)


def test_small_pools_want_easy_examples_large_pools_hard_ones():
    found = pruned_perceptron([1, 1, 4, 4], 0.3, 0.0, ["easy", "hard", "hard", "random"]).error
    assert_allclose(found, [0.1511, 0.3808, 0.0373, 0.1137], atol=1e-4)
    pool = np.geomspace(0.5, 100, 40)
    for fraction, expected in ((0.5, 5.05), (0.2, 10.3), (0.8, 9.68)):

        def gap(pool, f=fraction):
            return pruned_perceptron(f * pool, f, 0.0, "easy").error - pruned_perceptron(f * pool, f).error

        assert (np.diff(np.sign(gap(pool))) != 0).sum() == 1
        assert_allclose(brentq(gap, 0.5, 100), expected, rtol=5e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.05, 1.0), st.sampled_from(["hard", "easy"]), st.sampled_from([0.0, 0.4]))
def test_more_examples_never_hurt(fraction, keep, angle):
    error = pruned_perceptron(np.geomspace(0.3, 30, 12), fraction, angle, keep).error
    assert (np.diff(error) < 1e-6).all()
    assert ((error > 0) & (error < 0.5)).all()


def test_a_worse_probe_makes_hard_examples_worse():
    error = pruned_perceptron(20.0, 0.4, np.linspace(0, np.pi / 2, 12), "hard").error
    assert (np.diff(error) > 0).all()
    assert_allclose(error[-1], pruned_perceptron(20.0).error, rtol=1e-9)


def test_the_frontier_falls_faster_than_any_curve_at_one_fraction():
    alpha, fractions = np.geomspace(2.5, 10, 6), np.geomspace(1e-4, 1, 60)
    frontier = pruning_frontier(alpha, fractions)
    assert_allclose(frontier.error, pruned_perceptron(alpha[:, None], fractions).error.min(1))
    assert (frontier.fraction < 0.01).all()
    imperfect = pruning_frontier(alpha[-1:], np.geomspace(0.02, 1, 20), angle=0.5)
    assert 0.02 < imperfect.fraction[0] < 1  # below a least fraction pruning harms


@pytest.mark.parametrize(
    ("alpha", "fraction", "angle", "keep"), [(2.0, 0.3, 0.0, "hard"), (1.0, 0.3, 0.0, "easy"), (2.0, 0.4, 0.35, "hard")]
)
def test_simulated_perceptrons_agree(alpha, fraction, angle, keep):
    rng, errors = np.random.default_rng(0), []
    for _ in range(12):
        x = rng.standard_normal((round(alpha / fraction * 100), 100))
        score = np.abs(np.cos(angle) * x[:, 0] + np.sin(angle) * x[:, 1])
        order = np.argsort(score)[: round(alpha * 100)] if keep == "hard" else np.argsort(-score)[: round(alpha * 100)]
        errors.append(np.arccos(max_margin(x[order] * np.sign(x[order, :1]))[0]) / np.pi)
    expected = float(pruned_perceptron(alpha, fraction, angle, keep).error)
    # s.e. about 0.004, finite size about 0.003
    assert abs(np.mean(errors) - expected) < 4 * np.std(errors, ddof=1) / 12**0.5 + 0.005


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0.0,), "alpha = 0"),
        ((np.nan,), "alpha = nan"),
        ((1.0, 0.0), "fraction = 0"),
        ((1.0, [0.5, 1.5]), "fraction = 1.5: expected a share"),
        ((1.0, 1.0, 2.0), "angle = 2.0: expected 0 to pi/2"),
        ((1.0, 1.0, 0.0, "hardest"), "keep = hardest: expected hard or easy or random"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, said):
    with pytest.raises(FittingError, match=said):
        pruned_perceptron(*arguments)
