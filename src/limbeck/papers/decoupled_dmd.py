"""Decoupled DMD: what guidance adds to distribution matching is a push that runs away, and matching is its shield.

Classes of two modes each on a ring, teachers without error, guidance 3, a student of two steps: matching alone,
augmentation alone, both at shared noise levels, and both with augmentation below the level of the step's input.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._generators import course, points

WAYS: dict[str, dict[str, str]] = {
    "matching alone": {"which": "matching"},
    "augmentation alone": {"which": "augmentation", "schedule": "shared"},
    "both, shared levels (DMD2)": {"schedule": "shared"},
    "both, hybrid levels": {"schedule": "hybrid"},
}
MATCHING, ALONE, SHARED, HYBRID = range(len(WAYS))
GUIDANCE, CLASSES = 3.0, 4


class DecoupledDmd(Paper):
    """Spear and shield apart, and the noise levels at which each is aimed."""

    source = Source(
        "Decoupled DMD: CFG Augmentation as the Spear, Distribution Matching as the Shield",
        "Liu, Gao, Liu, Du, Li, Wu, Jin, Cao, Zhang, Li, Hoi", 2025, "2511.22677",
    )  # fmt: skip
    claim = "Augmentation by guidance drives a student and runs away alone; matching stops it, own levels tame it."
    metric = "mean radius, augmentation alone minus both at shared noise levels"
    unit = ""
    baseline = "DMD2 with guidance"
    extras = ("diffusion",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return radius, distance from the unguided classes, and accuracy, by way and updates; the data's radius."""
        import torch

        from limbeck import diffusion as room

        source, network = points("class_ring", seed, quick, width=48)
        law = source.law
        updates = 100 if quick else 220
        at = [round(updates * part) for part in (0.32, 0.64, 1.0)]
        _, labels = law.sample(8000, 2000 + seed)

        def judge(student: Any) -> dict[str, float]:
            made = room.generate(student, room.noise_for(student, [2], len(labels), 1000 + seed), labels)
            found = room.judge_mixture(law, made, seed=seed, labels=labels)
            parts = [made[labels == k] for k in range(CLASSES)]
            apart = torch.stack([one.var(0).mean() for one in parts]).mean().sqrt()
            accuracy = found.class_accuracy or 0.0
            return {"radius": found.radius, "w2": found.sliced_w2, "accuracy": accuracy, "spread": float(apart)}

        out: dict[str, Any] = {"at": at}
        regime = room.Regime(updates, lr=3e-4, fake_lr=1e-3, turns=4, average=0.98)
        runs = []
        for choice in WAYS.values():
            push: Any = room.Decoupled(GUIDANCE, CLASSES, floor=0.02, **choice)  # type: ignore[arg-type]
            fake = None if choice.get("which") == "augmentation" else deepcopy(network).requires_grad_(True)
            student = room.one_network(network, [2.5, 0.5])
            how: dict[str, Any] = {"judge": judge, "judge_at": at, "seed": seed, "progress": False, "watch": False}
            runs.append(room.distill(student, law, source, push=push, fake=fake, regime=regime, **how).judged)
        for name in ("radius", "w2", "accuracy", "spread"):
            out[name] = [course(run, name) for run in runs]
        real, classes = law.sample(8000, 3000 + seed)
        out["data"] = float(real.norm(dim=1).mean())
        out["data spread"] = float(
            torch.stack([real[classes == k].var(0).mean() for k in range(CLASSES)]).mean().sqrt()
        )
        return out

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Read who runs away, who stands, and in which order; [seed, way, updates] each."""
        radius, w2, accuracy, spread, data, apart, at = stacked(
            measured, "radius", "w2", "accuracy", "spread", "data", "data spread", "at"
        )
        last = radius[:, :, -1]
        title = (
            f"Radius {last[:, ALONE].mean():.1f} without a shield, {last[:, SHARED].mean():.2f} with it, "
            f"{last[:, HYBRID].mean():.2f} at hybrid levels, data {data.mean():.2f}"
        )
        return Outcome(
            effects=last[:, ALONE] - last[:, SHARED],
            checks={
                "augmentation alone grows by 1.4 times, in every seed": last[:, ALONE] > 1.4 * radius[:, ALONE, 0],
                "with matching the radius settles to a tenth": abs(last[:, SHARED] / radius[:, SHARED, 1] - 1) < 0.1,
                "alone > shared > hybrid, in every seed": (last[:, ALONE] > last[:, SHARED])
                & (last[:, SHARED] > last[:, HYBRID]),
            },
            details={
                "ways": [*WAYS], "updates": at[0], "radius": radius.mean(0), "W2 to the classes": w2[:, :, -1].mean(0),
                "class accuracy": accuracy[:, :, -1].mean(0), "spread within a class": spread[:, :, -1].mean(0),
                "data: radius": data.mean(), "data: spread within a class": apart.mean(),
            },
            notes=[
                f"hybrid levels cure the excess and contract: spread in a class {spread[:, HYBRID, -1].mean():.2f}, "
                f"data {apart.mean():.2f}",
                f"nearest to the unguided classes is matching alone (W2 {w2[:, MATCHING, -1].mean():.2f}; shared "
                f"{w2[:, SHARED, -1].mean():.2f}, hybrid {w2[:, HYBRID, -1].mean():.2f}): that augmentation drives the "
                "conversion is not visible where no guidance is needed",
            ],
            figure=Figure(title, "updates of the student", "mean radius", [
                *(Series.measured(way, at[0], radius[:, k]) for k, way in enumerate(WAYS)),
                Series("data", at[0], [data.mean()] * len(at[0]), kind="dashed"),
            ], log_y=True),
        )  # fmt: skip
