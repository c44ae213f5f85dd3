"""Predictions and intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student_t

from limbeck.errors import FittingError
from limbeck.fitting import Fit, Interval, Loss, fit
from limbeck.fitting.prediction import bca_interval, percentile_interval, run_interval

LINEAR = Loss(math.inf, "linear")


def test_without_draws_the_interval_is_student_s(line) -> None:
    x = np.linspace(0, 1, 12)
    y = 3 + x + 0.1 * np.random.default_rng(0).standard_normal(12)
    fitted = fit(line, {"x": x}, y, loss=LINEAR, bootstrap=0)
    band = fitted.predict(0.9, x=2.0)
    half = student_t.ppf(0.95, 10) * np.hypot(fitted.standard_error(x=2.0)[0], np.sqrt(np.mean(fitted.noise**2)))
    assert (band.upper - band.lower)[0] == pytest.approx(2 * half)
    assert band.mean[0] == pytest.approx((band.lower + band.upper)[0] / 2)


def test_interval_holds_the_noise_of_a_run(chinchilla_fit: Fit) -> None:
    here = {"params": 1e9, "tokens": 2e10}
    band = chinchilla_fit.predict(0.8, **here)
    low, high = percentile_interval(chinchilla_fit.values(**here), 0.8)
    assert band.lower[0] < low[0] < band.mean[0] < high[0] < band.upper[0]
    narrow, wide = chinchilla_fit.predict(0.5, **here), chinchilla_fit.predict(0.95, **here)
    assert wide.lower < band.lower < narrow.lower < narrow.upper < band.upper < wide.upper


def test_extrapolation_and_outside(chinchilla_fit: Fit) -> None:
    columns = chinchilla_fit.data.columns
    largest = int(np.argmax(columns["params"] * columns["tokens"]))
    here = {name: float(v[largest]) for name, v in columns.items()}
    inside = chinchilla_fit.predict(**here)
    assert inside.extrapolation[0] == pytest.approx(1.0) and inside.outside == ()
    there = chinchilla_fit.predict(params=here["params"], tokens=[here["tokens"], here["tokens"] * 100])
    assert there.extrapolation == pytest.approx([1, 100]) and there.outside == ("tokens",)
    assert "100× beyond the largest run" in there.summary() and "inside the data" in there.summary()
    assert there.to_dict()["extrapolation"] == pytest.approx([1, 100])


def test_few_points_give_no_interval_without_a_reason(power_floor) -> None:
    x = np.array([1.0, 10.0, 100.0])
    exact = fit(power_floor, {"x": x}, 1 + x**-0.5, bootstrap=0)
    with pytest.raises(FittingError, match="3 points for 3 parameters leave 0 degrees of freedom"):
        exact.predict(x=1000.0)


def test_percentiles_of_known_draws() -> None:
    draws = np.arange(1001.0)[:, None] * [1, 2]
    low, high = percentile_interval(draws, 0.8)
    assert low == pytest.approx([100, 200]) and high == pytest.approx([900, 1800])
    with pytest.raises(FittingError, match=r"between 0 and 1.*got 80"):
        percentile_interval(draws, 80)


def test_small_designs_are_widened_by_students_t() -> None:
    draws = norm.ppf((np.arange(9999) + 0.5) / 9999)[:, None]
    low, high = run_interval(draws, np.zeros(1), 0.8, 7, log=False)
    assert [low[0], high[0]] == pytest.approx([-student_t.ppf(0.9, 7), student_t.ppf(0.9, 7)], rel=1e-3)
    low, high = run_interval(np.exp(draws), np.ones(1), 0.8, math.inf, log=True)
    assert np.log([low[0], high[0]]) == pytest.approx([-norm.ppf(0.9), norm.ppf(0.9)], rel=1e-3)


def test_bca_follows_efron_s_formula() -> None:
    rng = np.random.default_rng(0)
    draws, left_out = rng.gamma(4.0, size=4001), rng.gamma(4.0, size=30)
    d = left_out.mean() - left_out
    a = (d**3).sum() / (6 * (d**2).sum() ** 1.5)
    z0 = norm.ppf(np.mean(draws < 3.9))
    ends = []
    for q in (0.1, 0.9):
        z = z0 + norm.ppf(q)
        ends.append(np.quantile(draws, norm.cdf(z0 + z / (1 - a * z))))
    assert np.array(bca_interval(draws, 3.9, left_out, 0.8)) == pytest.approx(np.array(ends))


def test_bca_of_symmetric_draws_is_the_percentile_interval() -> None:
    draws = np.linspace(-1, 1, 1001)
    corrected = bca_interval(draws, 0.0, [1.0, 2.0, 3.0], 0.8)
    assert np.array(corrected) == pytest.approx(np.array(percentile_interval(draws, 0.8)), abs=1e-9)


def test_bca_corrects_the_skew_of_a_variance(line) -> None:
    """The classical case: for a variance of normal values the interval moves up from the percentiles."""
    y = np.random.default_rng(6).standard_normal(25)
    draws = np.random.default_rng(7).choice(y, (4000, 25)).var(1)
    left_out = np.array([np.delete(y, k).var() for k in range(25)])
    low, high = percentile_interval(draws, 0.9)
    b_low, b_high = bca_interval(draws, float(y.var()), left_out, 0.9)
    assert b_low > low and b_high > high


def test_intervals_by_both_methods(chinchilla_fit: Fit) -> None:
    percentile, bca = chinchilla_fit.intervals(0.8), chinchilla_fit.intervals(0.8, "bca")
    for name, value in chinchilla_fit.parameters.items():
        for low, high in (percentile[name], bca[name]):
            assert low < value < high
    assert percentile["alpha"] == pytest.approx((0.326, 0.365), abs=0.005)
    assert percentile["B"] != bca["B"]
    with pytest.raises(FittingError, match="percentile or bca"):
        chinchilla_fit.intervals(0.8, "student")


def test_derived_quantity_has_an_interval(chinchilla_fit: Fit) -> None:
    tokens_per_parameter = chinchilla_fit.derive(lambda p: p.beta / (p.alpha + p.beta), 0.95, method="bca")
    assert tokens_per_parameter.lower < tokens_per_parameter.value < tokens_per_parameter.upper
    assert tokens_per_parameter.to_dict()["level"] == 0.95


def test_smooth_bands(chinchilla_fit: Fit) -> None:
    """Every draw moves by one residual along a whole line: no jagged edge."""
    line = np.geomspace(1e10, 1e12, 50)
    upper = np.log(chinchilla_fit.predict(params=1e9, tokens=line).upper)
    assert np.abs(np.diff(upper, 2)).max() < 2e-3


def test_interval_of_draws() -> None:
    draws = np.random.default_rng(0).permutation(np.arange(101.0))
    for given in (draws, [np.nan, *draws]):
        interval = Interval.of(given, 49.0, 0.8)
        assert (interval.value, interval.level) == (49.0, 0.8)
        assert (interval.lower, interval.upper) == pytest.approx((10.0, 90.0), rel=1e-12)
    with pytest.raises(FittingError, match="level"):
        Interval.of(draws, 49.0, 80.0)


def test_a_negative_column_holds_its_own_ends(line) -> None:
    x = np.linspace(-3.0, -1.0, 8)
    fitted = fit(line, {"x": x}, 1 - x, loss=LINEAR, bootstrap=0)
    assert fitted.data.inside("x", np.array([-3.1, -3.0, -1.0, -0.9])).tolist() == [False, True, True, False]
