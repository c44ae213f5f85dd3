"""Profile likelihood against closed forms and against resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import chi2

from limbeck.errors import FittingError
from limbeck.fitting import Fit, Loss, fit, profile, profile_prediction
from limbeck.fitting.profile import Profile, evidence


@pytest.fixture(scope="module")
def straight(line) -> Fit:
    x = np.linspace(0, 1, 25)
    y = 1 + 2 * x + 0.1 * np.random.default_rng(0).standard_normal(25)
    return fit(line, {"x": x}, y, loss=Loss(math.inf, "linear"), bootstrap=0)


def closed_form(straight: Fit, direction: np.ndarray, level: float) -> float:
    """Half width of {v: n ln(S(v)/S_min) ≤ χ²} for a linear model: S grows by (v − ĝ)² / (2 gᵀ(XᵀX)⁻¹g)."""
    design = np.stack([np.ones(25), straight.data.columns["x"]], 1)
    spread = direction @ np.linalg.inv(design.T @ design) @ direction
    return math.sqrt(2 * straight.objective * spread * math.expm1(chi2.ppf(level, 1) / 25))


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_linear_parameter_has_the_closed_form(straight: Fit, level: float) -> None:
    half = closed_form(straight, np.array([0.0, 1.0]), level)
    slope = straight.parameters["slope"]
    assert profile(straight, "slope", robust=False).interval(level) == pytest.approx(
        (slope - half, slope + half), rel=2e-3
    )


def test_linear_prediction_has_the_closed_form(straight: Fit) -> None:
    half = closed_form(straight, np.array([1.0, 3.0]), 0.95)
    there = float(straight.value(x=3.0))
    found = profile_prediction(straight, robust=False, x=3.0).interval(0.95)
    assert found == pytest.approx((there - half, there + half), rel=2e-3)


def test_every_point_lies_on_the_profile(two_powers, grid, noisy) -> None:
    """The constrained minimum by another route: the parameter fixed at the value."""
    fitted = fit(two_powers, grid, noisy, bootstrap=0)
    curve = profile(fitted, "beta", robust=False)
    for k in (2, len(curve.values) // 2 + 4, -3):
        held = fit(
            two_powers, grid, noisy, fixed={"beta": float(curve.values[k])}, bootstrap=0, start=fitted.parameters
        )
        expected = evidence(fitted) * math.log(held.objective / fitted.objective)
        assert curve.deviance[k] == pytest.approx(expected, rel=0.02, abs=1e-3)


def test_agrees_with_the_bootstrap_on_the_published_runs(chinchilla_fit: Fit) -> None:
    low, high = profile(chinchilla_fit, "alpha").interval(0.8)
    b_low, b_high = chinchilla_fit.intervals(0.8)["alpha"]
    assert high - low == pytest.approx(b_high - b_low, rel=0.35)
    there = profile_prediction(chinchilla_fit, params=7e10, tokens=1.4e12)
    draws = chinchilla_fit.values(params=7e10, tokens=1.4e12)
    low, high = there.interval(0.95)
    assert high - low == pytest.approx(np.ptp(np.quantile(draws, [0.025, 0.975])), rel=0.35)
    assert there.estimate == pytest.approx(float(chinchilla_fit.value(params=7e10, tokens=1.4e12)), rel=1e-6)


def test_evidence_counts_runs_and_weighs_absolute_errors_twice(line) -> None:
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 2000)
    gauss, laplace = rng.standard_normal(2000), rng.laplace(size=2000)
    squared = fit(line, {"x": x}, gauss, loss=Loss(math.inf, "linear"), bootstrap=0)
    assert evidence(squared) == pytest.approx(2000)
    paired = fit(line, {"x": x}, gauss, loss=Loss(math.inf, "linear"), clusters=np.arange(2000) // 2, bootstrap=0)
    assert evidence(paired) == pytest.approx(1000)
    absolute = fit(line, {"x": x}, laplace, loss=Loss(1e-3, "linear"), bootstrap=0)
    # the density at the peak of a Laplace law is estimated over a band: biased down by about a tenth, s.e. 5 %
    assert evidence(absolute) / 2000 == pytest.approx(2.0, rel=0.25)
    weighted = fit(line, {"x": x}, gauss, loss=Loss(math.inf, "linear"), weights=np.full(2000, 7.0), bootstrap=0)
    assert evidence(weighted) == pytest.approx(2000)


def test_robust_profile_sees_unequal_noise(line) -> None:
    """Noise at the ends of the line only: the slope is less certain than equal noise would say."""
    x = np.linspace(-1, 1, 200)
    y = x + np.where(np.abs(x) > 0.8, 1.0, 0.01) * np.random.default_rng(2).standard_normal(200)
    fitted = fit(line, {"x": x}, y, loss=Loss(math.inf, "linear"), bootstrap=0)
    naive = np.ptp(profile(fitted, "slope", robust=False).interval(0.8))
    # variance of the slope: Σ x² σ² over the ends against mean σ² Σ x²: √2.4 = 1.56 as wide
    assert np.ptp(profile(fitted, "slope").interval(0.8)) / naive == pytest.approx(1.56, rel=0.15)


def test_floor_that_data_do_not_show_is_flat_below(power_floor) -> None:
    x = np.geomspace(1, 100, 15)
    y = (0.02 + 4 * x**-0.3) * np.exp(0.02 * np.random.default_rng(3).standard_normal(15))
    curve = profile(fit(power_floor, {"x": x}, y, bootstrap=0), "E")
    assert curve.flat() == ("below",)
    assert curve.interval(0.95)[0] is None and curve.interval(0.95)[1] < y.min()
    assert "unbounded below" in curve.summary(0.95)
    assert curve.to_dict(0.95)["interval"][0] is None


def test_interval_interpolates_the_root_of_the_deviance() -> None:
    curve = Profile("g", 0.0, np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.array([16.0, 4.0, 0.0, 4.0, 16.0]))
    root = math.sqrt(chi2.ppf(0.95, 1)) / 2
    assert curve.interval(0.95) == pytest.approx((-root, root))
    assert curve.flat() == ()


def test_fixed_and_unknown_parameters_are_refused(straight: Fit) -> None:
    with pytest.raises(FittingError, match="free are: offset, slope"):
        profile(straight, "E")
