from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck.errors import FittingError
from limbeck.laws import Trend
from limbeck.theory import power_spectrum, random_feature_loss, resolution, simulate_random_features

INF = np.inf


@pytest.mark.parity
def test_reference_surface(parity, walk_sections):
    def check(cases):
        for case in cases:
            d, p, spectrum = case.pop("D"), case.pop("P"), power_spectrum(case.pop("S"), case.pop("alpha_K"))
            kappa, loss = resolution(spectrum, [d, p]), random_feature_loss([d, INF, d], [INF, p, p], spectrum)
            names = ("kappa_D", "kappa_P", "L_D_inf_P", "L_P_inf_D", "L_DP")
            assert_allclose([*kappa, *loss], [case.pop(name) for name in names], rtol=1e-9)
            assert not case

    walk_sections(parity("explaining-scaling-laws"), {"cases": check}, ignore=("note",))


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 300), st.integers(5, 300), st.floats(0.2, 2.0), st.sampled_from([0.0, 1e-3, 0.1]))
def test_data_and_features_are_dual(samples, features, alpha, ridge):
    spectrum = power_spectrum(400, alpha)
    one, other = random_feature_loss([samples, features], [features, samples], spectrum, ridge=ridge)
    assert_allclose(one, other, rtol=1e-8)
    assert one > 0


def test_the_limit_is_reached_with_exponent_one():
    spectrum = power_spectrum(2000, 0.5)
    many = np.array([1e4, 1e6])
    limit = random_feature_loss(INF, 50, spectrum)
    assert_allclose((random_feature_loss(many, 50, spectrum) / limit - 1) * many, 50, rtol=6e-3)


@pytest.mark.parametrize(("alpha", "size"), [(0.5, 400_000), (1.0, 20_000)])
def test_the_resolved_loss_falls_with_the_exponent_of_the_spectrum(alpha, size):
    n = np.array([50.0, 100, 200, 400])
    loss = random_feature_loss(n, INF, power_spectrum(size, alpha))
    assert_allclose(Trend.through(n, loss).exponent, -alpha, atol=0.03)


def test_resolution_falls_to_nothing_and_has_its_asymptote():
    spectrum = power_spectrum(20_000, 0.5)
    n = np.geomspace(1, 19_999.9, 40)
    kappa = resolution(spectrum, n)
    assert (np.diff(kappa) < 0).all() and kappa[-1] < 1e-9
    assert_allclose((spectrum / (spectrum + kappa[20])).sum(), n[20], rtol=1e-12)
    few = np.array([50.0, 100, 200, 400])
    for alpha, low, high in ((0.5, 0.883, 0.945), (1.0, 0.978, 0.987)):
        power = 1 + alpha
        asymptote = (np.pi / (power * np.sin(np.pi / power))) ** power * few**-power
        ratio = resolution(power_spectrum(20_000, alpha), few) / asymptote
        assert_allclose([ratio.min(), ratio.max()], [low, high], atol=1e-3)


def test_special_cases_of_target_and_noise():
    rng, spectrum = np.random.default_rng(0), power_spectrum(300, 0.7)
    w = rng.standard_normal(300)
    kappa = resolution(spectrum, 40)
    share = spectrum / (spectrum + kappa)
    second = (share**2).sum()
    by_data = (kappa**2 * (spectrum * w**2 / (spectrum + kappa) ** 2).sum()) / (1 - second / 40)
    by_features = kappa * (share * w**2).sum()
    assert_allclose(random_feature_loss([40, INF], [INF, 40], spectrum, target=w), [by_data, by_features], rtol=1e-9)
    noisy = random_feature_loss(40, INF, spectrum, noise=0.3) - random_feature_loss(40, INF, spectrum)
    assert_allclose(noisy, 0.09 * second / (40 - second), rtol=1e-9)


def test_the_peak_is_infinite_and_a_ridge_removes_it():
    spectrum = power_spectrum(300, 0.5)
    assert np.isinf(random_feature_loss(60, 60, spectrum))
    assert random_feature_loss(60, 60, spectrum, ridge=0.01) < random_feature_loss(40, 60, spectrum)
    assert_allclose(
        random_feature_loss([40, 60], [60, 30], spectrum, ridge=1e-9),
        random_feature_loss([40, 60], [60, 30], spectrum),
        rtol=1e-5,
    )
    assert random_feature_loss(500, 500, spectrum, ridge=0.01) < random_feature_loss(60, 60, spectrum, ridge=0.01)


@pytest.mark.parametrize(
    ("samples", "features", "ridge"), [(80, None, 0), (None, 80, 0), (40, 200, 0), (200, 40, 0), (100, 160, 0.01)]
)
def test_simulation_agrees(samples, features, ridge):
    spectrum = power_spectrum(400, 0.5)
    drawn = simulate_random_features(samples, features, spectrum, draws=40, seed=3, ridge=ridge)
    expected = random_feature_loss(samples or INF, features or INF, spectrum, ridge=ridge)
    # the form is exact in the limit: about 2 % of finite size here, beside 4 s.e. of the mean
    assert abs(drawn.mean() / expected - 1) < 0.02 + 4 * drawn.std(ddof=1) / 40**0.5 / expected


def test_what_has_no_surface_is_named():
    with pytest.raises(FittingError, match="resolve all of 10 eigenvalues"):
        resolution(power_spectrum(10, 1.0), 10)
    with pytest.raises(FittingError, match="positive eigenvalues"):
        random_feature_loss(5, 5, [1.0, -1.0])
    with pytest.raises(FittingError, match="positive numbers of samples"):
        random_feature_loss(0, 5, power_spectrum(10, 1.0))
