from __future__ import annotations

import pytest
from numpy.testing import assert_allclose

from limbeck.errors import PlanningError
from limbeck.laws import BESIROGLU_2024
from limbeck.planning import SCENARIOS, best_teacher_loss, recipe

PLANS = {  # student, budget: alone, best-case, inference, pretraining, both; from the published coefficients
    (1e9, 1e21): (2.2215, 2.1924, 2.2083, 2.2809, 2.2979),
    (1e9, 1e23): (2.1000, 2.1045, 2.1084, 2.1055, 2.1131),
    (1e10, 1e23): (1.8664, 1.8506, 1.8628, 1.9097, 1.9209),
}


@pytest.mark.parametrize(("case", "losses"), PLANS.items())
def test_best_split_in_the_four_scenarios(case, losses):
    plans = {name: recipe(*case, scenario=name) for name in SCENARIOS}
    for plan, loss in zip(plans.values(), losses[1:], strict=True):
        assert_allclose(plan.supervised_loss, losses[0], atol=6e-5)
        assert_allclose(plan.loss, loss, atol=6e-5)
    best, both = plans["best-case"].loss, plans["both"].loss
    for middle in ("inference", "pretraining"):
        assert best <= plans[middle].loss + 1e-9 and plans[middle].loss <= both + 1e-9


def test_pretraining_a_teacher_can_pay_for_a_small_student():
    plan = recipe(3e8, 1e22, scenario="pretraining")
    assert_allclose([plan.loss, plan.supervised_loss], [2.3168, 2.3198], atol=6e-5)
    assert plan.summary().startswith("distil: 2.3168 distilled, 2.3198 alone at 1e22 FLOP")


def test_in_the_best_case_only_the_teachers_loss_counts():
    plan = recipe(1e9, 1e21, scenario="best-case")
    teacher, student = best_teacher_loss(1e9, plan.tokens)
    assert_allclose([plan.teacher_loss, plan.loss], [teacher, student], rtol=1e-5)


def test_best_teachers():
    teacher, student = best_teacher_loss(3e8, 1e12)
    assert_allclose([teacher, student], [2.158, 2.3319], atol=1e-3)
    with pytest.raises(PlanningError, match="needs a fit of the distillation law; it was given one of chinchilla"):
        best_teacher_loss(1e9, 1e10, law=BESIROGLU_2024)


def test_recipes_that_cannot_be():
    with pytest.raises(PlanningError, match="do not pay for 1e\\+06 tokens"):
        recipe(1e9, 1e12)
    with pytest.raises(PlanningError, match=r'unknown scenario "pretrainin"\. Did you mean "pretraining"\?'):
        recipe(1e9, 1e21, scenario="pretrainin")
