"""Logit Standardization in Knowledge Distillation: the student copies the pattern of the logits, not their size.

Digits with ten labels of each class. A student of 16 hidden units learns from a teacher of 128 and 128 by descent with
momentum at four weights of the distillation, from raw logits at temperature 2 or from standardised ones; with Adam at
weight 9 the likelihood of its probabilities is looked at, before and after a temperature is fitted.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.errors import TrainingError
from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

SUN = Source(
    "Logit Standardization in Knowledge Distillation", "Sun, Ren, Li, Wang, Cao", 2024, "2403.01427",
)  # fmt: skip
WEIGHTS, TEMPERATURE, CHANCE = (0.9, 9.0, 30.0, 90.0), 2.0, 0.1
RAW = {"name": "kd", "temperature": TEMPERATURE}
WAYS: dict[str, dict[str, Any]] = {"raw": RAW, "standardised": {**RAW, "standardise": True}}


class LogitStandardization(Paper):
    """One student, four weights of the distillation, raw and standardised logits."""

    source = SUN
    claim = "With standardised logits a student trained by SGD does not depend on the weight of the distillation."
    metric = "accuracy lost between the best and the worst of four weights, raw minus standardised"
    unit = "points"
    baseline = "raw logits"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return accuracies by SGD [way, weight], and by Adam at weight 9 losses, fitted losses, accuracies [way]."""
        from limbeck.vision import Network, Regime, distill, read_data

        data, steps = read_data("digits"), 150 if quick else 800
        (learn, test), (few, _) = data.split(seed), data.split(seed, per_class=10)
        teacher = Network((128, 128), dropout=0.2).build([1, 8, 8], 10, seed)
        distill(
            None, teacher, learn, loss="ce", regime=Regime(learning_rate=1e-3, steps=steps), seed=seed, progress=False
        )

        def judged(method: dict[str, Any], regime: Regime) -> tuple[float, float, float]:
            """Accuracy, loss, loss after a temperature; chance for a training that diverged."""
            student = Network((16,)).build([1, 8, 8], 10, 1000 + seed)
            try:
                found = distill(
                    teacher, student, few, loss=method, test=test, regime=regime, seed=seed, progress=False
                ).judged
            except TrainingError:
                return CHANCE, np.nan, np.nan
            assert found is not None
            return found.student.accuracy, found.student.loss, found.student.loss_at_temperature

        sgd, adam = Regime(steps, learning_rate=0.05, optimizer="sgd"), Regime(steps)
        rows = [[judged({**way, "weight": w}, sgd)[0] for w in WEIGHTS] for way in WAYS.values()]
        likely = [judged({**way, "weight": 9.0}, adam) for way in WAYS.values()]
        accuracy, loss, fitted = (list(column) for column in zip(*likely, strict=True))
        return {"sgd": rows, "accuracy": accuracy, "loss": loss, "fitted": fitted}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare how far accuracies lie apart, and what became of the probabilities."""
        sgd, accuracy, loss, fitted = stacked(measured, "sgd", "accuracy", "loss", "fitted")
        points = 100 * sgd  # [seed, way, weight]
        apart, mean = np.ptp(points, axis=2), points.mean(0)
        spread, losses, after = np.ptp(mean, axis=1), loss.mean(0), fitted.mean(0)
        title = (
            f"Between weights of 0.9 and 90 raw logits lose {spread[0]:.0f} points, standardised ones {spread[1]:.1f}"
        )
        series = [Series.measured(name, WEIGHTS, points[:, k]) for k, name in enumerate(WAYS)]
        return Outcome(
            effects=apart[:, 0] - apart[:, 1],
            checks={
                "standardised: the mean accuracy varies by less than 3 points over the weights": spread[1] < 3,
                "raw: some weight costs more than 10 points": spread[0] > 10,
                "Adam, weight 9: standardised probabilities cost more than twice the nats": losses[1] > 2 * losses[0],
                "and less than 1.2 times after a fitted temperature": after[1] < 1.2 * after[0],
            },
            details={
                "weights": WEIGHTS, "accuracy by SGD": dict(zip(WAYS, mean, strict=True)),
                "accuracy by Adam": 100 * accuracy.mean(0), "loss by Adam": losses, "loss after a temperature": after,
            },
            notes=[
                f"each with its own best weight, SGD gives {mean[0].max():.1f} and {mean[1].max():.1f} %: robustness "
                "is shown, no gain in accuracy is claimed",
                "a training whose loss is not finite counts as chance, 10 %",
            ],
            figure=Figure(title, "weight of the distillation", "accuracy, %", series, log_x=True),
        )  # fmt: skip
