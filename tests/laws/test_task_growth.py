from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import FittingError, RunsError
from limbeck.laws import PassCounts, PassRate, growth, instance_rates, multi_circuit, multi_step, task_curve

SIZES = np.geomspace(1e6, 3e8, 6)


def mixture(seed=0, n=200):
    rng = np.random.default_rng(seed)
    c, alpha = np.exp(rng.normal(6, 2.0, n)), rng.uniform(0.15, 0.6, n)
    return lambda x: np.exp(-c * np.asarray(x, float)[..., None] ** -alpha)


def counted(rates, seed=0, r=5, cap=20_000):
    """Passes and draws of every instance with a cap: waiting times are geometric."""
    waits = np.random.default_rng(seed).geometric(np.maximum(rates, 1e-15), (r, len(rates)))
    taken = np.cumsum(waits.clip(max=cap + 1), 0)
    return PassCounts((taken <= cap).sum(0), taken[-1].clip(max=cap), r)


def test_task_law_is_recovered():
    law = PassRate()
    truth = {"E": 0.0, "A": 4000.0, "alpha": 0.5}
    fit = laws.fit(law, {"params": SIZES, "pass_rate": law(truth, params=SIZES)}, fixed={"E": 0.0}, bootstrap=0)
    assert_allclose(list(fit.parameters.values()), list(truth.values()), rtol=1e-10)
    line = np.log(-np.log(law(truth, params=SIZES)))
    assert_allclose(np.diff(line) / np.diff(np.log(SIZES)), -0.5, rtol=1e-9)


def test_zero_rates_in_a_table_are_named():
    with pytest.raises(RunsError, match=r"pass_rate +0: must be positive"):
        laws.fit("pass-rate", {"params": SIZES, "pass_rate": [0, 0.1, 0.2, 0.3, 0.4, 0.5]})


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 50), st.floats(0.5, 50), st.floats(0.02, 1), st.floats(0.05, 1))
def test_several_steps_never_accelerate(c1, c2, alpha, more):
    x = np.geomspace(10, 1e5, 9)
    surprise = -np.log(multi_step(x, [c1, c2], [alpha, alpha + more]))
    second = np.diff(np.log(surprise), 2)
    assert (second > -1e-9).all()
    assert growth(x, np.exp(-surprise)).curvature > 0


def test_two_circuits_can_accelerate():
    x = np.geomspace(10, 1e5, 9)
    bend = growth(x, multi_circuit(x, [2, 4000], [0.05, 1.0]))
    assert bend.curvature < 0 and bend.verdict == "accelerated emergence"
    assert growth(x, multi_circuit(x, [30], [0.5])).verdict == "scaling-law growth"
    assert growth(x, multi_step(x, [2, 400], [0.05, 1.0])).verdict == "sub-law growth"
    assert growth(x[:3], [0.1, 0.2, 0.3]).verdict == "undecided"


def test_every_size_of_straight_noise_is_rarely_called_bent():
    rng, size = np.random.default_rng(0), np.geomspace(1e6, 1e9, 8)
    rates = np.exp(-4000 * size**-0.45)
    noisy = rates * np.exp(0.05 * rng.normal(size=(400, 8)))
    bent = np.mean([growth(size, row, 0.05 * rates).verdict != "scaling-law growth" for row in noisy.clip(max=0.99)])
    assert bent < 0.05 + 4 * 0.011  # s.e. 0.011


def test_instances_predict_the_mean_where_one_law_does_not():
    truth, at, many = mixture(), 1e11, 1e9
    rates = truth(SIZES)
    predicted = instance_rates(SIZES, many * rates, np.full(rates.shape, many), at).mean()
    assert predicted == pytest.approx(truth(at).mean(), rel=0.01)
    whole = laws.fit("pass-rate", {"params": SIZES, "pass_rate": rates.mean(1)}, fixed={"E": 0.0}, bootstrap=0)
    assert abs(whole.value(params=at) / truth(at).mean() - 1) > 0.05


def test_instances_are_predicted_from_few_passes():
    truth, at = mixture(), 1e10
    curve = task_curve(SIZES, [counted(rates, k) for k, rates in enumerate(truth(SIZES))], bootstrap=50)
    found = curve.predict_instances(at)
    assert abs(found.value - truth(at).mean()) < 0.04  # s.e. about 0.01 over draws
    assert found.lower < found.value < found.upper
    assert json.loads(json.dumps(curve.to_dict()))["growth"]["verdict"] == curve.growth.verdict
    assert "pass rate" in curve.summary() and len(curve.plot().data)


def test_a_floor_is_found_and_preferred():
    law = PassRate()
    truth = {"E": 0.7, "A": 2000.0, "alpha": 0.5}
    sizes = np.geomspace(3e5, 3e8, 8)
    rates = law(truth, params=sizes)
    curve = task_curve(sizes, [counted(np.full(400, rate), k) for k, rate in enumerate(rates)], bootstrap=50)
    ahead, without = curve.predict(1e11), curve.predict(1e11, law="law")
    assert abs(ahead.mean - law(truth, params=1e11)) < 0.1 < abs(without.mean - law(truth, params=1e11))
    assert ahead.lower <= ahead.mean <= ahead.upper


def test_sizes_without_a_usable_rate_are_named_and_the_rest_goes_on():
    none, every = PassCounts([0] * 9, [1000] * 9, 5), PassCounts([5] * 9, [5] * 9, 5)
    some = [PassCounts([5] * 9, draws + np.arange(9), 5) for draws in (900, 90)]
    curve = task_curve([1e6, 1e9, 1e7, 1e8], [none, every, *some])
    assert curve.x.tolist() == [1e6, 1e7, 1e8, 1e9]
    assert curve.notes[0].startswith("params 1e+06 left out of the law: no pass in 9e+03 draws")
    assert "every draw passed" in curve.notes[1]
    assert list(curve.fits) == ["law"] and curve.growth.verdict == "undecided"
    assert 0 < curve.fits["law"].value(params=1e9) <= 1
    lone = task_curve([1e6, 1e7], [none, some[0]])
    with pytest.raises(FittingError, match=r'no "law" was fitted: .*1 sizes with a rate between 0 and 1'):
        lone.predict(1e9)
    assert 0 <= lone.predict_instances(1e9).value <= 1
    assert "nan" not in lone.summary() and "takes four sizes" in lone.summary()
    assert len(lone.plot().data[0].x) == 2


def test_instances_must_be_the_same_at_every_size():
    curve = task_curve([1e6, 1e7], [PassCounts([5] * n, [50] * n, 5) for n in (3, 4)])
    with pytest.raises(FittingError, match="same instances"):
        curve.predict_instances(1e9)
