"""The compiled solver against the NumPy one: the same ends to twelve digits."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from fitting_examples import FineSum, Interaction, Joint, Line, Sum, design, resampled, start, sum_problem

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Loss, Model, Parameter, Prior, Problem, minimise, solver
from limbeck.fitting.expression import BINARY, UNARY, held
from limbeck.fitting.multistart import grid_starts

compiled = pytest.importorskip("limbeck.fitting._compiled", reason="numba is not installed (extra fast)")


def agree(problem: Problem, starts: np.ndarray, rows: np.ndarray | None = None, **options: Any) -> None:
    one = minimise(problem, starts, rows, compiled=False, **options)
    two = minimise(problem, starts, rows, compiled=True, **options)
    assert one.status.tolist() == two.status.tolist()
    np.testing.assert_allclose(two.objective, one.objective, rtol=1e-12)
    np.testing.assert_allclose(two.z, one.z, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "loss",
    [Loss(), Loss(0.01, overestimate=5.0), SQUARED, Loss(0.05, "linear"), Loss(math.inf, "relative")],
    ids=Loss.describe,
)
def test_resamples(loss: Loss) -> None:
    problem = resampled(sum_problem(loss=loss), 30)
    agree(problem, start(problem, 30), damping=0.01)


def test_other_formulas_priors_and_bounds() -> None:
    columns = design(40)
    y = Sum()({"E": 1.8, "A": 480, "B": 2100, "alpha": 0.35, "beta": 0.37}, **columns)
    y = y * np.exp(0.01 * np.random.default_rng(0).normal(size=40))
    joint = Problem.build(Joint(), columns, y, loss=SQUARED)
    agree(joint, grid_starts(joint)[70:73], np.zeros(3, int))
    held = Problem.build(Sum(), columns, y, loss=Loss(), fixed={"alpha": 0.35}, priors={"beta": Prior(0.4, 0.01)})
    held = held.with_rows(prior_mean=held.prior_mean + np.array([[0.0], [0.05]]))
    agree(held, np.repeat(np.delete(start(sum_problem()), 3, 1), 2, 0))

    class Bounded(Sum):
        parameters = (*Sum.parameters[:3], Parameter("alpha", upper=0.30), Parameter("beta"))

    bounded = sum_problem(model=Bounded())
    agree(bounded, start(bounded))


def test_every_operation() -> None:
    class All(Model):
        name, columns, target = "all", ("x",), "y"
        parameters = (Parameter("a"), Parameter("b"))

        def formula(self, p: Any, x: Any) -> Any:
            one = np.logaddexp(p.a * x.x, -p.b) + np.log1p(np.square(p.a)) + np.expm1(-p.b * x.x) + np.tanh(p.a - x.x)
            two = np.maximum(p.a * x.x, 0.3) + np.minimum(p.b, x.x) + np.absolute(p.a - x.x) / np.sqrt(1 + x.x * p.b**2)
            return one + two - np.sign(x.x - p.b) + np.exp(-p.a * x.x) * np.log(2 + p.b * x.x) + held(p.a * x.x)

    x = np.linspace(0.1, 2, 30)
    problem = Problem.build(
        All(), {"x": x}, All()({"a": 0.8, "b": 1.2}, x=x) + 0.1 * np.sin(9 * x), loss=Loss(0.1, "linear")
    )
    z = np.array([[0.7, 1.3], [0.9, 1.1]])
    agree(problem, z, np.zeros(2, int), iterations=0)
    agree(problem, z, np.zeros(2, int), iterations=1)
    assert {name.upper() for name in (*UNARY, *BINARY)} <= set(vars(compiled))


def test_rows_are_independent_bit_by_bit_and_statuses_are_kept() -> None:
    problem = resampled(sum_problem(), 20)
    together = minimise(problem, start(problem, 20), damping=0.01, compiled=True)
    alone = minimise(problem, start(problem), np.array([13]), damping=0.01, compiled=True)
    assert (alone.z[0] == together.z[13]).all()
    assert alone.objective[0] == together.objective[13]
    starts = np.concatenate([start(problem), start(problem) + np.array([[900.0, 0, 0, 0, 0]])])
    ends = minimise(problem, starts, np.zeros(2, int), iterations=2, compiled=True)
    assert ends.status.tolist() == [solver.EXHAUSTED, solver.NOT_FINITE]
    assert ends.objective[1] == math.inf


def test_grid_of_starts() -> None:
    problem = sum_problem(model=FineSum())
    starts = grid_starts(problem)[::5]
    ends = minimise(problem, starts, np.zeros(len(starts), int), compiled=True)
    np.testing.assert_allclose(ends.objective, ends.objective.min(), rtol=1e-11)


def test_exponential_and_logarithm_are_exact_to_a_rounding() -> None:
    x = np.concatenate([np.linspace(-700, 700, 4001), [0.0, -0.0, -800.0, 800.0, -np.inf, np.inf]])
    with np.errstate(over="ignore"):
        expected = np.exp(x)
    np.testing.assert_allclose([compiled._exp(v) for v in x], expected, rtol=5e-16)
    x = np.concatenate([np.exp(np.linspace(-700, 700, 4001)), np.linspace(0.5, 2, 1001)])
    np.testing.assert_allclose([compiled._log(v) for v in x], np.log(x), rtol=5e-16)
    assert np.isnan([compiled._log(v) for v in (0.0, -1.0, np.nan)]).all()
    assert np.isnan(compiled._exp(np.nan))


def test_runs_by_itself_only_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(compiled, "minimise", lambda *a: called.append(a) or "compiled")
    problem = sum_problem()
    minimise(problem, start(problem))
    assert not called
    monkeypatch.setattr(solver, "COMPILED_PAYS", 10)
    assert minimise(problem, start(problem)) == "compiled"
    minimise(problem, start(problem), compiled=False)
    monkeypatch.setattr(solver, "find_spec", lambda name: None)
    minimise(problem, start(problem))
    assert len(called) == 1
    with pytest.raises(FittingError, match=r"limbeck\[fast\]"):
        minimise(problem, start(problem), compiled=True)


def test_the_ordinary_path_does_not_import_numba() -> None:
    code = "import sys, limbeck.fitting; sys.exit('numba' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_models_without_mixed_operations() -> None:
    x = np.arange(6.0)
    problem = Problem.build(Line(), {"x": x}, 3 - 2 * x + np.sin(x), loss=Loss(space="linear"))
    agree(problem, np.array([[0.0, 0.0]]))
    assert Interaction().linear == ("E", "A", "B", "C")
