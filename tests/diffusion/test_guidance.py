"""Guidance: exact ends, one convention, equal in all kinds, interval, rescale."""

from typing import get_args

import pytest
import torch

from limbeck.diffusion import Kind, Prediction, TrigFlow
from limbeck.diffusion.denoisers import guided, spread
from limbeck.errors import ConfigError

NULL = 7
X = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor([0.1, 0.5, 1.0, 5.0], dtype=torch.float64)
COND = torch.tensor([0, 1, 2, 3])


class Classes:
    """A denoiser with a picture for every class, which remembers the classes it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, x, sigma, cond=None):
        self.asked.append(cond.tolist())
        return x * spread(1 / (1 + sigma**2), x) + torch.sin(spread(cond + 1, x) * torch.arange(1.0, 6.0).double())


@pytest.mark.parametrize(("guidance", "asked"), [(1.0, COND), (0.0, torch.full((4,), NULL))])
def test_ends_are_exact_and_cost_one_call(guidance, asked):
    model = Classes()
    assert torch.equal(guided(model, guidance, NULL)(X, SIGMA, COND), Classes()(X, SIGMA, asked))
    assert model.asked == [asked.tolist()]


@pytest.mark.parametrize("guidance", [-1.0, 0.3, 1.5, 7.0])
def test_between_and_beyond_it_is_the_formula(guidance):
    free, with_class = Classes()(X, SIGMA, torch.full((4,), NULL)), Classes()(X, SIGMA, COND)
    out = guided(Classes(), guidance, NULL)(X, SIGMA, COND)
    assert torch.equal(out, (1 - guidance) * free + guidance * with_class)
    torch.testing.assert_close(out, free + guidance * (with_class - free), rtol=1e-12, atol=1e-12)
    w = guidance - 1  # Ho and Salimans
    torch.testing.assert_close(out, (1 + w) * with_class - w * free, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_it_is_the_same_in_every_kind(kind):
    t = TrigFlow().time(SIGMA)
    a, b = spread(TrigFlow().a(t), X), spread(TrigFlow().b(t), X)
    free, with_class = Classes()(X, SIGMA, torch.full((4,), NULL)), Classes()(X, SIGMA, COND)
    said = [Prediction("x0", one, a * X, a, b).to(kind) for one in (free, with_class)]
    mixed = Prediction(kind, -2.5 * said[0] + 3.5 * said[1], a * X, a, b).to("x0")
    torch.testing.assert_close(guided(Classes(), 3.5, NULL)(X, SIGMA, COND), mixed, rtol=1e-11, atol=1e-11)


def test_a_model_without_classes_cannot_be_guided():
    with pytest.raises(ConfigError, match="guidance 2 needs classes"):
        guided(Classes(), 2.0, NULL)(X, SIGMA)


def test_outside_of_the_interval_it_is_conditional():
    model = Classes()
    out = guided(model, 3.0, NULL, interval=(0.1, 1.0))(X, SIGMA, COND)
    everywhere, conditional = guided(Classes(), 3.0, NULL)(X, SIGMA, COND), Classes()(X, SIGMA, COND)
    assert torch.equal(out[1:3], everywhere[1:3]) and torch.equal(out[[0, 3]], conditional[[0, 3]])
    model.asked.clear()
    guided(model, 3.0, NULL, interval=(10.0, 20.0))(X, SIGMA, COND)
    assert model.asked == [COND.tolist()]


def test_rescaling_brings_back_the_spread_of_the_conditional():
    conditional, plain = Classes()(X, SIGMA, COND), guided(Classes(), 6.0, NULL)(X, SIGMA, COND)
    whole = guided(Classes(), 6.0, NULL, rescale=1.0)(X, SIGMA, COND)
    torch.testing.assert_close(whole.std(1), conditional.std(1), rtol=1e-12, atol=0)
    part = guided(Classes(), 6.0, NULL, rescale=0.7)(X, SIGMA, COND)
    torch.testing.assert_close(part, 0.7 * whole + 0.3 * plain, rtol=1e-12, atol=1e-12)
