"""The prox-linear method: the same optima by another road."""

from __future__ import annotations

import numpy as np
import pytest
from fitting_examples import Line, Sum, start, sum_problem

from limbeck.fitting import SQUARED, Loss, Parameter, Problem, minimise
from limbeck.fitting.proximal import minimise_linearised
from limbeck.fitting.solver import CONVERGED, NOT_FINITE


@pytest.mark.parametrize("loss", [Loss(), SQUARED, Loss(0.01, overestimate=3.0)], ids=Loss.describe)
def test_reaches_the_optimum_of_the_newton_method(loss: Loss) -> None:
    problem = sum_problem(40, loss=loss)
    starts = start(problem, 5) + np.random.default_rng(0).normal(0, 0.3, (5, 5))
    ends = minimise_linearised(problem, starts)
    assert (ends.status == CONVERGED).all()
    np.testing.assert_allclose(ends.objective, minimise(problem, start(problem)).objective[0], rtol=1e-8)


def test_keeps_to_bounds() -> None:
    class Bounded(Sum):
        parameters = (*Sum.parameters[:3], Parameter("alpha", upper=0.30), Parameter("beta"))

    problem = sum_problem(40, model=Bounded())
    first = np.clip(start(problem), problem.lower, problem.upper)
    ends = minimise_linearised(problem, first)
    assert ends.z[0, 3] <= 0.30
    assert ends.objective[0] <= minimise(problem, first).objective[0] * (1 + 1e-3)


def test_a_hopeless_start_is_marked() -> None:
    problem = sum_problem()
    ends = minimise_linearised(problem, start(problem) + 900.0)
    assert ends.status.tolist() == [NOT_FINITE]
    assert np.isinf(ends.objective).all()


def test_a_small_unit_of_the_target_changes_nothing() -> None:
    x = np.linspace(0, 1, 50)
    y = Line()({"slope": 2.0, "offset": 0.3}, x=x) + 0.1 * np.random.default_rng(0).standard_t(2, 50)
    found = []
    for unit in (1.0, 1e-9):
        problem = Problem.build(Line(), {"x": x}, unit * y, loss=Loss(0.01 * unit, "linear"))
        ends = minimise_linearised(problem, np.zeros((1, 2)))
        assert ends.objective[0] == pytest.approx(minimise(problem, np.zeros((1, 2))).objective[0], rel=1e-9)
        found.append(ends.objective[0] / unit**2)
    assert found[1] == pytest.approx(found[0], rel=1e-9)
