"""TrigFlow: velocities of all kinds of denoisers, rotations, laws of times, rollouts."""

import math

import pytest
import torch
from torch import nn

from limbeck.diffusion import (
    LogNormal,
    RectifiedFlow,
    ShiftedUniform,
    Sizes,
    Translated,
    TrigFlow,
    few_levels,
    rollout,
    velocity_of,
)
from limbeck.diffusion.mixtures import mixture
from limbeck.diffusion.trigflow import PURE, diffused, rotated
from limbeck.errors import ConfigError

F64 = torch.float64


def angles(*values):
    return torch.tensor(values, dtype=F64)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def trained(clock="log", boundary=0.0):
    """A network of random weights, float64; a fresh one would answer 0."""
    denoiser = Sizes(16, 2, clock=clock).build([3], 0, 0.5, boundary=boundary).double()
    nn.init.normal_(denoiser.network.out.weight, generator=torch.Generator().manual_seed(1))
    return denoiser


def test_a_network_of_trigflow_is_wrapped_as_it_is():
    net = lambda x, t, cond: torch.tanh(x) * t[:, None]  # noqa: E731
    x, t = normal(4, 3), angles(0.1, 0.7, 1.2, 1.57)
    torch.testing.assert_close(Translated(net, TrigFlow(), "v").velocity(x, t), net(x, t, None), rtol=1e-13, atol=1e-13)


def test_a_flow_of_a_gaussian_wrapped_is_the_velocity_of_the_gaussian():
    """x0 ~ N(0, s^2): u(x, r) = (r - (1 - r) s^2) x / ((1 - r)^2 s^2 + r^2), F = cos t sin t (1 - s^2) x / v."""
    s = 0.3
    flow = lambda x, r, cond: ((r - (1 - r) * s**2) / ((1 - r) ** 2 * s**2 + r**2))[:, None] * x  # noqa: E731
    x, t = normal(5, 2), angles(0.01, 0.4, 0.8, 1.3, 1.57)
    v = s**2 * t.cos() ** 2 + t.sin() ** 2
    expected = (t.cos() * t.sin() * (1 - s**2) / v)[:, None] * x
    made = Translated(flow, RectifiedFlow(), "u").velocity(x, t)
    torch.testing.assert_close(made, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("clock", ["log", "angle"])
def test_the_velocity_of_a_denoiser_is_what_it_knows_itself(clock):
    denoiser, x, t = trained(clock), normal(5, 3), angles(0.05, 0.5, 1.0, 1.5, 1.55)
    assert velocity_of(denoiser, 0.5) == denoiser.velocity
    plain = velocity_of(lambda x, sigma, cond: denoiser(x, sigma, cond), 0.5)
    torch.testing.assert_close(plain(x, t), denoiser.velocity(x, t), rtol=1e-10, atol=1e-10)


def test_a_boundary_or_another_unit_leaves_only_the_general_formula():
    bounded, other = trained(boundary=0.002), trained()
    assert velocity_of(bounded, 0.5) != bounded.velocity
    x, t = normal(2, 3), angles(0.4, 0.9)
    said = velocity_of(bounded, 0.5)(x, t)
    clean = bounded(0.5 * x / t.cos()[:, None], 0.5 * t.tan()) / 0.5
    torch.testing.assert_close(said, (t.cos()[:, None] * x - clean) / t.sin()[:, None])
    half = velocity_of(other, 0.25)(x, t)  # pictures of another spread: not the network's own velocity
    assert (half - other.velocity(x, t)).abs().max() > 0.1
    torch.testing.assert_close(
        rotated(x, half, t), other(0.25 * x / t.cos()[:, None], 0.25 * t.tan()) / 0.25, rtol=1e-9, atol=1e-9
    )


def test_a_mixture_has_a_velocity_at_pure_noise():
    law, x = mixture("ring8"), normal(3, 2)
    here = velocity_of(law, law.data_std)(x, torch.full((3,), PURE, dtype=F64))
    torch.testing.assert_close(here, -torch.zeros(3, 2, dtype=F64), atol=2e-4, rtol=0)  # the mean of the data is 0
    single = velocity_of(law, law.data_std)(x.float(), torch.full((3,), PURE).double())
    assert single.isfinite().all()


@pytest.mark.parametrize(
    ("denoiser", "sigma"),
    [
        (trained("angle"), 0.0),
        (trained(boundary=0.002), 0.002),
        (Translated(lambda x, t, cond: x.tanh(), RectifiedFlow(), "u"), 0.0),
        (Translated(lambda x, t, cond: x.tanh(), TrigFlow(), "v"), 0.0),
    ],
)
def test_without_noise_a_picture_stays_what_it_is(denoiser, sigma):
    x = normal(4, 3)
    torch.testing.assert_close(denoiser(x, torch.full((4,), sigma, dtype=F64)), x, rtol=1e-14, atol=1e-14)


def test_rotations_of_the_exact_velocity_of_a_point_add_up():
    point, eps, t = normal(3, 2), normal(3, 2, seed=1), angles(1.5, 0.9, 0.3)
    x = diffused(point, t, eps)
    velocity = lambda x, t: (t.cos()[:, None] * x - point) / t.sin()[:, None]  # noqa: E731
    half = rotated(x, velocity(x, t), t / 2)
    torch.testing.assert_close(half, diffused(point, t / 2, eps))
    torch.testing.assert_close(rotated(half, velocity(half, t / 2), t / 2), point)


def test_quantiles_of_the_laws_of_times():
    u = torch.linspace(0.0005, 0.9995, 1000, dtype=F64)
    log = LogNormal(-0.8, 1.6, scale=3.0)(u) / 3.0
    assert float(log.log().mean()) == pytest.approx(-0.8, abs=1e-9)  # symmetric
    assert float(log.log().std()) == pytest.approx(1.6, abs=0.01)
    s = ShiftedUniform(5.0)(u)
    torch.testing.assert_close(s / (1 + s), 5 * u / (1 + 4 * u))


@pytest.mark.parametrize("law", [LogNormal(0.3, 1.1, 0.5), ShiftedUniform(5.0, 0.5)])
def test_a_law_between_two_levels_is_the_law_there(law):
    u = torch.linspace(1e-4, 1 - 1e-4, 20001, dtype=F64)
    whole = law(u)
    inside = whole[(whole > 0.2) & (whole < 4.0)]
    cut = law(u, 0.2, 4.0)
    assert 0.2 < cut.min() < 0.201
    assert 3.98 < cut.max() < 4.0
    for share in (0.25, 0.5, 0.75):
        assert float(cut.quantile(share)) == pytest.approx(float(inside.quantile(share)), rel=2e-3)


def test_only_the_last_call_of_a_rollout_has_a_gradient():
    weight = torch.tensor([0.7, -0.4], dtype=F64, requires_grad=True)
    velocity = lambda x, t, cond=None: torch.tanh(x * weight) + t[:, None]  # noqa: E731
    noise, times = normal(5, 3, 2), torch.stack([torch.full((5,), PURE, dtype=F64), *normal(2, 5).abs()])
    times = times.cummin(0).values
    (made,) = torch.autograd.grad(rollout(velocity, noise, times).square().sum(), weight)
    with torch.no_grad():
        x0 = rollout(velocity, noise, times[:2])
    x = diffused(x0, times[2], noise[:, 2])
    (expected,) = torch.autograd.grad(rotated(x, velocity(x, times[2]), times[2]).square().sum(), weight)
    assert torch.equal(made, expected)


def test_a_rollout_may_stay_at_its_time_and_begin_at_pure_noise():
    law = mixture("ring8")
    times = torch.tensor([PURE, 1.0, 1.0, 1.0], dtype=F64)[:, None].expand(-1, 6)
    x = rollout(velocity_of(law, law.data_std), normal(6, 4, 2).float(), times)
    assert x.isfinite().all()
    with torch.no_grad():
        assert torch.equal(x, rollout(velocity_of(law, law.data_std), normal(6, 4, 2).float(), times))


def test_levels_of_few_steps_are_the_angles_of_the_paper():
    assert few_levels(4, 0.5) == pytest.approx([40.0, *(0.5 * math.tan(t) for t in (1.3, 1.0, 0.6))])
    assert few_levels(1, 2.0, sigma_max=1600.0) == [3200.0]
    assert few_levels(2, 1.0, middle=(1.1,))[1] == pytest.approx(math.tan(1.1))
    with pytest.raises(ConfigError, match="5 steps need 4 angles"):
        few_levels(5, 1.0)
