"""Samplers: reference vectors, orders, exact products, limits, what the network and the callback are given."""

import math
from itertools import pairwise

import pytest
import torch

from limbeck.diffusion import (
    DDPM,
    EDM,
    Cosine,
    RectifiedFlow,
    TrigFlow,
    between,
    ddim,
    euler,
    heun,
    karras,
    multistep,
)
from limbeck.errors import ConfigError

ALL = [EDM(), RectifiedFlow(), RectifiedFlow(shift=3.0), TrigFlow(), Cosine(), DDPM()]
each = pytest.mark.parametrize("one", ALL, ids=repr)


def unit(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gauss(std):
    """Exact denoiser of N(0, std^2)."""

    def denoise(x, sigma, cond=None):
        return x * (std**2 / (std**2 + sigma**2))[:, None]

    return denoise


def point(x, sigma, cond=None):
    return torch.full_like(x, 0.7)


def bent(x, sigma, cond=None):
    s = sigma[:, None]
    return (0.25 * x + 0.4 * s**2) / (0.25 + s**2) + 0.1 * torch.tanh(x) / (1 + s**2)


# ---- reference vectors -------------------------------------------------------------------------------


def test_heun_equals_the_reference(parity, walk_sections):
    data = parity("progressive-and-samplers")
    z = torch.tensor(data["z"], dtype=torch.float64)

    def close(out, expected):
        torch.testing.assert_close(out, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=0)

    def churned(section):
        noise = [torch.tensor(one, dtype=torch.float64) for one in section["noise"]]
        window = {"s_min": section["S_min"], "s_max": section["S_max"], "s_noise": section["S_noise"]}
        close(heun(bent, z, karras(5), churn=section["S_churn"], draws=noise, **window), section["out"])

    walk_sections(
        data,
        {
            "heun_2": lambda expected: close(heun(bent, z, karras(2)), expected),
            "heun_5": lambda expected: close(heun(bent, z, karras(5)), expected),
            "heun_18": lambda expected: close(heun(bent, z, karras()), expected),
            "heun_5_rho3_smax20": lambda expected: close(heun(bent, z, karras(5, 0.01, 20.0, 3.0)), expected),
            "heun_5_churn": churned,
        },
        ignore=["z", "denoiser", "_meta"],
    )


# ---- grids -------------------------------------------------------------------------------------------


def test_karras_is_the_formula():
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    assert karras().tolist() == pytest.approx([*expected, 0.0], rel=1e-12)
    assert karras(1, sigma_max=3.0).tolist() == pytest.approx([3.0, 0.0])
    with pytest.raises(ConfigError, match="at least 1 step, got 0"):
        karras(0)


# ---- orders and closed forms -------------------------------------------------------------------------


@pytest.mark.parametrize(("sampler", "low", "high"), [(heun, 1.8, 2.2), (euler, 0.9, 1.1)])
def test_orders(sampler, low, high):
    """Exact end of the flow of N(0, s^2) from sigma_max to 0: x s / sqrt(s^2 + sigma_max^2)."""
    std, noise = 0.5, torch.ones(1, 1, dtype=torch.float64)
    exact = 80 * std / math.hypot(std, 80)
    steps = [64, 128, 256]
    errors = [abs(sampler(gauss(std), noise, karras(n)).item() - exact) for n in steps]
    slopes = [math.log2(more / less) for more, less in pairwise(errors)]
    assert all(low < slope < high for slope in slopes), slopes


@pytest.mark.parametrize("std", [0.3, 1.0, 2.0])
def test_ddim_on_trigflow_is_a_product(std):
    times = torch.linspace(1.5, 0.0, 9, dtype=torch.float64)
    x = unit(4, 2)
    product = 1.0
    for t, s in pairwise(times.tolist()):
        d, variance = t - s, std**2 * math.cos(t) ** 2 + math.sin(t) ** 2
        product *= math.cos(d) - math.sin(d) * math.cos(t) * math.sin(t) * (1 - std**2) / variance
    torch.testing.assert_close(ddim(gauss(std), x, TrigFlow(), times), product * x, rtol=1e-12, atol=0)


def test_the_product_tends_to_the_ratio_of_standard_deviations():
    std, t, x = 0.3, 1.5, torch.ones(1, 1, dtype=torch.float64)
    exact = std / math.sqrt(std**2 * math.cos(t) ** 2 + math.sin(t) ** 2)
    errors = [abs(ddim(gauss(std), x, TrigFlow(), torch.linspace(t, 0, n + 1)).item() - exact) for n in (100, 200, 400)]
    assert errors[2] < 2e-3
    assert [more / less for more, less in pairwise(errors)] == pytest.approx([2, 2], rel=0.1)


@each
def test_ddim_is_euler_in_noise_levels(one):
    sigmas = torch.tensor([20.0, 5.0, 1.0, 0.3, 0.02], dtype=torch.float64)
    times, z = one.time(sigmas), unit(3, 2)
    along = ddim(bent, one.a(times[0]) * 20 * z, one, times) / one.a(times[-1])
    torch.testing.assert_close(along, euler(bent, z, sigmas), rtol=1e-9, atol=1e-12)


def test_ddim_on_trigflow_is_a_rotation_by_v():
    t, s, x = 1.1, 0.4, unit(3, 2)
    x0 = bent(x / math.cos(t), torch.full((3,), math.tan(t), dtype=torch.float64))
    v = math.cos(t) * (x - math.cos(t) * x0) / math.sin(t) - math.sin(t) * x0
    expected = math.cos(t - s) * x - math.sin(t - s) * v
    torch.testing.assert_close(ddim(bent, x, TrigFlow(), torch.tensor([t, s], dtype=torch.float64)), expected)


# ---- stochastic samplers -----------------------------------------------------------------------------


def test_ancestral_ddim_has_the_variance_of_the_paper():
    """c^2 = eta^2 (b_s^2 / b_t^2) (1 - a_t^2 / a_s^2) where a^2 + b^2 = 1."""
    t, s = torch.tensor([700.0, 400.0], dtype=torch.float64)
    x, noise, eta = unit(3, 2), unit(3, 2, seed=1), 0.6
    (a, a_s), (b, b_s) = ((one(t).item(), one(s).item()) for one in (DDPM().a, DDPM().b))
    c = eta * b_s / b * math.sqrt(1 - a**2 / a_s**2)
    x0 = bent(x / a, torch.full((3,), b / a, dtype=torch.float64))
    expected = a_s * x0 + math.sqrt(b_s**2 - c**2) * (x - a * x0) / b + c * noise
    out = ddim(bent, x, DDPM(), torch.stack([t, s]), eta=eta, draws=[noise])
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=0)


@each
def test_ancestral_steps_keep_the_law_of_a_point_mass(one):
    """Data at one point: x_t = a p + b eps whatever eta, so after a step the noise has standard deviation b_s.

    20,000 numbers: standard error of a standard deviation .005 of it, bound 4 of them.
    """
    times = one.time(torch.tensor([3.0, 1.0], dtype=torch.float64))
    a, b = one.a(times).tolist(), one.b(times).tolist()
    x = a[0] * 0.7 + b[0] * unit(20_000, 1)
    out = ddim(point, x, one, times, eta=1.0, draws=torch.Generator().manual_seed(5))
    assert ((out - a[1] * 0.7) / b[1]).std().item() == pytest.approx(1.0, abs=0.02)
    forward = between(one, times[1], times[0])[1].item()
    fresh = out - ddim(point, x, one, times)
    assert fresh.std().item() > 0.3 * forward * b[1] / b[0]


def test_multistep_renoises_with_the_shares_of_the_schedule():
    times = torch.tensor([1.5, 0.8, 0.2], dtype=torch.float64)
    z, first, second = (unit(3, 2, seed=seed) for seed in range(3))

    def ask(x, t):
        return bent(x / math.cos(t), torch.full((3,), math.tan(t), dtype=torch.float64))

    x0 = ask(math.sin(1.5) * z, 1.5)
    x0 = ask(math.cos(0.8) * x0 + math.sin(0.8) * first, 0.8)
    x0 = ask(math.cos(0.2) * x0 + math.sin(0.2) * second, 0.2)
    out = multistep(bent, z, TrigFlow(), times, draws=[first, second])
    torch.testing.assert_close(out, x0, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("churn", "raised"), [(0.3, 1.3), (1000.0, math.sqrt(2))])
def test_churn_adds_the_noise_that_the_level_needs(churn, raised):
    """A point mass: after the noise of churn x - p has the standard deviation of the raised level."""
    seen, levels = [], torch.tensor([4.0, 2.0], dtype=torch.float64)
    draws = torch.Generator().manual_seed(1)
    heun(lambda x, sigma, cond: 0 * x, unit(20_000, 1), levels, churn=churn, draws=draws, callback=seen.append)
    assert seen[0]["sigma"] == pytest.approx(4.0 * raised)
    assert (seen[0]["x"].std() / seen[0]["sigma"]).item() == pytest.approx(1.0, abs=0.02)


def test_the_same_generator_gives_the_same_pictures_and_none_is_refused():
    def draw(seed):
        return torch.Generator().manual_seed(seed)

    z, times = unit(3, 2), torch.tensor([800.0, 300.0, 10.0], dtype=torch.float64)
    ways = [
        lambda draws: heun(bent, z, karras(4), churn=2.0, draws=draws),
        lambda draws: ddim(bent, z, DDPM(), times, eta=0.5, draws=draws),
        lambda draws: multistep(bent, z, DDPM(), times, draws=draws),
    ]
    for way in ways:
        assert torch.equal(way(draw(0)), way(draw(0)))
        assert not torch.equal(way(draw(0)), way(draw(1)))
        with pytest.raises(ConfigError, match="give draws"):
            way(None)


# ---- limits ------------------------------------------------------------------------------------------


@each
def test_a_point_mass_in_one_step(one):
    z, clean = unit(3, 2), -1.0 if isinstance(one, DDPM) else 0.0
    top = torch.tensor([one.largest, clean], dtype=torch.float64)
    target = torch.full((3, 2), 0.7, dtype=torch.float64)
    for eta in (0.0, 1.0):
        out = ddim(point, one.b(top[0]) * z, one, top, eta=eta, draws=[z])
        torch.testing.assert_close(out, target, rtol=1e-13, atol=0)
    assert torch.equal(multistep(point, z, one, top[:1]), target)
    assert torch.equal(heun(point, z, karras(1)), target) and torch.equal(euler(point, z, karras(1)), target)


@each
def test_two_half_steps_on_a_point_mass_are_one(one):
    t, m, s = one.time(torch.tensor([5.0, 2.0, 0.5], dtype=torch.float64))
    x = unit(3, 2)
    whole, halves = ddim(point, x, one, torch.stack([t, s])), ddim(point, x, one, torch.stack([t, m, s]))
    torch.testing.assert_close(halves, whole, rtol=1e-12, atol=1e-13)


def test_without_eta_and_churn_the_noise_changes_nothing():
    z = unit(3, 2)
    times = torch.tensor([800.0, 300.0, -1.0], dtype=torch.float64)
    draws = torch.Generator().manual_seed(0)
    assert torch.equal(ddim(bent, z, DDPM(), times, draws=draws), ddim(bent, z, DDPM(), times))
    assert torch.equal(heun(bent, z, karras(4), draws=draws), heun(bent, z, karras(4)))


def test_pure_noise_is_a_place_to_begin():
    """A flow begins at t = 1, where sigma = b / a is infinite; the answer is that of a very high level."""
    z, times = unit(3, 2), torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    nearly = torch.tensor([1.0 - 1e-9, 0.5, 0.0], dtype=torch.float64)
    out = ddim(gauss(1.0), z, RectifiedFlow(), times)
    assert bool(out.isfinite().all())
    torch.testing.assert_close(out, ddim(gauss(1.0), z, RectifiedFlow(), nearly), rtol=1e-6, atol=0)


# ---- what the network sees ---------------------------------------------------------------------------


def test_calls_and_callback():
    z, seen = unit(3, 2), []
    calls = 0

    def counted(x, sigma, cond):
        nonlocal calls
        calls += 1
        assert cond.tolist() == [1, 2, 3] and sigma.shape == (3,)
        return bent(x, sigma)

    cond = torch.tensor([1, 2, 3])
    heun(counted, z, karras(5), cond, callback=seen.append)
    assert calls == 9 and [one["calls"] for one in seen] == [2, 4, 6, 8, 9]
    assert [one["step"] for one in seen] == [0, 1, 2, 3, 4]
    assert [one["sigma"] for one in seen] == karras(5)[:-1].tolist()
    torch.testing.assert_close(seen[0]["x"], 80 * z)
    torch.testing.assert_close(seen[2]["x0"], bent(seen[2]["x"], torch.full((3,), seen[2]["sigma"]).double()))
    times = torch.tensor([1.5, 0.8, 0.1], dtype=torch.float64)
    for way, count in (
        (lambda tell: euler(counted, z, karras(5), cond, callback=tell), 5),
        (lambda tell: ddim(counted, z, TrigFlow(), times, cond, callback=tell), 2),
        (lambda tell: multistep(counted, z, TrigFlow(), times, cond, draws=[z, z], callback=tell), 3),
    ):
        seen.clear()
        way(seen.append)
        assert [one["calls"] for one in seen] == list(range(1, count + 1))
        assert all(
            torch.equal(one["x0"], bent(one["x"], torch.full((3,), one["sigma"], dtype=torch.float64))) for one in seen
        )


def test_the_state_is_float64_and_the_network_sees_the_dtype_of_the_noise():
    types = set()

    def float_only(x, sigma, cond=None):
        types.update({x.dtype, sigma.dtype})
        return bent(x.double(), sigma.double()).to(x.dtype)

    z, times, states = unit(3, 2), torch.tensor([900.0, 100.0], dtype=torch.float64), []
    for sample in (
        lambda noise: heun(float_only, noise, karras(18), callback=states.append),
        lambda noise: euler(float_only, noise, karras(18), callback=states.append),
        lambda noise: ddim(float_only, noise, DDPM(), times, callback=states.append),
        lambda noise: multistep(float_only, noise, DDPM(), times, draws=[z], callback=states.append),
    ):
        types.clear()
        out = sample(z.float())
        assert out.dtype == torch.float32 and types == {torch.float32}
        torch.testing.assert_close(out.double(), sample(z.float().double()), rtol=1e-5, atol=1e-6)
    assert {one["x"].dtype for one in states} == {one["x0"].dtype for one in states} == {torch.float64}


def test_no_gradients():
    weight, z, times = torch.ones((), requires_grad=True), torch.ones(1, 1), torch.tensor([2.0, 1.0])

    def learning(x, sigma, cond):
        return weight * x

    outs = [heun(learning, z, karras(2)), euler(learning, z, karras(2)), ddim(learning, z, EDM(), times)]
    outs.append(multistep(learning, z, EDM(), times, draws=[z]))
    assert not any(out.requires_grad for out in outs)


def test_a_generator_is_read_in_the_dtype_of_the_noise():
    z, times, draw = unit(3, 2).float(), torch.tensor([2.0, 1.0]), torch.Generator().manual_seed(3)
    expected = multistep(bent, z, EDM(), times, draws=[torch.randn(3, 2, generator=draw)])
    assert torch.equal(multistep(bent, z, EDM(), times, draws=torch.Generator().manual_seed(3)), expected)
