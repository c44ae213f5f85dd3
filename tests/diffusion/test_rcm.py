"""rCM: the reference vectors, the two ends of its knob, rollouts, what its steps leave alone, stops."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from killing import killed_at
from limbeck.diffusion import (
    RULES,
    Draws,
    Exact,
    LogNormal,
    Matching,
    RandomRollout,
    RectifiedFlow,
    Regime,
    Scene,
    Shifted,
    ShiftedUniform,
    Sizes,
    Tangent,
    Translated,
    distil_consistency,
    distil_rcm,
    distill,
    few_levels,
    one_network,
    power,
    rollout,
    tangent,
    velocity_of,
)
from limbeck.diffusion.consistency import SOLVERS, squared
from limbeck.diffusion.continuous import direction, normalised
from limbeck.diffusion.matching import matching_direction, noised, surrogate
from limbeck.diffusion.mixtures import Mixture
from limbeck.diffusion.rcm import Weighed
from limbeck.diffusion.trigflow import PURE, diffused, rotated
from limbeck.distill import read_checkpoint

F64 = torch.float64
LAW = Mixture([[1.0, 0.0], [-1.0, 0.5]], 0.2)
SOURCE, D = Exact(LAW), LAW.data_std


def tensor(values):
    return torch.tensor(values, dtype=F64)


class Raw(torch.nn.Module):
    """The reference's rectified flow: A x + b sin 3s + tanh(B x + c s)."""

    def __init__(self, weights):
        super().__init__()
        self.weights = torch.nn.ParameterDict({name: tensor(value) for name, value in weights.items()})

    def forward(self, x, s, cond=None):
        w = self.weights
        return x @ w["A"].T + w["b"] * (3 * s).sin()[:, None] + torch.tanh(x @ w["B"].T + w["c"] * s[:, None])


def close(mine, theirs):
    torch.testing.assert_close(mine, tensor(theirs), rtol=1e-9, atol=1e-11)


def test_parity(parity, walk_sections):
    data = parity("rcm")
    nets = {name: Translated(Raw(data[name]), RectifiedFlow(), "u") for name in ("student", "teacher", "fake")}
    x0, eps, t = (tensor(data[name]) for name in ("x0", "eps", "t"))
    x, student = diffused(x0, t, eps), nets["student"]
    slope, scale = nets["teacher"].velocity(x, t).detach(), t.cos() * t.sin()

    def gradients(net, loss, case):
        net.zero_grad()
        loss.backward()
        for name, value in case["grad"].items():
            close(net.network.weights[name].grad, value)

    def denoise(net):
        def check(case):
            close(net.velocity(x, t), case["F"])
            close(rotated(x, net.velocity(x, t), t), case["x0"])

        return check

    def continuous(r, mode="exact"):
        def check(case):
            here, moved = tangent(student.velocity, x, t, slope, scale, mode)
            # the reference's df_dt holds J, cos t sin t dF/dt, where the derivative has sin t dF/dt
            close((direction(here, slope, x, moved, t) + moved) / t.cos()[:, None] - moved, case["df_dt"])
            g = normalised(direction(here, slope, x, moved, t, r))
            loss = 100 * squared(student.velocity(x, t), here + g)
            close(loss.detach(), case["loss_per_sample"])
            if "grad" in case:
                gradients(student, loss.mean(), case)

        return check

    def discrete(case):
        class Given(Draws):
            def uniform(self, name, count):
                return tensor(case["u"])

        pair = Shifted()(Given(0, 0).uniform("pair", 4), type("Unit", (), {"data_std": 1.0}))
        # their x_t is built from the same x0 and eps at the drawn time
        times = [one.atan() for one in pair]
        there = x0 + pair[0][:, None] * eps
        near = SOLVERS["angle"](nets["teacher"], there, *pair, None, 1.0)
        loss = 100 * squared(student(there, pair[0]), student(near, pair[1]))
        close(loss.detach(), case["loss_per_sample"])
        assert (times[0] > times[1]).all()

    def rolled(case, steps):
        noise = tensor(data[case]["noise_in_order"])
        times = tensor([PURE, 1.3, 1.0, 0.6][:steps])[:, None].expand(-1, 4)
        return rollout(student.velocity, noise[:steps].transpose(0, 1), times), noise[-1], tensor(data[case]["tD"])

    def matching(name, steps):
        def check(case):
            made, fresh, at = rolled(name, steps)
            close(made.detach(), case["G_x0"])
            there = noised(made.detach(), at.tan(), fresh, 1.0)
            real, fake = (nets[net](there.x, there.sigma).detach() for net in ("teacher", "fake"))
            g, _ = matching_direction(made.detach(), real, fake, floor=1e-5)
            close(squared(made, made.detach() - g).detach(), case["loss_per_sample"])
            # what `Weighed` gives with lam = 1 and d = 1, whose surrogate the engine minimises
            gradients(student, surrogate(made, 2 * 3 * g), case)

        return check

    def critic(name, steps):
        def check(case):
            made, fresh, at = rolled(name, steps)
            there = noised(made.detach(), at.tan(), fresh, 1.0)
            loss = there.weight * squared(nets["fake"](there.x, there.sigma), there.target)
            close(loss.detach(), case["loss_per_sample"])
            gradients(nets["fake"], loss.mean(), case)

        return check

    def scaling(case):
        """c_in x in, c_skip x + c_out v out."""
        at, one = tensor(case["t"]), torch.ones(len(case["t"]), 1, dtype=F64)
        seen = {}
        probe = Translated(lambda x, s, cond: seen.update(x=x, s=s) or 0 * x + 1, RectifiedFlow(), "u")
        answer = rotated(one, probe.velocity(one, at), at)
        close(seen["x"][:, 0], case["c_in"])
        close(1000 * seen["s"], case["c_noise"])
        close(answer[:, 0], [a + b for a, b in zip(case["c_skip"], case["c_out"], strict=True)])

    def times(case):
        rf = tensor(case["rf"])
        flow, shifted = RectifiedFlow(), RectifiedFlow(shift=5.0)
        close(flow.sigma(rf), case["sigma"])
        close(flow.angle(rf), case["trig"])
        close(flow.time(tensor(case["trig"]).tan()), case["back"])
        close(shifted.b(rf), case["shift5"])
        sigma = ShiftedUniform(5.0)(rf)
        close(sigma / (1 + sigma), case["shift5"])

    checks = {f"denoise_{name}": denoise(net) for name, net in nets.items()}
    checks["denoise_fake_score"] = checks.pop("denoise_fake")
    checks |= {f"scm_r{r}": continuous(r) for r in (1.0, 0.25, 0.5)}
    checks |= {"scm_fd1": continuous(1.0, "semi"), "scm_fd2": continuous(1.0, "discrete"), "dcm": discrete}
    for steps in (1, 3):
        checks |= {
            f"dmd_N{steps}": matching(f"dmd_N{steps}", steps),
            f"critic_N{steps}": critic(f"dmd_N{steps}", steps),
        }
    given = ("_meta", "raw_net", "student", "teacher", "fake", "x0", "eps", "t", "attention_jvp")
    walk_sections(data, checks | {"scaling": scaling, "times": times}, ignore=given)


# ---- the two ends of the knob ----------------------------------------------------------------------------

BEGIN = Sizes(16, 1, clock="angle").build([2], data_std=D)
torch.nn.init.normal_(BEGIN.network.out.weight, std=0.2, generator=torch.Generator().manual_seed(0))
REGIME = Regime(6, 32, 1e-3, 2e-3, turns=2, betas=(0.0, 0.999), weight_decay=0.01)


def made(steps=2, **how):
    student = one_network(BEGIN, few_levels(steps, D))
    return distil_rcm(student, LAW, SOURCE, **{"regime": REGIME, "progress": False, "seed": 5} | how)


def same(one, other):
    pairs = zip(one.student.parameters(), other.student.parameters(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_without_matching_it_is_the_consistency_model_step_for_step():
    plain = distil_consistency(
        one_network(BEGIN, few_levels(2, D)), SOURCE, Tangent(), LAW, regime=replace(REGIME, turns=1), seed=5,
        progress=False, average=lambda update: power(update, sigma_rel=0.05),
    )  # fmt: skip
    assert same(made(lam=0.0), plain)
    assert same(made(lam=1.0, warmup=99), plain)  # the whole game, whose push weighs nothing: the same draws
    assert not same(made(lam=1.0), plain)


def test_without_consistency_and_with_fixed_times_it_is_distribution_matching():
    law = LogNormal(0.0, 1.6, D)
    plain = distill(
        one_network(BEGIN, few_levels(2, D)), LAW, SOURCE, push=Weighed(Matching(law, 1e-5), 0.3, D),
        fake=deepcopy(BEGIN), fake_levels=law, regime=REGIME, seed=5, progress=False,
    )  # fmt: skip
    assert same(made(lam=0.3, rule=None, rolled=None, sigma_rel=None), plain)
    assert not same(made(lam=0.3, rule=None, sigma_rel=None), plain)


def test_the_weight_is_on_the_scale_of_the_tangent():
    """The gradient with respect to x / d is 2 lam g / B; per dimension over sqrt(D)."""
    g = torch.randn(4, 9, generator=torch.Generator().manual_seed(0))
    scene = Scene(Draws(0, 0), 0, None, LAW, LAW, 1.0)
    for per_dim, scale in ((False, 1.0), (True, 1 / 3)):
        push, logs = Weighed(lambda scene: (g, {}), 0.25, 0.5, per_dim)(scene)
        y = torch.zeros(4, 9, requires_grad=True)
        surrogate(0.5 * y, push).backward()
        torch.testing.assert_close(y.grad, 2 * 0.25 * scale * g / 4)
        assert float(logs["gradient"]) == pytest.approx(0.5 * scale * float(g.norm(dim=1).mean()))
    assert Weighed(lambda scene: (g, {}), 0.25, begin=3)(scene)[0].abs().max() == 0
    scene.update = 3
    assert Weighed(lambda scene: (g, {}), 0.25, begin=3)(scene)[0].abs().max() > 0


def test_nothing_is_pushed_where_fake_and_teacher_agree_and_a_mean_too_high_is_lowered():
    teacher, high = Mixture([[0.0]], 0.5), Mixture([[0.7]], 0.5)
    for fake, check in ((teacher, lambda g: g == 0), (high, lambda g: g > 0)):
        x = torch.full((64, 1), 0.7)
        scene = Scene(Draws(0, 0), 0, None, teacher, fake, 0.5, x=x)
        g, _ = Weighed(Matching(LogNormal(0.0, 1.6, 0.5), 1e-5), 1.0, 0.5)(scene)
        assert check(g).all()


def test_exact_fixed_point():
    """N(0, s^2): the ODE's own map has no tangent at r = 1; 0.54 at most at r = 1/2 for s = 0.3."""
    s, t = 0.3, torch.linspace(0.01, 1.57, 200, dtype=F64)
    v = lambda t: s**2 * t.cos() ** 2 + t.sin() ** 2  # noqa: E731
    teacher = lambda x, t: (t.cos() * t.sin() * (1 - s**2) / v(t))[:, None] * x  # noqa: E731
    exact = lambda x, t: ((t.cos() - s / v(t).sqrt()) / t.sin())[:, None] * x  # noqa: E731
    x = torch.ones(200, 1, dtype=F64)
    here, moved = tangent(exact, x, t, teacher(x, t), t.cos() * t.sin())
    assert direction(here, teacher(x, t), x, moved, t).abs().max() < 1e-14
    assert direction(here, teacher(x, t), x, moved, t, 0.5).abs().max() > 0.1


# ---- rollouts --------------------------------------------------------------------------------------------


def test_random_rollouts_fall_in_time_and_take_every_number_of_steps():
    seen = []

    class Spy(torch.nn.Module):
        data_std = 1.0

        def velocity(self, x, t, cond=None):
            seen.append(t)
            return x

    student, taken = one_network(Spy(), [2.0]), []
    for step in range(60):
        seen.clear()
        RandomRollout(4)(student, Scene(Draws(0, step), step, None, LAW, None, 1.0), "z", 16, [2])
        times = torch.stack(seen)
        assert (times[0] == PURE).all()
        assert (times.diff(dim=0) <= 0).all()
        taken.append(len(times))
    assert set(taken) == {1, 2, 3, 4}
    cycled = []
    for update in range(8):
        seen.clear()
        scene = Scene(Draws(0, update), update, None, LAW, None, 1.0, update=update)
        RandomRollout(4, cycle=True)(student, scene, "z", 16, [2])
        cycled.append(len(seen))
    assert cycled == [1, 2, 3, 4] * 2


def test_rollouts_are_in_units_of_the_data():
    student = one_network(Sizes(16, 1, clock="angle").build([2], data_std=D), [2.0])  # D(x, sigma) = c_skip x
    x = RandomRollout(1)(student, Scene(Draws(0, 0), 0, None, LAW, None, D), "z", 4, [2])
    expected = D * math.cos(PURE) * Draws(0, 0).normal("z", 4, 1, 2)[:, 0]
    torch.testing.assert_close(x, expected, atol=1e-7, rtol=0)
    scene = Scene(Draws(0, 0), 2, None, LAW, None, D, update=2)
    twice = one_network(Sizes(16, 1, clock="angle").build([2], data_std=2 * D), [2.0])
    one, other = (RandomRollout(3, cycle=True)(each, scene, "z", 400, [2]) for each in (student, twice))
    assert 0.05 < float(one.std() / D) < 1
    torch.testing.assert_close(other, 2 * one)


# ---- trainings -------------------------------------------------------------------------------------------


def test_defaults_are_those_of_the_paper(monkeypatch):
    seen = {}

    def spied(student, teacher, source, **how):
        seen.update(how)

    monkeypatch.setattr("limbeck.diffusion.rcm.distill", spied)
    made(regime=None)
    regime = seen["regime"]
    assert (regime.betas, regime.clip, regime.weight_decay, regime.turns) == ((0.0, 0.999), None, 0.01, 4)
    assert seen["average"](99) == power(99, sigma_rel=0.05)
    assert seen["push"].weight == 0.01
    assert seen["push"].push.floor == 1e-5
    assert seen["fake_levels"] == LogNormal(0.0, 1.6, D) == seen["push"].push.levels
    assert (seen["also"].rule.times, seen["also"].rule.constant) == (LogNormal(-0.8, 1.6), 0.1)
    assert seen["fake"] is not seen["also"] and seen["rollout"].longest == 4


def test_the_average_moves_at_the_student_s_turns_alone():
    """Six updates among twelve rounds: the average is that of six weights, the fake score has twelve updates."""
    counted = []
    made(average=lambda update: counted.append(update) or 0.5)
    assert counted == list(range(6))


def test_discrete_consistency_takes_the_place_of_the_tangent():
    done = made(rule=RULES["dcm"](), lam=0.1)
    assert "train/student/consistency/tangent" not in done.values
    assert 0 < done.values["train/student/consistency/loss"] < done.values["train/student/loss"]
    assert not same(done, made(lam=0.1))


def test_guidance_is_the_teacher_s_alone():
    """The fake score is asked with the student's class, once; the teacher with the class and without."""
    from limbeck.diffusion import guided

    law = Mixture([[1.0, 0.0], [-1.0, 0.0]], 0.3)
    source = Exact(law, conditional=True)
    asked = []

    def teacher(x, sigma, cond=None):
        asked.append(set(cond.tolist()))
        return law(x, sigma, cond)

    student = one_network(Sizes(16, 1, clock="angle").build([2], 2, law.data_std), few_levels(1, law.data_std))
    done = distil_rcm(student, guided(teacher, 2.0, 2), source, regime=REGIME, progress=False, lam=0.1)
    assert {2} in asked and {0, 1} in asked
    assert done.fake is not None


def long(out):
    made(out=out, lam=0.1, rule=Tangent(warmup=5), regime=replace(REGIME, updates=20))


def test_resumes_bit_for_bit_after_sigkill(tmp_path):
    whole, cut = tmp_path / "whole" / "run", tmp_path / "cut" / "run"
    long(whole)
    killed_at("checkpoints/step-*25", cut, long, cut)
    assert not (cut / "checkpoints/step-00000040").exists()
    long(cut)
    ours, theirs = (read_checkpoint(one / "checkpoints/step-00000040") for one in (cut, whole))
    torch.testing.assert_close(ours.tensors, theirs.tensors, rtol=0, atol=0)
    assert set(ours.tensors["players"]) == {"student", "fake"}
    assert (cut / "runs.jsonl").read_bytes() == (whole / "runs.jsonl").read_bytes()


def test_the_velocity_of_the_student_is_what_a_sampler_asks():
    done = made(lam=0.1)
    denoiser, noise = done.student.experts[0], torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(0))
    times = torch.tensor([math.atan(80.0), 1.3], dtype=F64)[:, None].expand(-1, 5)
    with torch.no_grad():
        rolled = D * rollout(velocity_of(denoiser, D), noise, times)
        # a student's first input is sigma z, whose share sin t is not quite 1
        torch.testing.assert_close(done.student(noise), rolled, rtol=1e-2, atol=1e-3)
