from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import PlanningError
from limbeck.laws import SU_2024_BATCH, Batch, BatchLaw
from limbeck.planning import plan_batch

LAW = BatchLaw(SU_2024_BATCH.parameters)


def fitted(sizes=(1e6, 1e7), batches=(3e4, 3e5, 3e6)):
    rng, parts = np.random.default_rng(0), []
    for n in sizes:
        for b in batches:
            step = np.geomspace(300, 3e5, 30).round()
            loss = SU_2024_BATCH.value(params=n, batch_tokens=b, step=step) * np.exp(0.003 * rng.standard_normal(30))
            parts.append(pl.DataFrame({"run": f"{n} {b}", "params": n, "batch_tokens": b, "step": step, "loss": loss}))
    return laws.fit("batch", pl.concat(parts), bootstrap=60)


@pytest.fixture(scope="module")
def fit():
    return fitted()


def test_published_constants_give_the_closed_forms():
    plan = plan_batch(SU_2024_BATCH, 1e8, 3.2, batches=[1e5, 1e6])
    assert plan.critical.value == pytest.approx(float(LAW.critical_batch(3.2)))
    assert plan.min_steps.value == pytest.approx(float(LAW.min_steps(3.2, 1e8)))
    assert plan.min_tokens.value == pytest.approx(plan.min_steps.value * plan.critical.value)
    assert plan.best == plan.critical and plan.critical.lower is None
    for option in plan.options:
        assert (option.time - 1) * (option.compute - 1) == pytest.approx(1.0)
        assert option.tokens.value == pytest.approx(option.steps.value * option.batch)
        assert option.curve[-1] == pytest.approx(3.2)
        assert_allclose(
            option.curve, Batch()(SU_2024_BATCH.parameters, params=1e8, batch_tokens=option.batch, step=option.at)
        )
    assert "Published constants" in plan.summary() and "1 M" in plan.summary()


def test_a_fit_has_intervals_and_prices_move_the_best_batch(fit):
    plan = plan_batch(fit, 3e7, 3.4)
    truth = float(LAW.critical_batch(3.4))
    assert plan.critical.lower < truth < plan.critical.upper
    assert plan.min_steps.lower < float(LAW.min_steps(3.4, 3e7)) < plan.min_steps.upper
    assert [round(o.time, 6) for o in plan.options] == [5.0, 3.0, 2.0, 1.5, 1.25]
    hurried = plan_batch(fit, 3e7, 3.4, step_price=4.0, token_price=1.0 / plan.critical.value)
    assert hurried.best.value == pytest.approx(2 * plan.critical.value)
    json.dumps({**plan.to_dict(), "options": None})
    assert len(plan.plot().data) == 5


def test_close_to_the_floor_some_draws_have_no_answer(fit):
    floor = float(np.median(BatchLaw(fit.draws).floor(3e7)))
    plan = plan_batch(fit, 3e7, max(floor, float(BatchLaw(fit.parameters).floor(3e7))) * (1 + 1e-6))
    assert plan.min_steps.lower is None and plan.critical.lower is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_loss": 2.5}, "the floor is 3.2"),
        ({"params": -1e9}, "params must be positive"),
        ({"step_price": 1.0}, "both prices"),
        ({"step_price": 0.0, "token_price": 1.0}, "step price must be positive"),
        ({"batches": [0.0]}, "batch sizes above 0"),
    ],
)
def test_questions_without_an_answer(options, words):
    with pytest.raises(PlanningError, match=words):
        plan_batch(SU_2024_BATCH, **{"params": 3e7, "target_loss": 3.5} | options)


def test_partial_fits_answer_what_they_can():
    one_size = fitted(sizes=(1e7,))
    assert plan_batch(one_size, 1e7, 3.8).critical.value == pytest.approx(float(LAW.critical_batch(3.8)), rel=0.1)
    with pytest.raises(PlanningError, match=r"one size \(10 M\): they say nothing about 100 M"):
        plan_batch(one_size, 1e8, 3.8)
    with pytest.raises(PlanningError, match="do not identify B_star"):
        plan_batch(fitted(batches=(3e5,)), 1e7, 3.8)
    with pytest.raises(PlanningError, match="chinchilla reads"):
        plan_batch(laws.BESIROGLU_2024, 1e7, 3.8)
