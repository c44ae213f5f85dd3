"""MSD: one small student for each part of the classes, each begun by matching the teacher.

Four classes of two modes each, a teacher without error, students of 8 hidden units: from a random start or one that
matched the teacher; one, two or four of them; and one student with as many updates as four have together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._generators import points

CLASSES = 4
WAYS = (
    "one, random start", "one", "two", "four", "one, four times the updates", "four, random start",
    "one, no matching of laws",
)  # fmt: skip
RANDOM, ONE, TWO, FOUR, LONG, FOUR_RANDOM, START = range(len(WAYS))


class MultiStudentDistillation(Paper):
    """The start by teacher score matching, and the number of students at fair compute."""

    source = Source(
        "Multi-student Diffusion Distillation for Better One-step Generators", "Song, Lorraine, Nie, Kreis, Lucas",
        2024, "2410.23274",
    )  # fmt: skip
    claim = "Several one-step students, each for a part of the classes, and begun by matching the teacher, beat one."
    metric = "log ratio of distances to the class laws, random start over matched start, one student"
    unit = "nats"
    baseline = "a random start"
    extras = ("diffusion",)
    seeds = 3

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return sliced W2 to each class's law and class accuracy by way, parameters, network calls, and the floor."""
        import torch

        from limbeck import diffusion as room

        source, network = points("class_ring", seed, quick, width=48)
        law, fresh = source.law, room.Sizes(8, 1).build(source.shape, CLASSES, source.data_std, 1000 + seed)
        matching = room.Pretraining(150 if quick else 400, lr=3e-3, log_mean=-1.4, log_std=1.4)
        matched = room.match_teacher(fresh, law, source, matching, seed=seed, progress=False).denoiser
        fresh = room.Sizes(8, 1).build(source.shape, CLASSES, source.data_std, 1000 + seed)
        cond = torch.arange(8000) % CLASSES
        real = [law.sample(2000, k, torch.full((2000,), k))[0] for k in range(CLASSES)]

        def judged(model: Any) -> list[float]:
            made = room.generate(model, room.noise_for(model, [2], len(cond), 1000 + seed), cond)
            far = [room.sliced_w2(made[cond == k], real[k]) for k in range(CLASSES)]
            right = room.judge_mixture(law, made, seed=seed, labels=cond).class_accuracy
            return [float(np.mean(far)), right or 0.0]

        regime = room.Regime(40 if quick else 120, lr=1e-3, fake_lr=1e-3, turns=4)
        rows, params, calls = [], [], []
        plan = [(fresh, 1, 1), (matched, 1, 1), (matched, 2, 1), (matched, 4, 1), (matched, 1, 4), (fresh, 4, 1)]
        for start, students, times in plan:
            longer = room.Regime(times * regime.updates, lr=1e-3, fake_lr=1e-3, turns=4)
            how: dict[str, Any] = {"fake": network, "levels": [2.5], "regime": longer, "seed": seed, "progress": False}
            done = room.distill_students(start, law, source, room.partition(CLASSES, students), **how)
            rows.append(judged(done.bundle))
            params.append(done.params)
            calls.append(done.calls)
        rows.append(judged(room.one_network(matched, [2.5])))
        again = [law.sample(2000, 100 + seed * 10 + k, torch.full((2000,), k))[0] for k in range(CLASSES)]
        floor = float(np.mean([room.sliced_w2(a, b) for a, b in zip(again, real, strict=True)]))
        return {"rows": rows, "params": params, "calls": calls, "floor": floor}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare starts, and numbers of students at equal and at multiplied compute; `rows` is [seed, way, 2]."""
        rows, params, calls, floor = stacked(measured, "rows", "params", "calls", "floor")
        far, right = rows[..., 0], rows[..., 1]
        more, fair = np.log(far[:, ONE] / far[:, FOUR]), np.log(far[:, LONG] / far[:, FOUR])
        gain = np.log(far[:, RANDOM] / far[:, ONE])
        title = (
            f"Distance {far[:, RANDOM].mean():.2f} from a random start, {far[:, ONE].mean():.2f} from a matched one, "
            f"{far[:, FOUR].mean():.2f} with four students"
        )
        said = "visible" if fair.mean() > 2 * sem(fair) > 0 else "not visible"
        return Outcome(
            effects=gain,
            checks={
                "a matched start is nearer by 1.8 times and more, in every seed": gain > np.log(1.8),
                "four students are nearer than one of as many updates each, in every seed": more > 0,
            },
            details={
                "ways": WAYS, "W2 to the class's law": far.mean(0), "of seeds": far, "class accuracy": right.mean(0),
                "stored parameters": params[0], "network calls of all trainings": calls[0], "floor": floor.mean(),
            },
            notes=[
                f"four students against one of four times the updates: log ratio {fair.mean():+.2f} ± {sem(fair):.2f}, "
                f"{said}: the comparison that the paper leaves out",
                f"before any matching of laws {far[:, START].mean():.2f}; four students from a random start "
                f"{far[:, FOUR_RANDOM].mean():.2f}; as many real points are {floor.mean():.3f} from real "
                "ones",
            ],
            figure=Figure(title, "students", "sliced W2 to the class's law", [
                Series.measured("matched start, as many updates each", [1, 2, 4], far[:, [ONE, TWO, FOUR]]),
                Series.measured("matched start, one student, four times the updates", [1], far[:, [LONG]]),
                Series.measured("random start", [1, 4], far[:, [RANDOM, FOUR_RANDOM]]),
            ], log_y=True),
        )  # fmt: skip
