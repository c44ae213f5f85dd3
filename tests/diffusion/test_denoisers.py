"""Denoisers: EDM's scalings, and networks of every schedule and kind translated exactly."""

from typing import get_args

import pytest
import torch

from limbeck.diffusion import DDPM, EDM, Cosine, Kind, RectifiedFlow, TrigFlow
from limbeck.diffusion.denoisers import Preconditioned, Translated, spread
from limbeck.errors import ConfigError

ALL = [EDM(), RectifiedFlow(), RectifiedFlow(shift=3.0), TrigFlow(), Cosine(), DDPM()]
STD, MEAN = 0.6, 0.4
SIGMA = torch.tensor([0.02, 0.3, 1.0, 4.0, 60.0], dtype=torch.float64)
X = SIGMA[:, None] * torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + MEAN


def gauss(x, sigma):
    """Expected x0 of N(MEAN, STD^2)."""
    s = spread(sigma, x)
    return (STD**2 * x + s**2 * MEAN) / (STD**2 + s**2)


def network_of(one, kind):
    """What a perfect network of a schedule says at x_t = a x0 + b eps, from moments of the Gaussian (x0, x_t)."""

    def network(x, t, cond):
        a, b = spread(one.a(t), x), spread(one.b(t), x)
        variance = a**2 * STD**2 + b**2
        innovation = (x - a * MEAN) / variance
        x0, eps = MEAN + a * STD**2 * innovation, b * innovation
        return {"x0": x0, "eps": eps, "v": a * eps - b * x0, "u": eps - x0, "score": -innovation}[kind]

    return network


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("one", ALL, ids=repr)
def test_a_translated_network_is_the_closed_form(one, kind):
    denoiser = Translated(network_of(one, kind), one, kind)
    torch.testing.assert_close(denoiser(X, SIGMA), gauss(X, SIGMA), rtol=1e-9, atol=1e-9)
    rough = denoiser(X.float(), SIGMA.float())
    # what float32 says of the noise is multiplied by sigma
    tolerance = 2e-4 if kind in ("eps", "score") else 2e-5
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough.double(), gauss(X, SIGMA), rtol=tolerance, atol=tolerance)


def test_a_translated_network_of_the_classes_gets_them():
    seen = []

    def network(x, t, cond):
        seen.append((t.tolist(), cond.tolist()))
        return x

    Translated(network, RectifiedFlow(), "x0")(X, torch.full((5,), 3.0), torch.arange(5))
    assert seen == [([0.75] * 5, [0, 1, 2, 3, 4])]


def test_a_level_out_of_reach_is_refused():
    with pytest.raises(ConfigError, match=r"from 0\.0100005 to 157\.407"):
        Translated(network_of(DDPM(), "v"), DDPM(), "v")(X, SIGMA * 10)


@pytest.mark.parametrize("d", [0.5, 1.3])
def test_the_loss_of_edm_is_1_for_a_silent_network(d):
    """Weight (sigma^2 + d^2) / (sigma d)^2; standard error of 400,000 squares of unit normals: .0022."""
    generator = torch.Generator().manual_seed(0)
    x0 = d * torch.randn(40_000, 10, dtype=torch.float64, generator=generator)
    sigma = (1.2 * torch.randn(40_000, dtype=torch.float64, generator=generator) - 1.2).exp()
    x = x0 + sigma[:, None] * torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    inputs = []

    def silent(x, noise, cond):
        inputs.append((x, noise))
        return torch.zeros_like(x)

    weight = (sigma**2 + d**2) / (sigma * d) ** 2
    error = (Preconditioned(silent, data_std=d)(x, sigma) - x0) ** 2
    assert (weight[:, None] * error).mean().item() == pytest.approx(1.0, abs=0.009)
    assert inputs[0][0].var().item() == pytest.approx(1.0, abs=0.009)
    torch.testing.assert_close(inputs[0][1], sigma.log() / 4)


def test_edm_scalings_at_a_value():
    """sigma = 1.2, d = 0.5: total 1.3, c_skip = .25 / 1.69, c_out = .6 / 1.3, c_in = 1 / 1.3."""
    denoiser = Preconditioned(lambda x, noise, cond: torch.tanh(x), data_std=0.5)
    x, sigma = torch.tensor([[0.9]], dtype=torch.float64), torch.tensor([1.2], dtype=torch.float64)
    expected = 0.25 / 1.69 * 0.9 + 0.6 / 1.3 * torch.tanh(torch.tensor(0.9 / 1.3, dtype=torch.float64)).item()
    assert denoiser(x, sigma).item() == pytest.approx(expected, rel=1e-13)


def test_edm_is_minus_v_of_trigflow():
    """D / d = cos t x - sin t v where x = cos t x0 + sin t eps of unit data, sigma = d tan t and v = -F."""
    d = 0.5
    denoiser = Preconditioned(lambda x, noise, cond: torch.tanh(2 * x) + noise[:, None], data_std=d)
    t = torch.tensor([0.2, 0.9, 1.5], dtype=torch.float64)
    trig, c, s = X[:3], t.cos()[:, None], t.sin()[:, None]
    clean = denoiser(d * trig / c, d * t.tan()) / d
    torch.testing.assert_close(clean, c * trig - s * denoiser.velocity(trig, t), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("one", ALL, ids=repr)
def test_the_velocity_of_a_translated_network(one):
    """v = cos t eps - sin t x0 of the Gaussian, at any schedule it was trained in."""
    t = torch.tensor([0.05, 0.6, 1.2, 1.5, 1.55], dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    velocity = Translated(network_of(one, "v"), one, "v").velocity(x, t)
    torch.testing.assert_close(velocity, network_of(TrigFlow(), "v")(x, t, None), rtol=1e-9, atol=1e-9)


def test_at_the_boundary_the_denoiser_is_the_identity():
    denoiser = Preconditioned(lambda x, noise, cond: torch.tanh(x), boundary=0.002)
    assert torch.equal(denoiser(X, torch.full((5,), 0.002, dtype=torch.float64)), X)


@pytest.mark.parametrize(("data_std", "boundary"), [(0.0, 0.0), (0.5, -1.0)])
def test_impossible_settings_are_refused(data_std, boundary):
    with pytest.raises(ConfigError, match="data_std must be positive"):
        Preconditioned(torch.nn.Identity(), data_std, boundary)
