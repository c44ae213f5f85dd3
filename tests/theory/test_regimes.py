from __future__ import annotations

import json

import numpy as np
import pytest

from limbeck.errors import FittingError, RunsError
from limbeck.runs import read_runs
from limbeck.theory import classify_regime, power_spectrum, random_feature_loss, regimes

INF = np.inf
SPECTRUM = power_spectrum(4000, 0.5)
MANY, FEW = np.tile(30 * np.geomspace(2, 500, 16), 4), np.tile(np.geomspace(10, 1000, 16), 4)


@pytest.mark.parametrize("noise", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("seed", range(3))
def test_all_four_regimes_are_told_apart(noise, seed):
    rng = np.random.default_rng(seed)

    def noisy(loss):
        return loss * np.exp(noise * rng.standard_normal(loss.shape))

    found = [
        classify_regime(MANY, noisy(random_feature_loss(MANY, 30, SPECTRUM)), other=30),
        classify_regime(MANY, noisy(random_feature_loss(30, MANY, SPECTRUM)), other=30),
        classify_regime(FEW, noisy(random_feature_loss(FEW, INF, SPECTRUM))),
        classify_regime(FEW, noisy(random_feature_loss(INF, FEW, SPECTRUM))),
    ]
    assert [one.label for (one,) in found] == ["variance-limited"] * 2 + ["resolution-limited"] * 2
    assert found[0][0].limit == pytest.approx(float(random_feature_loss(INF, 30, SPECTRUM)), rel=0.02)


def test_nothing_is_fitted_across_the_peak():
    n = np.geomspace(5, 2000, 40)
    below, above = classify_regime(n, random_feature_loss(n, 100, SPECTRUM), other=100)
    assert (below.label, above.label) == ("resolution-limited", "variance-limited")
    limit = float(random_feature_loss(INF, 100, SPECTRUM)) * 0.99
    assert classify_regime(n, random_feature_loss(n, 100, SPECTRUM), other=100, limit=limit)[0] == below
    assert below.span[1] < 100 * np.exp(-0.3) and above.span[0] > 100 * np.exp(0.3)
    assert below.points + above.points == (np.abs(np.log(n / 100)) >= 0.3).sum()
    at = classify_regime([90, 95, 105, 110], [3, 5, 5, 3], other=100)
    assert at[0].label == "interpolation peak" and at[0].exponent is None
    assert "–" in at[0].words()


def test_a_limit_that_is_known_makes_few_points_enough():
    n = np.geomspace(10, 200, 7)
    rng = np.random.default_rng(0)
    loss = 0.5 + 2 / n * np.exp(0.03 * rng.standard_normal(7))
    known = classify_regime(n, loss, limit=0.5)[0]
    assert known.label == "variance-limited" and known.limit == 0.5
    assert known.upper - known.lower < classify_regime(n, loss)[0].upper - classify_regime(n, loss)[0].lower
    with pytest.raises(FittingError, match=r"limit 0\.6 must lie below every loss"):
        classify_regime(n, loss, limit=0.6)


def test_plateaus_short_curves_and_steep_ones_are_not_called_exponents():
    rng, n = np.random.default_rng(0), np.geomspace(10, 1000, 12)
    assert classify_regime(n, 2 + 0.01 * rng.standard_normal(12))[0].label == "plateau"
    short = classify_regime([1, 2, 3], [3, 2, 1.5])[0]
    assert short.label == "undetermined" and "3 sizes: 6" in short.note
    steep = classify_regime(n, 0.1 + n**-1.6 * np.exp(0.001 * rng.standard_normal(12)))[0]
    assert steep.label == "undetermined" and "steeper than 1" in steep.note
    with pytest.raises(FittingError, match="positive n and loss"):
        classify_regime(n, -n)


def table():
    params, tokens = (a.ravel() for a in np.meshgrid(np.geomspace(1e7, 1e9, 7), np.geomspace(1e9, 1e11, 8)))
    loss = 1.5 + 400 * params**-0.34 + 400 * tokens**-0.28
    return {"params": params, "tokens": tokens, "loss": loss}


def test_every_curve_of_a_table_is_classified():
    found = regimes(read_runs(table()))
    assert len(found.curves) == 15 and found.short == 0
    assert {curve.label for curve in found.curves} == {"resolution-limited"}
    exponents = {curve.name.split()[0]: curve.exponent for curve in found.curves}
    assert exponents["tokens"] == pytest.approx(0.28, abs=0.01)
    assert exponents["params"] == pytest.approx(0.34, abs=0.01)
    assert found.summary().startswith("15 resolution-limited\n") and "tokens at 10 M parameters" in found.summary()
    assert json.loads(json.dumps(found.to_dict()))["curves"][0]["points"] == 8
    assert "15 of 15 curves" in found.plot().layout.title.text


def test_the_width_hidden_in_a_parameter_count_is_pointed_out():
    columns = table()
    noise = 1e-4 * np.random.default_rng(0).standard_normal(56)
    columns["loss"] = (2 + 5000 * columns["params"] ** -0.5) * np.exp(noise)
    notes = [c.note for c in regimes(read_runs(columns)).curves if c.name.startswith("params")]
    assert len(notes) == 8
    assert (
        sum("exponent 1 of width reads 0.5" in note for note in notes) >= 5
    )  # a 95 % interval misses one now and then


def test_a_table_without_curves_is_refused_with_a_reason():
    rng = np.random.default_rng(0)
    columns = {"params": rng.uniform(1e7, 1e9, 20), "tokens": rng.uniform(1e9, 1e11, 20), "loss": rng.uniform(2, 3, 20)}
    with pytest.raises(RunsError, match="none of 40 curves has 6 sizes"):
        regimes(read_runs(columns))
    with pytest.raises(RunsError, match="no column params"):
        regimes(read_runs({"tokens": [1e9, 2e9], "loss": [3.0, 2.0]}))
