"""Random guidance: one scale for two scores, its gradient, and a distillation with an adapter."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from small_distillation import CLASSES, network
from torch import Tensor, nn

from limbeck.diffusion.denoisers import Denoiser, guided
from limbeck.diffusion.game import Scene
from limbeck.diffusion.matching import Levels, noised, surrogate
from limbeck.diffusion.random_guidance import (
    Adapter,
    ClampedSimilarity,
    RandomGuidance,
    UniformTime,
    noise_loss,
)  # fmt: skip
from limbeck.diffusion.schedules import DDPM
from limbeck.diffusion.sources import Draws
from limbeck.diffusion.students import one_network
from limbeck.diffusion.training import Regime, distill
from limbeck.errors import ConfigError

NULL, COUNT = 2, 512


def teller(scale: float) -> Denoiser:
    """It answers with a multiple of x for each class, "no class" included."""
    return lambda x, sigma, cond: scale * x * (cond + 1.0)[:, None]  # type: ignore[index, operator]


def scene(real: Denoiser, fake: Denoiser | None, step: int = 0, **changes: Any) -> Scene:
    x, cond = CLASSES.draw(Draws(0, step), COUNT)
    return replace(Scene(Draws(1, step), step, cond, real, fake, 0.3), x=x, **changes)


@pytest.mark.parametrize("low", [0.5, 1.0, 4.0])
def test_nothing_pushes_where_both_scores_agree(low: float) -> None:
    g, said = RandomGuidance(NULL, low, 4.0)(scene(teller(0.5), teller(0.5)))
    assert g.abs().max() == 0
    assert low <= said["guidance"] <= 4.0


def test_two_scales_would_push_where_both_scores_agree() -> None:
    push, here = RandomGuidance(NULL), scene(teller(0.5), teller(0.5))
    there, cond = here.noised("match", push.levels), here.cond
    assert cond is not None
    one, other = (push.at(here.real, there, cond, torch.full((COUNT,), k)) for k in (1.0, 3.0))
    assert (one - other).abs().mean() > 0.1


def test_one_scale_for_each_picture_and_for_both_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    plain = RandomGuidance.at
    monkeypatch.setattr(RandomGuidance, "at", lambda self, *args: (seen.append(args[-1]), plain(self, *args))[1])
    for step in range(4):
        RandomGuidance(NULL)(scene(teller(0.5), teller(0.4), step))
    assert len(seen) == 8
    assert all(real is fake for real, fake in zip(seen[::2], seen[1::2], strict=True))
    k = torch.cat(seen[::2])
    assert len(k.unique()) == 4 * COUNT
    assert 0.5 <= k.min() < 0.52
    assert 3.98 < k.max() < 4.0
    assert abs(k.mean() - 2.25) < 3 * 3.5 / (12 * len(k)) ** 0.5


@pytest.mark.parametrize("k", [1.0, 4.5])
def test_one_fixed_scale_is_swiftbrush(k: float) -> None:
    """g = b^2 (eps_real - eps_fake), each guided by k, at x_t = a x0 + b eps; 1 is the class alone."""
    here = scene(teller(0.5), teller(0.3))
    push = RandomGuidance(NULL, k, k)
    there = here.noised("match", push.levels)
    sigma = there.sigma[:, None].double()
    b = sigma / (1 + sigma**2).sqrt()
    both = [(there.x - guided(teller(scale), k, NULL)(there.x, there.sigma, here.cond)) / sigma for scale in (0.5, 0.3)]
    torch.testing.assert_close(push(here)[0].double(), b**2 * (both[0] - both[1]), rtol=1e-5, atol=1e-6)


def test_gradient_of_the_picture() -> None:
    here = scene(teller(0.5), teller(0.3))
    g, _ = RandomGuidance(NULL)(here)
    x = here.x.double().requires_grad_()
    surrogate(x, g.double()).backward()
    target, step = (x - g).detach(), torch.zeros_like(x)
    step[3, 1] = 1e-4
    up, down = ((x + side * step - target).square().mean() / 2 for side in (1, -1))
    assert x.grad is not None
    torch.testing.assert_close(x.grad, g.double() / g.numel())
    assert x.grad[3, 1].item() == pytest.approx((up - down).item() / 2e-4, rel=1e-4)


def test_levels_are_those_of_uniform_times() -> None:
    schedule = DDPM()
    n = torch.tensor([100.0, 500.0], dtype=torch.float64)
    u = (n / 999 - 0.02) / 0.96
    bar = torch.tensor(schedule.alphas_cumprod, dtype=torch.float64)[[100, 500]]
    torch.testing.assert_close(UniformTime()(u), ((1 - bar) / bar).sqrt(), rtol=1e-5, atol=0)


def test_loss_of_the_noise() -> None:
    x, eps, sigma = torch.ones(2, 3), torch.full((2, 3), 0.5), torch.tensor([0.5, 2.0])
    there = noised(x, sigma, eps, 0.5)
    answer = there.x - sigma[:, None] * 0.1  # it says eps = 0.1
    assert float(noise_loss(answer, there)) == pytest.approx(0.4**2 * (1 / 1.25 + 1 / 5) / 2, rel=1e-5)


def test_classes_left_out_one_coin_a_picture() -> None:
    here = scene(teller(0.5), teller(0.5))
    told = RandomGuidance(NULL).told(here)
    gone = told == NULL
    assert 0.06 < gone.float().mean() < 0.14
    assert here.cond is not None
    assert torch.equal(told[~gone], here.cond[~gone])
    assert torch.equal(RandomGuidance(NULL, dropout=0.0).told(here), here.cond)
    sets = RandomGuidance(NULL).told(replace(here, cond=torch.stack([here.cond, 1 - here.cond], 1)))
    assert torch.equal(sets[:, 0], told) and torch.equal((sets == NULL).all(1), gone)  # a set is left out whole


class Spy(nn.Module):
    """A fake score that remembers the classes it was told while it learned."""

    def __init__(self, score: nn.Module) -> None:
        super().__init__()
        self.score, self.seen = score, list[Tensor]()

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Any:
        if torch.is_grad_enabled():
            self.seen.append(cond)
        return self.score(x, sigma, cond)


def trained(fake: nn.Module, updates: int = 4, **changes: Any) -> Any:
    push = RandomGuidance(NULL, levels=Levels(sigma_max=5.0))
    regime = Regime(updates=updates, batch=32, turns=1, lr=3e-3, fake_lr=5e-3, average=0.9)
    known = {"push": push, "denoising": noise_loss, "seed": 3, "progress": False} | changes
    return distill(one_network(network(classes=2), [2.5]), network(1, 2), CLASSES, regime=regime, fake=fake, **known)


def test_same_range_of_one_value_whatever_else_is_drawn() -> None:
    """k drawn from 2 to 2 trains step for step what a scale of 2, written by hand, trains."""

    def fixed(here: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        there = here.noised("match", Levels(sigma_max=5.0))
        with torch.no_grad():
            real, free = (here.real(there.x, there.sigma, one) for one in (here.cond, torch.full_like(here.cond, NULL)))  # type: ignore[arg-type]
            fake, none = (here.fake(there.x, there.sigma, one) for one in (here.cond, torch.full_like(here.cond, NULL)))  # type: ignore[arg-type, misc]
        weight = (there.sigma / (1 + there.sigma**2))[:, None]
        return weight * ((2 * fake - none) - (2 * real - free)), {}

    ours = RandomGuidance(NULL, 2.0, 2.0, Levels(sigma_max=5.0), dropout=0.0)
    one, other = (trained(network(2, 2), push=push).student.state_dict() for push in (ours, fixed))
    assert all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6) for name in one)
    begin = one_network(network(classes=2), [2.5]).state_dict()
    assert any((one[name] - begin[name]).abs().max() > 1e-3 for name in one)


def knowing() -> Any:
    """A network whose last layer is not 0, so that its maps have a gradient."""
    teacher: Any = network(1, 2)
    nn.init.normal_(teacher.network.out.weight, generator=torch.Generator().manual_seed(0))
    return teacher


def test_distillation_with_an_adapter() -> None:
    fake = Adapter(knowing(), ["maps.0"], rank=2, alpha=4)
    spy = Spy(fake)
    spy.requires_grad_ = lambda on=True: (fake.requires_grad_(on), spy)[1]  # type: ignore[method-assign]
    before = deepcopy(fake.state_dict())
    trained(spy)
    changed = {name for name, one in fake.state_dict().items() if not torch.equal(one, before[name])}
    assert changed
    assert all("lora_" in name for name in changed)
    told = torch.cat(spy.seen)
    assert len(told) == 4 * 32
    assert 0.02 < (told == NULL).float().mean() < 0.25


def test_adapter_begins_as_the_teacher() -> None:
    teacher = knowing()
    x, cond = torch.ones(2, 2), torch.tensor([0, 2])
    assert torch.equal(Adapter(teacher, ["maps.0"], 2, 4)(x, torch.ones(2), cond), teacher(x, torch.ones(2), cond))


def test_similarity_pulls_up_to_its_bound() -> None:
    here = scene(teller(0.5), None, data=torch.zeros(COUNT, 2))
    student = one_network(network(classes=2), [2.5])
    near = torch.tensor([0.1, 0.3, 0.9]).repeat(COUNT)[:COUNT]
    loss, said = ClampedSimilarity(lambda x, cond: near + 0 * x.sum(1))(student, here)
    expected = 0.1 * (0.37 - near).clamp(min=0).mean()
    assert loss.item() == pytest.approx(float(expected), rel=1e-5)
    assert float(said["similarity"]) == pytest.approx(float(near.mean()), rel=1e-5)


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="low must not be above high"):
        RandomGuidance(NULL, 4.0, 0.5)
    with pytest.raises(ConfigError, match="give a source with classes"):
        RandomGuidance(NULL)(scene(teller(0.5), None))
