"""SNOOPI: a one-step generator obeys a negative prompt inside cross-attention, where guidance blends two pictures.

A prompt is a set of one or two digits, "either of these"; a generator of one step is asked for {a, b} without {b}. Then
variational score distillation at a fixed and at a random scale of guidance, on a mixture whose teacher is exact.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

ALPHAS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5)
OTHERS = ("output guidance 1.5", "output guidance 2.5", "prompt {a} alone", "teacher, 20 steps, negative guidance 2")
NUMBERS = ("removed", "target", "distance to a real digit", "Fréchet distance")
RANDOM = {"fixed": "", "both random": "rf", "teacher only": "r", "fake only": "f"}
"""Which scores have a scale drawn from 0.5 to 4: r the real one, f the fake one; the other has 2.5."""
AT = tuple(range(200, 401, 25))


class Snoopi(Paper):
    """A negative prompt in one step; which scales of guidance should be random."""

    source = Source(
        "SNOOPI: Supercharged One-step Diffusion Distillation with Proper Guidance",
        "Nguyen, Nguyen, Dao, Nguyen, Pham, Tran, Tran", 2024, "2412.02687",
    )  # fmt: skip
    claim = (
        "A negative prompt subtracted inside cross-attention removes in one step what guidance of outputs blends in."
    )
    metric = "pictures without the unwanted digit, alpha = 1 minus none"
    unit = "points"
    baseline = "no negative prompt"
    extras = ("diffusion",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return the four numbers by strength and by other ways, and distances by which scale is random."""
        return {"digits": _digits(seed, quick), "scales": None if quick else _scales(seed)}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Read what is removed, and at which price; `digits` is [seed, way, number], `scales` [seed, way, updates]."""
        (found,) = stacked(measured, "digits")
        removed, target, near, far = np.moveaxis(found, 2, 0)
        one, blend = ALPHAS.index(1.0), len(ALPHAS) + 1
        names = [*(f"alpha {alpha:g}" for alpha in ALPHAS), *OTHERS]
        details: dict[str, Any] = {
            "ways": names, **{NUMBERS[k]: found[..., k].mean(0) for k in range(4)},
            "standard errors": sem(found, 0),
        }  # fmt: skip
        best = ALPHAS[int(target.mean(0)[: len(ALPHAS)].argmax())]
        notes = [
            f"the wanted digit in {100 * target[:, 0].mean():.0f} % without, {100 * target[:, one].mean():.0f} % at "
            f"alpha = 1, {100 * target[:, one + 1].mean():.0f} % at 1.5; most at {best:g}",
            f"realism pays: distance to a real digit {near[:, 0].mean():.1f} without, {near[:, one].mean():.1f} at "
            f"alpha = 1 ({near[:, blend].mean():.1f} by guidance 2.5 of outputs, which removes "
            f"{100 * removed[:, blend].mean():.0f} %)",
        ]
        if any(run["scales"] is None for run in measured):
            notes.append("quick: without the scales of guidance")
        else:
            (scales,) = stacked(measured, "scales")
            end, swing = scales[..., -1], np.ptp(scales, axis=2)
            details |= {"scales": [*RANDOM], "W2 to the classes": end.mean(0), "its swing": swing.mean(0)}
            said = (f"{name} {a:.3f} ± {s:.3f}, swing {b:.3f}" for name, a, s, b in
                    zip(RANDOM, end.mean(0), sem(end), swing.mean(0), strict=True))  # fmt: skip
            notes.append(
                f"random guidance, W2 to the classes after {AT[-1]} updates and its swing from {AT[0]} on, no gate: "
                + "; ".join(said)
            )
        title = f"Removed: {100 * removed[:, 0].mean():.0f} % without, {100 * removed[:, one].mean():.0f} % at alpha 1"
        return Outcome(
            effects=100 * (removed[:, one] - removed[:, 0]),
            checks={
                "alpha = 1 removes the digit from 90 % or more, in every seed": removed[:, one] >= 0.9,
                "without it 45 to 55 % lack it, in every seed": abs(removed[:, 0] - 0.5) <= 0.05,
                "output guidance 2.5: twice the Fréchet distance of alpha = 1": far[:, blend] > 2 * far[:, one],
            },
            details=details,
            notes=notes,
            figure=Figure(title, "strength alpha, or guidance of outputs minus 1", "share of pictures", [
                *(Series.measured(f"{name}, in attention", ALPHAS, found[:, : len(ALPHAS), k])
                  for k, name in enumerate(NUMBERS[:2])),
                *(Series.measured(f"{name}, guided outputs", [0.0, 0.5, 1.5], found[:, [0, blend - 1, blend], k])
                  for k, name in enumerate(NUMBERS[:2])),
            ]),
        )  # fmt: skip


def _digits(seed: int, quick: bool) -> list[list[float]]:
    """Return removed, target, distance and Fréchet distance of every way to ask for a and not for b."""
    import torch
    from sklearn.decomposition import PCA
    from sklearn.svm import SVC

    from limbeck import diffusion as room
    from limbeck.distill import read_data

    data = read_data("digits")
    source = room.Prompts(room.Pictures(data))
    classes, d = source.classes, source.data_std
    steps, updates, each = (250, 40, 8) if quick else (1500, 250, 20)
    how = room.Pretraining(steps, 192, 1.5e-3, log_mean=float(np.log(d)) - 0.4)
    begin = room.Sizes(128, 2, clock="angle", heads=4).build(source.shape, classes, d, seed)
    network: Any = room.train_teacher(begin, source, how, seed=seed, progress=False).denoiser
    regime = room.Regime(updates, 128, 5e-4, turns=1)
    student = room.distil_consistency(
        room.one_network(network, room.few_levels(1, d)), source, room.Tangent(), room.guided(network, 1.5, classes),
        regime=regime, seed=seed, progress=False,
    ).student  # fmt: skip
    pairs = torch.tensor([[a, b] for a in range(classes) for b in range(classes) if a != b])
    both = pairs.repeat(each, 1)
    wanted, unwanted = both[:, :1], both[:, 1:]
    noise = room.noise_for(student, source.shape, len(both), 1000 + seed)
    reader: Any = student.experts[0]
    tokens, mask = reader.network.read(unwanted)

    def without(alpha: float) -> Any:
        with room.negative(student, tokens, alpha, mask):
            return room.generate(student, noise, both, len(noise))

    def away(scale: float) -> Any:
        return lambda x, sigma, cond: (1 - scale) * network(x, sigma, unwanted) + scale * network(x, sigma, cond)

    plain, other, alone = (room.generate(student, noise, cond) for cond in (both, unwanted, wanted))
    made = [without(alpha) for alpha in ALPHAS] + [(1 - k) * other + k * plain for k in (1.5, 2.5)]
    made += [alone, room.euler(away(2.0), noise[:, 0], room.karras(20), both)]
    real = room.to_signal(data.inputs).flatten(1) / d
    judge, space = SVC(gamma=0.02, C=10).fit(real.numpy(), data.labels.numpy()), PCA(20).fit(real.numpy())
    rows = []
    for x in (one.flatten(1) / d for one in made):
        said = torch.from_numpy(judge.predict(x.numpy()))
        near = torch.cdist(x, real).min(1).values.mean()
        apart = room.frechet(*(torch.from_numpy(space.transform(one.numpy())) for one in (x, real)))
        hits = ((said != unwanted[:, 0]), (said == wanted[:, 0]))
        rows.append([*(float(one.double().mean()) for one in hits), float(near), apart])
    return rows


def _scales(seed: int) -> list[list[float]]:
    """Return the distance to the classes by updates, for each choice of whose scale is random."""
    import torch

    from limbeck import diffusion as room

    source = room.Exact(room.class_ring(4, 0.12), conditional=True)
    law, count = source.law, 4000
    begin = room.Sizes(64, 3).build([2], 4, source.data_std, seed)
    how = room.Pretraining(500, lr=2e-3, log_mean=-1.4)
    begin = room.train_teacher(begin, source, how, target=law, seed=seed, progress=False).denoiser
    labels = torch.arange(4).repeat_interleave(count)
    real = law.sample(4 * count, 2000 + seed, labels)[0]

    @dataclass(frozen=True)
    class OneSided(room.RandomGuidance):
        random: str = ""

        def at(self, score: Any, there: Any, cond: Any, k: Any) -> Any:
            side = "r" if score is law else "f"
            return super().at(score, there, cond, k if side in self.random else torch.full_like(k, 2.5))

    def judge(student: Any) -> dict[str, float]:
        made = room.generate(student, room.noise_for(student, [2], 4 * count, 1000 + seed), labels)
        far = [room.sliced_w2(made[labels == k], real[labels == k]) for k in range(4)]
        return {"w2": float(np.mean(far))}

    regime = room.Regime(AT[-1], 256, 5e-4, 1e-3, turns=1, average=0.9)
    how_judged: dict[str, Any] = {"judge": judge, "judge_at": AT, "seed": seed, "progress": False}
    out = []
    for random in RANDOM.values():
        run = room.distill(
            room.one_network(begin, [2.5]), law, source, push=OneSided(4, random=random), fake=deepcopy(begin),
            denoising=room.noise_loss, fake_levels=room.UniformTime(), regime=regime, **how_judged,
        )  # fmt: skip
        out.append([run.judged[update]["w2"] for update in AT])
    return out
