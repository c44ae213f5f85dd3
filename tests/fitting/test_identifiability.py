"""What data identify, said in words with a reason and a next step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from limbeck.errors import FittingError
from limbeck.fitting import Data, Fit, Loss, Prior, fit
from limbeck.fitting.design import Design, check_distinct


def noise(n: int, size: float = 0.01, seed: int = 0) -> np.ndarray:
    return np.exp(size * np.random.default_rng(seed).standard_normal(n))


def test_published_runs_identify_everything(chinchilla_fit: Fit) -> None:
    known = chinchilla_fit.identifiability
    assert known.condition == pytest.approx(220, abs=1)
    assert all(known.identified.values()) and len(known.identified) == 5
    assert known.trades_with == {"A": "alpha", "B": "beta"}
    assert known.words == ("A and B trade off with alpha and beta: read the predictions, not these.",)
    # the weakest direction: ln B against beta
    strongest = sorted(known.weakest, key=lambda name: -abs(known.weakest[name]))[:2]
    assert set(strongest) == {"B", "beta"}


@pytest.fixture(scope="module")
def no_floor(power_floor) -> Fit:
    """Fifteen runs far above their floor."""
    x = np.geomspace(1, 100, 15)
    return fit(power_floor, {"x": x}, (0.3 + 4 * x**-0.3) * noise(15, 0.01, 3), bootstrap=50)


def test_a_floor_that_data_do_not_show(no_floor: Fit) -> None:
    known = no_floor.identifiability
    assert known.identified["E"] is False and known.identified["alpha"] is True
    assert no_floor.intervals()["E"] is None and no_floor.intervals()["alpha"] is not None
    (words,) = (w for w in known.words if w.startswith("E is not identified by these runs"))
    assert "the law with E = 0 fits as well" in words
    assert "add one run at x = " in words and "--fix E=" in words
    assert "not identified by these runs" in no_floor.summary()
    assert no_floor.predict(x=1e3).lower[0] < no_floor.predict(x=1e3).upper[0]


def test_a_vanishing_floor_is_told_once(power_floor) -> None:
    """The best floor is nothing at all: no run of these sizes would show it, and larger ones must say."""
    x = np.geomspace(1, 100, 15)
    falling = fit(power_floor, {"x": x}, 4 * x**-0.3 - 0.2, bootstrap=0)
    assert falling.parameters["E"] < 1e-6 and not falling.identifiability.identified["E"]
    about = [w for w in falling.identifiability.words if w.startswith("E ")]
    reason = "E is not identified by these runs: the law with E = 0 fits as well."
    assert about == [f"{reason} Next: hold it at what larger runs say (fixed={{'E': ...}}, --fix E=...)."]
    assert falling.identifiability.identified["alpha"]


def test_the_suggested_run_would_show_the_floor(no_floor: Fit, power_floor) -> None:
    """One run of that size, with the loss that the law predicts, identifies the floor; one near the others does not."""
    (words,) = (w for w in no_floor.identifiability.words if w.startswith("E is not"))
    suggested = float(words.split("x = ")[1].split(" ")[0])
    assert suggested > 100
    for at, shown in ((suggested, True), (110.0, False)):
        x, y = np.r_[no_floor.data.columns["x"], at], np.r_[no_floor.data.target, no_floor.value(x=at)]
        assert fit(power_floor, {"x": x}, y, bootstrap=0).identifiability.identified["E"] is shown


def test_a_floor_that_data_show(power_floor) -> None:
    x = np.geomspace(1, 1e4, 30)
    fitted = fit(power_floor, {"x": x}, (1 + 3 * x**-0.5) * noise(30), bootstrap=50)
    assert fitted.identifiability.identified["E"]
    assert fitted.intervals()["E"] == pytest.approx((1.0, 1.0), abs=0.05)


def test_one_value_of_a_column(two_powers, grid, truth) -> None:
    columns = {"params": np.geomspace(1e8, 1e10, 12), "tokens": np.full(12, 1e10)}
    fitted = fit(two_powers, columns, two_powers(truth, **columns) * noise(12), bootstrap=30)
    known = fitted.identifiability
    assert "tokens is 1e+10 in all runs: its effect is not identified; add runs with another tokens." in known.words
    assert known.condition > 1e5
    assert not (known.identified["B"] or known.identified["beta"])
    assert fitted.intervals()["B"] is None
    band = fitted.predict(params=2e10, tokens=1e10)
    assert band.lower[0] < two_powers(truth, params=2e10, tokens=1e10) < band.upper[0]


@pytest.mark.parametrize("iso_flop", [True, False])
def test_all_runs_on_one_line(two_powers, truth, iso_flop: bool) -> None:
    """One iso-FLOP line (params · tokens fixed), or a fixed number of tokens per parameter."""
    params = np.geomspace(1e8, 1e10, 12)
    columns = {"params": params, "tokens": 2e19 / params if iso_flop else 20 * params * noise(12, 1e-3)}
    design = Design.of(Data.of(two_powers, columns, np.ones(12)))
    assert design.line["params"] * design.line["tokens"] == pytest.approx(1.0 if iso_flop else -1.0, rel=1e-2)
    assert "params and tokens cannot be told apart; add runs off this line" in design.words()[0]
    product = "params · tokens" if iso_flop else "tokens / params"
    assert design.words()[0].startswith(f"{product} hardly varies")
    fitted = fit(two_powers, columns, two_powers(truth, **columns) * noise(12), bootstrap=20)
    assert {n for n, known in fitted.intervals().items() if known is None} >= {"A", "B", "alpha", "beta"}
    assert design.words()[0] in fitted.identifiability.words
    borrowed = fit(
        two_powers, columns, fitted.data.target, fixed={"A": truth["A"], "alpha": truth["alpha"]}, bootstrap=20
    )
    assert borrowed.identifiability.identified["beta"] and borrowed.intervals()["B"] is not None


def test_a_full_grid_says_nothing(two_powers, grid, noisy) -> None:
    assert Design.of(Data.of(two_powers, grid, noisy)).words() == []


def test_fewer_configurations_than_parameters_are_refused_before_fitting(two_powers, grid) -> None:
    columns = {name: np.tile(v[:4], 5) for name, v in grid.items()}
    with pytest.raises(
        FittingError, match=r"5 free parameters and there are 4 distinct configurations .* in 20 points"
    ):
        fit(two_powers, columns, np.ones(20))
    check_distinct(two_powers, Data.of(two_powers, columns, np.ones(20)), 4)


def test_a_parameter_at_its_bound_has_no_interval(power_floor) -> None:
    x = np.geomspace(1, 1e3, 20)
    rising = fit(power_floor, {"x": x}, 3 * x**0.2 * noise(20), bootstrap=20)
    assert rising.parameters["alpha"] == pytest.approx(0.0, abs=1e-9)
    assert rising.intervals()["alpha"] is None
    assert any(w.startswith("alpha ended at its bound") for w in rising.identifiability.words)


def test_resamples_at_a_bound_leave_no_interval(power_floor) -> None:
    """An exponent near zero: some resamples end at 0, and the interval would show that bound."""
    x = np.geomspace(1, 30, 12)
    fitted = fit(power_floor, {"x": x}, 3 * x**-0.002 * noise(12), fixed={"E": 1.0}, bootstrap=200)
    assert fitted.parameters["alpha"] > 0 and np.mean(fitted.draws["alpha"] == 0) > 0.05
    assert fitted.intervals()["alpha"] is None
    assert any("alpha ran into a bound in" in w for w in fitted.identifiability.words)


def test_doubtful_conditioning_warns_and_names_the_direction(line) -> None:
    """A line far from its origin: offset and slope trade off; the condition number is 2·mean/width of x."""
    x = 1e4 + np.linspace(0, 1, 20)
    fitted = fit(line, {"x": x}, 5 + 0.1 * x + 0.01 * noise(20), loss=Loss(math.inf, "linear"), bootstrap=20)
    known = fitted.identifiability
    assert 1e3 < known.condition < 1e5
    assert all(known.identified.values())
    assert any("offset and slope trade off" in w and "read the predictions" in w for w in known.words)


def test_a_prior_identifies(line) -> None:
    x = np.zeros(8)
    y = 0.01 * np.arange(8.0)
    believed = fit(line, {"x": x}, y, loss=Loss(math.inf, "linear"), priors={"slope": Prior(1.0, 0.1)}, bootstrap=0)
    assert believed.identifiability.identified == {"offset": True, "slope": True}


def test_infinite_condition_is_plain_json(line) -> None:
    fitted = fit(line, {"x": np.array([1.0, 2.0, 3.0])}, [1.0, 2.0, 3.0], loss=Loss(math.inf, "linear"), bootstrap=0)
    assert fitted.identifiability.to_dict()["condition"] == pytest.approx(fitted.identifiability.condition)
    broken = type(fitted.identifiability)(math.inf, {}, {}, {}, ())
    assert broken.to_dict()["condition"] is None
