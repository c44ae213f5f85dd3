"""Leave-largest-out validation and the forecasts that a law has to beat."""

from __future__ import annotations

import json

import numpy as np
import pytest

from limbeck.errors import FittingError
from limbeck.fitting import Fit, Validation, fit, validate
from limbeck.fitting.baselines import LAST_TWO, LAST_VALUE, NO_FLOOR, last_two_scales, last_value, smaller


@pytest.fixture(scope="module")
def rolling(chinchilla_fit: Fit) -> Validation:
    return validate(chinchilla_fit, resamples=100)


def test_published_runs_have_the_known_errors(rolling: Validation) -> None:
    assert [cut.fraction for cut in rolling.cuts] == [0.5, 0.6, 0.7, 0.8, 0.9]
    half, _, seventy, _, _ = rolling.cuts
    assert (half.train, half.test) == (120, 120)
    assert half.score.bias == pytest.approx(0.0020, abs=1e-4) and half.score.rmse == pytest.approx(0.0110, abs=1e-4)
    assert seventy.score.bias == pytest.approx(0.0073, abs=1e-4) and seventy.score.rmse == pytest.approx(
        0.0132, abs=1e-4
    )
    # beta drifts down as larger runs enter: weakly identified while predictions stay good
    drift = [cut.parameters["beta"] for cut in rolling.cuts]
    assert drift[0] == pytest.approx(0.473, abs=1e-3) and drift[2] == pytest.approx(0.459, abs=1e-3)
    assert all(np.diff(drift) < 0)


def test_a_cut_is_the_fit_of_its_own_points(chinchilla_fit: Fit, rolling: Validation) -> None:
    """Weight 0 is the same as leaving out."""
    data = chinchilla_fit.data
    size = data.columns["params"] * data.columns["tokens"]
    train = size <= np.sort(size)[167]
    part = data.subset(train)
    alone = fit(chinchilla_fit.model, part.columns, part.target, bootstrap=0, start=chinchilla_fit.parameters)
    cut = rolling.cuts[2]
    assert cut.parameters == pytest.approx(alone.parameters, rel=1e-4)
    rest = data.subset(~train)
    errors = np.log(alone.value(**rest.columns) / rest.target)
    assert cut.score.rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-4)
    assert cut.score.mape == pytest.approx(np.mean(np.abs(np.expm1(errors))), rel=1e-4)
    assert cut.extrapolation == pytest.approx(size.max() / size[train].max())


def test_the_law_beats_every_baseline_on_the_published_runs(rolling: Validation) -> None:
    baselines = rolling.baseline_errors()
    assert set(baselines) == {LAST_VALUE, LAST_TWO, NO_FLOOR}
    assert rolling.error == pytest.approx(np.mean([cut.score.rmse for cut in rolling.cuts]))
    assert all(error > 1.5 * rolling.error for error in baselines.values())


def test_floorless_baseline_is_the_law_with_its_floor_at_zero(chinchilla_fit: Fit, rolling: Validation) -> None:
    data = chinchilla_fit.data
    size = data.columns["params"] * data.columns["tokens"]
    train = size <= np.sort(size)[167]
    part, rest = data.subset(train), data.subset(~train)
    bare = fit(chinchilla_fit.model, part.columns, part.target, fixed={"E": 0.0}, bootstrap=0)
    errors = np.log(bare.value(**rest.columns) / rest.target)
    assert rolling.cuts[2].baselines[NO_FLOOR].rmse == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-3)


def test_intervals_cover_where_the_law_is_right(two_powers, truth, chinchilla_fit: Fit) -> None:
    columns = chinchilla_fit.data.columns
    observed = two_powers(truth, **columns) * np.exp(0.01 * np.random.default_rng(11).standard_normal(240))
    cut = validate(fit(two_powers, columns, observed, bootstrap=0, start=truth), (0.7,), resamples=200).cuts[0]
    # 72 held-out points that share the fit's error: s.e. about 8 %
    assert cut.coverage[0.8] == pytest.approx(0.8, abs=0.3)
    assert cut.coverage[0.5] < cut.coverage[0.8] < cut.coverage[0.95]
    assert cut.coverage[0.95] > 0.7


def test_summary_names_error_reach_and_narrow_bands(rolling: Validation, chinchilla_fit: Fit) -> None:
    assert chinchilla_fit.holdout is not None
    assert (
        "held-out largest 30% (up to 46.5× beyond): mean error 1.06%, 80% band covers"
        in chinchilla_fit.holdout.summary()
    )
    assert "too narrow" in chinchilla_fit.holdout.summary()
    assert len(rolling.summary().splitlines()) == 5


def test_a_law_that_loses_to_a_baseline_is_told(power) -> None:
    """A pure power law on data that level off: the last value is better."""
    x = np.geomspace(1, 1e6, 40)
    y = 1 + x**-0.8
    checked = validate(fit(power, {"x": x}, y, bootstrap=0), resamples=50)
    assert "last value carried forward predicts the held-out runs better than the law" in checked.summary()


def test_round_trip(rolling: Validation) -> None:
    record = json.loads(json.dumps(rolling.to_dict(), allow_nan=False))
    assert Validation.from_dict(record) == rolling
    assert record["cuts"][0]["coverage"].keys() == {"0.5", "0.8", "0.95"}


def test_too_few_runs_are_a_reason_not_an_error(power_floor) -> None:
    x = np.geomspace(1, 100, 5)
    fitted = fit(power_floor, {"x": x}, 1 + 3 * x**-0.4, bootstrap=0, holdout=0.6)
    assert fitted.holdout is not None and fitted.holdout.cuts == ()
    assert "2 configurations from 2 runs would remain, 3 parameters need 4" in fitted.holdout.summary()
    assert fitted.holdout.to_dict()["error"] is None
    with pytest.raises(FittingError, match="between 0 and 1; got 70"):
        validate(fitted, (70,))
    with pytest.raises(FittingError, match=r"at least 20 resamples .* got 0"):
        validate(fitted, resamples=0)


def test_six_runs_are_not_resampled_for_five_parameters(chinchilla_fit: Fit) -> None:
    x = np.geomspace(1e7, 1e9, 12)
    columns = {"params": x, "tokens": x[::-1] ** 1.1}
    loss = chinchilla_fit.model(chinchilla_fit.parameters, **columns)
    found = fit(chinchilla_fit.model, columns, loss, bootstrap=0, holdout=0.5).holdout
    assert found is not None and found.cuts == ()
    assert "6 configurations from 6 runs would remain, 5 parameters need 7" in found.summary()


def test_points_of_one_run_and_runs_of_one_size_stay_together() -> None:
    size = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert smaller(size, np.arange(6), 0.5).tolist() == [True] * 3 + [False] * 3
    runs = np.array([0, 1, 2, 0, 3, 3])  # run 0 has the points of size 1 and 4
    assert smaller(size, runs, 0.7).tolist() == [True] * 4 + [False] * 2
    assert smaller(size, runs, 0.5).tolist() == [False, True, True, False, False, False]
    assert not smaller(np.ones(4), np.arange(4), 0.5).any()


def test_baselines_are_what_they_say() -> None:
    size = np.array([1.0, 2.0, 50.0, 80.0, 1000.0, 1000.0])
    target = 8.0 * size**-0.25
    assert last_value(size, target) == pytest.approx(target[-1])
    assert last_two_scales(size, target, np.array([1e5])) == pytest.approx([8.0 * 1e5**-0.25])
    assert last_two_scales(np.array([1.0, 1.5]), np.array([2.0, 1.9]), np.array([9.0])) is None
    assert last_two_scales(size, target - 5, np.array([9.0])) is None
