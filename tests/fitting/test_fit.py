"""A fit as its users see it: evaluate, save, load, summarise."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Data, Fit, Loss, Model, Parameter, Prior, automatic_delta, fit


def test_round_trip_through_a_file(chinchilla_fit: Fit, two_powers, tmp_path) -> None:
    path = chinchilla_fit.save(tmp_path / "fit.json")
    back = Fit.from_dict(json.loads(path.read_text()), two_powers)
    assert back.to_dict() == chinchilla_fit.to_dict()
    there = {"params": 7e9, "tokens": 2e12}
    assert back.predict(**there).summary() == chinchilla_fit.predict(**there).summary()
    assert back.holdout == chinchilla_fit.holdout and back.holdout is not None


def test_round_trip_of_least_squares_and_priors(two_powers, grid, noisy) -> None:
    fitted = fit(
        two_powers, grid, noisy, loss=SQUARED, priors={"alpha": Prior(0.35, 0.1)}, fixed={"E": 1.8}, bootstrap=5
    )
    record = json.loads(json.dumps(fitted.to_dict(), allow_nan=False))
    back = Fit.from_dict(record, two_powers)
    assert back.loss == SQUARED and back.priors == fitted.priors and back.fixed == {"E": 1.8}
    assert back.problem.objective(back.z[None])[0] == pytest.approx(fitted.objective, rel=1e-9)


def test_short_record_has_the_promised_keys(chinchilla_fit: Fit) -> None:
    record = chinchilla_fit.to_dict(full=False)
    assert {"law", "objective", "parameters", "intervals", "starts", "identifiability", "holdout", "loss"} <= set(
        record
    )
    assert not {"draws", "noise", "data"} & set(record)
    assert record["parameters"]["E"] == pytest.approx(1.81722, abs=1e-5)
    low, high = record["intervals"]["alpha"]
    assert low < record["parameters"]["alpha"] < high
    assert record["holdout"]["cuts"][0]["score"]["mape"] == pytest.approx(0.0106, abs=2e-4)


def test_summary_on_one_screen(chinchilla_fit: Fit) -> None:
    text = chinchilla_fit.summary()
    assert text.splitlines()[0] == "loss = E + A / params^alpha + B / tokens^beta"
    assert "80% interval" in text and "starts" in text and "held-out largest 30%" in text
    assert max(map(len, text.splitlines())) < 160 and len(text.splitlines()) < 20


def test_values_broadcast(chinchilla_fit: Fit) -> None:
    assert chinchilla_fit.value(params=[1e9, 2e9], tokens=1e10).shape == (2,)
    assert chinchilla_fit.values(params=[1e9, 2e9], tokens=1e10).shape == (400, 2)
    assert chinchilla_fit.simulate(params=1e9, tokens=[1e10]).shape == (400, 1)
    middle = np.median(chinchilla_fit.values(params=1e9, tokens=2e10))
    assert middle == pytest.approx(float(chinchilla_fit.value(params=1e9, tokens=2e10)), rel=2e-3)


@pytest.mark.parametrize(("loss", "shift"), [(Loss(), 0.1), (Loss(space="linear"), 0.1)])
def test_noise_moves_a_prediction_in_its_own_space(chinchilla_fit: Fit, loss: Loss, shift: float) -> None:
    moved = replace(chinchilla_fit, loss=loss).shifted(np.array([2.0]), np.array([shift]))
    assert moved[0] == pytest.approx(2 * np.exp(shift) if loss.space == "log" else 2 + shift)


def test_no_draws_is_said(two_powers, grid, noisy) -> None:
    bare = fit(two_powers, grid, noisy, bootstrap=0)
    assert set(bare.intervals().values()) == {None}
    assert "no bootstrap" in bare.summary()
    with pytest.raises(FittingError, match="bootstrap=1000"):
        bare.values(params=1e9, tokens=1e10)


def test_names_are_checked(chinchilla_fit: Fit) -> None:
    with pytest.raises(FittingError, match=r'no column "token".*Did you mean "tokens"'):
        chinchilla_fit.predict(params=1e9, token=1e10)
    with pytest.raises(FittingError, match="missing: tokens"):
        chinchilla_fit.predict(params=1e9)


def test_bad_points_are_named(two_powers, grid, noisy) -> None:
    broken = noisy.copy()
    broken[3] = np.nan
    with pytest.raises(FittingError, match="loss is not finite at point 3"):
        fit(two_powers, grid, broken)
    with pytest.raises(FittingError, match="weights must be zero or positive; the smallest is -1"):
        fit(two_powers, grid, noisy, weights=-np.ones(30))


def test_a_start_replaces_the_grid(two_powers, grid, noisy, truth) -> None:
    from_grid, from_start = (
        fit(two_powers, grid, noisy, bootstrap=0),
        fit(two_powers, grid, noisy, bootstrap=0, start=truth),
    )
    assert from_start.starts.total == 1
    assert from_start.objective == pytest.approx(from_grid.objective, rel=1e-9)


def test_automatic_threshold(line) -> None:
    residuals = np.random.default_rng(0).standard_normal(4001) * 0.02 + 0.5
    # 95 % efficiency at 1.345 sigma; s.e. of the MAD 1.8 %
    assert automatic_delta(residuals) == pytest.approx(1.345 * 0.02, rel=0.08)
    with pytest.raises(FittingError, match="half of them are equal"):
        automatic_delta([0.0, 0.0, 0.0, 1.0])


def test_delta_replaces_the_loss_s(two_powers, grid, noisy, truth) -> None:
    given = fit(two_powers, grid, noisy, delta=0.02, bootstrap=0, start=truth)
    assert given.loss == Loss(0.02)
    chosen = fit(two_powers, grid, noisy, delta="auto", bootstrap=0, start=truth)
    first = fit(two_powers, grid, noisy, bootstrap=0, start=truth)
    assert chosen.loss.delta == pytest.approx(automatic_delta(first.problem.residuals(first.z[None])[0]))


def test_data_keep_their_runs() -> None:
    class Flat(Model):
        name = "flat"
        columns = ("x",)
        target = "y"
        parameters = (Parameter("c", start=(1.0,)),)

        def formula(self, p: Any, x: Any) -> Any:
            return p.c + 0 * x.x

    data = Data.of(Flat(), {"x": 2.0}, [1.0, 2.0, 3.0, 4.0], clusters=["b", "a", "b", "c"])
    assert data.clusters.tolist() == [1, 0, 1, 2] and data.runs == 3 and len(data) == 4
    part = data.subset(np.array([True, False, True, True]))
    assert part.clusters.tolist() == [0, 0, 1] and part.design.tolist() == [[2.0]] * 3


def test_thousand_resamples_differ_from_the_optimum_both_ways(chinchilla_fit: Fit) -> None:
    share = np.mean(chinchilla_fit.draws["alpha"] > chinchilla_fit.parameters["alpha"])
    assert 0.25 < share < 0.75
    assert chinchilla_fit.degenerate == 0
