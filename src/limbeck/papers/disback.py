"""DisBack: the student is led back along the way on which the teacher forgot, and should converge faster.

The same distribution matching with and without the way back, on a ring of eight Gaussians and on digits, at equal
updates; a third run starts the fake score where the way ends but keeps the teacher as its only target.
"""

import tempfile
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._generators import course, digits, divergence, points

WAYS = ("DMD", "DMD, fake score from the way's end", "DisBack")
PLAIN, CONTROL, BACK = range(len(WAYS))
EARLY, LATE = 0, -1


class Disback(Paper):
    """Distribution matching with one target, and with a sequence of them."""

    source = Source(
        "Distribution Backtracking Builds A Faster Convergence Trajectory for Diffusion Distillation",
        "Zhang, Yang, Li, Zhao, Meng, C. Yang, G. Yang, Z. Yang, Sun", 2025, "2408.15991",
    )  # fmt: skip
    claim = "Distilling from a recorded degradation of the teacher, in reverse, converges faster and further."
    metric = "Fréchet distance of DMD over that of DisBack after all updates, minus one, digits"
    unit = "percent"
    baseline = "DMD, equal updates"
    extras = ("diffusion",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return distances to the data by way and updates: divergence on points, Fréchet distance on digits."""
        source, teacher = points("ring8", seed, quick)
        at = [20, 40, 60, 80] if quick else [50, 100, 200, 350]
        how = {"path": (240, 60, 1e-3), "interval": at[0], "lr": 3e-4, "fake_lr": 1e-3, "turns": 2 if quick else 5}
        ring = _ways(source, teacher, lambda one: {"jsd": divergence(source, one, seed)}, "jsd", at, how, 0.98, seed)
        out: dict[str, Any] = {"ring": ring, "ring at": at, "digits": None}
        if not quick:
            source, teacher, judge = digits(seed, quick)
            at = [25, 50, 100, 150]
            how = {"path": (150, 50, 2e-4), "interval": 20, "lr": 2e-4, "fake_lr": 4e-4, "turns": 2}
            out |= {"digits": _ways(source, teacher, judge, "frechet", at, how, 0.99, seed), "digits at": at}
        return out

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare early and late; [seed, way, updates] each."""
        where = "digits" if all(one["digits"] is not None for one in measured) else "ring"
        ring, main, at = stacked(measured, "ring", where, f"{where} at")
        gain = 100 * (main[:, PLAIN] / main[:, BACK] - 1)
        early, late = gain[:, EARLY], gain[:, LATE]
        what = "Fréchet distance" if where == "digits" else "divergence, nats"
        title = f"The way back costs {-early.mean():.0f} % early, {late.mean():+.1f} ± {sem(late):.1f} % at last"
        return Outcome(
            effects=late,
            checks={
                "faster: nearer to the data at the first judgement, in every seed": early > 0,
                "further: nearer at the last one, by more than two standard errors": late.mean() > 2 * sem(late) > 0,
            },
            details={
                "ways": WAYS, "ring, updates": measured[0]["ring at"], "ring, divergence": ring.mean(0),
                f"{where}, updates": at[0], what: main.mean(0), "of seeds": main[:, :, LATE],
            },
            notes=[
                "the first updates go to targets that still describe the untrained student (`backtrack` warns): the "
                "delay is the method's",
                f"fake score from the way's end, but the teacher as target: "
                f"{main[:, CONTROL, LATE].mean():.3g} against {main[:, PLAIN, LATE].mean():.3g}",
                *(["quick: points only"] if where == "ring" else []),
            ],
            figure=Figure(title, "updates of the student", what, [
                Series.measured(way, at[0], main[:, k]) for k, way in enumerate(WAYS)
            ], log_y=True),
        )  # fmt: skip


def _ways(
    source: Any, teacher: Any, judge: Any, name: str, at: list[int], how: Numbers, average: float, seed: int
) -> list[list[float]]:
    """Return the course of each way."""
    from limbeck import diffusion as room

    regime = room.Regime(at[-1], lr=how["lr"], fake_lr=how["fake_lr"], turns=how["turns"], average=average)
    shared: dict[str, Any] = {"regime": regime, "judge": judge, "judge_at": at, "seed": seed, "progress": False}
    steps, every, lr = how["path"]
    with tempfile.TemporaryDirectory() as folder:
        begin = room.one_network(teacher, [2.5])
        path = room.record_degradation(
            begin, teacher, source, Path(folder) / "path", steps=steps, every=every, lr=lr, seed=seed, progress=False
        )
        end = room.Degradation(path, teacher)[-1]
        runs = [
            room.distill(deepcopy(begin), teacher, source, fake=deepcopy(fake).requires_grad_(True), **shared)
            for fake in (teacher, end)
        ]
        with warnings.catch_warnings():
            # that the first target already equals the student is what the experiment shows, in every setting tried
            warnings.simplefilter("ignore", UserWarning)
            runs.append(room.backtrack(deepcopy(begin), teacher, source, path, interval=how["interval"], **shared))
    return [course(run.judged, name) for run in runs]
