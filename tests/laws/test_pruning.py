from __future__ import annotations

import json

import numpy as np
import pytest

from limbeck.errors import FittingError
from limbeck.laws import pruning_gain

KEPT, FRACTION = (a.ravel() for a in np.meshgrid([100.0, 200.0, 400.0], [0.3, 1.0], indexing="ij"))


def cells(gain, noise=0.01, seeds=5):
    rng = np.random.default_rng(0)
    random = KEPT[:, None] ** -0.5 + noise * rng.standard_normal((6, seeds))
    return random - np.where(FRACTION == 0.3, gain, 0)[:, None] + noise * rng.standard_normal((6, seeds)) / 4, random


def test_a_good_ranking_beats_random_and_its_fraction_is_found():
    found = pruning_gain(KEPT, FRACTION, *cells(0.02))
    assert found.beats_random == (True, True, True)
    assert (found.fraction == 0.3).all()
    assert np.abs(found.gain - 0.02).max() < 4 * 0.0025 / 5**0.5  # s.e. of a paired mean
    assert set(found.trends) == {0.3, 1.0} and found.trends[1.0].exponent == pytest.approx(-0.5, abs=0.1)
    assert json.loads(json.dumps(found.to_dict()))["kept"] == [100, 200, 400]
    assert "100 kept, best 30%" in found.summary() and "better than random" in found.summary()


def test_choosing_among_equal_fractions_gains_nothing():
    rng = np.random.default_rng(1)
    gains = []
    for _ in range(200):
        noise = rng.standard_normal((8, 4))
        gains.append(pruning_gain(np.full(8, 10), np.linspace(0.1, 1, 8), 0.3 + 0.1 * noise, np.full((8, 4), 0.3)).gain)
    assert abs(np.mean(gains)) < 4 * 0.1 / 2 / 200**0.5  # s.e. 0.0035; the envelope's own minimum would be 0.07 lower


def test_one_seed_has_no_noise_to_judge_by():
    with pytest.raises(FittingError, match="two seeds or more"):
        pruning_gain([10], [0.5], [[0.1]], [[0.2]])
    with pytest.raises(FittingError, match="2 cells"):
        pruning_gain([10, 20], [0.5, 0.5], [[0.1, 0.2]], [[0.2, 0.2]])
