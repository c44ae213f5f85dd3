"""Kinds of prediction: the spec's table, round trips, the corners where nothing can be said."""

import itertools
from typing import get_args

import pytest
import torch

from limbeck.diffusion import Kind, Prediction, RectifiedFlow, TrigFlow
from limbeck.errors import ConfigError

KINDS = get_args(Kind)
pairs = pytest.mark.parametrize(("have", "want"), list(itertools.product(KINDS, KINDS)))


def truth(a, b, seed=0):
    x0, eps = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    kinds = {"x0": x0, "eps": eps, "v": a * eps - b * x0, "u": eps - x0, "score": -eps / b}
    return kinds, a * x0 + b * eps


@pairs
@pytest.mark.parametrize(("a", "b"), [(0.8, 0.6), (0.3, 0.7), (1.0, 2.0)])
def test_every_kind_from_every_kind_and_back(have, want, a, b):
    a, b = torch.full((5, 1), a, dtype=torch.float64), torch.full((5, 1), b, dtype=torch.float64)
    kinds, x = truth(a, b)
    said = Prediction(have, kinds[have], x, a, b).to(want)
    torch.testing.assert_close(said, kinds[want], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(Prediction(want, said, x, a, b).to(have), kinds[have], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_kind_is_returned_as_it_is(kind):
    value = torch.tensor([0.1])
    assert Prediction(kind, value, value, torch.tensor(0.0), torch.tensor(0.0)).to(kind) is value


@pytest.mark.parametrize("have", ["v", "u"])
@pytest.mark.parametrize("want", ["x0", "eps", "v", "u"])
@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.0, 1.0)])
def test_v_and_u_are_right_at_both_ends(have, want, a, b):
    a, b = torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)
    kinds, x = truth(a, b)
    torch.testing.assert_close(Prediction(have, kinds[have], x, a, b).to(want), kinds[want], rtol=0, atol=1e-15)


@pytest.mark.parametrize("want", ["x0", "v", "u"])
@pytest.mark.parametrize("have", ["eps", "score"])
def test_the_noise_says_nothing_about_the_picture_in_pure_noise(have, want):
    end = torch.tensor([TrigFlow().largest], dtype=torch.float64)  # where cos is 6e-17, not 0
    a, b = TrigFlow().a(end), TrigFlow().b(end)
    kinds, x = truth(a, b)
    with pytest.raises(ConfigError, match=f"{have} cannot|eps cannot.*holds no picture"):
        Prediction(have, kinds[have], x, a, b).to(want)


@pytest.mark.parametrize("want", ["eps", "v", "u", "score"])
def test_the_picture_says_nothing_about_the_noise_in_a_clean_one(want):
    zero = torch.zeros(1, dtype=torch.float64)
    kinds, x = truth(zero + 1, zero)
    with pytest.raises(ConfigError, match="holds no noise"):
        Prediction("x0", kinds["x0"], x, zero + 1, zero).to(want)


def test_the_velocity_of_the_flow_is_u_and_of_trigflow_v():
    t = torch.full((5, 1), 0.4, dtype=torch.float64)
    for one, kind in ((RectifiedFlow(), "u"), (TrigFlow(), "v")):
        kinds, x = truth(one.a(t), one.b(t))
        slope = Prediction("x0", kinds["x0"], x, one.a(t), one.b(t)).ode_velocity(one.da(t), one.db(t))
        torch.testing.assert_close(slope, kinds[kind], rtol=1e-13, atol=1e-14)
