from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck import fitting, laws
from limbeck.fitting import SQUARED
from limbeck.laws import Chinchilla, Henighan, Power, PowerFloor

TRUTH = {"E": 1.8, "A": 400.0, "B": 2000.0, "alpha": 0.34, "beta": 0.37}
RNG = np.random.default_rng(3)
N, D = np.exp(RNG.uniform(np.log(1e7), np.log(1e10), 50)), np.exp(RNG.uniform(np.log(1e8), np.log(1e12), 50))
NOISY = Chinchilla()(TRUTH, params=N, tokens=D) * np.exp(0.01 * RNG.standard_normal(50))


def estimate(params=N, tokens=D, loss=NOISY, **options):
    return fitting.fit(Chinchilla(), {"params": params, "tokens": tokens}, loss, bootstrap=0, **options)


def test_swapping_the_columns_swaps_the_terms():
    fit, swapped = estimate(), estimate(params=D, tokens=N)
    for one, other in (("E", "E"), ("A", "B"), ("alpha", "beta"), ("B", "A"), ("beta", "alpha")):
        assert_allclose(swapped.parameters[other], fit.parameters[one], rtol=1e-5)


def test_scaling_the_losses_scales_the_coefficients_and_keeps_the_exponents():
    fit, scaled = estimate(), estimate(loss=3.0 * NOISY)
    for name in ("E", "A", "B"):
        assert_allclose(scaled.parameters[name], 3.0 * fit.parameters[name], rtol=1e-5)
    for name in ("alpha", "beta"):
        assert_allclose(scaled.parameters[name], fit.parameters[name], rtol=1e-6)


def test_duplicated_and_permuted_rows_change_nothing_but_the_sum():
    fit, order = estimate(), RNG.permutation(50)
    twice = estimate(np.tile(N[order], 2), np.tile(D[order], 2), np.tile(NOISY[order], 2))
    assert_allclose(twice.objective, 2 * fit.objective, rtol=1e-9)
    assert_allclose(list(twice.parameters.values()), list(fit.parameters.values()), rtol=1e-5)


def test_interval_of_the_size_exponent_covers_the_truth():
    """95 % intervals on 50 replicas: 0.85 and 1 lie 3 s.e. (0.031) below and above 0.95."""
    truth = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    clean, rng, hits = Chinchilla()(TRUTH, params=N, tokens=D), np.random.default_rng(5), 0
    for seed in range(50):
        loss = clean * np.exp(0.01 * rng.standard_normal(50))
        fit = fitting.fit(
            Chinchilla(), {"params": N, "tokens": D}, loss, loss=SQUARED, bootstrap=200, seed=seed, fixed={}
        )
        a = fit.derive(lambda p: p.beta / (p.alpha + p.beta), level=0.95)
        hits += a.lower <= truth <= a.upper
    assert 0.85 <= hits / 50 <= 1.0


@settings(max_examples=30, deadline=None)
@given(st.floats(0.01, 5), st.floats(1e2, 1e8), st.floats(0.05, 1.0), st.floats(1e-3, 1e3))
def test_both_forms_of_the_floored_power_law_agree(floor, scale, alpha, factor):
    x = np.geomspace(1e3, 1e9, 7)
    h = Henighan("params")({"L_inf": floor, "x0": scale, "alpha": alpha}, params=x)
    p = PowerFloor("params")({"E": floor, "A": scale**alpha, "alpha": alpha}, params=x)
    assert_allclose(h, p, rtol=1e-12)
    assert_allclose(
        Henighan("params")({"L_inf": floor, "x0": scale * factor, "alpha": alpha}, params=x * factor), h, rtol=1e-12
    )


def test_without_a_floor_the_log_slope_is_minus_alpha():
    x = np.geomspace(1e3, 1e9, 9)
    y = Power("tokens")({"A": 11.9, "alpha": 0.066}, tokens=x)
    assert_allclose(np.diff(np.log(y)) / np.diff(np.log(x)), -0.066, rtol=1e-12)
    assert_allclose(y, PowerFloor("tokens")({"E": 0.0, "A": 11.9, "alpha": 0.066}, tokens=x), rtol=1e-15)


def test_floor_vanishes_where_there_is_none():
    m = np.geomspace(1e2, 1e6, 9)
    y = 5.0 * m**-0.3
    fit = fitting.fit(PowerFloor("samples"), {"samples": m}, y, loss=SQUARED, bootstrap=0)
    assert fit.parameters["E"] < 1e-4 * y.min()
    assert_allclose(fit.parameters["alpha"], 0.3, rtol=1e-3)


def test_scaling_the_data_scales_the_level_and_keeps_the_slope():
    m = np.geomspace(1e2, 1e6, 12)
    y = (0.02 + 5.0 * m**-0.3) * np.exp(0.01 * np.random.default_rng(0).standard_normal(12))
    fits = [
        fitting.fit(PowerFloor("samples"), {"samples": k * m}, y, loss=SQUARED, bootstrap=0).parameters for k in (1, 50)
    ]
    assert_allclose(fits[1]["alpha"], fits[0]["alpha"], rtol=1e-6)
    assert_allclose(fits[1]["A"], fits[0]["A"] * 50 ** fits[0]["alpha"], rtol=1e-5)


@pytest.mark.parametrize(
    ("published", "at", "loss"),
    [
        (laws.HOFFMANN_2022, {"params": 70e9, "tokens": 1.4e12}, 1.9208),
        (laws.BESIROGLU_2024, {"params": 70e9, "tokens": 1.4e12}, 1.9739),
        (laws.KAPLAN_2020_PARAMS, {"params": 8.8e13}, 1.0),
        (laws.KAPLAN_2020_TOKENS, {"tokens": 5.4e13}, 1.0),
        (laws.KAPLAN_2020, {"params": 6.4e13, "tokens": 1e40}, 1.0),
    ],
)
def test_published_constants(published, at, loss):
    assert_allclose(published.value(**at), loss, atol=1e-4)
    assert published.source.arxiv and published.where
