"""Decoupled DMD: the algebra, who is asked at which noise level, the shields, when to stop."""

from functools import partial

import pytest
import torch
from small_distillation import CLASSES, STD, network
from torch import Tensor

from limbeck.diffusion.adversary import Adversary, PixelCritic
from limbeck.diffusion.decoupled import Decoupled, MeanVariance, Stopping
from limbeck.diffusion.denoisers import guided
from limbeck.diffusion.game import Matching, Scene
from limbeck.diffusion.matching import Levels, surrogate
from limbeck.diffusion.sources import Draws
from limbeck.diffusion.students import one_network
from limbeck.diffusion.training import Regime, distill
from limbeck.errors import ConfigError

LAW, NULL = CLASSES.law, 2
close = partial(torch.testing.assert_close, rtol=1e-7, atol=1e-12)


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scene(x: Tensor | None = None, *, real=LAW, fake=None, start: float = 2.5) -> Scene:
    """A round whose pictures are between and around the two classes."""
    x = 2 * torch.randn(64, 2, generator=torch.Generator().manual_seed(1)) if x is None else x
    cond = torch.arange(len(x)) % 2
    return Scene(Draws(0, 3), 3, cond, real, fake, 1.0, start=start, x=x)


class Asked:
    """A denoiser that remembers what it was asked."""

    def __init__(self, says=LAW) -> None:
        self.says, self.calls = says, []

    def __call__(self, x, sigma, cond=None):
        self.calls.append((x, sigma, cond))
        return self.says(x, sigma, cond)

    def levels(self, null: bool) -> Tensor:
        """Noise levels of the calls without a class, or of those with one."""
        return torch.cat([sigma for _, sigma, cond in self.calls if bool((cond == NULL).all()) == null])


def said(answers: dict[bool, Tensor]):
    """A denoiser that answers by whether it was told a class."""
    return lambda x, sigma, cond: answers[bool((cond == NULL).all())]


# ---- vectors of another program, which works in velocities ----------------------------------------


def check_pushed(case, push: Decoupled, real: Tensor, without: Tensor | None, fake: Tensor | None) -> None:
    """x0 = x_t - sigma_t v; that program leaves out a factor of one half, and adds a little to its divisor."""
    level, noisier = (tensor(case[name]).reshape(-1, 1, 1, 1) for name in ("sigma_t", "sigma_tau"))
    v, x_tau = tensor(case["v_student"]).requires_grad_(), tensor(case["x_tau"])
    x = tensor(case["x_t"]) - level * v
    answers = {False: x_tau - noisier * real} | ({} if without is None else {True: x_tau - noisier * without})
    there = scene(x, real=said(answers), fake=None if fake is None else lambda *_: x_tau - noisier * fake)
    loss = surrogate(x, push(there)[0])
    close(2 * loss.detach(), tensor(case["loss"]))
    close(2 * torch.autograd.grad(loss, v)[0], tensor(case["dloss_dv"]))


def check_matching(case) -> None:
    push = Decoupled(3.0, NULL, which="matching", floor=case["norm_clip_min"])
    check_pushed(case, push, tensor(case["v_real"]), None, tensor(case["v_fake"]))


def check_augmentation(case) -> None:
    push = Decoupled(1 + case["guidance_scale"], NULL, which="augmentation", floor=case["norm_clip_min"])
    check_pushed(case, push, tensor(case["v_cond"]), tensor(case["v_uncond"]), None)


def check_mean_variance(case) -> None:
    """That program has the constant 1 where a KL divergence has one half."""
    x = tensor(case["x"]).requires_grad_()
    loss = MeanVariance(case["target_mean"], case["target_std"])(x)
    close(loss.detach() - 0.5, tensor(case["loss"]))
    close(torch.autograd.grad(loss, x)[0], tensor(case["dloss_dx"]), atol=1e-8)  # it adds a little to its std


def check_identity(case) -> None:
    """Where the picture is what the teacher says, the divisor is the floor: 1."""
    real, without, fake = (tensor(case[name]) for name in ("s_real_cond", "s_real_uncond", "s_fake_cond"))
    for which, name in (("matching", "dm"), ("augmentation", "ca"), ("both", "sum")):
        push = Decoupled(case["alpha"], NULL, "shared", which, floor=1.0)
        g, _ = push(scene(real, real=said({False: real, True: without}), fake=lambda *_: fake))
        close(-g, tensor(case[name]))
    close(tensor(case["sum"]), without + case["alpha"] * (real - without) - fake)


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections) -> None:
    checks = {
        "dm_cases": lambda cases: [check_matching(case) for case in cases],
        "ca_cases": lambda cases: [check_augmentation(case) for case in cases],
        "mv_cases": lambda cases: [check_mean_variance(case) for case in cases],
        "identity_cases": lambda cases: [check_identity(case) for case in cases],
    }
    data = parity("decoupled-dmd")
    assert set(checks) < set(data)
    walk_sections(data, checks, ignore=["_about"])


# ---- the push ------------------------------------------------------------------------------------


def test_at_one_level_with_one_divisor_it_is_dmd_with_a_guided_teacher() -> None:
    fake = lambda x, sigma, cond: 0.5 * x  # noqa: E731
    g, _ = Decoupled(3.0, NULL, "shared", floor=1e6)(scene(fake=fake))
    dmd, _ = Matching(floor=1e6)(scene(real=guided(LAW, 3.0, NULL), fake=fake))
    torch.testing.assert_close(g, dmd)
    assert g.abs().max() > 0


def test_matching_vanishes_at_the_teachers_law_and_augmentation_does_not() -> None:
    matching, augmentation = (
        Decoupled(3.0, NULL, which=one)(scene(fake=LAW))[0] for one in ("matching", "augmentation")
    )
    assert torch.equal(matching, torch.zeros(64, 2))
    assert augmentation[:, 0].abs().median() > 0.1
    both, values = Decoupled(3.0, NULL)(scene(fake=LAW))
    assert torch.equal(both, augmentation) and values["balance"] == 0 and values["gap"] == 0


def test_augmentation_of_two_gaussians_leads_away_from_the_other_mean() -> None:
    """D_c - D = sigma^2 / v (1 - r_c) (mu_c - mu_other), over mean |x - D_c|."""
    there, real = scene(), Asked()
    there.real = real
    g, _ = Decoupled(3.0, NULL, which="augmentation", floor=0.0)(there)
    (x, sigma, cond), _ = real.calls
    v = (STD**2 + sigma.double() ** 2)[:, None]
    own = LAW.responsibilities(x, sigma).gather(1, cond[:, None])
    sign = 1 - 2 * cond[:, None].double()
    away = (sigma.double()[:, None] ** 2 / v) * (1 - own) * sign * tensor([2.0, 0.0])
    size = (there.x - LAW(x, sigma, cond)).abs().mean(1, keepdim=True)
    torch.testing.assert_close(-g, (2 * away / size).float(), rtol=1e-3, atol=1e-6)
    assert ((-g * sign)[:, 0] >= 0).all()


def test_each_term_has_its_own_noise_and_divisor() -> None:
    fake = lambda x, sigma, cond: 0.5 * x  # noqa: E731
    one = {which: Decoupled(3.0, NULL, which=which)(scene(fake=fake))[0] for which in ("matching", "augmentation")}
    both, values = Decoupled(3.0, NULL)(scene(fake=fake))
    torch.testing.assert_close(both, one["matching"] + one["augmentation"])
    real = Asked()
    Decoupled(3.0, NULL)(scene(real=real, fake=fake))
    (x, sigma, _), (y, level, told), (same, _, none) = real.calls
    assert not torch.equal(x, y) and torch.equal(y, same) and (none == NULL).all() and (told < NULL).all()
    clean = scene().x
    assert (((x - clean) / sigma[:, None]) - (y - clean) / level[:, None]).abs().mean() > 0.5
    pull = 0.5 * x - LAW(x, sigma, told)
    spear = 2 * (LAW(y, level, none) - LAW(y, level, told))
    torch.testing.assert_close(values["balance"], pull.square().mean().sqrt() / spear.square().mean().sqrt())
    torch.testing.assert_close(values["gap"], (pull.square().mean() / LAW(x, sigma, told).square().mean()).sqrt())


@pytest.mark.parametrize(
    ("schedule", "limited", "calls"),
    [
        ("shared", (False, False), 2),
        ("above", (True, True), 2),
        ("decoupled", (False, False), 3),
        ("hybrid", (False, True), 3),
    ],
)
def test_noise_levels_of_the_schedules(schedule, limited, calls: int) -> None:
    real, fake = Asked(), Asked(lambda x, sigma, cond: 0.5 * x)
    x = torch.randn(3000, 2, generator=torch.Generator().manual_seed(1))
    Decoupled(3.0, NULL, schedule)(scene(x, real=real, fake=fake, start=0.5))
    assert len(real.calls) == calls and len(fake.calls) == 1
    grid = Levels(low=0.02, high=0.98)(torch.tensor([0.0, 1 - 1e-12], dtype=torch.float64)).float()
    for one, cut in zip((fake.levels(null=False), real.levels(null=True)), limited, strict=True):
        assert one.min() >= grid[0] and one.max() < (0.5 if cut else 81.0)
        assert cut or one.max() > 50
    assert torch.equal(fake.levels(null=False), real.levels(null=True)) == (calls == 2)


def test_for_a_step_from_the_highest_level_hybrid_is_decoupled() -> None:
    seen = []
    for schedule in ("hybrid", "decoupled"):
        real = Asked()
        Decoupled(3.0, NULL, schedule)(scene(real=real, fake=LAW, start=80.0))
        seen.append(real.levels(null=True))
    assert torch.equal(*seen)


def test_augmentation_never_asks_the_fake_score() -> None:
    fake = Asked()
    Decoupled(3.0, NULL, which="augmentation")(scene(fake=fake))
    assert not fake.calls
    Decoupled(3.0, NULL)(scene(fake=fake))
    assert len(fake.calls) == 1 and bool((fake.calls[0][2] < NULL).all())


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="needs a teacher and a fake score"):
        Decoupled(3.0, NULL)(scene())
    there = scene(fake=LAW)
    there.cond = None
    with pytest.raises(ConfigError, match="guidance 3 needs classes"):
        Decoupled(3.0, NULL)(there)
    assert Decoupled(1.0, NULL)(there)[0].shape == (64, 2)


# ---- shields -------------------------------------------------------------------------------------


def test_mean_and_variance_are_a_divergence() -> None:
    x = torch.randn(500, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shield = MeanVariance(0.3, 1.7)
    values = torch.stack([shield(one[None]) for one in x])
    assert values.min() > 0
    exact = 0.3 + 1.7 * (x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
    assert shield(exact).abs() < 1e-14
    assert shield(exact + 0.01) > 1e-6 and shield(0.3 + 1.01 * (exact - 0.3)) > 1e-6
    assert torch.autograd.gradcheck(shield, x[:4].clone().requires_grad_())
    torch.testing.assert_close(MeanVariance(0.3, 1.7, 5.0)(x), 5 * shield(x))


def test_a_shield_takes_the_place_of_matching() -> None:
    shield = MeanVariance(0.0, 1.0)
    there = scene()
    g, values = Decoupled(3.0, NULL, shield=shield)(there)
    spear, _ = Decoupled(3.0, NULL, which="augmentation")(scene())
    alone, _ = Decoupled(3.0, NULL, which="matching", shield=shield)(scene())
    torch.testing.assert_close(g, spear + alone)
    x = there.x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(surrogate(x, alone), x)[0], torch.autograd.grad(shield(x), x)[0])
    assert values["shield"] == shield(there.x)


# ---- trainings -----------------------------------------------------------------------------------


def train(push, *, updates: int = 12, fake: bool = True, lr: float = 3e-3, **how):
    regime = Regime(updates=updates, batch=32, turns=3, lr=lr, fake_lr=5e-3, average=0.9)
    teacher = how.pop("teacher", LAW)
    begin = {"fake": network(classes=2)} if fake else {}
    student = one_network(network(classes=2), [2.5, 0.6])
    return distill(student, teacher, CLASSES, push=push, regime=regime, seed=3, progress=False, **begin, **how)


def test_guidance_1_is_dmd_bit_for_bit() -> None:
    ours, theirs = Asked(), Asked()
    done, dmd = train(Decoupled(1.0, NULL, floor=0.0), teacher=ours), train(Matching(), teacher=theirs)
    for one, other in zip(done.student.parameters(), dmd.student.parameters(), strict=True):
        assert torch.equal(one, other)
    assert done.values == dmd.values and len(ours.calls) == len(theirs.calls) == 12
    for one, other in zip(ours.calls, theirs.calls, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def radius(student) -> dict[str, float]:
    noise = torch.randn(2000, 2, 2, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        x = student(noise, torch.arange(2000) % 2)
    return {
        "right": float(((x[:, 0] > 0) == (torch.arange(2000) % 2 == 0)).double().mean()),
        "x": float(x[:, 0].abs().mean()),
    }


def test_augmentation_runs_away_and_shields_hold_it() -> None:
    """The classes' means are 1 from the middle."""
    away = partial(train, updates=45, fake=False, watch=False)
    spear = Decoupled(3.0, NULL, "shared", which="augmentation")
    alone = radius(away(spear).student)
    held = radius(away(Decoupled(3.0, NULL, "shared"), fake=True).student)
    critic = Adversary(PixelCritic([2], 2, 16), 3.0, lr=6e-3)
    judged = radius(away(spear, adversary=critic).student)
    assert alone["x"] > 4 and held["x"] < 3 and judged["x"] < 3
    assert min(one["right"] for one in (alone, held, judged)) > 0.99


def test_diagnostics_are_recorded() -> None:
    assert {f"train/student/{name}" for name in ("gap", "cos", "std", "balance", "empty")} <= set(
        train(Decoupled(3.0, NULL)).values
    )


def test_a_training_whose_pictures_run_away_ends_early(tmp_path) -> None:
    def stopped():
        push = Decoupled(3.0, NULL, which="augmentation")
        stop = Stopping(push, {"std": 1.5, "gap": 2.0}, also=lambda student: {"x": radius(student)["x"]})
        known = {"judge": stop.judge, "stop_when": stop.due, "judge_at": range(5, 100, 5)}
        return train(stop, updates=100, fake=False, watch=False, out=tmp_path, **known)

    done = stopped()
    stds = [values["std"] for values in done.judged.values()]
    assert 10 <= done.updates < 100 and done.updates == max(done.judged)
    assert min(stds[-2:]) > 1.5 * min(stds) and not min(stds[-3:-1]) > 1.5 * min(stds[:-1])
    assert done.judged[done.updates]["x"] == radius(done.student)["x"]
    again = stopped()
    assert again.judged == done.judged and again.updates == done.updates


def test_what_is_reason_to_end() -> None:
    stop = Stopping(Matching(), {"gap": 2.0})
    assert not stop.due({}) and not stop.due({4: {"jsd": 1.0}, 8: {"jsd": 9.0}, 12: {"jsd": 9.0}})
    rows = {25: {"gap": 0.2}, 50: {"gap": 0.1}, 75: {"gap": 0.21}}
    assert not stop.due(rows)
    assert stop.due(rows | {100: {"gap": 0.25}}) and not stop.due(rows | {100: {"gap": 0.19}})


def test_trainings_say_what_they_lack() -> None:
    with pytest.raises(ConfigError, match="needs a teacher and a fake score"):
        train(Decoupled(3.0, NULL), fake=False)
    with pytest.raises(ConfigError, match="needs a teacher: give it"):
        train(Decoupled(3.0, NULL), teacher=None)
