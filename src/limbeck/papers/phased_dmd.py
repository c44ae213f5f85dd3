"""Phased DMD: an expert for each interval of noise, matched where it ends, by a fake score that learns from there.

Four points on a line: a network learns the flow from pictures that stand at a noise level of their own, with the
paper's target and with the one that suggests itself. Then a ring of eight Gaussians: two experts, or one network of two
steps.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._generators import points

TARGETS = ("whole interval", "from s, the paper's target", "from s, the picture itself")
WHOLE, OURS, BIASED = range(len(TARGETS))
WAYS = ("two experts", "two experts, biased fake score", "one network of two steps")
ATOMS, S = (-1.0, 0.0, 1.0, 2.0), 0.5
START, BETWEEN = 2.5, 0.6


class PhasedDmd(Paper):
    """The target on a part of the noise levels, and experts against one network."""

    source = Source(
        "Phased DMD: Few-step Distribution Matching Distillation via Score Matching within Subintervals",
        "Fan, Qiu, Wu, F. Wang, Lin, Ren, D. Lin, Gong, Yang", 2025, "2510.27684",
    )  # fmt: skip
    claim = "Experts for parts of the noise, matched by an unbiased score within each, beat one network of few steps."
    metric = "log ratio of errors of the flow, picture itself as the target over the paper's"
    unit = "nats"
    baseline = "biased target"
    extras = ("diffusion",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return errors of the flow by target; divergence and distance at the boundary by way."""
        return {"flow": [_flow_error(target, seed, quick) for target in TARGETS]} | _ring(seed, quick)

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare targets, then ways; [seed, target or way]."""
        flow, jsd, between, entropy, floor = stacked(measured, "flow", "jsd", "between", "entropy", "floor")
        gain, modest = np.log(flow[:, BIASED] / flow[:, OURS]), jsd[:, 2] - jsd[:, 0]
        title = f"Error of the flow {flow[:, OURS].mean():.3f}, {flow[:, BIASED].mean():.3f} with the biased target"
        return Outcome(
            effects=gain,
            checks={
                "the biased target errs by four times as much and more, in every seed": gain > np.log(4),
                "the intermediate law is nearer with the unbiased one, in every seed": between[:, 0] < between[:, 1],
                "two experts end nearer to the data than one network of two steps": modest.mean() > 2 * sem(modest) > 0,
            },
            details={
                "targets": TARGETS, "relative squared error of the flow": flow.mean(0), "ways": WAYS,
                "divergence, nats": jsd.mean(0), "sliced W2 at the boundary": between.mean(0),
                "entropy of the modes' weights": entropy.mean(0), "of real points": floor.mean(),
            },
            notes=[
                f"at equal network calls two experts gain {modest.mean():+.3f} ± {sem(modest):.3f} nats; the last "
                "phase repairs most of a biased first one",
                "variety: entropy of the modes' weights "
                + ", ".join(f"{value:.2f}" for value in entropy.mean(0)) + f"; real points {floor.mean():.2f}",
            ],
            figure=Figure(title, "noise level of the picture at hand", "relative squared error", [
                Series.measured("whole interval", [0.0], flow[:, [WHOLE]]),
                Series.measured("the paper's target", [S], flow[:, [OURS]]),
                Series.measured("biased target", [S], flow[:, [BIASED]]),
            ], log_y=True),
        )  # fmt: skip


def _flow_error(target: str, seed: int, quick: bool) -> float:
    """Train a small network on points that stand at a noise level, and return how far its flow is from the formula."""
    import torch
    from torch import nn

    from limbeck.diffusion import Draws, flow_noised
    from limbeck.diffusion.matching import fake_loss
    from limbeck.distill import Player, Trainer, warmup_stable_decay

    atoms, steps, n = torch.tensor(ATOMS), 300 if quick else 1500, 512
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU()]
        network = nn.Sequential(*layers, nn.Linear(64, 1))
    s = 0.0 if target == TARGETS[WHOLE] else S

    def loss(player: str, draws: Draws, step: int) -> dict[str, Any]:
        level = torch.full((n,), s)
        x0 = atoms[draws.integers("atom", len(atoms), n)][:, None]
        x = (1 - s) * x0 + s * draws.normal("own noise", n, 1)
        eps, t = draws.normal("eps", n, 1), (s + (1 - s) * draws.uniform("t", n).float()).clamp(min=s + 1e-3)
        there = flow_noised(x, eps, level, t)
        if target == TARGETS[BIASED]:
            there = there._replace(target=eps - x)
        return {"loss": fake_loss(network(torch.cat([there.x, there.sigma[:, None]], 1)), there)}

    def schedule(update: int) -> float:
        return warmup_stable_decay(update, steps=steps, warmup=0, decay=1.0)

    player = Player("flow", network, torch.optim.Adam(network.parameters(), lr=2e-3), schedule)
    Trainer([player], loss, lambda step: Draws(seed, step), steps=steps, progress=False).run()
    draws = Draws(4321, 0)
    t = 0.55 + 0.44 * draws.uniform("t", 20_000).float()
    x = (1 - t) * atoms[draws.integers("atom", len(atoms), len(t))] + t * draws.normal("eps", len(t))
    share = (-(((x[:, None] - (1 - t[:, None]) * atoms) / t[:, None]) ** 2) / 2).softmax(1)
    exact = (x - (share * atoms).sum(1)) / t
    with torch.no_grad():
        found = network(torch.stack([x, t], 1))[:, 0]
    return float((found - exact).square().mean() / exact.square().mean())


def _ring(seed: int, quick: bool) -> Numbers:
    """Distil in two phases with and without bias, and one network of two steps, at equal updates and calls."""
    import torch

    from limbeck import diffusion as room

    source, teacher = points("ring8", seed, quick)
    updates = 40 if quick else 250
    regime = room.Regime(updates, lr=3e-4, fake_lr=1e-3, turns=4, average=0.98)
    real, _ = source.law.sample(8000, 2000 + seed)
    generator = torch.Generator().manual_seed(3000 + seed)
    noisy = real.float() + BETWEEN * torch.randn(real.shape, generator=generator)
    judged: list[Any] = []
    between: list[float] = []
    for denoising in ({}, {"denoising": room.biased_loss}):
        student = room.experts(teacher, [[START], [BETWEEN]])
        how: dict[str, Any] = {"fake": teacher, "regime": regime, "seed": seed, "progress": False, **denoising}
        student = room.distill_phases(student, teacher, source, **how)[-1].student
        noise = room.noise_for(student, [2], 8000, 1000 + seed)
        with torch.no_grad():
            between.append(float(room.sliced_w2(student.roll(noise, None, 0, 0), noisy)))
        judged.append(room.judge_mixture(source.law, room.generate(student, noise), seed=seed))
    longer = room.Regime(2 * updates, lr=3e-4, fake_lr=1e-3, turns=4, average=0.98)
    fake = room.one_network(teacher, [START]).experts[0]
    one = room.one_network(teacher, [START, BETWEEN])
    shared = room.distill(one, teacher, source, fake=fake, regime=longer, seed=seed, progress=False).student
    noise = room.noise_for(shared, [2], 8000, 1000 + seed)
    judged.append(room.judge_mixture(source.law, room.generate(shared, noise), seed=seed))
    truth = room.judge_mixture(source.law, source.law.sample(8000, 4000 + seed)[0], seed=seed)
    return {
        "jsd": [one.jsd for one in judged], "between": between,
        "entropy": [one.mode_entropy for one in judged], "floor": truth.mode_entropy,
    }  # fmt: skip
