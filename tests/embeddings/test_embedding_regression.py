from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from limbeck.embeddings import edge, noise_level, regress


@pytest.fixture(scope="module")
def centred() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((120, 5)) @ np.diag([5.0, 3.0, 1.0, 0.5, 0.2])
    y = x @ rng.standard_normal((5, 8)) + rng.standard_normal((120, 8))
    return x - x.mean(0), y - y.mean(0)


def fitted(x, y, *options):
    n = len(x) - 1
    return regress(x.T @ x / n, x.T @ y / n, len(x), *options)


def test_linear_and_ridge_are_those_of_scikit_learn(centred):
    x, y = centred
    np.testing.assert_allclose(fitted(x, y, "linear").coefficients, LinearRegression().fit(x, y).coef_.T, atol=1e-10)
    for penalty in (1.0, 30.0):
        ours = fitted(x, y, "ridge", penalty)
        np.testing.assert_allclose(ours.coefficients, Ridge(penalty).fit(x, y).coef_.T, atol=1e-10)
    np.testing.assert_allclose(fitted(x, y, "ridge", 0.0).coefficients, fitted(x, y, "linear").coefficients, atol=1e-12)


def test_pcr_uses_the_components_above_the_edge(centred):
    x, y = centred
    found = fitted(x, y, "pcr")
    e = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    low = e[e / e.mean() < (1 + np.sqrt(5 / 120)) ** 2]
    assert found.noise == pytest.approx(np.median(low))
    assert found.threshold == pytest.approx(np.median(low) * (1 + np.sqrt(5 / 120)) ** 2)
    assert found.kept == (e > found.threshold).sum() == 3
    _, _, v = np.linalg.svd(x, full_matrices=False)
    theirs = LinearRegression().fit(x @ v[:3].T, y).predict(x @ v[:3].T)
    np.testing.assert_allclose(x @ found.coefficients, theirs, atol=1e-10)


def test_pcr_of_all_components_is_least_squares():
    """Where one direction alone is noise, the others are kept; where nothing stands out, 95 % of the variance."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((400, 4))
    x = np.linalg.qr(x - x.mean(0))[0] * np.sqrt(399)  # every eigenvalue is 1: none above the edge
    y = x @ rng.standard_normal((4, 6))
    found = fitted(x, y, "pcr")
    assert found.threshold > 1 and found.kept == 4
    np.testing.assert_allclose(found.coefficients, fitted(x, y, "linear").coefficients, atol=1e-12)
    spread = x * np.sqrt([1.02, 1.01, 1.0, 0.05])
    assert fitted(spread, y, "pcr").kept == 3  # 98 % of the variance


def test_noise_where_nothing_lies_below_the_edge():
    assert edge(100, 10) == pytest.approx(1.73246, abs=1e-5)
    assert noise_level(np.array([4.0, 2.0, 1.0, 1.0]), 1000) == 1.0
    assert noise_level(np.array([1.0]), 10**9) == 1.0


def test_directions_without_variance_count_for_nothing(centred):
    x, y = centred
    doubled = np.hstack([x, x[:, :2]])
    for kind in ("linear", "ridge"):
        found = fitted(doubled, y, kind, 0.0)
        assert found.kept == 5
        np.testing.assert_allclose(doubled @ found.coefficients, LinearRegression().fit(x, y).predict(x), atol=1e-8)
    assert (fitted(0 * x, y, "linear").coefficients == 0).all() and (fitted(0 * x, y, "pcr").coefficients == 0).all()
