"""Critics: losses by quadrature, the penalty on slopes, who gets a gradient, and what critics look at."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.diffusion.adversary import (
    Adversary,
    FeatureCritic,
    PixelCritic,
    critic_loss,
    frozen,
    generator_loss,
    r1_penalty,
)
from limbeck.diffusion.gdd import ProjectedCritic
from limbeck.diffusion.matching import Levels
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.sources import Draws
from limbeck.errors import ConfigError


class Linear(nn.Module):
    """l = a . x; keeps the noise levels and pictures it was shown."""

    def __init__(self, slope: Tensor) -> None:
        super().__init__()
        self.slope, self.seen = nn.Parameter(slope), []

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        self.seen.append((x, sigma, cond))
        return (x * self.slope).sum(1, keepdim=True)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_best_critic_of_two_gaussians_pays_what_jsd_says() -> None:
    """L_D = 2 log 2 - 2 JSD at l = log p/q, both by sums over many places."""
    p, q = torch.distributions.Normal(0.0, 1.0), torch.distributions.Normal(1.5, 0.7)
    share = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    ratio = [(p.log_prob(x) - q.log_prob(x))[:, None] for x in (p.icdf(share), q.icdf(share))]
    x = torch.linspace(-12, 12, 40_001, dtype=torch.float64)
    one, other = p.log_prob(x).exp(), q.log_prob(x).exp()
    middle = ((one + other) / 2).log()
    kl = [torch.trapezoid(torch.xlogy(a, a) - a * middle, x) for a in (one, other)]
    wanted = 2 * math.log(2) - sum(kl)
    assert 0.3 < wanted < 1.2
    torch.testing.assert_close(critic_loss(*ratio), wanted, rtol=1e-4, atol=0)
    for wrong in (0.9, 1.1):
        assert critic_loss(*(wrong * one for one in ratio)) > wanted


def test_hinge_by_hand() -> None:
    real, fake = torch.tensor([[2.0, 0.5], [0.0, -1.0]]), torch.tensor([[-3.0, 0.5], [0.0, -0.5]])
    assert generator_loss(fake, "hinge").item() == 1.5
    assert critic_loss(real, fake, "hinge").item() == (0 + 1) / 2 + (0.5 + 2) / 2 + (0 + 1) / 2 + (1.5 + 0.5) / 2


def test_penalty_of_a_linear_critic() -> None:
    slope = torch.tensor([1.0, -2.0, 3.0])
    x = normal(7, 3).requires_grad_()
    assert r1_penalty(Linear(slope)(x, x), x, 0.3).item() == pytest.approx(0.15 * 14)


@pytest.mark.parametrize("every", [1, 4])
def test_lazy_penalty_keeps_its_average_over_time(every: int) -> None:
    adversary = Adversary(Linear(torch.tensor([1.0, 2.0])), r1=0.3, r1_every=every)
    free = Adversary(Linear(torch.tensor([1.0, 2.0])))
    real, x = normal(5, 2), normal(5, 2, seed=1)

    def losses(one: Adversary) -> Tensor:
        return torch.stack([one.loss_of_critic(x, real, None, Draws(0, step), step) for step in range(1, 9)])

    extra = (losses(adversary) - losses(free)).detach()
    assert extra.mean().item() == pytest.approx(0.15 * 5, rel=1e-5)
    assert (extra.abs() > 1e-6).sum() == 8 // every
    first = adversary.loss_of_critic(x, real, None, Draws(0, 0), 0) - free.loss_of_critic(x, real, None, Draws(0, 0), 0)
    assert first.item() == pytest.approx(0.75 if every == 1 else 0.0)


def test_neither_side_gives_the_other_a_gradient() -> None:
    critic, made = PixelCritic([3], 0, 8), nn.Linear(2, 3)
    adversary, x = Adversary(critic), made(normal(4, 2))
    adversary.student_loss(x, None, Draws(0, 0)).backward()
    assert made.weight.grad is not None and made.weight.grad.abs().sum() > 0
    assert all(one.grad is None and one.requires_grad for one in critic.parameters())
    made.zero_grad()
    adversary.loss_of_critic(made(normal(4, 2)), normal(4, 3), None, Draws(0, 0), 0).backward()
    assert made.weight.grad is None
    assert all(one.grad.abs().sum() > 0 for one in critic.parameters())


def test_frozen_leaves_what_was_frozen_before() -> None:
    critic = PixelCritic([2], 0, 4)
    critic.layers[0].requires_grad_(False)
    with frozen(critic):
        assert not any(one.requires_grad for one in critic.parameters())
    assert [one.requires_grad for one in critic.parameters()] == [False] * 2 + [True] * 4


def test_noise_levels_are_drawn_apart_for_real_and_made() -> None:
    """Pictures of 0 are shown as pure noise of the level that the critic is told."""
    critic = Linear(torch.ones(400))
    adversary, zero = Adversary(critic, levels=Levels(sigma_min=0.5, sigma_max=5.0)), torch.zeros(6, 400)
    adversary.loss_of_critic(zero, zero, None, Draws(0, 0), 0)
    adversary.student_loss(zero, None, Draws(0, 0))
    seen = [sigma for _, sigma, _ in critic.seen]
    assert len({tuple(one.tolist()) for one in seen}) == 3
    for x, sigma, _ in critic.seen:
        assert sigma.min() >= 0.5 and sigma.max() <= 5.0
        torch.testing.assert_close(x.std(1), sigma, rtol=0.15, atol=0)
    Adversary(critic).student_loss(zero + 3, None, Draws(0, 0))
    assert (critic.seen[-1][0] == 3).all() and (critic.seen[-1][1] == 0).all()


def test_a_pixel_critic_sees_the_class_and_no_class_is_none() -> None:
    critic, x = PixelCritic([2], 3, 8), normal(4, 2)
    logits = [critic(x, x[:, 0], torch.full((4,), k)) for k in range(4)]
    assert all(not a.equal(b) for k, a in enumerate(logits) for b in logits[:k])
    by_hand = critic.layers(torch.cat([x, torch.zeros(4, 3)], 1))
    assert logits[3].equal(by_hand)


PATHS = ["network.maps.0", "network.maps.1"]


def test_feature_heads_read_what_the_denoiser_sees() -> None:
    denoiser, x, sigma = Sizes(8, 2).build([2], 3), normal(5, 2), torch.rand(5) + 0.5
    critic = FeatureCritic(denoiser, PATHS, x, torch.zeros(5, dtype=torch.long))
    assert not any("denoiser" in name for name in critic.state_dict())
    logits = critic(x, sigma, torch.arange(5) % 3)
    assert logits.shape == (5, 2)
    seen: dict[str, Tensor] = {}
    hook = denoiser.network.maps[1].register_forward_hook(lambda module, inputs, output: seen.update(one=output))
    denoiser(x, sigma, torch.arange(5) % 3)
    hook.remove()
    torch.testing.assert_close(logits[:, 1:], critic.heads[1](seen["one"]))


class Convolution(nn.Module):
    """A "denoiser" with a feature of two channels."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Conv2d(1, 2, 3)

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None) -> Tensor:
        return self.inside(x)


def test_features_of_maps_are_averaged_over_places() -> None:
    denoiser, x = Convolution(), normal(3, 1, 8, 8)
    (feature,) = FeatureCritic(denoiser, ["inside"], x).features(x, torch.ones(3), None)
    torch.testing.assert_close(feature, denoiser.inside(x).mean((2, 3)))


def test_projected_heads_by_hand() -> None:
    """The first head sees the feature behind it through the mixing, the last one its own alone."""
    denoiser, x = Sizes(8, 2).build([2], 3, 0.7), normal(5, 2)
    critic, cond = ProjectedCritic(denoiser, PATHS, x, classes=3, level=0.2), torch.tensor([0, 1, 2, 3, 0])
    early, late = critic.features(x, torch.full((5,), 0.2), None)
    p, last, q = critic.across
    for one in (p, last, q):
        torch.testing.assert_close(one.T @ one, torch.eye(one.shape[1]), rtol=0, atol=1e-5)
    h1 = late @ last.T
    h0 = early @ p.T + h1 @ q.T
    wanted = [(critic.heads[k](h) * critic.labels[k](cond)).sum(1) / 8 for k, h in enumerate((h0, h1))]
    torch.testing.assert_close(critic(x, torch.zeros(5), cond), torch.stack(wanted, 1))
    torch.testing.assert_close(critic(x, torch.zeros(5), None)[3], critic(x, torch.zeros(5), cond)[3])
    assert critic(x, torch.zeros(5), cond).isfinite().all()  # a logarithmic clock at noise 0 would not be


def test_projections_and_features_never_learn() -> None:
    denoiser, x = Sizes(8, 2).build([2], 0, 0.7).requires_grad_(False), normal(6, 2)
    critic = ProjectedCritic(denoiser, PATHS, x)
    Adversary(critic).loss_of_critic(x, x + 1, None, Draws(0, 0), 0).backward()
    assert all(one.grad is None for one in critic.across) and all(one.grad is None for one in denoiser.parameters())
    learning = [*critic.heads.parameters(), *critic.labels.parameters()]
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in learning)
    assert {id(one) for one in critic.parameters() if one.requires_grad} == {id(one) for one in learning}


@pytest.mark.parametrize("wrong", [{"weight": -1}, {"r1": -0.1}, {"r1_every": 0}, {"critic_weight": -1}])
def test_settings_that_cannot_work(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="at least"):
        Adversary(PixelCritic([2]), **wrong)
