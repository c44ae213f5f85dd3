from __future__ import annotations

import numpy as np
import pytest

from limbeck.errors import PlanningError
from limbeck.fitting import SQUARED, Fit, Prior
from limbeck.fitting.hierarchical import NoiseComponents, hierarchical_draws
from limbeck.laws import StudentCurve, fit
from limbeck.planning import choose_by_short_runs

TOKENS = np.array([125e3, 250e3, 500e3])


def curve(teacher_loss: float, losses: list[float]) -> Fit:
    """A student's short runs under one teacher, fitted as the demo does."""
    runs = {"tokens": TOKENS, "loss": np.array(losses), "run": ["short"] * 3}
    fitted = fit(
        StudentCurve(teacher_loss), runs, loss=SQUARED, priors={"beta": Prior(0.9, 0.2)}, prior_noise=0.01, bootstrap=0
    )
    return hierarchical_draws(fitted, NoiseComponents(0.009, 0.003), 300, form=0.011)


def test_the_teacher_that_looks_worst_at_first_can_be_the_one_to_take():
    curves = {"strong": curve(1.43, [2.381, 2.038, 1.782]), "weak": curve(1.65, [2.354, 2.010, 1.780])}
    shortlist = choose_by_short_runs(curves, 2e6, alone=1.63)
    assert [c.name for c in shortlist.candidates] == ["strong", "weak"]
    assert shortlist.best.loss.value == pytest.approx(1.568, abs=0.02)
    assert shortlist.best.loss.lower < shortlist.best.loss.value < shortlist.best.loss.upper
    assert shortlist.best.extrapolation == 4.0
    assert "the short runs alone would have picked weak" in shortlist.notes
    assert "← take this one" in shortlist.summary() and "alone" in shortlist.summary()


def test_no_teacher_pays_where_training_alone_is_better():
    shortlist = choose_by_short_runs({"weak": curve(1.65, [2.354, 2.010, 1.820])}, 2e6, alone=1.60)
    assert "no teacher is expected to beat training alone at this budget" in shortlist.notes


def test_the_student_never_beats_its_teacher():
    plateau = curve(1.6, [3.0, 1.90, 1.65])
    assert plateau.parameters["E"] >= 1.6 - 1e-9
    assert min(plateau.draws["E"]) >= 1.6 - 1e-9


def test_nothing_to_choose_from():
    with pytest.raises(PlanningError, match="no teachers"):
        choose_by_short_runs({}, 2e6)
    table = {"tokens": TOKENS, "loss": np.array([2.4, 2.0, 1.8])}
    with pytest.raises(PlanningError, match="student-curve"):
        choose_by_short_runs({"x": fit("power:tokens", table, bootstrap=0)}, 2e6)
