"""Directions, losses and noise levels of distribution matching: closed forms, and vectors of two reference programs."""

import math

import pytest
import torch
from torch import Tensor

from limbeck.diffusion.adversary import critic_loss, generator_loss
from limbeck.diffusion.denoisers import spread
from limbeck.diffusion.matching import Levels, fake_loss, matching_direction, noised, surrogate
from limbeck.errors import ConfigError


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gaussian(x: Tensor, sigma: Tensor, mu: float, s: float) -> Tensor:
    """Denoiser of N(mu, s^2) in every value."""
    level = spread(sigma, x)
    return (s**2 * x + level**2 * mu) / (s**2 + level**2)


def check_edm(case) -> None:
    x, eps, fake_eps = (tensor(case[name]) for name in ("x", "eps", "fake_eps"))
    grid = Levels().grid()
    there = noised(x, grid[case["timestep_index"]], eps, 0.5)
    real, fake = (gaussian(there.x, there.sigma, **case[who]) for who in ("real", "fake"))
    close(there.sigma, case["sigma"])
    close(there.x, case["noisy"])
    close(real, case["pred_real"])
    close(fake, case["pred_fake"])
    x.requires_grad_()
    g, empty = matching_direction(x, real, fake)
    close(g, case["grad"])
    assert empty == 0
    loss = surrogate(x, g)
    close(loss.detach(), case["loss_dm"])
    close(torch.autograd.grad(loss, x)[0], case["dloss_dx"])
    there = noised(x.detach(), grid[case["fake_timestep_index"]], fake_eps, 0.5)
    answer = gaussian(there.x, there.sigma, **case["fake"])
    close(answer, case["fake_x0_pred"])
    close(fake_loss(answer, there), case["loss_fake_mean"])


def check_gan(case) -> None:
    real, fake = tensor(case["real_logits"]), tensor(case["fake_logits"])
    close(generator_loss(fake), case["gen_cls_loss"])
    close(critic_loss(real, fake), case["guidance_cls_loss"])


def check_fastgen(case) -> None:
    """FastGen adds 1e-6 to the divisor where we would put a floor, and rounds it to float32."""
    x, real, fake = (tensor(case[name]) for name in ("gen", "teacher_x0", "fake_x0"))
    g, _ = matching_direction(x, real, fake)
    size = (x - real).abs().mean(1, keepdim=True)
    scale = 1.0 if case["additional_scale"] is None else tensor(case["additional_scale"])[:, None]
    x.requires_grad_()
    loss = surrogate(x, scale * g * size / (size + 1e-6))
    close(loss.detach(), case["loss"], 1e-6)
    close(torch.autograd.grad(loss, x)[0], case["dloss_dgen"], 1e-6)


def close(ours: Tensor, theirs, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(ours, tensor(theirs), rtol=rtol, atol=1e-14)


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections) -> None:
    data = parity("dmd-base")
    every = Levels().grid()
    checks = {
        "karras_sigmas_idx": lambda index: close(every[index], data["karras_sigmas"]),
        "karras_sigmas": lambda values: None,
        "edm_cases": lambda cases: [check_edm(case) for case in cases],
        "gan": check_gan,
        "fastgen_vsd_cases": lambda cases: [check_fastgen(case) for case in cases],
    }
    assert set(checks) < set(data)
    walk_sections(data, checks, ignore=["_about"])


def test_the_gradient_of_the_surrogate_is_the_direction_and_reaches_nothing_else() -> None:
    random = torch.Generator().manual_seed(0)
    x, real, fake = (torch.randn(5, 3, 2, generator=random, dtype=torch.float64).requires_grad_() for _ in range(3))
    g, _ = matching_direction(x, real, fake)
    surrogate(x, g).backward()
    assert not g.requires_grad and real.grad is None and fake.grad is None
    torch.testing.assert_close(x.grad, g / x.numel(), rtol=1e-12, atol=1e-15)
    by_hand = (fake - real)[2] / (x - real)[2].abs().mean()
    torch.testing.assert_close(g[2], by_hand.detach())


def test_equal_scores_push_nowhere() -> None:
    x, score = torch.randn(4, 7), torch.randn(4, 7)
    g, empty = matching_direction(x, score, score.clone())
    assert (g == 0).all() and empty == 0


def test_a_picture_equal_to_what_the_teacher_says_is_counted_and_not_moved_and_nan_is_not_hidden() -> None:
    x, fake = torch.ones(3, 2), torch.zeros(3, 2)
    real = torch.tensor([[1.0, 1.0], [2.0, 0.0], [math.nan, 0.0]])
    g, empty = matching_direction(x, real, fake)
    assert empty == 1
    assert g[:2].tolist() == [[0, 0], [-2, 0]]
    assert g[2].isnan().all()
    g, empty = matching_direction(x, real, fake, floor=4.0)
    assert empty == 0 and g[:2].tolist() == [[-0.25, -0.25], [-0.5, 0]]


@pytest.mark.parametrize("sigma", [0.05, 0.7, 20.0])
@pytest.mark.parametrize(("q", "s"), [(0.4, 0.9), (0.9, 0.4)])
def test_between_gaussians_the_push_is_the_difference_of_their_scores(sigma: float, q: float, s: float) -> None:
    m, mu = 0.8, -0.3
    nodes = tensor([-math.sqrt(3), 0.0, math.sqrt(3)])  # Gauss-Hermite for x_t ~ N(m, q^2 + sigma^2): exact to degree 5
    weights = tensor([1 / 6, 2 / 3, 1 / 6])
    x_t = (m + math.hypot(q, sigma) * nodes)[:, None]
    level = torch.full((3,), sigma, dtype=torch.float64)
    difference = (gaussian(x_t, level, m, q) - gaussian(x_t, level, mu, s))[:, 0] / sigma**2
    assert float(weights @ difference) == pytest.approx((m - mu) / (s**2 + sigma**2), rel=1e-12)
    # moving against it narrows a law that is too wide, and widens one that is too narrow
    assert math.copysign(1, float(weights @ (difference * (x_t[:, 0] - m)))) == math.copysign(1, q**2 - s**2)


def test_the_push_does_not_know_the_unit() -> None:
    random = torch.Generator().manual_seed(1)
    x, eps = (torch.randn(4, 3, generator=random, dtype=torch.float64) for _ in range(2))
    sigma = tensor([0.1, 0.5, 2.0, 30.0])

    def push(c: float) -> Tensor:
        there = noised(c * x, c * sigma, eps, 0.5 * c)
        real, fake = (gaussian(there.x, there.sigma, c * mu, c * s) for mu, s in ((0.3, 0.6), (-0.2, 0.9)))
        return matching_direction(c * x, real, fake)[0]

    torch.testing.assert_close(push(7.0), push(1.0), rtol=1e-12, atol=0)


def test_the_window_holds_both_of_its_ends_and_cuts() -> None:
    levels, u = Levels(low=0.02, high=0.98), torch.linspace(0, 1 - 1e-12, 4000, dtype=torch.float64)
    grid = Levels().grid()
    drawn = levels(u)
    assert drawn.unique().tolist() == grid[20:981].tolist()
    assert Levels()(u).unique().tolist() == grid.tolist()
    cut = levels(u, above=float(grid[500]), below=float(grid[510]))
    assert cut.unique().tolist() == grid[501:510].tolist()


@pytest.mark.parametrize(
    "wrong", [{"sigma_min": 0.0}, {"sigma_max": 0.001}, {"low": 0.5, "high": 0.5}, {"high": 1.1}, {"count": 1}]
)
def test_levels_that_cannot_be(wrong) -> None:
    with pytest.raises(ConfigError, match="must rise"):
        Levels(**wrong)


def test_a_window_with_nothing_left_says_so() -> None:
    with pytest.raises(ConfigError, match=r"no noise level .* between 80 and inf"):
        Levels()(torch.zeros(1), above=80.0)
