"""Distilling diversity and control: does the first step decide, and do adapters move from a teacher to its student?

A student that loses modes at a step we choose, on a ring whose exact maps are known; a trained student of few steps;
and a slider for ink, learnt on a teacher of digits and moved to its student.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._generators import digits, points

PLANTED = ("SSSS", "CSSS", "BSSS", "CSSB", "SSCS", "BSCS", "SSBS", "CCCC", "BCCC")
"""Who takes each step: the ideal student S, the collapsed one C, the base B."""
LEVELS = (0.9, 0.6, 0.3)
"""Angles between the first step, at sigma = 80, and the picture."""
STRENGTHS = (-1.0, 0.0, 1.0, 2.0)
WEIGHTS = (0.24, 0.20, 0.16, 0.12, 0.10, 0.08, 0.06, 0.04)


class DistillingDiversityControl(Paper):
    """A base model's first step, and its adapters, in a student."""

    source = Source("Distilling Diversity and Control in Diffusion Models", "Gandikota, Bau", 2025, "2503.10637")
    claim = "The base model's first step gives a distilled model its variety back, and adapters move between the two."
    metric = "lost distance between samples that the base's first step restores, collapse planted at step 1"
    unit = "percent"
    baseline = "collapsed student"
    extras = ("diffusion",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return [variation, distance] by who takes which step; of a trained student; ink by model and strength."""
        out = {"planted": _planted(seed, 2000), "trained": None, "ink": None, "accuracy": None}
        return out if quick else out | _trained(seed) | _slider(seed)

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare the distances; the trained student and the slider where they were run."""
        (planted,) = stacked(measured, "planted")
        variation, distance = (
            dict(zip(PLANTED, planted.T[0], strict=True)),
            dict(zip(PLANTED, planted.T[1], strict=True)),
        )
        gain = 100 * (distance["BSSS"] - distance["CSSS"]) / (distance["SSSS"] - distance["CSSS"])
        checks: dict[str, Any] = {
            "a collapse of the first step: the base's first step restores two thirds of the distance": gain > 66,
            "and leaves less than half of the error of the mode weights": variation["BSSS"] < variation["CSSS"] / 2,
            "the base's last step instead restores nothing": distance["CSSB"] < distance["CSSS"],
            "a collapse of the third step: its own step helps, the first does not":
                (variation["SSBS"] < variation["SSCS"] / 2) & (variation["BSCS"] > 0.9 * variation["SSCS"]),
        }  # fmt: skip
        details: dict[str, Any] = {
            "steps": PLANTED,
            "variation": planted.mean(0)[:, 0],
            "distance": planted.mean(0)[:, 1],
        }
        notes = [
            "the ring's students are exact maps, the collapse is planted: what is shown is where the repair can work",
            f"a student collapsed at all steps keeps most of its error: {variation['BCCC'].mean():.2f} of "
            f"{variation['CCCC'].mean():.2f}",
        ]
        if all(one["ink"] is not None for one in measured):
            ink, accuracy, trained = stacked(measured, "ink", "accuracy", "trained")
            change = ink[:, :, 2] - ink[:, :, 1]
            kept = 100 * change[:, 1] / change[:, 0]
            checks |= {
                "a slider keeps 70 to 130 % of its effect in the student": (kept > 70) & (kept < 130),
                "in both models ink rises with its strength": (np.diff(ink) > 0).all((1, 2)),
                "and costs less than 2 points of class accuracy": accuracy[:, 1] > accuracy[:, 0] - 0.02,
            }
            details |= {"strengths": STRENGTHS, "ink, teacher and student": ink.mean(0), "retention, percent": kept}
            rows = ", ".join(f"{name} {v:.3f}" for name, v in zip(measured[0]["models"], trained.mean(0), strict=True))
            notes.append(f"a trained student's collapse is not in its first step, error of the mode weights: {rows}")
        else:
            notes.append("quick: without the trained student and the slider")
        title = f"The base's first step restores {gain.mean():.0f} % of a variety lost there, and none lost elsewhere"
        at = np.arange(len(PLANTED))
        return Outcome(
            effects=gain, checks=checks, details=details, notes=notes,
            figure=Figure(title, f"who takes the steps: {', '.join(PLANTED)}", "error of the mode weights", [
                Series.measured("four steps", at, planted[:, :, 0])
            ]),
        )  # fmt: skip


def _planted(seed: int, count: int) -> list[list[float]]:
    """Return error of the mode weights and mean distance for each row of `PLANTED`."""
    import torch

    from limbeck import diffusion as room

    def ring(power: float) -> Any:
        means = 2**0.5 * room.mixture("ring8").means
        return room.Mixture(means, 0.1, [one**power for one in WEIGHTS])

    def solved(law: Any) -> Any:
        def denoise(x: Any, sigma: Any, cond: Any = None) -> Any:
            levels = room.karras(24, 0.01, float(sigma[0]))
            return room.euler(law, x / sigma[0], levels)

        return denoise

    law = ring(1)
    who = {"B": law, "S": solved(law), "C": solved(ring(4))}
    angles = torch.tensor([np.arctan(80.0), *LEVELS], dtype=torch.float64)
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(4, count, 2, generator=random, dtype=torch.float64)
    out = []
    for row in PLANTED:
        models = [(who[one], 1) for one in row]
        made = room.sample_with(models, noise[0], room.TrigFlow(), angles, draws=noise[1:]).x
        out.append([room.judge_mixture(law, made, seed=seed).mode_variation, room.diversity(made)])
    return out


def _student(source: Any, teacher: Any, levels: list[float], seed: int, **regime: Any) -> Any:
    """Return a student of the teacher by distribution matching."""
    from copy import deepcopy

    from limbeck import diffusion as room

    how, begin = room.Regime(**regime), room.one_network(teacher, levels)
    return room.distill(begin, teacher, source, fake=deepcopy(teacher), regime=how, seed=seed, progress=False).student


def _trained(seed: int) -> Numbers:
    """Return the error of a trained student's mode weights, whose steps the base takes in turn."""
    from limbeck import diffusion as room

    source, teacher = points("ring8", seed, False)
    student = _student(source, teacher, [2.5, 0.9, 0.5, 0.25], seed, lr=3e-4, fake_lr=1e-3, turns=5, average=0.98)
    noise = room.noise_for(student, source.shape, 2000, 1000 + seed)

    def judge(x: Any) -> dict[str, float]:
        return {"variation": room.judge_mixture(source.law, x, seed=seed).mode_variation}

    table = room.interventions(student, teacher, noise, judge=judge)
    return {"models": [*table], "trained": [row["variation"] for row in table.values()]}


def _slider(seed: int) -> Numbers:
    """Return mean ink of the teacher and of its student by strength, and their accuracy without and with the slider."""
    from dataclasses import replace

    import torch

    from limbeck import diffusion as room
    from limbeck.distill import read_data

    source, teacher, _ = digits(seed, False)
    data, network = read_data("digits"), room.feature_network(read_data("digits"), seed=0)
    student = _student(source, teacher, [2.5, 0.8], seed, updates=150, turns=2)
    total = data.inputs.flatten(1).mean(1)
    kept = [rows[total[rows].argsort(descending=True)[: round(0.3 * len(rows))]]
            for rows in ((data.labels == one).nonzero()[:, 0] for one in data.labels.unique())]  # fmt: skip
    inky = replace(source, kept=torch.cat(kept))
    slider = room.train_slider(teacher, inky, room.Pretraining(400, 128, 2e-3), seed=seed, progress=False)
    noise = room.noise_for(student, source.shape, len(data), 2000 + seed)
    ink, right = [], []
    for model in (teacher, student):
        made = []
        for strength in STRENGTHS:
            edited: Any = room.transfer(slider, model, strength)
            made.append(
                room.generate(edited, noise, data.labels) if model is student
                else room.euler(edited, noise[:, 0], room.karras(18), data.labels)
            )  # fmt: skip
        ink.append([float(x.mean()) for x in made])
        right.append([float((network.labels(x) == data.labels).float().mean()) for x in made])
    return {"ink": ink, "accuracy": [right[1][1], right[1][2]]}
