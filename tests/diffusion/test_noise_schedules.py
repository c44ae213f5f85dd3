"""Schedules: inverses, derivatives, ends, the Markov step between two times, moving a network."""

import math

import pytest
import torch

from limbeck.diffusion import DDPM, EDM, Cosine, RectifiedFlow, TrigFlow, between
from limbeck.errors import ConfigError

ALL = [EDM(), RectifiedFlow(), RectifiedFlow(shift=3.0), TrigFlow(), Cosine(), DDPM()]
each = pytest.mark.parametrize("one", ALL, ids=repr)


def inner(one, count=9):
    share = torch.linspace(0.05, 0.95, count, dtype=torch.float64)
    return one.smallest + (one.largest - one.smallest) * share


@each
def test_time_inverts_sigma(one):
    t = inner(one)
    torch.testing.assert_close(one.time(one.sigma(t)), t, rtol=1e-11, atol=0)
    ends = torch.tensor([one.smallest, one.largest], dtype=torch.float64)
    torch.testing.assert_close(one.time(one.sigma(ends)), ends, rtol=1e-12, atol=0)


@each
def test_derivatives_are_slopes_even_without_gradients(one):
    t, h = inner(one), 1e-6 * one.largest
    with torch.no_grad():
        da, db = one.da(t), one.db(t)
    torch.testing.assert_close(da, (one.a(t + h) - one.a(t - h)) / (2 * h), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(db, (one.b(t + h) - one.b(t - h)) / (2 * h), rtol=1e-6, atol=1e-9)


@each
def test_a_falls_and_b_rises_and_the_angle_is_that_of_trigflow(one):
    t = inner(one)
    assert bool((one.a(t).diff() <= 0).all()) and bool((one.b(t).diff() > 0).all())
    torch.testing.assert_close(one.angle(t), TrigFlow().time(one.sigma(t)), rtol=1e-13, atol=0)


def test_values_of_the_table():
    t = torch.tensor([0.25], dtype=torch.float64)
    assert (EDM().a(t).item(), EDM().b(t).item()) == (1.0, 0.25)
    assert (RectifiedFlow().a(t).item(), RectifiedFlow().b(t).item()) == (0.75, 0.25)
    assert RectifiedFlow(shift=3.0).b(t).item() == pytest.approx(3 * 0.25 / (1 + 2 * 0.25), rel=1e-15)
    assert RectifiedFlow(shift=3.0).a(t).item() == pytest.approx(0.5, rel=1e-15)
    assert TrigFlow().b(t).item() == pytest.approx(math.sin(0.25), rel=1e-15)
    assert Cosine().a(t).item() == pytest.approx(math.cos(math.pi / 8), rel=1e-15)


def test_ddpm_is_exact_on_the_grid_and_linear_in_log_snr_between():
    one = DDPM()
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    abar = (1 - betas).cumprod(0)
    n = torch.arange(1000, dtype=torch.float64)
    torch.testing.assert_close(one.a(n), abar.sqrt(), rtol=1e-13, atol=0)
    torch.testing.assert_close(one.b(n), (1 - abar).sqrt(), rtol=1e-11, atol=0)
    log_snr = -2 * one.sigma(torch.tensor([500.0, 500.25, 501.0], dtype=torch.float64)).log()
    assert log_snr[1].item() == pytest.approx((0.75 * log_snr[0] + 0.25 * log_snr[2]).item(), rel=1e-13)
    torch.testing.assert_close(one.time(one.sigma(n)), n, rtol=0, atol=1e-8)


def test_before_the_first_step_of_ddpm_is_the_clean_picture():
    before = torch.tensor([-1.0], dtype=torch.float64)
    assert (DDPM().a(before).item(), DDPM().b(before).item()) == (1.0, 0.0)


@pytest.mark.parametrize("abar", [(0.9,), (0.5, 0.6), (0.9, 0.5, 0.0), (1.0, 0.5)])
def test_an_impossible_ddpm_is_refused(abar):
    with pytest.raises(ConfigError, match="fall from below 1 to above 0"):
        DDPM(abar)


def test_a_level_out_of_reach_names_it_and_the_reach():
    with pytest.raises(ConfigError, match=r"from 0\.002 to 80, got 1 to 100"):
        EDM().time(torch.tensor([1.0, 100.0]))
    with pytest.raises(ConfigError, match=r"from 0\.0100005 to 157\.407, got 0\.001"):
        DDPM().time(torch.tensor([0.001]))
    with pytest.raises(ConfigError, match="nan"):
        TrigFlow().time(torch.tensor([math.nan]))


def test_ends_written_in_float32_are_within_reach():
    reach = DDPM().sigma(torch.tensor([0.0, 999.0], dtype=torch.float64))
    for factor in (1 - 6e-8, 1 + 6e-8):
        t = DDPM().time(reach * factor)
        torch.testing.assert_close(t, torch.tensor([0.0, 999.0]).double(), rtol=0, atol=1e-3)
        torch.testing.assert_close(DDPM().sigma(t), reach * factor, rtol=1e-12, atol=0)


@each
def test_two_steps_of_noising_are_one(one):
    r, s, t = inner(one, 3)
    (first, one_noise), (second, two_noise), (both, noise) = (between(one, *pair) for pair in ((r, s), (s, t), (r, t)))
    assert (first * second).item() == pytest.approx(both.item(), rel=1e-13)
    assert torch.hypot(second * one_noise, two_noise).item() == pytest.approx(noise.item(), rel=1e-12)
    assert both.item() == pytest.approx((one.a(t) / one.a(r)).item())
    variance = both**2 * one.b(r) ** 2 + noise**2
    assert variance.sqrt().item() == pytest.approx(one.b(t).item(), rel=1e-13)
    assert between(one, t, t)[1].item() == pytest.approx(0.0, abs=1e-6 * one.largest)


def test_between_of_a_flow_has_the_closed_form():
    s, t = torch.tensor([0.2, 0.6], dtype=torch.float64)
    alpha, sigma = between(RectifiedFlow(), s, t)
    assert alpha.item() == pytest.approx(0.5, rel=1e-15)
    assert sigma.item() == pytest.approx(math.sqrt(0.35), rel=1e-14)


@pytest.mark.parametrize("other", ALL, ids=repr)
@each
def test_a_state_moves_between_schedules_by_one_factor(one, other):
    """x_s = k x_t with k = sqrt((a_s^2 + b_s^2) / (a_t^2 + b_t^2)) at equal noise-to-signal ratio."""
    s = inner(one)
    sigma = one.sigma(s)
    low, high = other.sigma(torch.tensor([other.smallest, other.largest], dtype=torch.float64))
    s, sigma = s[(sigma >= low) & (sigma <= high)], sigma[(sigma >= low) & (sigma <= high)]
    assert len(s) > 1
    t = other.time(sigma)
    k = torch.hypot(one.a(s), one.b(s)) / torch.hypot(other.a(t), other.b(t))
    torch.testing.assert_close(k * other.a(t), one.a(s), rtol=1e-10, atol=0)
    torch.testing.assert_close(k * other.b(t), one.b(s), rtol=1e-10, atol=0)


def test_flow_time_of_an_angle():
    t = torch.tensor([0.3, 1.2], dtype=torch.float64)
    torch.testing.assert_close(RectifiedFlow().time(t.tan()), t.tan() / (1 + t.tan()), rtol=1e-14, atol=0)
