"""Which law predicts, and how several are averaged."""

from __future__ import annotations

import json

import numpy as np
import pytest

from limbeck.errors import FittingError
from limbeck.fitting import Comparison, compare, fit
from limbeck.fitting.selection import stacking_weights


@pytest.fixture(scope="module")
def levelling(power, power_floor) -> Comparison:
    """Data with a floor, a pure power law beside the true one."""
    x = np.geomspace(1, 1e4, 40)
    y = (1 + 3 * x**-0.4) * np.exp(0.005 * np.random.default_rng(0).standard_normal(40))
    return compare([fit(law, {"x": x}, y, bootstrap=200) for law in (power, power_floor)], resamples=50)


def test_the_true_law_wins(levelling: Comparison) -> None:
    assert [c.name for c in levelling.candidates] == ["power-floor", "power"]
    assert levelling.best.model.name == "power-floor"
    assert levelling.candidates[0].weight > 0.99
    assert sum(c.weight for c in levelling.candidates) == pytest.approx(1)
    first = levelling.summary().splitlines()[1]
    assert first.startswith("power-floor") and first.endswith("1.00")
    assert "power-floor without its floor" in levelling.baselines


def test_held_out_error_decides_not_the_fit(power, power_floor) -> None:
    """On a pure power law with noise the floor fits better in sample, and does not predict better."""
    x = np.geomspace(1, 1e3, 16)
    y = 3 * x**-0.3 * np.exp(0.03 * np.random.default_rng(9).standard_normal(16))
    both = compare([fit(law, {"x": x}, y, bootstrap=50) for law in (power_floor, power)], resamples=20)
    named = {c.name: c for c in both.candidates}
    assert named["power-floor"].fit.objective <= named["power"].fit.objective * (1 + 1e-9)
    assert both.candidates[0].name == "power"


def test_average_lies_between_the_laws_and_shows_their_distance(levelling: Comparison) -> None:
    floor, power = (c.fit for c in levelling.candidates)
    even = Comparison(tuple(type(c)(c.fit, c.validation, 0.5) for c in levelling.candidates), levelling.baselines)
    band = even.predict(0.8, x=[1e6, 1e8])
    a, b = floor.value(x=[1e6, 1e8]), power.value(x=[1e6, 1e8])
    assert band.mean == pytest.approx((a + b) / 2)
    assert band.form_spread == pytest.approx(np.abs(a - b) / 2)
    assert (band.upper >= a * 0.99).all() and (band.lower <= b * 1.01).all()
    assert band.extrapolation == pytest.approx([1e2, 1e4]) and band.outside == ("x",)
    alone = levelling.predict(0.8, x=1e6)
    assert alone.lower[0] == pytest.approx(floor.predict(0.8, x=1e6).lower[0], rel=0.02)


def test_weights() -> None:
    assert stacking_weights([1.0, 1.0]) == pytest.approx([0.5, 0.5])
    raw = np.exp([-0.5, -2.0])
    assert stacking_weights([0.02, 0.04]) == pytest.approx(raw / raw.sum())


def test_plain_numbers(levelling: Comparison) -> None:
    record = json.loads(json.dumps(levelling.to_dict(), allow_nan=False))
    assert [law["law"] for law in record["laws"]] == ["power-floor", "power"]
    assert record["laws"][0]["held_out_error"] < record["laws"][1]["held_out_error"]
    assert set(record["baselines"]) == set(levelling.baselines)


def test_what_cannot_be_compared_is_refused(power, power_floor) -> None:
    x = np.geomspace(1, 100, 8)
    one = fit(power, {"x": x}, 3 * x**-0.3, bootstrap=0)
    with pytest.raises(FittingError, match="different observations or residuals"):
        compare([one, fit(power, {"x": x}, 4 * x**-0.3, bootstrap=0)])
    with pytest.raises(FittingError, match="nothing to compare"):
        compare([])
    few = np.geomspace(1, 100, 4)
    with pytest.raises(FittingError, match=r"power-floor cannot be compared.*3 parameters need 4"):
        compare([fit(power_floor, {"x": few}, 1 + few**-0.3, bootstrap=0)])


def test_unknown_columns_are_named(levelling: Comparison) -> None:
    with pytest.raises(FittingError, match='no law here reads "tokens"'):
        levelling.predict(tokens=3.0)
    with pytest.raises(FittingError, match="needs the columns x"):
        levelling.predict()
