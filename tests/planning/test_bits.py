from __future__ import annotations

import json

import numpy as np
import pytest

from limbeck import laws
from limbeck.errors import PlanningError
from limbeck.laws import HOFFMANN_2022, BitLevel, Precision, Published
from limbeck.planning import choose_bits

SCALES = {2.0: 6e7, 4.0: 2e6, 8.0: 4e6, 16.0: 8e6}
P = {"E": 2.0, "A": 400.0, "B": 1800.0, "alpha": 0.35, "beta": 0.3, "gamma_w": 2.5}
POST = {"C_T": 0.06, "gamma_D": 0.5, "gamma_N": 0.35, "gamma_post": 0.6}
CONSTANTS = Published(Precision(post=True), P | POST, Precision.source, "none")


def quantised(scales: dict[float, float] = SCALES) -> dict[str, list[float]]:
    rng, noise = np.random.default_rng(0), 0.002
    params, bits = np.meshgrid(np.geomspace(1e8, 1e10, 6), list(scales))
    x = np.array([scales[b] for b in bits.ravel()])
    loss = (1.8 + (x / (params * bits).ravel()) ** 0.3) * np.exp(noise * rng.normal(size=len(x)))
    return {"params": params.ravel().tolist(), "bits": bits.ravel().tolist(), "loss": loss.tolist()}


@pytest.fixture(scope="module")
def fitted():
    return laws.fit("bit-level", quantised(), bootstrap=200)


def test_a_budget_buys_weights_and_the_best_curve_wins(fitted):
    plan = choose_bits(fitted, total_bits=1.6e11)
    assert plan.best == 4.0
    assert [o.params for o in plan.options] == [8e10, 4e10, 2e10, 1e10]
    assert sum(o.best_in for o in plan.options) == pytest.approx(1.0)
    assert all(o.loss.lower < o.loss.value < o.loss.upper for o in plan.options)
    assert "beyond the largest run" in plan.notes[0]
    assert "← best" in plan.summary() and max(map(len, plan.summary().splitlines())) <= 80
    assert json.loads(json.dumps(plan.to_dict()))["best"] == 4.0


def test_the_best_precision_does_not_depend_on_the_budget_unless_exponents_differ(fitted):
    assert len({choose_bits(fitted, total_bits=s).best for s in (1e9, 1e11, 1e13)}) == 1
    p = {"E": 1.0, "x4": 1e6, "x8": 1e5, "alpha4": 0.4, "alpha8": 0.3}
    own = Published(BitLevel((4, 8), own_exponents=True), p, BitLevel.source, "none")
    assert choose_bits(own, total_bits=1e7).best == 8.0
    assert choose_bits(own, total_bits=1e14).best == 4.0


def test_one_size_at_fewer_bits(fitted):
    plan = choose_bits(fitted, params=7e9, bits=[16, 4])
    assert [(o.bits, o.params) for o in plan.options] == [(4.0, 7e9), (16.0, 7e9)]


def test_runs_that_do_not_decide_say_so():
    even = laws.fit("bit-level", quantised({3.0: 2e6, 4.0: 2e6}), bootstrap=200)
    plan = choose_bits(even, total_bits=1e10)
    assert all(o.best_in > 0.1 for o in plan.options)
    assert "do not decide" in plan.notes[-1]


def test_after_training_more_data_may_hurt():
    plan = choose_bits(CONSTANTS, params=1e9, tokens=1e11, bits=[3, 4, 8])
    ends = [o.critical_tokens.value for o in plan.options]
    assert ends == sorted(ends)
    loss = CONSTANTS.value(params=1e9, tokens=1e11, bits=16.0, post_bits=3.0)
    assert plan.options[0].loss.value == pytest.approx(float(loss))
    assert "more data hurts beyond" in plan.summary()


def test_training_precision_is_varied_where_nothing_is_quantised_afterwards():
    plain = Published(Precision(), P, Precision.source, "none")
    plan = choose_bits(plain, total_bits=1e10, tokens=1e11, bits=[2, 4, 16])
    best = min((2, 4, 16), key=lambda b: float(plain.value(params=1e10 / b, tokens=1e11, bits=b)))
    assert plan.best == best and plan.options[0].critical_tokens is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "one of the two"),
        ({"total_bits": 1e9, "params": 1e9}, "one of the two"),
        ({"total_bits": -1.0}, "must be positive"),
        ({"params": 1e9, "bits": [4, 0]}, "no curve for others"),
        ({"params": 1e9, "bits": [5]}, "the runs have 2, 4, 8, 16 bits"),
    ],
)
def test_questions_without_an_answer(fitted, arguments, words):
    with pytest.raises(PlanningError, match=words):
        choose_bits(fitted, **arguments)


def test_tokens_that_the_law_does_not_read_are_named(fitted):
    assert "does not read tokens" in choose_bits(fitted, params=1e9, tokens=1e12).summary()
    assert "does not read tokens" not in choose_bits(fitted, params=1e9).summary()


def test_other_laws_and_missing_data():
    with pytest.raises(PlanningError, match="this is a fit of chinchilla"):
        choose_bits(HOFFMANN_2022, total_bits=1e9)
    with pytest.raises(PlanningError, match="reads tokens"):
        choose_bits(CONSTANTS, params=1e9, bits=[4])
    with pytest.raises(PlanningError, match="must be positive"):
        choose_bits(CONSTANTS, params=1e9, tokens=1e9)
