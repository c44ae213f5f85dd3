"""GDD: a critic alone makes a one-step generator of a diffusion model, which was one nearly all along.

Four starts of the same game: all parameters or a frozen trunk, a pretrained network or a fresh one; and distribution
matching without real data at equal updates. Digits; in a quick run, a ring of eight Gaussians.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._generators import course, digits, divergence, points

WAYS = ("GDD", "GDD-I, frozen trunk", "fresh network", "DMD, no real data")
FREE, FROZEN, FRESH, MATCHING = range(len(WAYS))


class GddInnateOneStep(Paper):
    """Freezing most of a pretrained network, against freezing nothing, against no pretraining."""

    source = Source("Diffusion Models Are Innate One-Step Generators", "Zheng, Yang", 2024, "2405.20750")
    claim = "A pretrained diffusion model is nearly a one-step generator: a frozen trunk does better than a free one."
    metric = "log ratio of Fréchet distances, free over frozen trunk"
    unit = "nats"
    baseline = "all parameters free"
    extras = ("diffusion",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return distances to the data by way and updates, the start's, and the share that is trained."""
        from limbeck import diffusion as room

        if quick:
            source, teacher = points("ring8", seed, quick)
            judge: Any = partial(_judged, source, seed)
            at, regime, level = [50, 100, 200], room.Alternating(200, lr=3e-4), 0.7
            lr, r1_every, name = 1e-3, 4, "jsd"
            sizes, width = room.Sizes(64, 2), 64

        else:
            source, teacher, judge = digits(seed, quick)
            at, regime, level = [75, 150, 300], room.Alternating(300, lr=2e-4), 2.5
            lr, r1_every, name = 4e-4, 16, "frechet"
            sizes, width = room.Sizes(), 128
        fresh = sizes.build(source.shape, source.classes, source.data_std, 1000 + seed)
        how: dict[str, Any] = {"judge": judge, "judge_at": at, "seed": seed, "progress": False}
        runs = []
        for start, freeze in ((teacher, None), (teacher, room.freeze_trunk), (fresh, None)):
            critic = room.PixelCritic(source.shape, source.classes, width, seed)
            adversary = room.Adversary(critic, lr=lr, r1=0.1, r1_every=r1_every)
            student = room.innate(start, [level])
            runs.append(room.distill_gdd(student, source, adversary, regime=regime, freeze=freeze, **how))
        matched = room.Regime(at[-1], lr=regime.lr, fake_lr=1e-3 if quick else 4e-4, turns=1)
        fake = room.one_network(teacher, [level]).experts[0]
        runs.append(room.distill(room.one_network(teacher, [level]), teacher, source, regime=matched, fake=fake, **how))
        begun = judge(room.innate(teacher, [level]))[name]
        far = [course(run.judged, name) for run in runs]
        return {"far": far, "start": begun, "at": at, "trained": runs[FROZEN].trainable, "digits": not quick}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare the four ways at their last update; `far` is [seed, way, updates]."""
        far, start, at, trained = stacked(measured, "far", "start", "at", "trained")
        last, on_digits = far[:, :, -1], all(one["digits"] for one in measured)
        gain = np.log(last[:, FREE] / last[:, FROZEN])
        what = "Fréchet distance" if on_digits else "divergence, nats"
        title = f"Frozen trunk {last[:, FROZEN].mean():.3g}, free {last[:, FREE].mean():.3g}, no pretraining "
        return Outcome(
            effects=gain,
            checks={
                "a frozen trunk ends nearer to the data than a free one, in every seed": gain > 0,
                "both end nearer than a fresh network, in every seed": last[:, :2].max(1) < last[:, FRESH],
            },
            details={"ways": WAYS, what: last.mean(0), "of seeds": last, "before": start, "share trained": trained},
            notes=[
                f"before any update {start.mean():.3g}: the critic "
                + ("first ruins what was there" if last[:, FROZEN].mean() > start.mean() else "improves on it"),
                f"matching without real data, at as many updates: {last[:, MATCHING].mean():.3g} "
                f"± {sem(last[:, MATCHING]):.2g}",
                f"{100 * trained.mean():.0f} % of the parameters learn with a frozen trunk (the paper's U-Net: 14)",
                *([] if on_digits else [
                    "quick: points in the plane, where a frozen trunk never did better; their noise level of 0.7 was "
                    "chosen after 2.5 had shown no use of pretraining either",
                ]),
            ],
            figure=Figure(f"{title}{last[:, FRESH].mean():.3g}", "updates of the student", what, [
                Series.measured(way, at[0], far[:, k]) for k, way in enumerate(WAYS)
            ], log_y=True),
        )  # fmt: skip


def _judged(source: Any, seed: int, student: Any) -> dict[str, float]:
    return {"jsd": divergence(source, student, seed)}
