"""One round: who learns from what, and who must not; pairs; the two ways of a critic."""

from copy import deepcopy

import pytest
import torch
from small_distillation import CLASSES, LAW, MEAN, SOURCE, STD, moments, network, small
from torch import nn

from limbeck.diffusion.adversary import Adversary, FeatureCritic, PixelCritic
from limbeck.diffusion.game import Game, Matching, Pairs, disagreement, make_pairs
from limbeck.diffusion.matching import Levels, fake_loss, matching_direction
from limbeck.diffusion.mixtures import Mixture
from limbeck.diffusion.samplers import karras
from limbeck.diffusion.sources import Draws, Exact
from limbeck.diffusion.students import Student, one_network
from limbeck.distill import read_checkpoint
from limbeck.errors import ConfigError


def game(**changes) -> Game:
    fake = network(2)
    nn.init.normal_(fake.network.out.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    known = {
        "student": Student([network(0), network(1)], [[2.5], [0.6]], False), "real": lambda step: LAW, "fake": fake,
        "source": SOURCE, "push": Matching(), "adversary": None, "pairs": None, "batch": 16, "phase": 1, "seed": 0,
        "fake_levels": Levels(), "denoising": fake_loss, "watch": None,
        "also": None, "rollout": None, "turns": 1,
    }  # fmt: skip
    return Game(**known | changes)


def on_features(fake: nn.Module, **how) -> Adversary:
    """A critic on what a denoiser sees inside."""
    return Adversary(FeatureCritic(fake, ["network.maps.0"], torch.zeros(2, 2)), levels=Levels(), **how)


def learns(module: nn.Module) -> bool:
    """Whether a backward pass reached any of its parameters."""
    return any(one.grad is not None and bool((one.grad != 0).any()) for one in module.parameters())


@pytest.mark.parametrize("of_fake", [True, False], ids=["critic on the fake score", "critic on pictures"])
def test_the_student_learns_alone(of_fake: bool) -> None:
    play = game()
    play.adversary = on_features(play.fake, joint=True) if of_fake else Adversary(PixelCritic([2], 0, 8))
    teacher = network(7)
    play.real = lambda step: teacher
    out = play("student", play.scene(0), 0)
    out["loss"].backward()
    assert learns(play.student.experts[1]) and not learns(play.student.experts[0])
    assert not learns(play.fake) and not learns(play.adversary.critic) and not learns(teacher)
    torch.testing.assert_close(out["loss"], out["loss"].detach() - out["gan"].detach() + out["gan"])
    assert all(one.requires_grad for one in [*play.fake.parameters(), *play.adversary.critic.parameters()])


@pytest.mark.parametrize("joint", [True, False])
def test_fake_score_and_critic_leave_the_student_alone(joint: bool) -> None:
    play = game()
    play.adversary = on_features(play.fake, joint=joint, critic_weight=0.5)
    scene = play.scene(0)
    alone = play.denoising(play.fake((there := scene_noised(play, scene)).x, there.sigma), there)
    out = play("fake", scene, 0)
    out["loss"].backward()
    assert learns(play.fake) and not learns(play.student)
    assert learns(play.adversary.critic) == joint
    torch.testing.assert_close(out["loss"], alone + 0.5 * out["critic"] if joint else alone)
    if not joint:
        play("critic", scene, 0)["loss"].backward()
        assert learns(play.adversary.critic) and not learns(play.student)


def scene_noised(play: Game, scene):
    scene.x = play.make(scene).detach()
    return scene.noised("fake", play.fake_levels)


def test_the_push_is_dmd_by_hand() -> None:
    play = game()
    scene = play.scene(4)
    out = play("student", scene, 0)
    again = play.make(play.scene(4))
    assert torch.equal(scene.x, again) and not scene.x.requires_grad
    levels = Levels(low=0.02, high=0.98)
    sigma = levels(Draws(0, 4).uniform("u/match", 16)).float()
    x_t = again + sigma[:, None] * Draws(0, 4).normal("eps/match", 16, 2)
    real, fake = LAW(x_t, sigma), play.fake(x_t, sigma)
    g, _ = matching_direction(again, real, fake)
    torch.testing.assert_close(out["loss"], g.square().mean() / 2)
    (by_hand,) = torch.autograd.grad((again * g).sum() / g.numel(), play.student.experts[1].network.out.weight)
    (slope,) = torch.autograd.grad(out["loss"], play.student.experts[1].network.out.weight)
    torch.testing.assert_close(slope, by_hand)
    torch.testing.assert_close(out["gap"], ((real - fake).square().mean() / real.square().mean()).sqrt().detach())


def test_gap_and_cosine() -> None:
    real = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    said = disagreement(real, -2 * real)
    assert said["gap"].item() == pytest.approx(3.0) and said["cos"].item() == pytest.approx(-1.0)


def test_the_fake_score_learns_from_the_pictures_that_were_pushed() -> None:
    play, scene = game(), game().scene(0)
    play("student", scene, 0)
    pushed = scene.x
    with torch.no_grad():
        for one in play.student.parameters():
            one.add_(0.1)
    loss = play("fake", scene, 0)["loss"]
    assert scene.x is pushed
    renewed = play("fake", play.scene(0), 0)["loss"]  # a round in which the student does not move makes new ones
    assert loss != renewed


def test_a_fresh_critic_sees_what_the_updated_student_makes() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x, sigma, cond):
            seen.append(x)
            return x[:, :1]

    for fresh in (False, True):
        play = game(adversary=Adversary(Spy(), fresh=fresh))
        scene = play.scene(0)
        play("student", scene, 0)
        play("critic", scene, 0)
    (_, _, same), (_, _, made) = seen[:3], seen[3:]
    assert torch.equal(same, scene.x)
    assert torch.equal(made, play.make(play.scene(0), "z/critic")) and not torch.equal(made, scene.x)


def test_the_spread_is_that_from_picture_to_picture() -> None:
    """A law far from 0 is no alarm, and one picture for all noise has no spread, however rich it is."""
    play = game(phase=0, student=one_network(network(), [2.5]))
    play.student.experts[0].forward = lambda x, sigma, cond: torch.tensor([30.0, -30.0]) + 0.1 * x
    assert play("student", play.scene(0), 0)["std"].item() == pytest.approx(0.25, rel=0.3)
    play.student.experts[0].forward = lambda x, sigma, cond: torch.tensor([30.0, -30.0]) + 0 * x
    assert play("student", play.scene(0), 0)["std"] == 0


def test_a_critic_of_no_weight_changes_no_bit_of_the_student() -> None:
    with_critic = small(adversary=Adversary(PixelCritic([2], 0, 8), weight=0.0)).student
    for ours, theirs in zip(with_critic.parameters(), small().student.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_simulated_inputs_know_the_student_and_not_the_data() -> None:
    """A frequent fault of ports: real data with noise as the input of a later step."""
    elsewhere = game(source=Exact(Mixture([[50.0, 50.0]], 0.1)))
    play = game()
    assert torch.equal(play.make(play.scene(0)), elsewhere.make(elsewhere.scene(0)))
    seen = []
    play.student.experts[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    play.make(play.scene(0))
    nn.init.ones_(play.student.experts[0].network.out.bias)
    play.make(play.scene(0))
    assert not torch.equal(*seen)


def test_everyone_is_told_the_same_classes() -> None:
    told = {}

    def ask(name):
        def said(x, sigma, cond):
            told[name] = cond
            return 0.5 * x

        return said

    fake = network(0, classes=2)
    fake.register_forward_pre_hook(lambda module, inputs: told.update(fake=inputs[2]))
    play = game(
        student=one_network(network(0, 2), [2.5]), source=CLASSES, fake=fake, real=lambda step: ask("real"), phase=0
    )
    play.student.experts[0].register_forward_pre_hook(lambda module, inputs: told.update(student=inputs[2]))
    play("student", play.scene(0), 0)
    assert set(told) == {"fake", "real", "student"} and told["real"].unique().tolist() == [0, 1]
    assert all(torch.equal(cond, CLASSES.draw(Draws(0, 0), 16)[1]) for cond in told.values())


def test_pictures_of_a_phase_get_noise_above_their_own() -> None:
    play = game(phase=0)
    scene = play.scene(0)
    scene.x = play.make(scene)
    assert scene.start == 2.5 and scene.anchor == 0.6
    there = scene.noised("fake", Levels(), below=2.0)
    assert 0.6 < there.sigma.min() < there.sigma.max() < 2.0
    eps = Draws(0, 0).normal("eps/fake", 16, 2)
    torch.testing.assert_close(there.x, scene.x + (there.sigma[:, None] ** 2 - 0.36).sqrt() * eps)


def test_a_critic_of_a_phase_sees_real_pictures_as_noisy_as_made_ones() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x, sigma, cond):
            seen.append(x)
            return x[:, :1]

    for phase, noise in ((0, 0.6), (1, 0.0)):
        play = game(adversary=Adversary(Spy()), phase=phase, batch=2000)
        play("critic", play.scene(0), 0)
        real, _ = seen[-2:]
        assert real.std(0).mean().item() == pytest.approx((STD**2 + noise**2) ** 0.5, rel=0.07)  # 4 / sqrt(2 x 2000)


def test_a_further_loss_joins_pairs_and_push() -> None:
    def also(student, scene):
        return torch.tensor(5.0), {}

    pairs = make_pairs(LAW, SOURCE, 20)
    play = game(phase=0, push=None, fake=None, pairs=pairs, also=also)
    out = play("student", play.scene(0), 0)
    assert out["regression"] > 0 and out["loss"] == 5 + out["regression"]
    assert set(game(push=None, fake=None, also=also)("student", play.scene(0), 0)) == {"loss"}


def test_updates_are_counted_by_turns(tmp_path) -> None:
    small(tmp_path, updates=5, turns=5)
    (last,) = (tmp_path / "checkpoints").glob("step-*25")
    players = read_checkpoint(last).tensors["players"]
    assert {name: state["updates"] for name, state in players.items()} == {"student": 5, "fake": 25}


@pytest.mark.parametrize("joint", [True, False])
def test_critics_that_see_through_the_fake_score(joint: bool) -> None:
    fake = network(0)
    before = deepcopy(fake.state_dict())
    adversary = on_features(fake, joint=joint, weight=0.01)
    heads = deepcopy(adversary.critic.state_dict())
    done = small(updates=60, fake=fake, adversary=adversary)
    mean, std = moments(done.student)
    assert (mean - torch.tensor(MEAN)).abs().max() < 0.15
    assert std.min() > STD / 2
    assert all(name in done.values for name in (["train/fake/critic"] if joint else ["train/critic/loss"]))
    assert not torch.equal(before["network.out.weight"], fake.state_dict()["network.out.weight"])
    assert not torch.equal(heads["heads.0.0.weight"], adversary.critic.state_dict()["heads.0.0.weight"])


def test_pairs_hold_where_the_ode_of_the_teacher_ends() -> None:
    """For a Gaussian it is mu + s (x - mu) / sqrt(s^2 + sigma^2)."""
    pairs = make_pairs(LAW, SOURCE, 50, sigmas=karras(40, sigma_max=10.0), seed=1)
    exact = torch.tensor(MEAN) + STD * (10 * pairs.noise - torch.tensor(MEAN)) / (STD**2 + 100) ** 0.5
    torch.testing.assert_close(pairs.x, exact, rtol=0, atol=5e-3)
    told = make_pairs(CLASSES.law, CLASSES, 50)
    assert torch.equal(told.x[:, 0] > 0, told.cond == 0)


def test_the_regression_is_the_squared_difference_on_drawn_pairs() -> None:
    student = one_network(network(), [2.5, 0.6])
    pairs = Pairs(torch.randn(9, 2), torch.randn(9, 2), weight=0.25)
    rows = Draws(0, 0).integers("pairs", 9, 4)
    made = student.experts[0](2.5 * pairs.noise[rows], torch.full((4,), 2.5))
    torch.testing.assert_close(pairs.loss(student, Draws(0, 0), 4), 0.25 * (made - pairs.x[rows]).square().mean())


def test_a_student_can_learn_from_pairs_alone_or_beside_the_push() -> None:
    pairs = make_pairs(LAW, SOURCE, 500)
    for beside in ({"push": None, "fake": None}, {}):
        mean, std = moments(small(updates=100, pairs=pairs, lr=1e-2, **beside).student)
        assert (mean - torch.tensor(MEAN)).abs().max() < 0.1
        assert (std - STD).abs().max() < 0.1


def test_parts_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="nothing teaches the student"):
        small(push=None)
    with pytest.raises(ConfigError, match=r"needs a.* fake score"):
        small(fake=None)
    with pytest.raises(ConfigError, match="at least 0"):
        Adversary(PixelCritic([2], 0, 8), weight=-1.0)
