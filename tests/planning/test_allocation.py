from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import brentq

from limbeck import laws
from limbeck.errors import PlanningError
from limbeck.laws import BESIROGLU_2024, HOFFMANN_2022, KAPLAN_2020, SUPERVISED_2025, ComputeFrontier, Published
from limbeck.planning import allocate_two_parts, compute_optimal, inference_aware
from limbeck.planning.allocation import closed_form, searched
from limbeck.planning.estimate import Ensemble

RNG = np.random.default_rng(0)
N, D = np.exp(RNG.uniform(np.log(5e7), np.log(5e9), 60)), np.exp(RNG.uniform(np.log(1e9), np.log(1e11), 60))
TRUTH = BESIROGLU_2024.parameters


@pytest.fixture(scope="module")
def fit():
    loss = BESIROGLU_2024.value(params=N, tokens=D) * np.exp(0.005 * RNG.standard_normal(60))
    return laws.fit("chinchilla", {"params": N, "tokens": D, "loss": loss}, bootstrap=200)


def test_closed_form_and_search_agree(fit):
    rows = Ensemble.of(fit, "params", "tokens")
    assert len(rows) == 201
    for flops in (1e19, 1e22, 5.76e23):
        assert_allclose(searched(rows, flops), closed_form(rows, flops), rtol=1e-6)


@pytest.mark.parametrize(
    ("published", "per_param"), [(HOFFMANN_2022, 58.9), (BESIROGLU_2024, 18.39)], ids=["hoffmann", "besiroglu"]
)
def test_tokens_per_parameter_at_chinchillas_budget(published, per_param):
    plan = compute_optimal(published, 5.76e23)
    assert_allclose(plan.tokens_per_param.value, per_param, rtol=0.01)
    assert_allclose(6 * plan.params.value * plan.tokens.value, 5.76e23, rtol=1e-12)
    assert plan.params.lower is None and plan.extrapolation is not None and 4 < plan.extrapolation < 5
    assert "arXiv" in plan.notes[0]


def test_intervals_hold_the_truth_and_the_reach_is_told(fit):
    plan = compute_optimal(fit, 1e23, level=0.95)
    truth = ComputeFrontier.of(TRUTH)
    for estimate, true in (
        (plan.params, truth.params(1e23)),
        (plan.tokens, truth.tokens(1e23)),
        (plan.loss, truth.loss(1e23)),
    ):
        assert estimate.lower < true < estimate.upper
    assert_allclose(plan.extrapolation, 1e23 / (6 * N * D).max(), rtol=1e-9)
    assert f"{plan.extrapolation:.2g}× beyond the largest run" in plan.summary()
    assert plan.to_dict()["params"]["value"] == plan.params.value
    inside = compute_optimal(fit, 1e20)
    assert inside.extrapolation < 1 and "inside the data" in inside.summary()


def test_any_law_of_params_and_tokens_has_a_plan():
    plan = compute_optimal(SUPERVISED_2025, 1e22)
    p = SUPERVISED_2025.parameters
    truth = ComputeFrontier(0.0, p["A"], p["B"], p["alpha"], p["beta"])  # a monotone outer power moves no optimum
    assert_allclose(plan.params.value, truth.params(1e22), rtol=1e-5)
    kaplan = compute_optimal(KAPLAN_2020, 1e22)
    beside = [KAPLAN_2020.value(params=kaplan.params.value * k, tokens=kaplan.tokens.value / k) for k in (0.9, 1.1)]
    assert min(beside) > kaplan.loss.value


def test_plans_that_cannot_be():
    with pytest.raises(PlanningError, match="needs a law in params and tokens; henighan reads params"):
        compute_optimal(laws.KAPLAN_2020_PARAMS, 1e20)
    with pytest.raises(PlanningError, match="must be positive"):
        compute_optimal(BESIROGLU_2024, 0)
    no_size = Published(laws.Supervised(), {**SUPERVISED_2025.parameters, "alpha": 0.0}, laws.Supervised.source, "here")
    with pytest.raises(PlanningError, match="the smallest is best"):
        compute_optimal(no_size, 1e20)


def test_served_tokens_move_the_optimum_by_the_first_order_condition():
    served = 1e13
    plan = inference_aware(BESIROGLU_2024, 2.1, served)
    n, d, p = plan.params.value, plan.tokens.value, TRUTH
    assert_allclose(BESIROGLU_2024.value(params=n, tokens=d), 2.1, rtol=1e-9)
    size, data = p["alpha"] * p["A"] * n ** -p["alpha"], p["beta"] * p["B"] * d ** -p["beta"]
    assert_allclose(size / data, 1 + served / (3 * d), rtol=1e-5)
    assert_allclose(plan.total_flops.value, 6 * n * d + 2 * n * served, rtol=1e-12)

    def excess(log_n):
        tokens = ComputeFrontier.of(p).tokens_reaching(2.1, np.exp(log_n))
        size, data = p["alpha"] * p["A"] * np.exp(-p["alpha"] * log_n), p["beta"] * p["B"] * tokens ** -p["beta"]
        return float(size - data * (1 + served / (3 * tokens)))

    assert_allclose(n, np.exp(brentq(excess, np.log(n) - 1, np.log(n) + 1)), rtol=1e-5)


def test_nothing_served_is_compute_optimal():
    plan = inference_aware(BESIROGLU_2024, 2.1, 0)
    flops = ComputeFrontier.of(TRUTH).flops_for(2.1 - TRUTH["E"])
    assert_allclose(plan.training_flops.value, flops, rtol=1e-9)
    assert abs(plan.saving.value) < 1e-9


def test_closed_form_of_the_tokens_agrees_with_the_search(fit):
    """The supervised form with gamma = 1 is Chinchilla's; it takes the generic path."""
    same = Published(laws.Supervised(), {**TRUTH, "gamma": 1.0}, laws.Supervised.source, "here")
    one, other = inference_aware(BESIROGLU_2024, 2.1, 1e13), inference_aware(same, 2.1, 1e13)
    assert_allclose(other.params.value, one.params.value, rtol=1e-5)
    assert_allclose(other.tokens.value, one.tokens.value, rtol=1e-5)


def test_more_serving_means_smaller_and_longer(fit):
    plans = [inference_aware(fit, 2.3, served) for served in (0, 1e11, 1e13)]
    assert np.all(np.diff([p.params.value for p in plans]) < 0)
    assert np.all(np.diff([p.multiplier.value for p in plans]) > 0)
    assert plans[2].saving.value > 0.3 and plans[2].saving.lower > 0
    assert plans[2].params.lower < plans[2].params.value < plans[2].params.upper
    assert "less than the compute-optimal model" in plans[2].summary()


def test_a_target_below_the_floor_is_impossible(fit):
    with pytest.raises(PlanningError, match=r"no model reaches a loss of 1\.5 under this law: its floor is 1\.78"):
        inference_aware(fit, 1.5, 1e12)
    near = inference_aware(fit, fit.parameters["E"] + 0.02, 1e12)
    assert any("of the draws cannot reach this loss" in note for note in near.notes)
    with pytest.raises(PlanningError, match="cannot be negative"):
        inference_aware(fit, 2.3, -1)


def test_plans_are_frozen(fit):
    with pytest.raises(dataclasses.FrozenInstanceError):
        compute_optimal(fit, 1e21).flops = 2.0


def test_a_target_that_many_draws_cannot_reach_has_no_interval(fit):
    near = inference_aware(fit, fit.parameters["E"] + 0.012, 1e12)
    assert any("cannot reach this loss" in note for note in near.notes)
    assert near.params.lower is None and near.params.upper is None and near.params.value > 0
    assert inference_aware(fit, 2.3, 1e12).params.lower is not None


def test_runs_of_one_loss_have_no_best_size():
    flat = laws.fit("chinchilla", {"params": N, "tokens": D, "loss": np.full(60, 3.0)}, bootstrap=20)
    with pytest.raises(PlanningError, match=r"chinchilla has (one loss at every size|no best size) at 1e\+22 FLOP"):
        compute_optimal(flat, 1e22)
    law = BESIROGLU_2024.model
    for gone in ("A", "B"):
        half = law.published({**TRUTH, gone: 0.0}, where="no table")
        with pytest.raises(PlanningError, match="no best size at"):
            compute_optimal(half, 1e22)


def test_runs_of_one_size_do_not_tell_the_best_one():
    one = laws.fit(
        "chinchilla",
        {"params": np.full(60, 1e8), "tokens": D, "loss": BESIROGLU_2024.value(params=1e8, tokens=D)},
        bootstrap=0,
    )
    for plan in (lambda: compute_optimal(one, 1e22), lambda: inference_aware(one, 2.5, 1e12)):
        with pytest.raises(PlanningError, match=r"params is 1e\+08 in all runs: its effect is not known"):
            plan()
    decoder = np.geomspace(1e7, 1e9, 8)
    parts = {"encoder_params": np.full(8, 1e7), "decoder_params": decoder, "loss": 1 + 9 * decoder**-0.2}
    with pytest.raises(PlanningError, match=r"encoder_params is 1e\+07 in all runs"):
        allocate_two_parts(laws.fit("two-part", parts, bootstrap=0), 5e8)


def test_terms_of_one_exponent_are_planned_too():
    loss = 1.5 + 200 * N**-0.3 + 400 * D**-0.3
    fit = laws.fit("overtraining", {"params": N, "tokens": D, "loss": loss}, bootstrap=0)
    best = (0.5 ** (1 / 0.3) * 1e22 / 6) ** 0.5  # A N^-alpha = B D^-alpha
    assert_allclose(compute_optimal(fit, 1e22).params.value, best, rtol=1e-3)
