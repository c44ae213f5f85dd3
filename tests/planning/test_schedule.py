from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from limbeck import laws
from limbeck.errors import PlanningError
from limbeck.laws import Annealing, Schedule
from limbeck.planning import best_decay, compare_schedules, standard_schedules

TRUTH = {"L0": 2.8, "A": 0.6, "C": 0.5, "alpha": 0.45}


def fitted(**schedules):
    rng, law = np.random.default_rng(0), Annealing(momentum=0.999)
    parts = []
    for run, rates in schedules.items():
        at = np.arange(500, len(rates), 100)
        loss = law(TRUTH, **{k: v[at] for k, v in law.columns_of(rates).items()})
        loss = loss * np.exp(1e-4 * rng.standard_normal(len(at)))
        parts.append(pl.DataFrame({"run": run, "step": at, "lr": rates[at], "loss": loss}))
    return laws.fit("annealing", pl.concat(parts), bootstrap=50)


CONSTANT = Schedule(20000, 3e-4, warmup=500, decay=0.0).rates()
COSINE = Schedule(20000, 3e-4, "cosine", 3e-5, warmup=500).rates()


@pytest.fixture(scope="module")
def fit():
    return fitted(constant=CONSTANT, cosine=COSINE)


def test_schedules_are_ranked_by_their_end(fit):
    plan = compare_schedules(fit, standard_schedules(fit, 20000))
    assert plan.options[-1].name == "constant" and plan.best == plan.options[0].name
    by_name = {o.name: o for o in plan.options}
    truth = Annealing(momentum=0.999)(TRUTH, **{k: v[-1] for k, v in fit.model.columns_of(COSINE).items()})
    assert by_name["cosine"].loss.value == pytest.approx(float(truth), rel=1e-3)
    assert by_name["cosine"].loss.lower < truth < by_name["cosine"].loss.upper
    assert by_name["cosine"].loss.upper / by_name["cosine"].loss.lower > np.exp(2 * 1.28 * 0.004)  # the law's own error
    assert by_name["cosine"].curve[-1] == by_name["cosine"].loss.value
    assert "80 % interval" in plan.summary() and "← best" in plan.summary()
    assert json.loads(json.dumps({**plan.to_dict(), "options": len(plan.options)}))["best"] == plan.best
    assert len(plan.plot().data) == len(plan.options)


def test_the_law_is_not_asked_for_a_peak_or_a_tail_at_zero(fit):
    hotter = Schedule(20000, 6e-4, "cosine", 3e-5, warmup=500).rates()
    tail = np.concatenate([Schedule(15000, 3e-4, "linear", 0.0, 500, 0.2).rates(), np.zeros(5000)])
    plan = compare_schedules(fit, {"hot": hotter, "tail": tail, "cosine": COSINE})
    outside = {o.name: o for o in plan.options if o.loss is None}
    assert plan.best == "cosine" and set(outside) == {"hot", "tail"}
    assert "peaks at 0.0006" in outside["hot"].outside and "5000 steps at rate zero" in outside["tail"].outside
    assert outside["hot"].curve[-1] < plan.options[0].loss.value  # what the law would have said
    assert "outside the law's validity" in plan.summary()
    assert compare_schedules(fit, {"hot": hotter}).best is None


def test_lengths_are_not_ranked_and_reach_is_said(fit):
    longer = Schedule(60000, 3e-4, "cosine", 3e-5, warmup=500).rates()
    plan = compare_schedules(fit, {"long": longer, "short": COSINE})
    assert plan.best is None and plan.options[0].name == "long"
    assert any("differ in length" in note for note in plan.notes)
    assert any("beyond the longest fitted curve" in note for note in plan.notes)


def test_best_decay_is_a_tenth_to_a_third_and_a_bound_is_refused(fit):
    share = best_decay(fit, 20000)
    assert 0.1 < share.lower <= share.value <= share.upper < 0.4
    assert best_decay(fit, 40000).value < share.value  # 1/(1-λ) steps are what counts
    with pytest.raises(PlanningError, match=r"outside the law's validity: .* 1% of 600 steps"):
        best_decay(fit, 600)


def test_fits_that_cannot_tell(fit):
    with pytest.raises(PlanningError, match="never anneal"):
        compare_schedules(fitted(constant=CONSTANT), {"cosine": COSINE})
    other = laws.fit("power", {"flops": [1e18, 1e19, 1e20], "loss": [3.0, 2.5, 2.1]}, bootstrap=0)
    with pytest.raises(PlanningError, match="fit of annealing; this is one of power"):
        compare_schedules(other, {"cosine": COSINE})
