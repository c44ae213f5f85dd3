"""What any correct engine does, whatever its method."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from limbeck.fitting import SQUARED, Loss, Problem, fit, minimise


def build(model, columns, target, loss=None) -> Problem:
    return Problem.build(model, columns, target, loss=loss or Loss())


@pytest.mark.parametrize(
    "loss", [Loss(), SQUARED, Loss(math.inf, "linear"), Loss(math.inf, "relative"), Loss(0.1, "linear")]
)
def test_noiseless_data_give_the_parameters_back(two_powers, grid, truth, loss: Loss) -> None:
    found = fit(two_powers, grid, two_powers(truth, **grid), loss=loss, bootstrap=0).parameters
    assert found == pytest.approx(truth, rel=1e-6)
    assert two_powers(found, params=1e11, tokens=1e13) == pytest.approx(
        two_powers(truth, params=1e11, tokens=1e13), rel=1e-8
    )


def test_batch_of_one_equals_batch_of_many(two_powers, grid, noisy, truth) -> None:
    problem = build(two_powers, grid, noisy)
    weights = np.random.default_rng(1).multinomial(30, np.full(30, 1 / 30), size=300).astype(float)
    z = np.repeat(problem.coordinates(truth)[None], 300, 0)
    together = minimise(problem.with_rows(weights=weights), z)
    for row in (0, 17, 299):
        alone = minimise(problem.with_rows(weights=weights[row : row + 1]), z[:1])
        assert together.z[row] == pytest.approx(alone.z[0], abs=1e-9)
        assert together.objective[row] == pytest.approx(alone.objective[0], rel=1e-12)


def test_integer_weights_are_duplication(two_powers, grid, noisy, truth) -> None:
    counts = np.random.default_rng(2).integers(0, 4, 30)
    weighted = fit(two_powers, grid, noisy, weights=counts, bootstrap=0, start=truth)
    repeated = {name: np.repeat(v, counts) for name, v in grid.items()}
    copied = fit(two_powers, repeated, np.repeat(noisy, counts), bootstrap=0, start=truth)
    assert weighted.objective == pytest.approx(copied.objective, rel=1e-11)
    assert weighted.parameters == pytest.approx(copied.parameters, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000))
def test_order_of_points_does_not_matter(two_powers, grid, noisy, truth, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(30)
    z = build(two_powers, grid, noisy).coordinates(truth)[None]
    shuffled = build(two_powers, {name: v[order] for name, v in grid.items()}, noisy[order])
    assert shuffled.objective(z)[0] == pytest.approx(build(two_powers, grid, noisy).objective(z)[0], rel=1e-12)


def test_columns_change_places_with_their_parameters(two_powers, grid, noisy, truth) -> None:
    there = fit(two_powers, grid, noisy, bootstrap=0, start=truth).parameters
    swapped = {"params": grid["tokens"], "tokens": grid["params"]}
    start = {"E": truth["E"], "A": truth["B"], "B": truth["A"], "alpha": truth["beta"], "beta": truth["alpha"]}
    back = fit(two_powers, swapped, noisy, bootstrap=0, start=start).parameters
    assert (back["A"], back["alpha"], back["B"], back["beta"]) == pytest.approx(
        (there["B"], there["beta"], there["A"], there["alpha"]), rel=1e-6
    )


@settings(max_examples=10, deadline=None)
@given(scale=st.floats(1e-6, 1e6), level=st.floats(0.1, 10))
def test_units_change_only_what_has_units(two_powers, grid, noisy, truth, scale: float, level: float) -> None:
    """N → s N multiplies A by s^alpha; loss → k loss multiplies E, A and B by k."""
    base = fit(two_powers, grid, noisy, bootstrap=0, start=truth).parameters
    start = {**base, "A": base["A"] * scale ** base["alpha"] * level, "B": base["B"] * level, "E": base["E"] * level}
    other = fit(
        two_powers, {**grid, "params": grid["params"] * scale}, noisy * level, bootstrap=0, start=start
    ).parameters
    assert (other["alpha"], other["beta"]) == pytest.approx((base["alpha"], base["beta"]), rel=1e-6)
    assert other["A"] == pytest.approx(base["A"] * scale ** base["alpha"] * level, rel=1e-5)
    assert other["E"] == pytest.approx(base["E"] * level, rel=1e-6)


@pytest.mark.parametrize("loss", [Loss(), Loss(0.02), SQUARED, Loss(overestimate=10.0), Loss(math.inf, "relative")])
def test_gradient_is_the_slope_of_the_objective(two_powers, grid, noisy, truth, loss: Loss) -> None:
    problem = build(two_powers, grid, noisy, loss)
    z = problem.coordinates(truth) + np.array([0.1, -0.2, 0.1, 0.03, -0.02])
    gradient = problem.quadratic(z[None], np.zeros(1, int))[1][0]
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        up, down = problem.objective(np.stack([z + step, z - step]))
        assert gradient[k] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-9)


def test_wide_huber_is_least_squares(two_powers, grid, noisy, truth) -> None:
    wide = fit(two_powers, grid, noisy, loss=Loss(1e3), bootstrap=0, start=truth)
    squared = fit(two_powers, grid, noisy, loss=SQUARED, bootstrap=0, start=truth)
    assert wide.objective == pytest.approx(squared.objective, rel=1e-12)
    assert wide.parameters == pytest.approx(squared.parameters, rel=1e-6)


def test_narrow_huber_is_least_absolute_deviation(line) -> None:
    """Divided by delta it is the optimum of the linear programme min Σ t, −t ≤ y − offset − slope x ≤ t."""
    rng = np.random.default_rng(3)
    x, delta = np.linspace(0, 1, 21), 1e-7
    y = 1 + 2 * x + rng.standard_normal(21)
    found = fit(line, {"x": x}, y, loss=Loss(delta, "linear"), bootstrap=0)
    design = np.stack([np.ones(21), x], 1)
    a = np.block([[design, -np.eye(21)], [-design, -np.eye(21)]])
    exact = linprog(np.r_[0, 0, np.ones(21)], a, np.r_[y, -y], bounds=[(None, None)] * 2 + [(0, None)] * 21)
    assert found.objective / delta == pytest.approx(exact.fun, rel=1e-5)
    assert [found.parameters["offset"], found.parameters["slope"]] == pytest.approx(exact.x[:2], abs=1e-3)


def test_one_sided_loss_lies_below_the_data(two_powers, grid, noisy, truth) -> None:
    free = fit(two_powers, grid, noisy, loss=SQUARED, bootstrap=0, start=truth)
    below = fit(two_powers, grid, noisy, loss=Loss(math.inf, overestimate=1e4), bootstrap=0, start=truth)
    assert np.mean(free.value(**grid) > noisy) > 0.3
    assert np.max(below.value(**grid) / noisy) < 1.002


def test_fixed_parameter_stays(two_powers, grid, noisy, truth) -> None:
    held = fit(two_powers, grid, noisy, fixed={"alpha": 0.3}, bootstrap=20)
    assert held.parameters["alpha"] == 0.3 and set(held.draws["alpha"]) == {0.3}
    assert held.objective > fit(two_powers, grid, noisy, bootstrap=0).objective


def test_tight_prior_wins_and_wide_prior_does_nothing(two_powers, grid, noisy) -> None:
    from limbeck.fitting import Prior

    free = fit(two_powers, grid, noisy, loss=SQUARED, bootstrap=0).parameters["alpha"]
    tight = fit(two_powers, grid, noisy, loss=SQUARED, priors={"alpha": Prior(0.6, 1e-6)}, bootstrap=0)
    wide = fit(two_powers, grid, noisy, loss=SQUARED, priors={"alpha": Prior(0.6, 1e4)}, bootstrap=0)
    assert tight.parameters["alpha"] == pytest.approx(0.6, abs=1e-4)
    assert wide.parameters["alpha"] == pytest.approx(free, rel=1e-5)
