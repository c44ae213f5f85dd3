"""The sandwich against textbook formulas and against resampling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from limbeck.fitting import Loss, fit
from limbeck.fitting.covariance import curvature, sandwich

LINEAR = Loss(math.inf, "linear")


def hc3(design: np.ndarray, residuals: np.ndarray, groups: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(design.T @ design)
    h = np.einsum("np,pq,nq->n", design, inverse, design)
    scores = design * (residuals / (1 - h))[:, None]
    summed = np.array([scores[groups == g].sum(0) for g in np.unique(groups)])
    return inverse @ (summed.T @ summed) @ inverse


@pytest.mark.parametrize("size", [1, 5])
def test_straight_line_has_the_textbook_covariance(line, size: int) -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(0, 3, 30)
    y = 1 + 2 * x + rng.standard_normal(30) * (0.1 + 0.2 * x)
    groups = np.arange(30) // size
    fitted = fit(line, {"x": x}, y, loss=LINEAR, clusters=groups, bootstrap=0)
    expected = hc3(np.stack([np.ones(30), x], 1), y - fitted.value(x=x), groups)
    to_natural = fitted.problem.transform
    assert to_natural @ fitted.covariance() @ to_natural.T == pytest.approx(expected, rel=1e-8)
    assert fitted.standard_error(x=2.0)[0] == pytest.approx(math.sqrt(np.array([1, 2]) @ expected @ [1, 2]), rel=1e-8)


def test_points_are_their_own_clusters_by_default(line) -> None:
    x = np.arange(10.0)
    fitted = fit(line, {"x": x}, np.sin(x), loss=LINEAR, bootstrap=0)
    assert sandwich(fitted.problem, fitted.z) == pytest.approx(sandwich(fitted.problem, fitted.z, np.arange(10)))


def test_median_has_its_asymptotic_variance(line) -> None:
    """Nearly absolute errors, normal noise: the variance of a fitted level is π/2 σ²/n."""
    rng = np.random.default_rng(1)
    y = rng.standard_normal(4000)
    fitted = fit(line, {"x": np.ones(4000)}, y, loss=Loss(1e-3, "linear"), fixed={"slope": 0.0}, bootstrap=0)
    # the band holds about 600 points: s.e. 4 % of the density, 8 % of the variance
    assert fitted.covariance()[0, 0] * 4000 == pytest.approx(math.pi / 2, rel=0.33)


def test_curvature_estimates_the_density_at_zero() -> None:
    residuals = norm.ppf((np.arange(2000) + 0.5) / 2000)
    assert curvature(residuals, 1e-3).mean() / 2e-3 == pytest.approx(norm.pdf(0), rel=0.03)
    assert set(curvature(residuals, math.inf)) == {1.0}
    assert curvature(np.array([-3.0, 0.5, 2.0]), 100.0).tolist() == [1.0, 1.0, 1.0]


def test_agrees_with_the_bootstrap(chinchilla_fit) -> None:
    there = {"params": 7e10, "tokens": 1.4e12}
    draws = np.log(chinchilla_fit.values(**there)[:, 0])
    # s.e. 3.5 % of a spread from 400 draws; the two methods differ by some 10 % here
    assert chinchilla_fit.standard_error(**there)[0] == pytest.approx(draws.std(), rel=0.25)
