"""The batched solver: independence of rows, optimality against other solvers, limits of the loss, bounds."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitting_examples import TRUTH, FineSum, Line, Sum, design, resampled, start, sum_problem
from scipy.optimize import least_squares, linprog, minimize

from limbeck.fitting import SQUARED, Loss, Model, Parameter, Prior, Problem, minimise, solver


def test_recovers_noiseless_parameters() -> None:
    for loss in (Loss(), SQUARED, Loss(math.inf, "relative"), Loss(math.inf, "linear")):
        problem = sum_problem(noise=0.0, loss=loss)
        ends = minimise(problem, start(problem, 4) + np.random.default_rng(0).normal(0, 0.3, (4, 5)), np.zeros(4, int))
        assert ends.converged.all()
        for name, values in problem.natural(ends.z).items():
            np.testing.assert_allclose(values, TRUTH[name], rtol=1e-8)


def test_a_batch_is_its_rows_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = resampled(sum_problem(), 50)
    monkeypatch.setattr(solver, "CHUNK", 32)
    together = minimise(problem, start(problem, 50), damping=0.01)
    for row in (0, 13, 49):
        alone = minimise(problem, start(problem), np.array([row]), damping=0.01)
        assert (alone.z[0] == together.z[row]).all()
        assert alone.objective[0] == together.objective[row]
        assert alone.iterations[0] == together.iterations[row]


def test_never_above_lbfgs_on_resamples() -> None:
    problem = resampled(sum_problem(), 8)
    ends = minimise(problem, start(problem, 8), damping=0.01)
    assert ends.converged.all()

    def value_and_gradient(z: np.ndarray, row: int) -> tuple[float, np.ndarray]:
        f, gradient, *_ = problem.quadratic(z[None], np.array([row]))
        return f[0] * 1e4, gradient[0] * 1e4

    for row in range(8):
        options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000, "maxfun": 10000}
        other = minimize(value_and_gradient, start(problem)[0], (row,), "L-BFGS-B", True, options=options).fun / 1e4
        assert ends.objective[row] <= other * (1 + 1e-10)


def test_squared_loss_agrees_with_minpack() -> None:
    problem = sum_problem(loss=SQUARED)
    ends = minimise(problem, start(problem))
    other = least_squares(
        lambda z: problem.residuals(z[None])[0],
        start(problem)[0],
        lambda z: problem.program.evaluate(problem.theta(z[None]))[1][0].T @ problem.transform,
        method="lm",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    assert ends.objective[0] == pytest.approx(other.cost, rel=1e-12)
    np.testing.assert_allclose(ends.z[0], other.x, atol=1e-6)


def test_huber_becomes_least_squares_and_least_absolute_deviations() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=25)
    y = 1 + 2 * x + rng.standard_t(2, 25)

    def fit(delta: float) -> tuple[float, np.ndarray]:
        problem = Problem.build(Line(), {"x": x}, y, loss=Loss(delta, "linear"))
        ends = minimise(problem, np.zeros((1, 2)))
        assert ends.converged.all()
        return ends.objective[0], problem.theta(ends.z)[0]

    squared, wide = fit(math.inf), fit(1e3)
    assert wide[0] == pytest.approx(squared[0], rel=1e-13)
    np.testing.assert_allclose(wide[1], squared[1], rtol=1e-9)
    np.testing.assert_allclose(squared[1], np.polyfit(x, y, 1), rtol=1e-9)
    # min Σ t_i with −t ≤ X c − y ≤ t, the linear programme of the absolute loss.
    X, n = np.stack([x, np.ones(25)], 1), 25
    rows = np.block([[X, -np.eye(n)], [-X, -np.eye(n)]])
    bounds = [(None, None)] * 2 + [(0, None)] * n
    lp = linprog(np.r_[0, 0, np.ones(n)], rows, np.r_[y, -y], bounds=bounds)
    delta = 1e-6
    absolute = fit(delta)
    assert absolute[0] / delta == pytest.approx(lp.fun, rel=1e-6)
    np.testing.assert_allclose(absolute[1], lp.x[:2], atol=1e-5)


def test_weights_are_duplicates_at_the_optimum() -> None:
    problem = sum_problem(30)
    counts = np.random.default_rng(5).multinomial(30, np.full(30, 1 / 30))
    columns = {name: values.repeat(counts) for name, values in problem.program.columns.items()}
    twice = Problem.build(Sum(), columns, np.exp(problem.target).repeat(counts), loss=Loss())
    weighted = minimise(problem.with_rows(weights=counts[None].astype(float)), start(problem))
    physical = minimise(twice, start(twice))
    assert weighted.objective == pytest.approx(physical.objective, rel=1e-11)


def test_optimum_on_a_bound_satisfies_the_conditions_of_optimality() -> None:
    class Bounded(Sum):
        parameters = (*Sum.parameters[:3], Parameter("alpha", upper=0.30), Parameter("beta", lower=0.1, upper=2.0))

    problem = sum_problem(model=Bounded())
    ends = minimise(problem, np.clip(start(problem), problem.lower, problem.upper))
    assert ends.converged[0]
    assert ends.z[0, 3] == 0.30
    gradient = problem.quadratic(ends.z, np.zeros(1, int))[1][0]
    assert gradient[3] < 0  # descent would leave the box
    assert np.abs(np.delete(gradient, 3)).max() < 1e-6 * abs(gradient[3])
    fixed = Problem.build(Sum(), problem.program.columns, np.exp(problem.target), loss=Loss(), fixed={"alpha": 0.30})
    assert minimise(fixed, np.delete(ends.z, 3, 1)).objective[0] == pytest.approx(ends.objective[0], rel=1e-12)


def test_one_sided_loss_stays_below_the_data() -> None:
    plain, below = sum_problem(), sum_problem(loss=Loss(overestimate=1000.0))
    residuals = [p.residuals(minimise(p, start(p)).z)[0] for p in (plain, below)]
    assert 0.3 < (residuals[0] > 0).mean() < 0.7
    assert residuals[0].max() > 0.01
    # Five parameters let five points touch the law, inside the quadratic zone of the loss.
    assert (residuals[1] > 1e-9).sum() <= 5
    assert residuals[1].max() < 1e-3


def test_a_strong_prior_holds_and_a_weak_one_lets_go() -> None:
    columns = design(40)
    y = Sum()(TRUTH, **columns)

    def alpha(sd: float) -> float:
        problem = Problem.build(Sum(), columns, y, loss=SQUARED, priors={"alpha": Prior(0.5, sd)})
        return float(problem.natural(minimise(problem, start(problem)).z)["alpha"][0])

    assert alpha(1e-6) == pytest.approx(0.5, abs=1e-6)
    assert alpha(1e3) == pytest.approx(0.35, abs=1e-4)


def test_every_end_has_a_status() -> None:
    problem = sum_problem()
    starts = np.concatenate([start(problem), start(problem) + np.array([[900.0, 0, 0, 0, 0]])])
    ends = minimise(problem, starts, np.zeros(2, int))
    assert ends.status.tolist() == [solver.CONVERGED, solver.NOT_FINITE]
    assert ends.objective[1] == math.inf
    short = minimise(problem, start(problem) + 0.2, iterations=2)
    assert short.status.tolist() == [solver.EXHAUSTED]
    assert short.iterations.tolist() == [2]
    assert math.isfinite(short.objective[0])


def test_a_parameter_without_effect_stays_where_it_is() -> None:
    class Idle(Model):
        name, columns, target = "idle", ("x",), "y"
        parameters = (Parameter("a", log=True), Parameter("idle"))

        def formula(self, p: Any, x: Any) -> Any:
            return p.a * x.x + 0.0 * p.idle

    ends = minimise(
        Problem.build(Idle(), {"x": np.array([1.0, 2.0])}, np.array([3.0, 6.0]), loss=Loss()), np.array([[0.0, 0.7]])
    )
    np.testing.assert_allclose(ends.z, [[math.log(3), 0.7]], rtol=1e-12)


def test_ordinary_starts_never_meet_infinity_minus_infinity() -> None:
    problem = sum_problem(model=FineSum())
    rng = np.random.default_rng(0)
    starts = np.stack([rng.uniform(-20, 20, 200) for _ in range(3)] + [rng.uniform(-2, 3, 200) for _ in range(2)], 1)
    ends = minimise(problem, starts, np.zeros(200, int))
    assert (ends.status != solver.NOT_FINITE).all()
    assert np.isfinite(ends.z).all()
    assert np.isfinite(ends.objective).all()
    assert (ends.objective <= problem.objective(starts, np.zeros(200, int))).all()


@pytest.mark.parity
def test_reference_optima_of_the_chinchilla_runs(parity: Callable, walk_sections: Callable, data_folder: Path) -> None:
    """A replication attempt of the Chinchilla fit (Besiroglu et al. 2024, arXiv 2404.10102): full fit and resamples."""
    table = list(csv.DictReader((data_folder / "chinchilla-runs" / "runs.csv").open()))
    rows = [row for row in table if row["outlier"] == "0"]
    columns = {a: np.array([float(r[b]) for r in rows]) for a, b in (("params", "n_params"), ("tokens", "tokens"))}
    problem = Problem.build(Sum(), columns, np.array([float(row["loss"]) for row in rows]), loss=Loss())
    order = [1, 2, 0, 3, 4]  # reference order: ln A, ln B, ln E, alpha, beta

    def full_fit(expected: dict) -> None:
        ends = minimise(problem, start(problem))
        assert ends.objective[0] == pytest.approx(expected["objective"], rel=1e-9)
        np.testing.assert_allclose(problem.theta(ends.z)[0, order], expected["theta"], atol=1e-4)

    def bootstrap(expected: list[dict]) -> None:
        counts = np.array([entry["index_counts"] for entry in expected], float)
        many = problem.with_rows(weights=counts)
        ends = minimise(many, start(many, len(counts)), damping=0.01)
        for row, entry in enumerate(expected):
            assert ends.objective[row] == pytest.approx(entry["objective"], rel=1e-9)
            np.testing.assert_allclose(many.theta(ends.z)[row, order], entry["theta"], atol=1e-4)

    def size(expected: int) -> None:
        assert len(rows) == expected

    walk_sections(
        parity("fitting-engine"),
        {"n": size, "full_fit": full_fit, "bootstrap": bootstrap},
        ignore=("data", "loss", "param_order"),
    )
