"""The search for the global optimum: how many starts agree, and what happens where they do not."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fitting_examples import FineSum, Interaction, Joint, Line, Wave, design, sum_problem
from scipy.optimize import linprog

from limbeck.errors import FittingError
from limbeck.fitting import Loss, Model, Parameter, Problem, Starts, fit
from limbeck.fitting.multistart import best_of, grid_starts


def test_every_start_reaches_the_optimum_of_the_sum_law() -> None:
    problem = sum_problem(model=FineSum())
    starts = grid_starts(problem)
    assert starts.shape == (506, 5)
    _, objective, report = best_of(problem, starts)
    assert (report.total, report.reached, report.basins, report.escalated) == (506, 506, 1, False)
    assert objective == pytest.approx(best_of(problem, starts[250:251])[1], rel=1e-12)
    assert report.summary() == "optimum reached from 506 of 506 starts"


def test_chinchilla_runs(data_folder: Path) -> None:
    """Objective and parameters of a tight fit to the 240 points without outliers."""
    table = list(csv.DictReader((data_folder / "chinchilla-runs" / "runs.csv").open()))
    rows = [row for row in table if row["outlier"] == "0"]
    columns = {a: np.array([float(r[b]) for r in rows]) for a, b in (("params", "n_params"), ("tokens", "tokens"))}
    problem = Problem.build(FineSum(), columns, np.array([float(row["loss"]) for row in rows]), loss=Loss())
    z, objective, report = best_of(problem, grid_starts(problem))
    assert objective <= 0.0010182740179
    assert report.reached >= 0.98 * report.total
    found = {name: float(value[0]) for name, value in problem.natural(z[None]).items()}
    assert found == {
        "A": pytest.approx(477.83, abs=0.006),
        "B": pytest.approx(2143.4, abs=0.06),
        "E": pytest.approx(1.81722, abs=6e-6),
        "alpha": pytest.approx(0.34731, abs=6e-6),
        "beta": pytest.approx(0.36717, abs=6e-6),
    }


@pytest.mark.parametrize(
    ("model", "truth", "least"),
    [
        (Joint(), {"Nc": 8.8e13, "Dc": 5.4e13, "alpha": 0.076, "beta": 0.103}, 0.9),
        (
            Interaction(),
            {"E": 1.8, "A": 480, "B": 2100, "C": 2e6, "alpha": 0.35, "beta": 0.37, "gamma": 0.5, "delta": 0.4},
            0.02,
        ),
    ],
    ids=["joint", "interaction"],
)
def test_other_laws_are_recovered(model: Model, truth: dict[str, float], least: float) -> None:
    columns = design(80)
    problem = Problem.build(model, columns, model(truth, **columns), loss=Loss())
    z, objective, report = best_of(problem, grid_starts(problem, limit=150))
    assert objective < 1e-10
    assert report.reached >= least * report.total
    fitted = model({name: value[0] for name, value in problem.natural(z[None]).items()}, **columns)
    np.testing.assert_allclose(fitted, model(truth, **columns), rtol=1e-4)


def test_a_rugged_law_escalates_and_says_so() -> None:
    x = np.linspace(0, 1, 50)
    problem = Problem.build(Wave(), {"x": x}, Wave()({"k": 21.0, "s": 6.5}, x=x), loss=Loss(0.1, "linear"))
    _, _, report = best_of(problem, grid_starts(problem))
    assert report.escalated
    assert report.rugged
    assert report.reached < 72
    assert report.summary().endswith(": rugged, treat the parameters with care)")


def test_starts_are_the_product_or_a_thinned_product() -> None:
    columns = design(10)
    problem = Problem.build(Joint(), columns, np.full(10, 2.0), loss=Loss())
    product = grid_starts(problem)
    assert product.shape == (3 * 3 * 4 * 4, 4)
    assert len(np.unique(product, axis=0)) == len(product)
    np.testing.assert_allclose(np.unique(product[:, 0]), np.log([1e-3, 1.0, 1e3]))
    thinned = grid_starts(problem, limit=50, seed=3)
    assert thinned.shape == (50, 4)
    assert (thinned == grid_starts(problem, limit=50, seed=3)).all()
    assert (thinned != grid_starts(problem, limit=50, seed=4)).any()


def test_missing_starts_and_hopeless_columns_are_refused() -> None:
    class Unsure(Model):
        name, columns, target = "unsure", ("x",), "y"
        parameters = (Parameter("a"),)

        def formula(self, p, x):  # type: ignore[no-untyped-def]
            return np.exp(p.a * x.x)

    problem = Problem.build(Unsure(), {"x": np.array([1e6])}, np.ones(1), loss=Loss(space="linear"))
    with pytest.raises(FittingError, match="parameter a has no start values"):
        grid_starts(problem)
    with pytest.raises(FittingError, match="not finite at any of 2 starts"):
        best_of(problem, np.array([[1.0], [2.0]]))


def test_a_linear_model_needs_one_start() -> None:
    x = np.arange(6.0)
    problem = Problem.build(Line(), {"x": x}, 3 - 2 * x, loss=Loss(space="linear"))
    z, objective, report = best_of(problem, grid_starts(problem))
    assert (report.total, report.reached) == (1, 1)
    assert problem.parameters(z) == pytest.approx({"slope": -2.0, "offset": 3.0}, rel=1e-12)
    assert objective < 1e-25


def test_rugged_is_below_a_fifth() -> None:
    assert not Starts(100, 20, 3).rugged
    assert Starts(100, 20, 3).summary() == "optimum reached from 20 of 100 starts"
    assert "(3 different optima: rugged" in Starts(100, 19, 3).summary()
    assert "(the others stopped short of it: rugged" in Starts(100, 19, 1).summary()


class Plane(Model):
    """a u + b v + c, columns and coefficients in whatever unit."""

    name, columns, target = "plane", ("u", "v"), "y"
    linear = ("a", "b", "c")
    parameters = tuple(Parameter(name) for name in linear)

    def formula(self, p: Any, x: Any) -> Any:
        return p.a * x.u + p.b * x.v + p.c


def huber_optimum(design: np.ndarray, y: np.ndarray, delta: float) -> float:
    """The least sum of a convex problem, by re-weighted least squares on columns at right angles, to convergence."""
    q = np.linalg.qr(design)[0]
    c, best = q.T @ y, math.inf
    for step in range(5000):
        r = q @ c - y
        height = float(np.where(np.abs(r) <= delta, r**2 / 2, delta * (np.abs(r) - delta / 2)).sum())
        if step > 50 and best - height <= 1e-15 * best:
            break
        best = min(best, height)
        root = np.sqrt(np.minimum(1.0, delta / np.maximum(np.abs(r), 1e-300)))
        c = np.linalg.lstsq(q * root[:, None], y * root, rcond=None)[0]
    return best


@pytest.mark.parametrize("delta", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize(("size", "offset"), [(1.0, 0.0), (1e9, 0.0), (1e6, 1e3)])
def test_a_linear_law_reaches_the_convex_optimum_in_any_unit(delta: float, size: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    u, v = size * (offset + rng.normal(size=30)), rng.normal(size=30)
    y = 3 * u / size + 2 * v + 1 + rng.standard_t(1.5, 30)
    expected = huber_optimum(np.stack([u, v, np.ones(30)], 1), y, delta)
    found = []
    for unit in (1.0, 1e9, 1e-9):
        loss = Loss(delta * unit, "linear")
        fitted = fit(Plane(), {"u": u, "v": v}, y * unit, loss=loss, bootstrap=0)
        assert fitted.objective / unit**2 == pytest.approx(expected, rel=1e-11)
        assert (fitted.starts.reached, fitted.starts.total, fitted.starts.basins) == (1, 1, 1)
        found.append(fitted.value(u=u, v=v) / unit)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-9, atol=1e-9 * np.abs(y).max())


def test_a_nearly_absolute_loss_is_the_linear_programme() -> None:
    """Least absolute deviations of a law in units of 1e9: min Σ t, −t ≤ X c − y ≤ t."""
    rng = np.random.default_rng(3)
    x, n = rng.uniform(1e8, 3e9, 25), 25
    y = 2.5 * x - 1e7 + 1e8 * rng.standard_t(2, n)
    design = np.stack([x / 1e9, np.ones(n)], 1)
    rows = np.block([[design, -np.eye(n)], [-design, -np.eye(n)]])
    bounds = [(None, None)] * 2 + [(0, None)] * n
    programme = linprog(np.r_[0, 0, np.ones(n)], rows, np.r_[y, -y] / 1e9, bounds=bounds)
    fitted = fit(Line(), {"x": x}, y, loss=Loss(1.0, "linear"), bootstrap=0)
    assert fitted.objective / 1e9 == pytest.approx(programme.fun, rel=1e-6)
    natural = [fitted.parameters["slope"], fitted.parameters["offset"] / 1e9]
    np.testing.assert_allclose(natural, programme.x[:2], rtol=1e-6)


def test_log_residuals_of_a_line_have_several_optima_and_starts_below_zero() -> None:
    """Least squares gives this line negative values; exact fits of two points do not and find the best optimum."""
    x = np.geomspace(5e6, 3e9, 8)
    y = (2.5 * x - 1.15e7) * np.array([4.0, 0.2, 1.0, 1.0, 0.3, 1.0, 2.0, 1.0])
    found = []
    for unit in (1.0, 1e9, 1e-9):
        fitted = fit(Line(), {"x": x}, y * unit, loss=Loss(), bootstrap=0)
        assert 1 < fitted.starts.total <= 64
        found.append(fitted)
        assert fitted.objective == pytest.approx(found[0].objective, rel=1e-11)
        np.testing.assert_allclose(fitted.value(x=x) / unit, found[0].value(x=x), rtol=1e-9)
    pairs = [(a, b) for b in range(8) for a in range(b)]
    slope = np.array([(y[b] - y[a]) / (x[b] - x[a]) for a, b in pairs])
    offset = np.array([y[a] - s * x[a] for s, (a, _) in zip(slope, pairs, strict=True)])
    lines = np.stack([slope, offset], 1)[((slope[:, None] * x + offset[:, None]) > 0).all(1)]

    def height(line: np.ndarray) -> float:
        value = line[0] * x + line[1]
        r = np.abs(np.log(np.maximum(value, 1e-300) / y))
        return float(np.where(r <= 1e-3, r**2 / 2, 1e-3 * (r - 5e-4)).sum())

    assert found[0].objective <= min(map(height, lines)) * (1 + 1e-12)
