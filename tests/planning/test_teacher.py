from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import PlanningError, RunsError
from limbeck.fitting import SQUARED
from limbeck.laws import DISTILLATION_2025, SUPERVISED_2025, forward_flops
from limbeck.planning import Teacher, choose_teacher, distillation_flops, read_teachers

TEACHERS = [Teacher("7b", 7e9, 1.94, 2e12), Teacher("14b", 14e9, 1.81, 4e12), Teacher("72b", 72e9, 1.66, 8e12)]


def option(plan, name):
    return next(o for o in plan.options if o.name == name)


def test_losses_and_costs_at_equal_tokens():
    plan = choose_teacher(1e9, TEACHERS, tokens=2e11)
    assert plan.best == "7b"
    for teacher in TEACHERS:
        o = option(plan, teacher.name)
        assert_allclose(
            o.loss.value, DISTILLATION_2025.value(params=1e9, tokens=2e11, teacher_loss=teacher.loss), rtol=1e-12
        )
        cost = distillation_flops(1e9, 2e11, teacher.params, 0, logits=1, pretraining=0)
        assert_allclose(o.flops, cost, rtol=1e-12)
        assert_allclose(o.relative_cost, cost / (3 * forward_flops(1e9) * 2e11), rtol=1e-12)
        alone = SUPERVISED_2025.value(params=1e9, tokens=cost / (3 * forward_flops(1e9)))
        assert_allclose(o.gain, alone - o.loss.value, rtol=1e-9)
        assert_allclose((o.loss.upper - o.loss.value) / o.loss.value, 0.0128, atol=1e-4)  # 1 % and an 80 % band
    alone = plan.options[0]
    assert (alone.name, alone.relative_cost, alone.gain) == ("train alone", 1.0, 0.0)
    assert_allclose(alone.loss.value, SUPERVISED_2025.value(params=1e9, tokens=2e11))


def test_capacity_gap_and_useless_teachers_are_said():
    plan = choose_teacher(1e9, [*TEACHERS, Teacher("weak", 5e8, 2.6)], tokens=2e11)
    assert option(plan, "14b").notes == ("no better than 7b: capacity gap",)
    assert "worse than training alone" in option(plan, "72b").notes
    assert any("outside what this law can represent" in note for note in option(plan, "weak").notes)
    assert max(map(len, plan.summary().splitlines())) <= 80
    text = " ".join(plan.summary().split())
    assert "← best" in text and "capacity gap" in text
    assert "best teacher near 2.5 B parameters" in text
    assert "refit on your own runs before you spend" in text


@pytest.mark.parametrize("scenario", ["best-case", "inference", "pretraining", "both"])
def test_break_even_is_where_both_ways_give_the_same_loss(scenario):
    plan = choose_teacher(1e9, TEACHERS, tokens=2e11, scenario=scenario)
    logits, pretraining = {"best-case": (0, 0), "inference": (1, 0), "pretraining": (0, 1), "both": (1, 1)}[scenario]
    found = 0
    for teacher in TEACHERS:
        crossing = option(plan, teacher.name).break_even
        if crossing is None:
            continue
        found += 1
        once = 3 * pretraining * forward_flops(teacher.params) * teacher.tokens
        rate = 3 * forward_flops(1e9) + logits * forward_flops(teacher.params)
        tokens = (crossing.value - once) / rate
        distilled = DISTILLATION_2025.value(params=1e9, tokens=tokens, teacher_loss=teacher.loss)
        alone = SUPERVISED_2025.value(params=1e9, tokens=crossing.value / (3 * forward_flops(1e9)))
        assert_allclose(distilled, alone, rtol=2e-5)
    assert found == (0 if pretraining else 3)
    if pretraining:
        assert "at every budget" in plan.summary() and "Training alone is better" in plan.summary()
        assert plan.best_per_flop == "train alone"


def test_free_logits_pay_longer():
    free, paid = (choose_teacher(1e9, TEACHERS, tokens=2e11, scenario=s) for s in ("best-case", "inference"))
    for teacher in TEACHERS:
        assert option(free, teacher.name).break_even.value > option(paid, teacher.name).break_even.value


def test_one_budget_for_all_and_teachers_that_do_not_fit():
    plan = choose_teacher(1e9, TEACHERS, flops=1e23, scenario="pretraining")
    assert [o.name for o in plan.options] == ["train alone", "7b"]
    assert len(plan.infeasible) == 2 and plan.infeasible[0].startswith("14b: infeasible, its pretraining alone costs")
    assert all(abs(o.flops / 1e23 - 1) < 1e-9 for o in plan.options)


def test_a_budget_that_pays_for_no_teacher_trains_alone():
    plan = choose_teacher(1e9, TEACHERS, flops=1e21, scenario="both")
    assert [o.name for o in plan.options] == [plan.best] == [plan.best_per_flop] == ["train alone"]
    assert len(plan.infeasible) == 3
    assert "The budget pays for no teacher: train alone." in plan.summary()


def test_published_constants_say_how_far_they_reach():
    near, far = (choose_teacher(1e9, TEACHERS, tokens=d) for d in (1e11, 5.12e12))
    assert "Inside its data (0.2 of the 5.12e+11 tokens of the source's largest run)" in near.notes[-1]
    assert "10× beyond the 5.12e+11 tokens of the source's largest run" in far.notes[-1]


def test_plans_that_cannot_be():
    with pytest.raises(PlanningError, match=r"odd: a teacher loss of 1\.2 is at or below the irreducible loss 1\.22"):
        choose_teacher(1e9, [Teacher("odd", 1e9, 1.2)], tokens=1e11)
    with pytest.raises(PlanningError, match="no teachers given"):
        choose_teacher(1e9, [], tokens=1e11)
    with pytest.raises(PlanningError, match="one of the two"):
        choose_teacher(1e9, TEACHERS, tokens=1e11, flops=1e20)
    with pytest.raises(PlanningError, match="its tokens are not given"):
        choose_teacher(1e9, [Teacher("x", 1e9, 2.0)], tokens=1e11, scenario="both")
    with pytest.raises(PlanningError, match="Did you mean"):
        choose_teacher(1e9, TEACHERS, tokens=1e11, scenario="inferense")


def test_one_impossible_teacher_does_not_stop_the_others():
    plan = choose_teacher(1e9, [Teacher("odd", 1e9, 1.2), *TEACHERS], tokens=1e11)
    assert plan.infeasible[0].startswith("odd: a teacher loss of 1.2 is at or below")
    assert plan.best == choose_teacher(1e9, TEACHERS, tokens=1e11).best


def test_a_fit_of_ones_own_gives_bands_and_reach():
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(np.log(1e8), np.log(2e9), 80)), np.exp(rng.uniform(np.log(3e9), np.log(1e11), 80))
    teacher = rng.uniform(1.7, 3.0, 80)
    loss = DISTILLATION_2025.value(params=n, tokens=d, teacher_loss=teacher) * np.exp(0.005 * rng.standard_normal(80))
    fixed = {k: DISTILLATION_2025.parameters[k] for k in ("c1", "f1", "gamma")}
    columns = {"params": n, "tokens": d, "teacher_loss": teacher, "loss": loss}
    own = laws.fit("distillation", columns, fixed=fixed, bootstrap=100, loss=SQUARED)
    plan = choose_teacher(1e9, TEACHERS, tokens=2e12, law=own)
    o = option(plan, "7b")
    truth = DISTILLATION_2025.value(params=1e9, tokens=2e12, teacher_loss=1.94)
    assert o.loss.lower < truth < o.loss.upper and o.loss.upper - o.loss.lower < 0.1
    assert o.break_even.lower < o.break_even.value < o.break_even.upper
    assert any("× beyond the largest run" in note for note in plan.notes)
    assert plan.options[0].loss.lower is None
    chinchilla = laws.fit("chinchilla", {**columns, "loss": SUPERVISED_2025.value(params=n, tokens=d)}, bootstrap=50)
    banded = choose_teacher(1e9, TEACHERS, tokens=2e12, law=own, supervised=chinchilla)
    assert banded.options[0].loss.lower < banded.options[0].loss.value
    json.dumps(banded.to_dict())


def test_teachers_from_a_table(tmp_path):
    path = tmp_path / "teachers.csv"
    path.write_text("name,params,loss,tokens,family\n7b,7e9,1.94,2e12,a\n14b,14e9,1.81,4e12,b\n72b,72e9,1.66,8e12,c\n")
    assert read_teachers(path) == TEACHERS
    assert read_teachers({"params": [7e9], "loss": [1.94]}) == [Teacher("7 B", 7e9, 1.94)]
    with pytest.raises(RunsError, match="no column loss"):
        read_teachers({"name": ["x"], "params": [7e9]})
