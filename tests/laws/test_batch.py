from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import FittingError, RunsError
from limbeck.fitting import SQUARED, Problem
from limbeck.laws import KAPLAN_2020_BATCH, SU_2024_BATCH, Batch, BatchLaw, Hyperbola, noise_scale, stepwise
from limbeck.laws.batch import steps_to
from limbeck.runs import read_runs

TRUTH = dict(SU_2024_BATCH.parameters)
LAW = BatchLaw(TRUTH)
SIZES, BATCHES = (1e6, 8e6, 6e7), (3e4, 1.2e5, 5e5, 2e6)


def curves(sizes=SIZES, batches=BATCHES, noise=0.0, points=40, seed=0):
    rng, rows = np.random.default_rng(seed), []
    for n in sizes:
        for b in batches:
            step = np.geomspace(300, 3e5, points).round()
            loss = Batch()(TRUTH, params=n, batch_tokens=b, step=step) * np.exp(noise * rng.standard_normal(points))
            rows.append(
                pl.DataFrame({"run": f"{n:g} at {b:g}", "params": n, "batch_tokens": b, "step": step, "loss": loss})
            )
    return pl.concat(rows)


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections):
    def case(one):
        law, size, batch = BatchLaw(one["constants"]), one["N"], one["B_tokens"]
        loss = np.array(one["loss"])
        assert set(one) == {
            "constants", "N", "B_tokens", "S", "loss", "S_min", "B_crit", "E", "E_min", "loss_floor",
        }  # fmt: skip
        assert_allclose(Batch()(one["constants"], params=size, batch_tokens=batch, step=one["S"]), loss, rtol=1e-9)
        assert_allclose(law.min_steps(loss, size), one["S_min"], rtol=1e-9)
        assert_allclose(law.critical_batch(loss), one["B_crit"], rtol=1e-9)
        assert_allclose(law.steps(loss, size, batch) * batch, one["E"], rtol=1e-9)
        assert_allclose(law.min_tokens(loss, size), one["E_min"], rtol=1e-9)
        assert_allclose(law.floor(size), one["loss_floor"], rtol=1e-9)

    walk_sections(parity("unraveling-scaling-laws"), {"cases": lambda cases: [case(one) for one in cases]})


scale = st.floats(-3.0, 3.0).map(lambda x: 10.0**x)


@given(scale, scale, scale, st.floats(0.05, 1.0), st.floats(0.2, 2.0), st.floats(0.05, 2.0))
@settings(max_examples=150, deadline=None)
def test_loss_solves_its_equation_everywhere(size, batch, step, alpha_n, alpha_s, alpha_b):
    constants = {"N_c": 1e3, "alpha_N": alpha_n, "S_c": 30.0, "alpha_S": alpha_s, "B_star": 1.0, "alpha_B": alpha_b}
    law = BatchLaw(constants)
    loss = Batch()(constants, params=size, batch_tokens=batch, step=step)
    floor = law.floor(size)
    right = floor + (30.0 / step * (1 + law.critical_batch(loss) / batch)) ** alpha_s
    assert_allclose(loss, right, rtol=1e-9)
    assert loss > floor * (1 - 1e-12)


def test_loss_falls_in_size_batch_and_steps_towards_its_limits():
    at = {"params": 1e7, "batch_tokens": 1e5, "step": 1e4}
    loss = Batch()(TRUTH, **at)
    for name in at:
        assert Batch()(TRUTH, **{**at, name: 2 * at[name]}) < loss
    endless = LAW.floor(1e7) + (TRUTH["S_c"] / 1e4) ** TRUTH["alpha_S"]
    assert_allclose(Batch()(TRUTH, **{**at, "batch_tokens": 1e30}), endless, rtol=1e-10)
    tiny = 1e-3
    small = Batch()(TRUTH, params=1e7, batch_tokens=tiny, step=LAW.min_tokens(4.0, 1e7) / tiny)
    assert_allclose(small, 4.0, rtol=1e-6)


def test_time_and_compute_trade_on_a_hyperbola():
    batch = np.geomspace(1e3, 1e9, 13)
    steps = LAW.steps(3.9, 1e7, batch)
    assert_allclose((steps / LAW.min_steps(3.9, 1e7) - 1) * (steps * batch / LAW.min_tokens(3.9, 1e7) - 1), 1.0)
    critical = LAW.critical_batch(3.9)
    assert_allclose(LAW.steps(3.9, 1e7, critical), 2 * LAW.min_steps(3.9, 1e7))
    assert math.isinf(LAW.min_steps(3.0, 1e7)) and LAW.critical_batch(3.0) > critical
    cost = 3.0 * steps + 1e-6 * steps * batch
    best = LAW.best_batch(3.9, 3.0, 1e-6)
    least = 3.0 * LAW.steps(3.9, 1e7, best) + 1e-6 * LAW.steps(3.9, 1e7, best) * best
    assert least < cost.min() and least == pytest.approx(cost.min(), rel=0.1)
    even = LAW.best_batch(3.9, LAW.min_tokens(3.9, 1e7), LAW.min_steps(3.9, 1e7))
    assert_allclose(even, critical)


def test_exponents_of_data_and_of_the_frontier():
    loss = np.array([3.80, 3.81])
    tokens = LAW.min_tokens(loss, 1e7)
    slope = -np.diff(np.log(loss - LAW.floor(1e7))) / np.diff(np.log(tokens))
    assert_allclose(slope, LAW.data_exponent(3.805, 1e7), rtol=1e-3)
    found = BatchLaw(KAPLAN_2020_BATCH.parameters).frontier()
    assert found["loss"] == pytest.approx(0.052, abs=0.002)
    assert found["params"] + found["batch"] + found["steps"] == pytest.approx(1.0)
    # of all sizes that reach a loss at the critical batch, the cheapest leaves alpha_N / alpha_S of its floor
    size = np.geomspace(1e7, 1e10, 20001)
    cheapest = size[(size * LAW.min_tokens(3.3, size)).argmin()]
    assert 3.3 / LAW.floor(cheapest) - 1 == pytest.approx(TRUTH["alpha_N"] / TRUTH["alpha_S"], rel=1e-2)


def test_derivatives_are_those_of_the_implicit_function():
    x = {"params": np.array([1e6, 1e8]), "batch_tokens": np.array([1e5, 4e6]), "step": np.array([2e3, 5e4])}
    problem = Problem.build(Batch(), x, np.ones(2), loss=SQUARED)
    z = problem.coordinates(TRUTH)[None]
    jacobian = problem.program.evaluate(problem.theta(z))[1][0].copy()
    theta = problem.theta(z)
    for k in range(6):
        h = np.zeros((1, 6))
        h[0, k] = 1e-6 * max(1.0, abs(theta[0, k]))
        ahead, behind = (problem.program.evaluate(theta + sign * h)[0][0].copy() for sign in (1, -1))
        assert_allclose(jacobian[k], (ahead - behind) / (2 * h[0, k]), rtol=1e-6, atol=1e-9)


def test_recovery_without_noise_and_a_larger_size_with_noise():
    exact = laws.fit("batch", curves(), bootstrap=0)
    assert_allclose([exact.parameters[k] for k in TRUTH], list(TRUTH.values()), rtol=0.01)
    noisy = laws.fit("batch", curves(noise=0.005), bootstrap=0)
    at = {"params": 1e9, "batch_tokens": 1e6, "step": np.geomspace(1e3, 1e6, 9)}
    assert_allclose(noisy.value(**at), Batch()(TRUTH, **at), rtol=0.01)


def test_the_stages_come_close_and_the_critical_batch_grows():
    stages = stepwise(read_runs(curves(noise=0.001, points=100)))
    critical = [stages.hyperbolas[x].critical_batch for x in sorted(stages.hyperbolas)]
    assert critical[0] > 3 * critical[-1] and stages.skipped
    assert all(one.error < 0.03 for one in stages.hyperbolas.values())
    assert_allclose([stages.parameters[k] for k in TRUTH if "alpha" in k], [0.076, 0.67, 0.205], rtol=0.05)
    assert_allclose(list(stages.floors.values()), LAW.floor(list(SIZES)), rtol=0.02)


def test_partial_laws_say_what_is_missing():
    one_size = laws.fit("batch", curves(sizes=(8e6,)), bootstrap=20)
    assert not one_size.identifiability.identified["N_c"] and not one_size.identifiability.identified["alpha_N"]
    assert any("params is 8e+06 in all runs" in words for words in one_size.identifiability.words)
    at = {"params": 8e6, "batch_tokens": 7e5, "step": 5e4}
    assert_allclose(one_size.value(**at), Batch()(TRUTH, **at), rtol=1e-3)
    stages = stepwise(read_runs(curves(sizes=(8e6,))))
    assert stages.size is None and stages.parameters is None
    assert 1 / -stages.critical.exponent == pytest.approx(0.205, rel=0.05)
    one_batch = laws.fit("batch", curves(batches=(5e5,)), bootstrap=0)
    assert any("batch_tokens is 5e+05 in all runs" in words for words in one_batch.identifiability.words)
    assert not one_batch.identifiability.identified["B_star"]
    with pytest.raises(FittingError, match="one batch size says nothing about the critical one"):
        stepwise(read_runs(curves(batches=(5e5,))))


def test_rows_at_step_zero_are_named_or_left_out():
    table = curves(points=20)
    early = pl.concat([table, table.head(1).with_columns(step=pl.lit(0.0))])
    with pytest.raises(RunsError, match="no step was made"):
        laws.fit("batch", early, bootstrap=0)
    assert laws.fit("batch", early, bootstrap=0, skip_bad=True).parameters["alpha_S"] == pytest.approx(0.67, rel=1e-3)
    with pytest.raises(RunsError, match="no column batch_tokens"):
        laws.fit("batch", table.drop("batch_tokens"), bootstrap=0)


def test_reading_a_level_off_a_curve():
    step = np.geomspace(10, 1e5, 400)
    loss = 3 * step**-0.1 * np.exp(0.01 * np.random.default_rng(0).standard_normal(400))
    level = 3 * np.array([100.0, 1e4]) ** -0.1
    assert_allclose(steps_to(step, loss, level), [100.0, 1e4], rtol=0.15)  # 1 % of noise is 10 % of steps
    assert np.isnan(steps_to(step, loss, [4.0, 0.5])).all()


def test_hyperbola_weighs_relative_errors_and_noise_scale_is_unbiased():
    batch = np.array([2.0, 8.0, 32.0, 128.0])
    found = Hyperbola.through(batch, 10 + 150 / batch)
    assert_allclose([found.min_steps, found.min_tokens, found.error], [10.0, 150.0, 0.0], atol=1e-9)
    assert math.isinf(Hyperbola.through(batch, 100 / batch).critical_batch)
    rng = np.random.default_rng(0)
    true, count = np.full(50, 0.2), 4000
    norms = {b: ((true + rng.standard_normal((count, 50)) / math.sqrt(b)) ** 2).sum(1).mean() for b in (4, 64)}
    # tr Σ / |G|² = 50 / 2; s.e. of the estimate some 1 %
    assert noise_scale(64, norms[64], 4, norms[4]) == pytest.approx(25.0, rel=0.05)
