"""Variable projection: linear parameters solved for, the projected problem and its derivatives."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fitting_examples import TRUTH, Interaction, Joint, Sum, design, resampled, start, sum_problem
from scipy.optimize import minimize

from limbeck.fitting import SQUARED, Loss, Model, Parameter, Problem, minimise
from limbeck.fitting.separable import LEAST, basis, linear_parameters, solve_linear

LINEAR = Loss(math.inf, "linear")
ONE = np.zeros(1, int)


def test_basis_rebuilds_the_formula() -> None:
    problem = sum_problem(20)
    phi, rest = basis(problem, start(problem))
    assert phi.shape == (1, 3, 20)
    assert np.abs(rest).max() < 1e-12
    built = (np.exp(start(problem)[:, :3, None]) * phi).sum(1) + rest
    np.testing.assert_allclose(built[0], Sum()(TRUTH, **problem.program.columns), rtol=1e-12)


def test_a_fixed_linear_parameter_belongs_to_the_rest() -> None:
    columns = design(20)
    problem = Problem.build(Sum(), columns, Sum()(TRUTH, **columns), loss=LINEAR, fixed={"E": 1.8})
    assert linear_parameters(problem) == [0, 1]
    _, rest = basis(problem, problem.coordinates(TRUTH)[None])
    np.testing.assert_allclose(rest, 1.8, rtol=1e-12)


def test_a_parameter_that_no_point_sees_stays_at_one() -> None:
    class Blind(Sum):
        def formula(self, p: Any, x: Any) -> Any:
            return p.E + p.A * x.params**-p.alpha + p.B * (x.tokens - x.tokens)

    columns = design(20)
    problem = Problem.build(Blind(), columns, Sum()(TRUTH, **columns), loss=LINEAR)
    assert solve_linear(problem, start(problem) + 3.0, ONE)[0, 2] == 0.0


@pytest.mark.parametrize("loss", [LINEAR, Loss(math.inf, "relative"), SQUARED], ids=Loss.describe)
def test_linear_parameters_are_exact_on_noiseless_data(loss: Loss) -> None:
    problem = sum_problem(noise=0.0, loss=loss)
    z = start(problem)
    blank = z.copy()
    blank[:, :3] = 99.0
    np.testing.assert_allclose(solve_linear(problem, blank, ONE), z, atol=1e-9)


def test_two_columns_that_cannot_be_told_apart_share_their_term() -> None:
    class Step(Model):
        name, columns, target, linear = "step", ("x",), "y", ("low", "height")
        parameters = (Parameter("low"), Parameter("height", log=True), Parameter("centre", start=(-30.0,)))

        def formula(self, p: Any, x: Any) -> Any:
            return p.low + p.height / (1 + np.exp(p.centre - x.x))

    x = np.linspace(0, 1, 2000)  # the step lies far below: the two multiply ones that differ by 1e-13
    problem = Problem.build(Step(), {"x": x}, 0.3 + 0.4 * x, loss=LINEAR)
    solved = problem.natural(solve_linear(problem, np.array([[0.0, 0.0, -30.0]]), ONE))
    assert solved["low"][0] == pytest.approx(0.25, abs=0.01)
    assert solved["height"][0] == pytest.approx(0.25, abs=0.01)


def test_solution_is_stationary_in_the_linear_parameters() -> None:
    problem = resampled(sum_problem(loss=LINEAR), 6)
    z = start(problem, 6)
    z[:, 3:] += np.random.default_rng(0).normal(0, 0.02, (6, 2))
    gradient = problem.quadratic(solve_linear(problem, z, np.arange(6)), np.arange(6))[1]
    assert np.abs(gradient[:, :3]).max() < 1e-9 * np.abs(gradient[:, 3:]).max()


def test_a_term_that_would_be_negative_keeps_a_share() -> None:
    columns = design(40)
    problem = Problem.build(Sum(), columns, Sum()({**TRUTH, "E": 0.0}, **columns), loss=LINEAR)
    z = problem.coordinates(TRUTH)[None]
    z[:, 3:] = 0.05  # nearly flat terms need a negative E
    solved = problem.natural(solve_linear(problem, z, ONE))
    length = np.sqrt((problem.target**2).mean())
    assert solved["E"][0] == pytest.approx(LEAST * length, rel=1e-9)
    assert solved["A"][0] > 0
    assert solved["B"][0] > 0


def _residual(problem: Problem, eta: np.ndarray) -> np.ndarray:
    z = np.concatenate([np.zeros(3), eta])[None]
    return problem.residuals(solve_linear(problem, z, ONE))[0]


def test_projected_jacobian_is_golub_and_pereyras() -> None:
    """∂ρ/∂η = P⊥ Φ' c − (Φ' Φ⁺)ᵀ ρ, ρ = Φ c − y, against differences; Kaufman's first term has the same gradient."""
    problem = sum_problem(30, loss=LINEAR)
    eta = np.array([0.33, 0.40])
    z = solve_linear(problem, np.concatenate([np.zeros(3), eta])[None], ONE)
    phi = basis(problem, z)[0][0].T.copy()
    c, rho = np.exp(z[0, :3]), _residual(problem, eta)
    pseudo = np.linalg.pinv(phi)
    project = np.eye(30) - phi @ pseudo
    for k in range(2):
        h = np.zeros(2)
        h[k] = 1e-5
        numeric = (_residual(problem, eta + h) - _residual(problem, eta - h)) / 2e-5
        shift = np.concatenate([np.zeros(3), h])[None]
        slope = (basis(problem, z + shift)[0][0].T.copy() - basis(problem, z - shift)[0][0].T) / 2e-5
        kaufman = project @ slope @ c
        np.testing.assert_allclose(kaufman - (slope @ pseudo).T @ rho, numeric, atol=1e-6)
        gradient = problem.quadratic(z, ONE)[1][0, 3 + k]
        assert gradient == pytest.approx(kaufman @ rho, rel=1e-6)
        assert gradient == pytest.approx(numeric @ rho, rel=1e-6)


@pytest.mark.parametrize("loss", [LINEAR, Loss(math.inf, "relative")], ids=Loss.describe)
def test_the_search_over_the_other_parameters_alone_ends_where_the_full_one_does(loss: Loss) -> None:
    problem = sum_problem(loss=loss)

    def projected(eta: np.ndarray) -> float:
        return float(problem.objective(solve_linear(problem, np.concatenate([np.zeros(3), eta])[None], ONE))[0])

    options = {"xatol": 1e-9, "fatol": 0, "maxfev": 400}
    alone = minimize(projected, [0.3, 0.4], method="Nelder-Mead", options=options)
    assert alone.fun == pytest.approx(minimise(problem, start(problem)).objective[0], rel=1e-10)


def test_linear_parameters_are_those_that_the_model_names() -> None:
    assert linear_parameters(Problem.build(Interaction(), design(20), np.ones(20), loss=LINEAR)) == [0, 1, 2, 3]
    assert linear_parameters(Problem.build(Joint(), design(20), np.ones(20), loss=LINEAR)) == []
