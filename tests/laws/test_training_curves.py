from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from limbeck.errors import FittingError
from limbeck.laws import Chinchilla, ComputeFrontier, Curve, envelope, frontier

TRUTH = {"E": 1.7, "A": 400.0, "B": 500.0, "alpha": 0.34, "beta": 0.28}


def curves(count, low=1e7, high=1e10):
    tokens = np.geomspace(1e7, 1e13, 400)
    return [Curve(n, tokens, Chinchilla()(TRUTH, params=n, tokens=tokens)) for n in np.geomspace(low, high, count)]


@pytest.mark.parametrize("floor", [0.0, 1.7])
def test_hull_finds_the_exponent(floor):
    truth = ComputeFrontier.of(TRUTH)
    found = frontier(curves(20), floor=floor)
    assert_allclose(found.size.exponent, truth.size_exponent, rtol=0.02)
    assert_allclose(found.data.exponent, truth.data_exponent, rtol=0.02)
    assert_allclose(found.size.value(1e20), truth.params(1e20), rtol=0.02)
    assert not found.warnings


def test_few_sizes_are_reported():
    found = frontier(curves(4))
    assert found.resolution == pytest.approx(np.log(10) / 2)
    assert "4 sizes allow 3 switch points" in found.warnings[0]
    assert envelope(curves(4)).size.exponent < 0.9 * ComputeFrontier.of(TRUTH).size_exponent


def test_envelope_is_close_with_many_sizes_and_takes_the_end_of_runs():
    truth = ComputeFrontier.of(TRUTH)
    assert_allclose(envelope(curves(20)).size.exponent, truth.size_exponent, rtol=0.01)
    runs = [
        Curve(n, np.geomspace(d / 100, d, 50), Chinchilla()(TRUTH, params=n, tokens=np.geomspace(d / 100, d, 50)))
        for n in np.geomspace(1e7, 1e10, 20)
        for d in n * np.geomspace(2, 200, 8)
    ]
    ends = envelope(runs, last_share=0.15)
    all_points = envelope(runs)
    assert len(ends.flops) < len(all_points.flops)
    assert_allclose(ends.size.exponent, truth.size_exponent, rtol=0.05)


def test_smoothing_takes_noise_out():
    rng = np.random.default_rng(0)
    noisy = [Curve(c.params, c.tokens, c.loss * np.exp(0.005 * rng.standard_normal(400))) for c in curves(20)]
    truth = ComputeFrontier.of(TRUTH).params(1e20)
    rough, smooth = (abs(np.log(envelope(noisy, smooth=s).size.value(1e20) / truth)) for s in (0.0, 8.0))
    assert smooth < rough


def test_too_little_is_refused():
    with pytest.raises(FittingError, match="two or more training curves"):
        envelope(curves(1))
    with pytest.raises(FittingError, match="fewer than two changes"):
        frontier(curves(2))
