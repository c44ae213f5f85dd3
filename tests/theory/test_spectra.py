from __future__ import annotations

import json

import numpy as np
import pytest

from limbeck.errors import FittingError
from limbeck.laws import Trend
from limbeck.theory import Exponents, intrinsic_dimension, power_spectrum, predict_exponents, spectrum_exponent

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("method", ["nearest two", "likelihood"])
@pytest.mark.parametrize("dimension", [1, 2, 4, 8])
def test_dimension_of_a_plane_in_fifty_dimensions(method, dimension):
    x = RNG.standard_normal((2000, dimension)) @ RNG.standard_normal((dimension, 50))
    assert intrinsic_dimension(x, method) == pytest.approx(dimension, rel=0.15)


@pytest.mark.parametrize("dimension", [1, 2, 3])
def test_nearest_neighbours_on_a_torus_learn_with_exponent_two_over_d(dimension):
    from scipy.spatial import KDTree

    def error(count):
        x, test = RNG.random((count, dimension)), RNG.random((4000, dimension))
        nearest = KDTree(x, boxsize=1.0).query(test)[1]
        return np.mean((np.sin(2 * np.pi * x[nearest]) - np.sin(2 * np.pi * test)).sum(1) ** 2)

    counts = np.array([200, 800, 3200, 12800])
    slope = Trend.through(counts, [error(count) for count in counts]).exponent
    assert slope == pytest.approx(-2 / dimension, rel=0.15)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_exponent_of_a_sampled_spectrum(alpha):
    spectrum = power_spectrum(3000, alpha)
    x = RNG.standard_normal((700, 3000)) * np.sqrt(spectrum)
    assert -spectrum_exponent(x @ x.T).exponent - 1 == pytest.approx(alpha, abs=0.15)


def test_exponents_of_features_and_when_they_disagree():
    angle = RNG.uniform(0, 2 * np.pi, 600)  # a rough curve: one dimension, slow spectrum
    waves = np.arange(1, 200)
    rough = np.concatenate([f(np.outer(angle, waves)) / waves**0.6 for f in (np.sin, np.cos)], 1)
    found = predict_exponents(rough, most=500)
    assert found.linear == pytest.approx(2 * found.constant) == pytest.approx(8 / sum(found.dimension))
    assert not found.agree and "more than 2×" in found.summary()
    assert json.loads(json.dumps(found.to_dict()))["agree"] is False
    smooth = Exponents((4.0, 4.0), (0.8, 0.05), 0.5, 1.0)
    assert smooth.agree and "more than" not in smooth.summary()


def test_too_little_to_see_a_spectrum_or_a_dimension():
    with pytest.raises(FittingError, match="100 examples or more"):
        spectrum_exponent(np.eye(50))
    with pytest.raises(FittingError, match="too few eigenvalues"):
        spectrum_exponent(np.ones((200, 200)))
    with pytest.raises(FittingError, match="1 distinct examples"):
        intrinsic_dimension(np.ones((500, 3)))
