"""Scale distillation: the oracle that is linear and Gaussian, same noise for both, what stays frozen, and resuming."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from killing import killed_at
from limbeck.diffusion import super_resolution as room
from limbeck.diffusion.adversary import Adversary, PixelCritic
from limbeck.diffusion.decoder import DECODING, train_decoder
from limbeck.diffusion.denoisers import Preconditioned, spread
from limbeck.diffusion.features import feature_network, to_signal
from limbeck.diffusion.folders import load_model
from limbeck.diffusion.game import Scene
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.recipe import run_recipe
from limbeck.diffusion.sources import Draws, Pictures
from limbeck.diffusion.students import one_network
from limbeck.diffusion.super_resolution import (
    Conditioned,
    Conditioning,
    Scaling,
    bilinear_up,
    box_down,
    conditioned,
    distill_scales,
    judge_super_resolution,
    patches,
    psnr,
    pure_level,
    super_resolve,
)  # fmt: skip
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.distill import labelled, read_data, save_data
from limbeck.errors import ConfigError, TrainingError

BRIEF = Regime(12, 16, 3e-3, turns=1, betas=(0.9, 0.999), average=0.9)
SOURCE = Pictures(labelled(torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(5)), [0] * 40), False)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


def small(seed: int = 0) -> Preconditioned:
    return conditioned(Sizes(16, 1), SOURCE.shape, SOURCE.data_std, seed)


def climb(out: Path | None = None, factors: tuple[int, ...] = (2, 4), **changes: Any) -> dict[int, Distilled]:
    return distill_scales(small(), SOURCE, factors, **{"regime": BRIEF, "out": out, "progress": False} | changes)


# ---- the oracle: x in R^8, covariance e^(-|i-j|/2), told means of pairs or of quadruples -------------------

COVARIANCE = torch.tensor(np.exp(-np.abs(np.subtract.outer(range(8), range(8))) / 2))


class Walks:
    """Points of that law as a source."""

    shape, classes, data_std = (8,), 0, 1.0

    def draw(self, draws: Draws, count: int) -> tuple[Tensor, None]:
        return draws.normal("x", count, 8).double() @ torch.linalg.cholesky(COVARIANCE).T, None


MEANS = Conditioning(lambda x, s: x.unflatten(-1, (-1, s)).mean(-1), lambda low, s: low)


def seen(factor: int, a: float, b: float) -> tuple[Tensor, Tensor]:
    """M and the covariance of (a x + b eps, means), which is M x and noise."""
    m = torch.cat([a * torch.eye(8, dtype=torch.float64), MEANS.told(torch.eye(8).double(), factor).T])
    return m, m @ COVARIANCE @ m.T + b**2 * torch.diag((torch.arange(len(m)) < 8).double())


def posterior(factor: int, a: float, b: float) -> Tensor:
    """A of E[x | z, means] = A (z, means)."""
    m, s = seen(factor, a, b)
    return torch.linalg.solve(s, m @ COVARIANCE).T


class Exact(nn.Module):
    """E[x | x + sigma eps, means of a factor] times a number that is 1."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor, self.scale = factor, nn.Parameter(torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        rows = zip(x, sigma.tolist(), cond, strict=True)
        return self.scale * torch.stack([posterior(self.factor, 1.0, s) @ torch.cat([z, c]) for z, s, c in rows])


@pytest.mark.parametrize(("angle", "truth", "taught"), [(1.5, 0.378, 0.203), (1.0, 0.302, 0.150), (0.5, 0.133, 0.053)])
def test_an_exact_teacher_has_the_same_optimum_and_less_variance(angle: float, truth: float, taught: float) -> None:
    """The variances are those of the specification's table, which has 0.203 for 0.2037."""
    a, b = math.cos(angle), math.sin(angle)
    (m4, s4), (m2, s2), direct, teacher = seen(4, a, b), seen(2, a, b), posterior(4, a, b), posterior(2, a, b)
    student = torch.linalg.solve(s4, (teacher @ (m2 @ COVARIANCE @ m4.T + cross_noise(b, 2, 4))).T).T
    torch.testing.assert_close(student, direct, rtol=0, atol=1e-10)

    def spread_of(target: Tensor, own: Tensor) -> float:
        return float((target - own @ s4 @ own.T).trace() / 8)

    own = float((COVARIANCE - teacher @ m2 @ COVARIANCE).trace() / 8)
    found = spread_of(COVARIANCE, direct), spread_of(teacher @ s2 @ teacher.T, direct)
    assert found == pytest.approx((truth, taught), abs=8e-4)
    assert found[1] == pytest.approx(found[0] - own, abs=1e-12) and own > 0.07


def cross_noise(b: float, one: int, other: int) -> Tensor:
    """Covariance of the noises of two models: the same, in what both see of z."""
    return b**2 * torch.eye(8 + 8 // one, 8 + 8 // other).double() * (torch.arange(8 + 8 // one) < 8)[:, None]


def test_the_loss_of_a_rung_has_the_oracles_optimum_and_less_noise() -> None:
    """At E[x | z, quadruples] the slope is 0 for both targets, and an exact teacher's varies less."""
    student, slopes = one_network(Exact(4), [1.0]), []
    for easier in (None, 2):
        rung, own = Scaling(4, easier, Walks(), MEANS, batch=64, lowest=0.5), []
        for step in range(40):
            scene = Scene(Draws(0, step), step, None, Exact(2), None, 1.0)
            loss, _ = rung(student, scene)
            own.append(torch.autograd.grad(loss, student.experts[0].scale)[0])
        slopes.append(torch.stack(own))
    truth, taught = slopes
    for one in slopes:
        assert one.mean().abs() < 4 * one.std() / len(one) ** 0.5
    assert taught.var() < 0.85 * truth.var()
    assert truth.std() > 0.005


# ---- teacher and student --------------------------------------------------------------------------------


def scene(real: Any = None, step: int = 0) -> Scene:
    return Scene(Draws(3, step), step, None, real, None, SOURCE.data_std)


class Truth(nn.Module):
    """Of factor 1: what it is told is the picture."""

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        return cond


def test_a_teacher_that_is_told_the_picture_is_ground_truth_to_the_bit() -> None:
    student = one_network(small(), [1.0])
    found = []
    for rung, real in ((Scaling(4, None, SOURCE), None), (Scaling(4, 1, SOURCE), Truth())):
        student.zero_grad()
        loss, _ = rung(student, scene(real))
        loss.backward()
        found.append([loss.detach(), *(one.grad.clone() for one in student.parameters() if one.grad is not None)])
    assert found[0][0] > 0.1 and all(a.equal(b) for a, b in zip(*found, strict=True))

    def train(easier: int | None) -> Distilled:
        student, teacher = one_network(small(), [1.0]), None if easier is None else Truth()
        also = Scaling(4, easier, SOURCE, batch=16)
        return distill(student, teacher, SOURCE, regime=BRIEF, push=None, also=also, progress=False)

    states = [train(easier).student.state_dict() for easier in (None, 1)]
    assert all(one.equal(states[1][name]) for name, one in states[0].items())


def test_both_see_the_same_noise_and_one_crop() -> None:
    calls = dict[str, tuple[Tensor, Tensor, Tensor]]()

    class Looks(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name, self.inside = name, small()

        def forward(self, x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
            calls[self.name] = x, sigma, cond
            answer: Tensor = self.inside(x, sigma, cond)
            return answer

    Scaling(4, 2, SOURCE, batch=200)(one_network(Looks("student"), [1.0]), scene(Looks("teacher")))
    (x, sigma, low), (other, level, better) = calls["student"], calls["teacher"]
    assert x.equal(other) and sigma.equal(level)
    torch.testing.assert_close(low, bilinear_up(box_down(box_down(better_pictures(), 2), 2), 4), rtol=0, atol=1e-6)
    torch.testing.assert_close(better, bilinear_up(box_down(better_pictures(), 2), 2), rtol=0, atol=1e-6)
    angle = sigma.double().atan()  # the teacher of this test has d = 1
    assert 0.02 <= angle.min() < 0.08 and angle.max() > 1.55 and abs(angle.mean() - 0.795) < 4 * 0.448 / 200**0.5


def better_pictures() -> Tensor:
    return SOURCE.draw(Draws(3, 0), 200)[0]


@pytest.mark.parametrize("factor", [2, 4])
def test_nested_ladder(factor: int) -> None:
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(box_down(x, 2 * factor), box_down(box_down(x, factor), 2), rtol=0, atol=1e-7)
    assert Conditioning().told(x, 1).equal(x)


def test_the_weights_of_the_loss() -> None:
    """v: the plain loss of v = cos(t) eps - sin(t) z / d, whatever the target; the others by their formulas."""
    model, teacher, seen = small(), small(1), []
    nn.init.normal_(model.network.network.out.weight, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(teacher.network.network.out.weight, generator=torch.Generator().manual_seed(1))
    teacher.register_forward_hook(lambda module, inputs, answer: seen.append((*inputs, answer)))
    loss, _ = Scaling(4, 2, SOURCE)(one_network(model, [1.0]), scene(teacher))
    (x, sigma, _, target), d, pictures = seen[0], model.data_std, SOURCE.draw(Draws(3, 0), 256)[0]
    t, low = (sigma.double() / d).atan(), bilinear_up(box_down(pictures, 4), 4)
    z = spread(t.cos() / d, x) * x
    v = (spread(t.cos(), z) * z - target / d) / spread(t.sin(), z)
    assert loss.item() == pytest.approx((model.velocity(z, t, low) - v).square().mean().item(), rel=1e-4)
    snr = (d / sigma) ** 2
    error = (model(x, sigma, low) - target).square().flatten(1).mean(1) / d**2
    for name, weight in {"v": snr + 1, "x0": torch.ones_like(snr), "truncated": snr.clamp(min=1)}.items():
        found, _ = Scaling(4, 2, SOURCE, weight=name)(one_network(model, [1.0]), scene(teacher))  # type: ignore[arg-type]
        assert found.item() == pytest.approx((weight * error).mean().item(), rel=1e-5)


@pytest.mark.parametrize("angle", [0.02, 1.0, math.pi / 2])
def test_the_round_trip_of_v(angle: float) -> None:
    """z_hat = cos(t) z - sin(t) v is what the denoiser says at sigma = d tan(t), at pure noise too."""
    model, d = small(), SOURCE.data_std
    nn.init.normal_(model.network.network.out.weight, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    x0, eps, low = (torch.randn(5, 1, 4, 4, generator=generator) for _ in range(3))
    t = torch.full((5,), angle, dtype=torch.float64)
    z = math.cos(angle) * x0 / d + math.sin(angle) * eps
    v = model.velocity(z, t, low)
    z_hat = d * (math.cos(angle) * z - math.sin(angle) * v)
    sigma = (d * t.tan()).float()
    torch.testing.assert_close(model(x0 + spread(sigma, eps) * eps, sigma, low), z_hat, rtol=1e-4, atol=1e-5)
    again = (math.cos(angle) * z - z_hat / d) / math.sin(angle)
    torch.testing.assert_close(again, v, rtol=1e-4, atol=2e-5)
    assert z_hat.abs().max() > 0.1


# ---- the ladder -------------------------------------------------------------------------------------------


def test_teachers_and_encoders_get_no_gradient_and_stay() -> None:
    encoder = nn.Conv2d(1, 1, 1)
    task, before = Conditioning(encode=encoder), encoder.weight.clone()
    done = climb(conditioning=task)
    assert encoder.weight.grad is None and encoder.weight.equal(before)
    teacher, student = (done[factor].student.experts[0] for factor in (2, 4))
    assert all(one.grad is None and not one.requires_grad for one in teacher.parameters())
    again = climb(factors=(2,), conditioning=task)[2].student.experts[0]
    assert all(one.equal(again.state_dict()[name]) for name, one in teacher.state_dict().items())
    assert not all(one.equal(teacher.state_dict()[name]) for name, one in student.state_dict().items())


def test_the_ladder_is_rungs_by_hand() -> None:
    """x4 begins as x2's average, asks it, and draws its own noise; from scratch it begins as x2 did."""
    first = replace(BRIEF, updates=20, batch=8)
    for init in ("teacher", "scratch"):
        done = climb(first=first, init=init)
        teacher = done[2].student.experts[0]
        student = one_network(teacher if init == "teacher" else small(), [pure_level(teacher)])
        also = Scaling(4, 2, SOURCE, batch=16)
        how: dict[str, Any] = {"regime": BRIEF, "push": None, "also": also, "seed": 1000, "progress": False}
        own = distill(student, teacher, SOURCE, **how).student.state_dict()
        assert all(one.equal(own[name]) for name, one in done[4].student.state_dict().items()), init
        assert (done[2].updates, done[4].updates, done[4].student.steps) == (20, 12, 1)
    up = distill_scales(teacher, SOURCE, (2, 4), ready=True, regime=BRIEF, progress=False)  # on a model that is there
    assert list(up) == [4] and up[4].values["train/student/loss"] > 0
    how = {"regime": BRIEF, "push": None, "also": also, "seed": 1000, "progress": False}
    own = distill(one_network(teacher, [pure_level(teacher)]), teacher, SOURCE, **how).student.state_dict()
    assert all(one.equal(own[name]) for name, one in up[4].student.state_dict().items())


@pytest.mark.parametrize("factors", [(2, 8), (2, 2), (4, 2), (2, 3), ()])
def test_only_ladders_that_double(factors: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="twice the one before"):
        climb(factors=factors)
    if factors != (2, 8):
        with pytest.raises(ConfigError, match="twice the one before"):
            climb(factors=factors, allow_skip=True)


def test_a_rung_may_be_skipped_knowingly_and_pictures_must_fit() -> None:
    assert list(climb(factors=(1, 4), allow_skip=True)) == [1, 4]
    with pytest.raises(ConfigError, match="8 times smaller"):
        climb(factors=(4, 8))


def test_a_killed_ladder_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    long = replace(BRIEF, updates=120)
    whole = climb(tmp_path / "whole", regime=long, first=BRIEF)
    killed_at("x4/checkpoints/step-*", tmp_path / "cut", partial(climb, regime=long, first=BRIEF), tmp_path / "cut")
    resumed = climb(tmp_path / "cut", regime=long, first=BRIEF)
    for factor, one in whole.items():
        state = resumed[factor].student.state_dict()
        assert all(value.equal(state[name]) for name, value in one.student.state_dict().items())
        assert one.values == resumed[factor].values
    with pytest.raises(TrainingError, match="told"):
        climb(tmp_path / "cut", regime=long, first=BRIEF, conditioning=Conditioning(down=halves))


def halves(x: Tensor, factor: int) -> Tensor:
    return box_down(x, factor) / 2


def test_judgements_know_their_factor() -> None:
    done = climb(judge=lambda factor, student: {"factor": factor, "steps": student.steps}, judge_at=[6, 12])
    assert {factor: one.judged for factor, one in done.items()} == {
        factor: {at: {"factor": factor, "steps": 1} for at in (6, 12)} for factor in (2, 4)
    }


# ---- sampling and judging -----------------------------------------------------------------------------------


def test_one_step_is_one_call_and_forgets_noise_that_the_network_does_not_see() -> None:
    calls = []

    def told(x: Tensor, sigma: Tensor, cond: Tensor) -> Tensor:
        calls.append(float(sigma[0]))
        return 0.5 * cond

    low = torch.rand(2, 1, 2, 2)
    one, other = (super_resolve(told, low, 2, seed=seed) for seed in (0, 1))
    assert one.equal(other) and one.equal(0.5 * bilinear_up(low, 2)) and len(calls) == 2 and min(calls) > 1e15
    calls.clear()
    super_resolve(told, low, 2, steps=4)
    assert [math.atan(one) for one in calls] == pytest.approx([math.pi / 2 * k / 4 for k in (4, 3, 2, 1)])
    noisy = [super_resolve(lambda x, sigma, cond: x / spread(sigma, x), low, 2, seed=seed) for seed in (0, 1)]
    assert not noisy[0].equal(noisy[1]) and 0.5 < noisy[0].std() < 1.5


def test_latents_are_encoded_and_decoded() -> None:
    task = Conditioning(encode=lambda x: avg(x) - 3)
    made = super_resolve(
        lambda x, sigma, cond: cond, torch.ones(1, 1, 2, 2), 4, conditioning=task, decode=lambda z: 2 * z
    )
    assert made.shape == (1, 1, 4, 4) and made.unique().tolist() == [-4.0]


def avg(x: Tensor) -> Tensor:
    return nn.functional.avg_pool2d(x, 2)


def test_psnr() -> None:
    generator = torch.Generator().manual_seed(0)
    true, made = (2 * torch.rand(4, 1, 3, 3, generator=generator) - 1 for _ in range(2))
    errors = ((made - true).numpy().astype(float) ** 2).mean((1, 2, 3))
    assert psnr(made, true) == pytest.approx(np.mean(10 * np.log10(4 / errors)))
    assert psnr(torch.full((1, 2), 9.0), torch.ones(1, 2)) == math.inf  # cut off
    assert psnr(torch.full((1, 2), 0.4), torch.full((1, 2), 0.3), span=1.0) == pytest.approx(20)


@cache
def digits() -> tuple[Pictures, Tensor, Callable[[Tensor], Tensor], Distilled]:
    """Digits, other ones, features, and a model of factor 2 after 150 updates."""
    data = read_data("digits")
    learn, other = data.split(0, 0.3)
    source = Pictures(learn, False)
    features = feature_network(labelled(learn.inputs.numpy(), [0] * len(learn))).features
    model = conditioned(Sizes(96, 2), source.shape, source.data_std)
    regime = replace(room.SCALING, updates=150, batch=128, lr=2e-3)
    done = distill_scales(model, source, (2,), regime=regime, progress=False)
    return source, to_signal(other.inputs), features, done[2]


def test_digits_become_sharper_than_by_interpolation_and_steps_trade() -> None:
    _, x, features, done = digits()
    said = judge_super_resolution(done.student.experts[0], x, 2, features)
    plain = psnr(Conditioning().told(x, 2), x)
    assert said[1]["psnr"] > plain + 1
    assert said[16]["psnr"] < said[2]["psnr"] - 0.5 and said[16]["frechet"] < 0.5 * said[1]["frechet"]
    assert list(said) == [1, 2, 4, 16]
    low = box_down(x, 2)
    noise = torch.randn(len(x), 1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # the student is the same generator
        made = done.student(noise, bilinear_up(low, 2))
    torch.testing.assert_close(made, super_resolve(done.student.experts[0], low, 2), rtol=0, atol=2e-5)


# ---- the decoder --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("against", [False, True])
def test_only_the_decoder_moves_and_it_helps(against: bool) -> None:
    source, x, _, done = digits()
    model, encoder = done.student.experts[0], nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(encoder.weight, 0.8)  # the model was not trained for it: the decoder has something to mend
    task, decoder = Conditioning(encode=encoder), nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU())
    torch.manual_seed(0)
    decoder.append(nn.Conv2d(16, 1, 3, padding=1))
    before = [{name: one.clone() for name, one in part.state_dict().items()} for part in (model, encoder, decoder)]
    how: dict[str, Any] = {"perceptual": lambda made, x: (made.mean((1, 2, 3)) - x.mean((1, 2, 3))).square().mean()}
    if against:
        how["adversary"] = Adversary(PixelCritic([1, 8, 8], width=16), weight=0.01)
    trained = train_decoder(decoder, model, source, 2, conditioning=task, progress=False, **how,
                            regime=replace(DECODING, updates=120, lr=5e-3))  # fmt: skip
    for part, was in zip((model, encoder), before, strict=False):
        assert all(one.equal(was[name]) for name, one in part.state_dict().items())
        assert all(one.grad is None for one in part.parameters())
    assert not any(one.equal(before[2][name]) for name, one in decoder.state_dict().items())
    assert {"train/student/l1", "train/student/perceptual"} <= set(trained.values)
    assert ("train/critic/loss" in trained.values) == against
    low, decode = box_down(x, 2), trained.student.experts[0]
    plain = psnr(super_resolve(model, low, 2, conditioning=task), x)
    with torch.no_grad():
        assert psnr(super_resolve(model, low, 2, conditioning=task, decode=decode), x) > plain + 0.4


# ---- networks and data ----------------------------------------------------------------------------------------


def test_a_network_sees_both_pictures() -> None:
    for sizes, shape in ((Sizes(8, 1), [1, 4, 4]), (Sizes(8, 1, levels=2), [3, 8, 8])):
        model = conditioned(sizes, shape, 0.7)
        inner: Any = model.network
        for one in inner.network.parameters():
            nn.init.normal_(one, std=0.2, generator=torch.Generator().manual_seed(one.numel()))
        x, low, sigma = torch.randn(2, *shape), torch.randn(2, *shape), torch.tensor([1e16, 0.5])
        answer = model(sigma.reshape(-1, 1, 1, 1) * x, sigma, low)
        assert answer.shape == x.shape and answer.isfinite().all()
        assert (model(sigma.reshape(-1, 1, 1, 1) * x, sigma, -low) - answer).abs().amax((1, 2, 3)).min() > 1e-3
        assert model.clock == "angle" and model.data_std == 0.7
    for wrong in (None, torch.zeros(2, 3, 4, 4)):
        with pytest.raises(ConfigError, match="size of"):
            Conditioned(nn.Identity())(torch.zeros(2, 3, 8, 8), torch.ones(2), wrong)


def test_photographs_in_patches() -> None:
    from sklearn.datasets import load_sample_images

    images = load_sample_images().images
    data = patches(images, 32)
    assert len(data) == 2 * 13 * 20 and data.labels.bincount().tolist() == [260, 260]
    assert np.allclose(255 * data.inputs[21].numpy(), images[0][32:64, 32:64].transpose(2, 0, 1), atol=1e-3)
    source = Pictures(data, False)
    model = conditioned(Sizes(16, 1), source.shape, source.data_std)
    done = distill_scales(model, source, (2, 4, 8), regime=replace(BRIEF, updates=2), progress=False)
    assert list(done) == [2, 4, 8] and done[8].values["train/student/loss"] > 0


def test_a_recipe_judges_the_ladder_on_pictures_that_it_did_not_learn(tmp_path: Path) -> None:
    data = labelled(read_data("digits").inputs[:300].numpy(), [0] * 300)
    recipe: dict[str, Any] = {"data": str(save_data(data, tmp_path / "one.npz")), "out": str(tmp_path / "out")}
    recipe |= {"method": {"name": "scale-distillation"}, "teacher": {"width": 32, "blocks": 1}}
    recipe |= {"updates": 20, "batch": 32}
    done = run_recipe(recipe, progress=False)
    rows = {row.name: row for row in done.judged.rows}
    assert next(iter(rows)) == "teacher x2, 1 step" and [*rows][-1] == "student x4, 1 step" and len(rows) == 8
    assert done.judged.count == 60 and "PSNR" in done.summary() and (tmp_path / "out" / "samples.png").exists()
    saved = load_model(Path(done.student))
    _, other = data.split(0, 0.2)
    x = to_signal(other.inputs[torch.randperm(60, generator=torch.Generator().manual_seed(0))])
    model: Any = saved.model
    made = super_resolve(model.experts[0], box_down(x, 4), 4)
    assert saved.kind == "student" and psnr(made, x) == rows["student x4, 1 step"].values["psnr"]
    trained = [len((tmp_path / "out" / f"x{k}" / "runs.jsonl").read_text().splitlines()) for k in (2, 4)]
    assert trained == [80, 20]
    assert run_recipe(recipe, progress=False).again
    for wrong in ({"data": "ring8"}, {"method": {"name": "scale-distillation", "factors": [4]}}, {"teacher": "there"}):
        with pytest.raises(ConfigError, match="scale-distillation"):
            run_recipe(recipe | {"out": str(tmp_path / "wrong")} | wrong, progress=False)
