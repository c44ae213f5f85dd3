"""Phases: subinterval targets in closed form, in both languages; experts one after the other."""

import math
from pathlib import Path

import pytest
import torch
from small_distillation import LAW, MEAN, SOURCE, STD, moments, network
from torch import Tensor, nn

from killing import killed_at
from limbeck.diffusion.denoisers import Translated, guided
from limbeck.diffusion.matching import Levels, fake_loss, matching_direction, noised, surrogate
from limbeck.diffusion.phased import FLOW, biased_loss, distill_phases, experts, flow_noised, flow_weight
from limbeck.diffusion.schedules import between
from limbeck.diffusion.students import Student, one_network
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.distill import read_checkpoint
from limbeck.errors import ConfigError


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def close(ours: Tensor, theirs, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(
        ours, tensor(theirs) if not isinstance(theirs, Tensor) else theirs, rtol=rtol, atol=1e-13
    )


def levels(*pair: float, count: int = 1) -> tuple[Tensor, Tensor]:
    """s and t of a batch."""
    s, t = (torch.full((count,), one, dtype=torch.float64) for one in pair)
    return s, t


# ---- reference vectors ---------------------------------------------------------------------------


def check_target(case) -> None:
    s, t = levels(case["sigma_s"], case["sigma_t"], count=len(case["x_s"]))
    alpha, sigma = between(FLOW, s, t)
    there = flow_noised(tensor(case["x_s"]), tensor(case["eps"]), s, t)
    close(alpha, torch.full_like(t, case["alpha_t_given_s"]))
    close(sigma, torch.full_like(t, case["sigma_t_given_s"]))
    close(there.x, case["x_t"])
    close(there.target, case["velocity_target"])


def check_direction(case) -> None:
    x = tensor(case["student_x0"]).requires_grad_()
    floor = case["norm_clip_min"] or 0.0
    g, _ = matching_direction(x, tensor(case["teacher_x0"]), tensor(case["fake_x0"]), floor)
    loss = surrogate(x, g)
    close(loss.detach(), case["loss"])
    close(torch.autograd.grad(loss, x)[0], case["dloss_dx"])


def check_euler(case) -> None:
    """Our steps of the ODE, at x / (1 - sigma), by a network that says velocities."""
    for x, v, t, after in zip(*(map(tensor, case[key]) for key in ("x", "v", "sigma", "sigma_next")), strict=True):
        expert = Translated(lambda x_t, time, cond, v=v: v[None].expand_as(x_t), FLOW, "u")
        high, low = (float(FLOW.sigma(one)) for one in (t, after))
        student = Student([expert, expert], [[high], [low]], renoise=False)
        noise = (x / (1 - t) / high)[None, None].expand(1, 2, -1)
        close((1 - after) * student.roll(noise, None, 0, 0)[0], case["x_next"][case["sigma"].index(float(t))])


def check_cfg(case) -> None:
    """The two rescalings are LightX2V's own and not ours; they keep the direction."""
    both = tensor([case["cond"], case["uncond"]])
    model = guided(lambda x, sigma, cond: both[cond[0]], case["scale"], null=1)
    ours = model(torch.zeros(2, 3, dtype=torch.float64), torch.ones(2), torch.zeros(2, dtype=torch.int64))
    close(ours, case["none"])
    for name in ("layer_norm", "scalar"):
        close(torch.cosine_similarity(ours, tensor(case[name]), 1), [1.0, 1.0])


def check_exact_velocity(case) -> None:
    """E[target | x_t] in closed form: given x_t and an atom, x_s and the noise are Gaussian, the target is linear."""
    atoms, weights = tensor(case["atoms"]), tensor(case["weights"])
    for row in case["rows"]:
        s, t = levels(row["sigma_s"], row["sigma_t"], count=len(atoms))
        alpha, sigma = between(FLOW, s, t)
        r = (weights.log() - ((row["x_t"] - (1 - t) * atoms) / t) ** 2 / 2).softmax(0)
        eps = sigma * (row["x_t"] - (1 - t) * atoms) / t**2
        x_s = (row["x_t"] - sigma * eps) / alpha
        there = flow_noised(x_s[:, None], eps[:, None], s, t)
        close(there.x[:, 0], torch.full_like(t, row["x_t"]))
        close(r @ atoms, row["E_x0"])
        close(r @ there.target[:, 0], row["exact_velocity"])
        assert abs(float(r @ (eps - x_s)) - row["exact_velocity"]) > 0.05  # the biased target


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections) -> None:
    checks = {
        "cases": lambda cases: [check_target(case) for case in cases],
        "dmd_cases": lambda cases: [check_direction(case) for case in cases],
        "euler": check_euler,
        "cfg": check_cfg,
        "exact_velocity_1d": check_exact_velocity,
    }
    data = parity("phased-dmd")
    assert set(checks) < set(data)
    walk_sections(data, checks, ignore=["_about"])


# ---- targets -------------------------------------------------------------------------------------

RANDOM = torch.Generator().manual_seed(0)
X, EPS = (torch.randn(6, 2, generator=RANDOM, dtype=torch.float64) for _ in range(2))


def test_from_clean_pictures_it_is_flow_matching() -> None:
    t = tensor([0.01, 0.1, 0.3, 0.5, 0.9, 1.0])
    there = flow_noised(X, EPS, torch.zeros(6, dtype=torch.float64), t)
    close(there.target, EPS - X)
    close(there.x, (1 - t[:, None]) * X + t[:, None] * EPS)
    close(there.weight, (1 / t**2).clamp(max=10) * t**2)
    assert there.base is X


@pytest.mark.parametrize(("s", "t"), [(0.2, 0.3), (0.5, 0.95), (0.8, 1.0)])
def test_two_steps_of_noise_are_one(s: float, t: float) -> None:
    zero = torch.zeros(6, dtype=torch.float64)
    low, high = levels(s, t, count=6)

    def twice(x: Tensor, first: Tensor, second: Tensor) -> Tensor:
        return flow_noised(flow_noised(x, first, zero, low).x, second, low, high).x

    close(twice(X, 0 * EPS, 0 * EPS), (1 - t) * X)  # the mean
    close(torch.hypot(twice(0 * X, EPS, 0 * EPS), twice(0 * X, 0 * EPS, EPS)), t * EPS.abs())  # the deviation


@pytest.mark.parametrize(("s", "t"), [(0.2, 0.5), (0.5, 0.75), (0.6, 0.61)])
def test_both_languages_say_the_same(s: float, t: float) -> None:
    low, high = levels(s, t, count=6)
    flow = flow_noised((1 - s) * X, EPS, low, high)
    there = noised(X, FLOW.sigma(high), EPS, 1.0, anchor=float(FLOW.sigma(low)[0]))
    close(there.x, flow.x / (1 - t))
    close(flow.x - t * flow.target, there.target)  # x0 = x_t - t v


@pytest.mark.parametrize(("s", "t"), [(0.6, 0.7), (0.6, 3.0), (2.0, 10.0)])
def test_the_target_is_the_posterior_mean_of_the_clean_picture(s: float, t: float) -> None:
    """For x0 ~ N(m, q^2): x_s and the noise given x_t are Gaussian, the target is linear in both."""
    m, q = 0.7, 0.4
    x_t = tensor([[-2.0], [0.5], [9.0]])
    eps = math.sqrt(t**2 - s**2) * (x_t - m) / (q**2 + t**2)
    there = noised(x_t - math.sqrt(t**2 - s**2) * eps, levels(s, t, count=3)[1], eps, q, anchor=s)
    close(there.x, x_t)
    close(there.target, (q**2 * x_t + t**2 * m) / (q**2 + t**2))
    biased = there.base  # what x_s itself would teach
    assert (biased - there.target).abs().max() > 0.05
    answer = torch.zeros_like(x_t)
    assert biased_loss(answer, there) == fake_loss(answer, there._replace(target=biased)) != fake_loss(answer, there)


def test_the_loss_is_finite_next_to_the_anchor() -> None:
    for t in (0.6 + 1e-12, 0.6 + 1e-6):
        there = noised(X, levels(0.6, t, count=6)[1], EPS, 0.5, anchor=0.6)
        assert fake_loss(X, there) < 1 / 0.5**2 * 0.36 * (1 + 0.25 / 0.36) * EPS.square().mean() * 1.01


def test_the_weight_turns_velocities_into_scores() -> None:
    s, t = levels(0.3, 0.6, count=6)
    x_t, real, fake = X, EPS, EPS.flip(0)
    scores = [-(x_t + (1 - t[:, None]) * v) / t[:, None] for v in (real, fake)]
    alpha = between(FLOW, s, t)[0]
    close(flow_weight(s, t)[:, None] * (real - fake), alpha[:, None] * (scores[1] - scores[0]))
    close(flow_weight(s, t), 0.4 * (0.4 / 0.7) / (0.4 * 0.6 + 0.6**2) * torch.ones(6, dtype=torch.float64))


# ---- phases --------------------------------------------------------------------------------------

REGIME = Regime(updates=12, batch=32, turns=2, lr=3e-3, fake_lr=5e-3, average=0.9)


def phases(out: Path | None = None, steps=((2.5,), (0.6,)), **changes) -> list[Distilled]:
    student = experts(network(), steps)
    known = {"regime": REGIME, "fake": network(), "seed": 3, "progress": False, "out": out}
    return distill_phases(student, LAW, SOURCE, **known | changes)


def assert_same(ours: nn.Module, theirs: nn.Module) -> None:
    for (name, one), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_each_phase_trains_one_expert_with_a_fake_score_of_its_own() -> None:
    seen, fake = [], network(5)
    nn.init.ones_(fake.network.out.bias)

    def push(scene):
        if scene.step == 0:
            seen.append((scene.fake.network.out.bias.clone(), scene.fake, scene.anchor, scene.start))
        return scene.x - 1, {}

    first, second = phases(fake=fake, push=push)
    assert_same(first.student.experts[0], second.student.experts[0])
    assert_same(first.student.experts[1], network())
    for done, expert in ((first, 0), (second, 1)):
        assert not torch.equal(done.student.experts[expert].network.out.bias, network().network.out.bias)
    assert all((bias == 1).all() for bias, *_ in seen) and seen[0][1] is not seen[1][1]
    assert (fake.network.out.bias == 1).all()
    assert [rest for _, _, *rest in seen] == [[0.6, 2.5], [0.0, 0.6]]


def test_one_phase_is_plain_distribution_matching() -> None:
    (ours,) = phases(steps=[[2.5]])
    theirs = distill(
        one_network(network(), [2.5], renoise=False), LAW, SOURCE, regime=REGIME, fake=network(), seed=3, progress=False
    )
    assert_same(ours.student, theirs.student)
    assert ours.fake is not None and theirs.fake is not None
    assert_same(ours.fake, theirs.fake)


def test_noise_is_drawn_from_the_phase_to_the_noisiest() -> None:
    seen = {"match": [], "fake": []}

    def teacher(x, sigma, cond):
        seen["match"].append(sigma)
        return 0 * x

    def denoising(answer, there):
        seen["fake"].append(there.sigma)
        return fake_loss(answer, there)

    phases(steps=[[2.5, 1.5], [0.6]], denoising=denoising, real=lambda step: teacher)
    for sigmas, most in ((seen["match"], 60.0), (seen["fake"], 70.0)):
        half = len(sigmas) // 2
        first, second = torch.cat(sigmas[:half]), torch.cat(sigmas[half:])
        assert 0.6 < first.min() < 0.7 and second.min() < 0.02
        assert min(first.max(), second.max()) > most


def test_the_graph_holds_one_call_whatever_the_phase() -> None:
    student, calls = experts(network(), [[4.0, 2.0], [1.0, 0.5]]), []
    for one in student.experts:
        one.register_forward_hook(lambda module, inputs, out: calls.append(out.requires_grad))
    student.roll(torch.randn(3, 4, 2), None, 1, 1)
    assert calls == [False, False, False, True]


def test_a_phase_gets_the_law_of_its_level_and_a_biased_fake_score_does_not() -> None:
    """x_s ~ N(mean, std^2 + s^2), std 0.67; with x_s for a target the fixed point is the clean law, std 0.3."""
    regime = Regime(updates=60, batch=128, turns=2, lr=5e-3, fake_lr=1e-2, average=0.9)
    spreads = {}
    for loss in (fake_loss, biased_loss):
        first = phases(regime=regime, steps=[[2.5], [0.6]], denoising=loss)[0].student
        with torch.no_grad():
            x = first.roll(torch.randn(4000, 2, 2, generator=torch.Generator().manual_seed(7)), None, 0, 0)
        spreads[loss] = float(x.std(0).mean())
        assert (x.mean(0) - torch.tensor(MEAN)).abs().max() < 0.15
    assert spreads[fake_loss] == pytest.approx(math.hypot(STD, 0.6), rel=0.05)
    assert spreads[biased_loss] < 0.93 * math.hypot(STD, 0.6)


def test_all_phases_together_get_the_law() -> None:
    regime = Regime(updates=60, batch=128, turns=2, lr=5e-3, fake_lr=1e-2, average=0.9)
    mean, std = moments(phases(regime=regime)[-1].student)
    assert (mean - torch.tensor(MEAN)).abs().max() < 0.1
    assert ((std / STD).log().abs() < 0.4).all()


def test_a_chain_killed_in_its_second_phase_goes_on_bit_for_bit(tmp_path: Path) -> None:
    regime = Regime(updates=40, batch=16, turns=2, lr=3e-3, average=0.9)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = phases(whole, regime=regime)
    killed_at("phase-2/checkpoints/step-*25", cut, lambda: phases(cut, regime=regime))
    assert not (cut / "phase-2" / "checkpoints" / "step-00000080").exists()
    again = phases(cut, regime=regime)
    for ours, theirs in zip(again, done, strict=True):
        assert_same(ours.student, theirs.student)
        assert ours.values == theirs.values
    for phase in ("phase-1", "phase-2"):
        ours, theirs = (read_checkpoint(folder / phase / "checkpoints" / "step-00000080") for folder in (cut, whole))
        torch.testing.assert_close(ours.tensors, theirs.tensors, rtol=0, atol=0)
        assert (cut / phase / "runs.jsonl").read_bytes() == (whole / phase / "runs.jsonl").read_bytes()


def test_a_phase_above_all_noise_levels_says_so() -> None:
    with pytest.raises(ConfigError, match=r"no noise level .* between 0\.6 and inf"):
        phases(fake_levels=Levels(sigma_max=0.5))
