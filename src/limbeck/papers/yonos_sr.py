"""YONOS-SR: a model that is told more about a picture gives better targets than the picture, if it is trained well.

An oracle, eight jointly Gaussian numbers: the exact teacher is told means of pairs, the student means of quadruples,
and learns by least squares from 2000 examples. Then handwritten digits, twice and four times their size: a teacher
trained as briefly as its student, and one trained four times as long whose student has 100 pictures.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

ANGLES, EXAMPLES, TRIALS = (1.5, 1.0, 0.5), 2000, 20
STEPS, FEW = (1, 2, 4, 16), 100
WAYS = ("x2 teacher", "x4 from pictures", "x4 from the teacher")


class YonosSr(Paper):
    """Targets of an exact teacher against the truth; then networks, where the teacher has errors to hand on."""

    source = Source(
        "You Only Need One Step: Fast Super-Resolution with Stable Diffusion via Scale Distillation",
        "Noroozi, Hadji, Martinez, Bulat, Tzimiropoulos", 2024, "2401.17258",
    )  # fmt: skip
    claim = "The model of an easier magnification is a better teacher of one-step super-resolution than the picture."
    metric = "excess risk saved by an exact teacher's targets, mean of three noise levels"
    unit = "percent"
    baseline = "true values"
    extras = ("diffusion",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return the oracle's excess risks and what networks give on digits."""
        return {"excess": oracle(seed), "digits": digits(seed, *((120, 128, 128) if quick else (800, 256, 192)))}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare both targets: `excess` is [seed, angle, target], `digits` [seed, budget, way, steps, metric]."""
        excess, said = stacked(measured, "excess", "digits")
        ratio, sharp, far = excess[..., 0] / excess[..., 1], said[..., 0], said[..., 1]
        gain, less = sharp[:, :, 2] - sharp[:, :, 1], 100 * (far[:, :, 2] / far[:, :, 1] - 1)
        trade = (sharp[:, 0, 1:, 3] < sharp[:, 0, 1:, 0]) & (far[:, 0, 1:, 3] < far[:, 0, 1:, 0])
        axes, budgets = ("steps", "PSNR, dB"), ("teacher as brief", f"teacher four times as long, {FEW} pictures")
        return Outcome(
            effects=100 * (1 - 1 / ratio).mean(1),
            checks={
                "oracle: true values cost 1.4 times the excess risk or more, at every angle in every seed": ratio > 1.4,
                "oracle: 1.8 times or more on average": ratio.mean() > 1.8,
                "digits, all pictures: more steps lose PSNR and gain in Fréchet distance, in every seed": trade,
                "long teacher: Fréchet distance at 4 steps below that of pictures, in every seed": less[:, 1, 2] < 0,
            },
            details={
                "angles": ANGLES, "excess risks": excess.mean(0), "ratio of seeds": ratio, "steps": STEPS,
                "budgets": budgets, "ways": WAYS, "PSNR, dB": sharp.mean(0), "Fréchet distance": far.mean(0),
            },
            notes=[*(
                f"digits, {name}: x4 from the teacher minus x4 from pictures at {STEPS} steps: PSNR "
                f"{gain[:, k].mean(0).round(2)} dB (± {sem(gain[:, k, 0]):.2f} at 1 step), Fréchet distance "
                f"{less[:, k].mean(0).round()} %" for k, name in enumerate(budgets)
            ), "a brief teacher hands its errors on; the long one saw more pictures than its student did",
               f"x4 from {FEW} pictures, 1 to 16 steps: {(sharp[:, 1, 1, 3] - sharp[:, 1, 1, 0]).mean():+.2f} dB"],
            figure=Figure("x4, {:+.2f} dB by brief, {:+.2f} by long teachers".format(*gain[:, :, 0].mean(0)), *axes, [
                Series.measured(f"{way}, {budget}", STEPS, sharp[:, k, w])
                for k, budget in enumerate(budgets) for w, way in enumerate(WAYS) if w
            ], log_x=True),
        )  # fmt: skip


def oracle(seed: int) -> list[list[float]]:
    """Return excess risks by angle t of z = cos(t) x + sin(t) eps, by target: true values, exact teacher."""
    rng, covariance = np.random.default_rng(seed), np.exp(-np.abs(np.subtract.outer(range(8), range(8))) / 2)
    rows = []
    for angle in ANGLES:
        a, b = np.cos(angle), np.sin(angle)
        x = rng.standard_normal((TRIALS, EXAMPLES, 8)) @ np.linalg.cholesky(covariance).T
        z = a * x + b * rng.standard_normal(x.shape)
        maps, roots, seen = [], [], []
        for factor in (2, 4):
            told = np.vstack([a * np.eye(8), np.kron(np.eye(8 // factor), np.full(factor, 1 / factor))])
            joint = told @ covariance @ told.T + b**2 * np.diag(np.arange(len(told)) < 8)
            maps.append(np.linalg.solve(joint, told @ covariance))
            roots.append(np.linalg.cholesky(joint))
            seen.append(np.concatenate([z, x @ told[8:].T], -1))
        found = [np.linalg.pinv(seen[1]) @ target for target in (x, seen[0] @ maps[0])]
        rows.append([float(((roots[1].T @ (one - maps[1])) ** 2).sum(-2).mean()) for one in found])
    return rows


def digits(seed: int, updates: int, batch: int, width: int) -> list[Any]:
    """Return PSNR and Fréchet distance by steps, of teacher, direct and distilled x4, for both budgets."""
    from limbeck import diffusion as room
    from limbeck.distill import labelled, read_data

    learn, other = read_data("digits").split(seed, 1 / 3)
    order = np.random.default_rng(seed).permutation(len(learn)).tolist()
    many, few = room.Pictures(learn, False), room.Pictures(learn.at(order[:FEW]), False)
    features = room.feature_network(labelled(learn.inputs.numpy(), [0] * len(learn))).features
    regime = room.Regime(updates, batch, 1e-3, turns=1, betas=(0.9, 0.999), average=0.995)
    how: dict[str, Any] = {"regime": regime, "progress": False}
    x2: Any = room.conditioned(room.Sizes(width, 3), many.shape, many.data_std, seed)
    rows = []
    for source, longer, own in ((many, 1, seed), (few, 3, seed + 7)):
        teaching = replace(regime, updates=longer * updates)
        x2 = room.distill_scales(x2, many, (2,), first=teaching, seed=own, **how)[2].student.experts[0]
        direct = room.distill_scales(x2, source, (4,), seed=seed + 1000, **how)[4].student.experts[0]
        taught = room.distill_scales(x2, source, (2, 4), ready=True, seed=seed, **how)[4].student.experts[0]
        x = room.to_signal(other.inputs)
        said = [room.judge_super_resolution(one, x, factor, features, steps=STEPS) for factor, one in
                ((2, x2), (4, direct), (4, taught))]  # fmt: skip
        rows.append([[[row["psnr"], row["frechet"]] for row in one.values()] for one in said])
    return rows
