"""The objective: its value, its local model, its invariances."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from fitting_examples import TRUTH, Line, Sum, design, resampled, start, sum_problem
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Loss, Model, Parameter, Prior, Problem, minimise, objective

LOSSES = [
    Loss(),
    Loss(0.01, overestimate=4.0),
    SQUARED,
    Loss(0.1, "linear"),
    Loss(math.inf, "relative"),
    Loss(math.inf, "linear", overestimate=0.5),
]


def brute_force(problem: Problem, loss: Loss, z: np.ndarray, y: np.ndarray, weights: np.ndarray) -> float:
    f = problem.model({k: v[0] for k, v in problem.natural(z[None]).items()}, **problem.program.columns)
    r = {"log": np.log(f / y), "linear": f - y, "relative": f / y - 1}[loss.space]
    size = np.abs(r)
    h = np.where(size <= loss.delta, size**2 / 2, 0.0)
    if math.isfinite(loss.delta):
        h = np.where(size > loss.delta, loss.delta * (size - loss.delta / 2), h)
    return float((weights * np.where(r > 0, loss.overestimate, 1.0) * h).sum())


@pytest.mark.parametrize("loss", LOSSES, ids=Loss.describe)
def test_value_is_the_weighted_sum_and_the_gradient_its_difference(loss: Loss) -> None:
    problem = sum_problem(loss=loss)
    y = Sum()(TRUTH, **problem.program.columns) * np.exp(0.01 * np.random.default_rng(1).standard_t(4, 60))
    weights = np.random.default_rng(2).uniform(0, 3, 60)
    z = start(problem)[0] + np.random.default_rng(3).normal(0, 0.05, 5)
    value, gradient, majoriser, newton = problem.with_rows(weights=weights[None]).quadratic(z[None], np.zeros(1, int))
    assert value[0] == pytest.approx(brute_force(problem, loss, z, y, weights), rel=1e-11)
    for k in range(5):
        h = np.zeros(5)
        h[k] = 1e-6
        numeric = (brute_force(problem, loss, z + h, y, weights) - brute_force(problem, loss, z - h, y, weights)) / 2e-6
        assert gradient[0, k] == pytest.approx(numeric, rel=1e-6, abs=1e-7 * np.abs(gradient).max())
    # The Newton part counts the points in the quadratic zone only: it is never above the majoriser.
    assert np.linalg.eigvalsh(majoriser[0] - newton[0]).min() > -1e-12 * np.trace(majoriser[0])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(1e-3, 3.0))
def test_the_majoriser_bounds_the_loss_of_a_linear_model(seed: int, delta: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=12), rng.normal(size=12)
    problem = Problem.build(Line(), {"x": x}, y, loss=Loss(delta, "linear"))
    z, step = rng.normal(size=(2, 1, 2))
    f, gradient, majoriser, _ = problem.quadratic(z, np.zeros(1, int))
    bound = f + (gradient * step).sum() + 0.5 * np.einsum("p,pq,q->", step[0], majoriser[0], step[0])
    assert problem.objective(z + step)[0] <= bound[0] + 1e-12


def test_integer_weights_are_duplicates() -> None:
    problem = sum_problem(20)
    counts = np.random.default_rng(0).multinomial(20, np.full(20, 0.05))
    twice = Problem.build(
        Sum(),
        {name: values.repeat(counts) for name, values in problem.program.columns.items()},
        np.exp(problem.target).repeat(counts),
        loss=Loss(),
    )
    natural = {k: v * 1.02 for k, v in TRUTH.items()}
    weighted = problem.with_rows(weights=counts[None].astype(float)).objective(problem.coordinates(natural)[None])
    assert twice.objective(twice.coordinates(natural)[None]) == pytest.approx(weighted, rel=1e-12)


def test_order_of_points_and_scale_of_columns_do_not_matter() -> None:
    problem = sum_problem(20)
    y, natural = np.exp(problem.target), {k: v * 1.02 for k, v in TRUTH.items()}
    value = problem.objective(problem.coordinates(natural)[None])[0]
    order = np.random.default_rng(0).permutation(20)
    columns = {name: values[order] for name, values in problem.program.columns.items()}
    shuffled = Problem.build(Sum(), columns, y[order], loss=Loss())
    assert shuffled.objective(shuffled.coordinates(natural)[None])[0] == pytest.approx(value, rel=1e-12)
    # N in millions: only A changes, by the factor 1e-6^alpha; centred coordinates do not change at all.
    millions = {**problem.program.columns, "params": problem.program.columns["params"] / 1e6}
    scaled = Problem.build(Sum(), millions, y, loss=Loss())
    moved = {**natural, "A": natural["A"] * 1e-6 ** natural["alpha"]}
    np.testing.assert_allclose(scaled.coordinates(moved), problem.coordinates(natural), atol=1e-12)
    assert scaled.objective(scaled.coordinates(moved)[None])[0] == pytest.approx(value, rel=1e-10)


def test_blocks_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = resampled(sum_problem(), 40)
    z = start(problem, 40) + np.random.default_rng(0).normal(0, 0.1, (40, 5))
    whole = problem.quadratic(z, np.arange(40))
    monkeypatch.setattr(objective, "CACHED", 1)
    for one, other in zip(whole, problem.quadratic(z, np.arange(40)), strict=True):
        assert (one == other).all()


def test_coordinates_and_natural_are_inverse_and_respect_fixed() -> None:
    columns = design(20)
    problem = Problem.build(Sum(), columns, Sum()(TRUTH, **columns), loss=Loss(), fixed={"alpha": 0.35})
    assert problem.free == ("E", "A", "B", "beta")
    natural = problem.natural(problem.coordinates(TRUTH)[None])
    assert {k: pytest.approx(v, rel=1e-13) for k, v in TRUTH.items()} == {k: v[0] for k, v in natural.items()}
    # With alpha fixed its centre moves into A: at the truth the problem is still solved.
    assert problem.objective(problem.coordinates(TRUTH)[None])[0] < 1e-25


def test_priors_add_their_quadratic_in_units_of_the_noise() -> None:
    columns = design(20)
    y = Sum()(TRUTH, **columns)
    priors = {"alpha": Prior(0.3, 0.1), "E": Prior(2.0, 0.5)}
    problem = Problem.build(Sum(), columns, y, loss=Loss(), priors=priors, prior_noise=0.02)
    z = problem.coordinates(TRUTH)[None]
    expected = 0.02**2 / 2 * ((0.05 / 0.1) ** 2 + (math.log(1.8 / 2.0) / 0.5) ** 2)
    assert problem.objective(z)[0] == pytest.approx(expected, rel=1e-9)
    gradient = problem.quadratic(z, np.zeros(1, int))[1][0]
    for k in range(5):
        h = np.zeros((1, 5))
        h[0, k] = 1e-7
        numeric = (problem.objective(z + h) - problem.objective(z - h))[0] / 2e-7
        assert gradient[k] == pytest.approx(numeric, rel=1e-5, abs=1e-8)
    shifted = problem.with_rows(prior_mean=np.array([problem.prior_mean, problem.prior_mean + 1.0]))
    both = shifted.objective(np.repeat(z, 2, 0))
    assert both[0] == pytest.approx(expected, rel=1e-9)
    assert both[1] > both[0]


def test_bounds_are_centred_like_their_parameters() -> None:
    class Bounded(Model):
        name, columns, target = "bounded", ("x",), "y"
        parameters = (Parameter("a", log=True, lower=0.5, upper=8.0), Parameter("b", lower=-1.0))

        def formula(self, p, x):  # type: ignore[no-untyped-def]
            return p.a * x.x**p.b

    problem = Problem.build(Bounded(), {"x": np.array([1.0, 2.0])}, np.ones(2), loss=Loss())
    np.testing.assert_allclose(problem.lower, [math.log(0.5), -1.0])
    np.testing.assert_allclose(problem.upper, [math.log(8.0), math.inf])


def test_rounding_is_far_below_a_real_residual_and_above_a_perfect_fit() -> None:
    problem = sum_problem(noise=0.0)
    noise, perfect = problem.rounding(np.zeros(1, int))[0], problem.objective(start(problem))[0]
    assert perfect <= noise < 1e-24


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"delta": 0.0}, "delta > 0"),
        ({"delta": math.nan}, "delta > 0"),
        ({"overestimate": -1.0}, "overestimate > 0"),
        ({"space": "relative"}, "least squares only"),
    ],
)
def test_impossible_losses_are_refused(options: dict, words: str) -> None:
    with pytest.raises(FittingError, match=words):
        Loss(**options)


def test_impossible_problems_are_refused() -> None:
    columns, y = design(5), np.array([1.0, 2, 3, 4, -5])
    with pytest.raises(FittingError, match=r"must be positive.*smallest value is -5"):
        Problem.build(Sum(), columns, y, loss=Loss())
    with pytest.raises(FittingError, match=r'no parameter "alhpa".*alpha'):
        Problem.build(Sum(), columns, abs(y), loss=Loss(), fixed={"alhpa": 1.0})
    with pytest.raises(FittingError, match=r"alpha is fixed at 0\.3 and has a prior too"):
        Problem.build(Sum(), columns, abs(y), loss=Loss(), fixed={"alpha": 0.3}, priors={"alpha": Prior(0.3, 1.0)})


def test_relative_is_the_weighted_linear_loss() -> None:
    relative = sum_problem(loss=Loss(math.inf, "relative"))
    y = relative.target
    linear = replace(sum_problem(loss=Loss(math.inf, "linear")), weights=1 / y**2)
    z = start(relative) + 0.1
    assert relative.objective(z) == pytest.approx(linear.objective(z), rel=1e-14)


def test_a_stack_of_problems_is_each_of_them() -> None:
    """Other columns, centres and lengths; what fills up the shorter one has no weight."""
    problems, starts = [], []
    for n, scale in ((12, 1.0), (30, 50.0)):
        columns = {name: scale * values for name, values in design(n).items()}
        target = Sum()(TRUTH, **columns) * np.exp(0.01 * np.random.default_rng(n).standard_normal(n))
        problems.append(Problem.build(Sum(), columns, target, loss=Loss(0.01)))
        starts.append(problems[-1].coordinates(TRUTH) + 0.1)
    stack, rows = Problem.stack(problems), np.array([1, 0, 1])
    together = stack.quadratic(np.array(starts)[rows], rows)
    for k, row in enumerate(rows):
        for many, one in zip(together, problems[row].quadratic(starts[row][None], np.zeros(1, int)), strict=True):
            np.testing.assert_allclose(many[k], one[0], rtol=1e-12)
    ends = minimise(stack, np.array(starts)[rows], rows)
    for k, row in enumerate(rows):
        alone = minimise(problems[row], starts[row][None])
        np.testing.assert_allclose(ends.z[k], alone.z[0], atol=1e-9)
        alpha = problems[row].natural(alone.z)["alpha"][0]
        assert stack.natural(ends.z, rows)["alpha"][k] == pytest.approx(alpha, rel=1e-9)
