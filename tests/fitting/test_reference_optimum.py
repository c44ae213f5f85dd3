"""The published data: the optimum to the last digit, the reference resamples, and why sums are minimised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from limbeck.fitting import Data, Fit, Loss, Problem, fit, minimise


def test_optimum_of_the_240_runs(chinchilla_fit: Fit) -> None:
    assert chinchilla_fit.objective <= 0.0010182740179
    found = {name: f"{value:.5g}" for name, value in chinchilla_fit.parameters.items()}
    assert found["E"] == "1.8172" and f"{chinchilla_fit.parameters['E']:.5f}" == "1.81722"
    assert f"{chinchilla_fit.parameters['A']:.2f}" == "477.83"
    assert f"{chinchilla_fit.parameters['B']:.1f}" == "2143.4"
    assert f"{chinchilla_fit.parameters['alpha']:.5f}" == "0.34731"
    assert f"{chinchilla_fit.parameters['beta']:.5f}" == "0.36717"
    assert chinchilla_fit.starts.reached >= 0.9 * chinchilla_fit.starts.total


def test_bootstrap_spread_of_the_240_runs(chinchilla_fit: Fit) -> None:
    # published from 4000 resamples: alpha .0151, beta .0207, E .0257; the s.e. of a spread from 400 draws is 3.5 %
    published = {"alpha": 0.0151, "beta": 0.0207, "E": 0.0257}
    for name, spread in published.items():
        assert chinchilla_fit.draws[name].std() == pytest.approx(spread, rel=0.15)
    exponent = chinchilla_fit.derive(lambda p: p.beta / (p.alpha + p.beta))
    assert exponent.value == pytest.approx(0.514, abs=5e-4)
    assert (exponent.lower, exponent.upper) == pytest.approx((0.492, 0.542), abs=0.008)


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections, two_powers, chinchilla_runs: Data, chinchilla_fit: Fit) -> None:
    problem = chinchilla_fit.problem

    def theta(z: np.ndarray) -> np.ndarray:
        natural = problem.natural(z)
        logs = [np.log(natural[name]) for name in ("A", "B", "E")]
        return np.stack([*logs, natural["alpha"], natural["beta"]], 1)

    def full_fit(section: dict) -> None:
        assert chinchilla_fit.objective == pytest.approx(section["objective"], rel=1e-9)
        assert theta(chinchilla_fit.z[None])[0] == pytest.approx(section["theta"], abs=1e-4)

    def bootstrap(section: list[dict]) -> None:
        counts = np.array([case["index_counts"] for case in section], float)
        ends = minimise(problem.with_rows(weights=counts), np.repeat(chinchilla_fit.z[None], len(counts), 0))
        assert ends.objective == pytest.approx([case["objective"] for case in section], rel=1e-9)
        assert theta(ends.z) == pytest.approx(np.array([case["theta"] for case in section]), abs=1e-4)

    def points(n: int) -> None:
        assert len(chinchilla_runs) == n

    checks = {"n": points, "full_fit": full_fit, "bootstrap": bootstrap}
    walk_sections(parity("fitting-engine"), checks, ignore=("data", "loss", "param_order"))


def test_no_resample_ends_above_scipy(chinchilla_fit: Fit) -> None:
    """A quasi-Newton method in the same coordinates, tuned to reach the optimum, never finds a lower objective."""
    problem, z = chinchilla_fit.problem, chinchilla_fit.z
    counts = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), size=6).astype(float)
    ours = minimise(problem.with_rows(weights=counts), np.repeat(z[None], 6, 0), damping=0.01)
    for row, objective in zip(counts, ours.objective, strict=True):
        one = problem.with_rows(weights=row)

        def height(at: np.ndarray, one: Problem = one) -> tuple[float, np.ndarray]:
            f, gradient, _, _ = one.quadratic(at[None], np.zeros(1, int))
            return 1e4 * float(f[0]), 1e4 * gradient[0]

        theirs = minimize(
            height, z, jac=True, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000}
        )
        assert objective <= theirs.fun / 1e4 * (1 + 1e-10)


def test_a_mean_instead_of_a_sum_stops_too_early(chinchilla_fit: Fit) -> None:
    """With the mean loss and default tolerances L-BFGS-B thinks it is done: why published intervals were too narrow."""
    problem = chinchilla_fit.problem
    start = problem.coordinates({"E": 1.0, "A": 150.0, "B": 150.0, "alpha": 0.25, "beta": 0.25})

    def mean_loss(at: np.ndarray) -> tuple[float, np.ndarray]:
        f, gradient, _, _ = problem.quadratic(at[None], np.zeros(1, int))
        return float(f[0]) / 240, gradient[0] / 240

    stopped = minimize(mean_loss, start, jac=True, method="L-BFGS-B")
    assert stopped.success
    assert stopped.fun * 240 > 1.2 * chinchilla_fit.objective


def test_delta_auto_keeps_the_law_and_reports_its_threshold(two_powers, chinchilla_runs: Data) -> None:
    smooth = fit(two_powers, chinchilla_runs.columns, chinchilla_runs.target, delta="auto", bootstrap=0)
    assert 2e-3 < smooth.loss.delta < 2e-2  # 1.345 sigma of about half a percent
    assert smooth.loss.space == Loss().space
    assert smooth.parameters["alpha"] == pytest.approx(0.35, abs=0.02)
