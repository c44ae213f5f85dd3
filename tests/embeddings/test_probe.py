from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import LeaveOneOut, cross_val_predict

from limbeck.embeddings import BlockRidge
from limbeck.errors import LimbeckError


@pytest.fixture(scope="module")
def nested() -> tuple[np.ndarray, np.ndarray]:
    """A small informative block, one that helps a little, and a wide one of loud noise."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 40)) * np.repeat([1.0, 1.0, 5.0], [3, 5, 32])
    return x, x[:, :3] @ [1.0, -1.0, 0.5] + 0.3 * x[:, 4] + 0.2 * rng.standard_normal(60)


def test_a_longer_vector_is_never_worse_on_examples_left_out(nested):
    x, y = nested
    probe = BlockRidge([3, 8, 40]).fit(x, y)
    assert len(probe.errors_) == 3 and np.isinf(probe.penalties_[2])
    assert probe.errors_[2] <= probe.errors_[1] < probe.errors_[0]
    for levels in (1, 2):
        shorter = BlockRidge([3, 8, 40][:levels]).fit(x[:, : [3, 8][levels - 1]], y)
        np.testing.assert_allclose(shorter.errors_, probe.errors_[:levels], rtol=1e-9)
    best = RidgeCV(np.geomspace(1e-3, 1e5, 40)).fit(x, y)
    assert probe.errors_[2] < 0.8 * -best.best_score_


def test_errors_are_those_of_leaving_one_out_and_predictions_those_of_ridge(nested):
    x, y = nested
    probe = BlockRidge([3, 8, 40]).fit(x, y)
    unit = 60 * x[:, :3].var(0).mean()
    scaled = x / np.sqrt(unit * np.repeat(probe.penalties_, [3, 5, 32]))
    left_out = cross_val_predict(Ridge(1.0), scaled, y, cv=LeaveOneOut())
    assert probe.errors_[-1] == pytest.approx(np.mean((left_out - y) ** 2), rel=1e-6)
    np.testing.assert_allclose(probe.predict(x), Ridge(1.0).fit(scaled, y).predict(scaled), atol=1e-8)


def test_several_targets_and_none_that_can_be_learnt(nested):
    x, y = nested
    two = BlockRidge([3, 40]).fit(x, np.stack([y, -y], 1)).predict(x)
    assert two.shape == (60, 2)
    np.testing.assert_allclose(two[:, 0], -two[:, 1], atol=1e-10)
    noise = np.random.default_rng(5).standard_normal(60)
    probe = BlockRidge([3, 40], penalties=[1e-4, np.inf]).fit(x, noise)
    assert np.isinf(probe.penalties_).all()
    np.testing.assert_allclose(probe.predict(x), noise.mean(), atol=1e-12)


@pytest.mark.parametrize("widths", [[3, 3, 40], [8, 3, 40], [3, 39], [3, 41], [0, 40]])
def test_widths_that_are_none_are_refused(nested, widths):
    with pytest.raises(LimbeckError, match="expected growing ones"):
        BlockRidge(widths).fit(*nested)
