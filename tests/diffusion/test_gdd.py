"""GDD: the authors' numbers, what stays as it is, that the teacher sleeps, and that it resumes."""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from killing import killed_at
from limbeck.diffusion.adversary import Adversary, PixelCritic, critic_loss, generator_loss
from limbeck.diffusion.averages import half_life
from limbeck.diffusion.denoisers import Preconditioned
from limbeck.diffusion.gdd import Alternating, ProjectedCritic, distill_gdd, finite_gradients, freeze_trunk, innate
from limbeck.diffusion.matching import Levels
from limbeck.diffusion.mixtures import Mixture
from limbeck.diffusion.networks import Diffusers, Sizes
from limbeck.diffusion.sources import Exact
from limbeck.diffusion.training import Distilled
from limbeck.distill import Trainer
from limbeck.errors import ConfigError, TrainingError

SOURCE = Exact(Mixture([[1.0, 0.0], [-1.0, 0.0]], 0.3), conditional=True)
NETWORK = Sizes(16, 2).build([2], 2, SOURCE.data_std)
CLOSE = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class Toy(nn.Module):
    """F(u, c) = tanh(u) + 0.1 c."""

    def forward(self, u: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        return u.tanh() + 0.1 * noise.reshape(-1, 1, 1, 1)


def train(out: Path | None = None, critic: nn.Module | None = None, **changes: Any) -> Distilled:
    adversary = Adversary(critic or PixelCritic([2], 2, 16), lr=2e-3, r1=0.1, r1_every=4)
    regime = {"updates": 50, "batch": 32, "lr": 2e-3}
    regime |= {name: changes.pop(name) for name in list(changes) if name in Alternating.__dataclass_fields__}
    known = {"regime": Alternating(**regime), "seed": 3, "progress": False, "out": out}
    return distill_gdd(innate(NETWORK, [2.5]), SOURCE, adversary, **known | changes)


def test_parity(parity: Callable[[str], dict[str, Any]], walk_sections: Callable[..., None]) -> None:
    def precond(section: Any) -> None:
        denoiser = Preconditioned(Toy(), section["sigma_data"], section["eps"])
        for case in section["cases"]:
            CLOSE(denoiser(tensor(case["x"]), tensor([case["sigma"]])), tensor(case["D"]))

    def one_step(section: Any) -> None:
        student = innate(Preconditioned(Toy(), 0.5), [section["sigma_max"]])
        CLOSE(student(tensor(section["z"])[:, None]), tensor(section["G"]))

    def cut_sigma(section: Any) -> None:
        assert section["ratio"] == [0.0, 0.25, 0.5, 0.75, 1.0]
        CLOSE(Levels(count=5).grid(), tensor(section["sigma"]))

    def losses(section: Any) -> None:
        real, fake = (tensor(section[f"{side}_logits_per_head"])[..., 0].T for side in ("real", "fake"))
        for kind, name in (("softplus", "ns"), ("hinge", "hinge")):
            CLOSE(generator_loss(fake, kind), tensor(section[f"{name}_g"]))
            CLOSE(critic_loss(real, fake, kind), tensor(section[f"{name}_d"]))

    def optimizer(section: Any) -> None:
        groups, rates = [], []
        build = Trainer.__init__

        def look(self: Trainer, players: Any, *more: Any, **how: Any) -> None:
            groups.extend(player.optimizer.param_groups[0] for player in players if player.name == "critic")
            rates.extend(player.schedule(0) for player in players)
            build(self, players, *more, **how)

        settings = {"lr": section["dlr"], "r1": section["r1_gamma"], "r1_every": section["r1_interval"]}
        adversary = Adversary(PixelCritic([2], 2, 4), **settings)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "__init__", look)
            distill_gdd(innate(NETWORK, [2.5]), SOURCE, adversary, regime=Alternating(1, 8), progress=False)
        assert rates == [1, 1]
        assert groups[0]["lr"] == pytest.approx(section["effective_dlr"], rel=1e-10)
        assert groups[0]["betas"] == pytest.approx((0, section["effective_beta2"]), rel=1e-10)
        how = {"images": section["ema_halflife_nimg"], "batch": section["batch"], "ramp": section["ema_rampup"]}
        for images, beta in section["ema_beta_at_nimg"].items():
            exact = int(images) / section["batch"]  # images seen when the official loop updates the average
            assert half_life(exact, **how) == pytest.approx(beta, rel=1e-10)  # type: ignore[arg-type]

    checks = {"precond": precond, "one_step": one_step, "cut_sigma": cut_sigma, "losses": losses}
    walk_sections(parity("gdd-innate-one-step"), checks | {"optimizer": optimizer}, ignore=["_about"])


def test_at_the_smallest_level_the_student_is_the_identity() -> None:
    network = Sizes(16, 2).build([2], 2, 0.7)
    nn.init.ones_(network.network.out.weight)
    x = torch.randn(5, 2)
    student = innate(network, [2.5])
    assert student.experts[0](x, torch.full((5,), 0.002)).equal(x)
    assert not network(x, torch.full((5,), 0.002)).equal(x) and network.boundary == 0


def test_the_frozen_trunk_stays_to_the_bit() -> None:
    done = train(freeze=freeze_trunk)
    before, after = NETWORK.state_dict(), done.student.experts[0].state_dict()
    same = {name for name in before if before[name].equal(after[name])}
    assert same == {f"network.maps.{k}.{part}" for k in (0, 1) for part in ("weight", "bias")}
    trunk, total = 2 * (16 * 16 + 16), sum(one.numel() for one in NETWORK.parameters())
    assert done.trainable == pytest.approx(1 - trunk / total)
    assert f"{100 * (1 - trunk / total):.1f} % of the parameters trained" in done.summary()
    assert train(updates=2).trainable == 1


def test_the_trunk_of_a_u_net() -> None:
    """Every convolution but the first and the last, and the projection behind attention; its queries learn."""
    network = Sizes(8, 1, 2).build([1, 8, 8])
    assert isinstance(network.network, Diffusers)
    names = set(freeze_trunk(network))
    convolutions = [name for name, one in network.named_modules() if isinstance(one, nn.Conv2d)]
    attention = [name for name, one in network.named_modules() if name.endswith("to_out.0")]
    assert convolutions[0].endswith("conv_in") and convolutions[-1].endswith("conv_out") and len(attention) >= 2
    assert names == {f"{one}.{part}" for one in convolutions[1:-1] + attention for part in ("weight", "bias")}
    with pytest.raises(ConfigError, match="no trunk"):
        freeze_trunk(nn.Linear(2, 2))


def test_the_teacher_is_not_asked_and_each_side_moves() -> None:
    """The student is a copy: what it came from is never called, and stays as it is."""
    calls, before = [], deepcopy(NETWORK.state_dict())
    hook = NETWORK.register_forward_hook(lambda module, *call: calls.append(1) if module is NETWORK else None)
    critic = PixelCritic([2], 2, 16)
    first = deepcopy(critic.state_dict())
    done = train(critic=critic)
    hook.remove()
    assert not calls and all(one.equal(before[name]) for name, one in NETWORK.state_dict().items())
    assert not any(one.equal(first[name]) for name, one in critic.state_dict().items())
    assert done.fake is None and set(done.values) >= {"train/student/gan", "train/critic/loss"}


def test_it_learns_what_real_pictures_show() -> None:
    """The student begins as a blur of std 0.14 around its class's mean 0; a critic of features does it too."""
    projected = ProjectedCritic(NETWORK, ["network.maps.0", "network.maps.1"], torch.zeros(2, 2), 2)
    for critic in (None, projected):
        student = train(critic=critic, updates=120).student
        z, cond = torch.randn(2000, 1, 2, generator=torch.Generator().manual_seed(1)), torch.arange(2000) % 2
        x = student(z, cond)
        means = torch.stack([x[cond == k].mean(0) for k in (0, 1)])
        assert (means - torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).abs().max() < 0.3


def test_the_critic_plays_on_pictures_that_the_updated_student_made_anew() -> None:
    """In this order: what the student is judged by; real pictures; other made ones, for the same classes."""
    seen: list[tuple[Tensor, Tensor]] = []

    class Watching(PixelCritic):
        def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
            assert cond is not None
            seen.append((x.detach().clone(), cond))
            return super().forward(x, sigma, cond)

    train(critic=Watching([2], 2, 16), updates=3)
    assert len(seen) == 9
    for judged, real, made in zip(seen[::3], seen[1::3], seen[2::3], strict=True):
        assert judged[1].equal(real[1]) and real[1].equal(made[1])
        assert not judged[0].equal(made[0]) and real[0][real[1] == 0].mean(0)[0] > 0.7


def test_gradients_without_end_do_not_reach_the_weights() -> None:
    module = nn.Linear(2, 1, bias=False)
    module.weight.register_hook(lambda slope: torch.tensor([[torch.nan, -torch.inf]]))
    with finite_gradients(module):
        module(torch.ones(1, 2)).sum().backward()
    assert module.weight.grad.tolist() == [[0.0, -1e5]]
    module = nn.Linear(2, 1, bias=False)
    with finite_gradients(module):
        pass
    (module.weight * torch.inf).sum().backward()
    assert module.weight.grad.isinf().all()


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", updates=250)
    killed_at("checkpoints/step-*", tmp_path / "killed", partial(train, updates=250), tmp_path / "killed")
    resumed = train(tmp_path / "killed", updates=250)
    for name, value in whole.student.state_dict().items():
        assert value.equal(resumed.student.state_dict()[name]), name
    assert whole.values == resumed.values
    with pytest.raises(TrainingError, match="images"):
        train(tmp_path / "killed", updates=250, images=1e3)


def test_a_longer_half_life_stays_nearer_to_the_beginning() -> None:
    """Of two averages of the same training."""
    before = NETWORK.network.out.weight
    moved = []
    for images in (5.0, 500_000.0):
        after = train(updates=30, images=images).student.experts[0].network.out.weight
        moved.append((after - before).norm().item())
    assert moved[1] < 0.97 * moved[0]
