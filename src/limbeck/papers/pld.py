"""PLD: the student says how probable the teacher's ranking of the classes is, and nothing has to be weighed.

Digits and letters, 62 classes of 35 pictures to learn from, in the typefaces of a plotting library; a convolutional
teacher that is right in two of three, students of 24 hidden units. Without that library's wheel (`make data`) the ten
digits of scikit-learn are used, ten labels of each, where the teacher is too sure for the claim.
"""

from collections.abc import Sequence
from typing import Any

from scipy.stats import sem

from limbeck.errors import LimbeckError
from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._glyphs import glyphs

WAYS: dict[str, Any] = {
    "labels": "ce", "smoothed labels": "smooth", "KD": "kd", "DIST": "dist", "PLD": "pld",
    "PLD, τ = 4": {"name": "pld", "options": {"teacher_temperature": 4.0}},
    "ranking alone": {"name": "pld", "options": {"weights": "uniform"}},
}  # fmt: skip
LABELS, SMOOTH, KD, DIST, PLD, WARM, UNIFORM = range(len(WAYS))
SURE = 0.97


class Pld(Paper):
    """Seven losses for one student."""

    source = Source("PLD: A Choice-Theoretic List-Wise Knowledge Distillation", "Bassam, Zhu, Bian", 2025, "2506.12542")
    claim = "The teacher's ranking, each choice weighed by the teacher's probability, teaches more than labels alone."
    metric = "accuracy of the student of PLD minus that of labels alone"
    unit = "points"
    baseline = "labels alone"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return accuracy and loss of every way, the teacher's accuracy, and its trust in the true class."""
        from limbeck.vision import Network, Regime, answers, distill, evaluate, read_data, teacher_of

        steps = 120 if quick else 1000
        try:
            learn, test = glyphs(20 if quick else 70, seed).split(seed)
            few, sizes, hidden, letters = learn, Network((128,), (16, 32)), 24, True
        except LimbeckError:
            data, hidden, letters = read_data("digits"), 16, False
            (learn, test), (few, _) = data.split(seed), data.split(seed, per_class=10)
            sizes = Network((128, 128), dropout=0.2)
        shape, classes = learn.inputs.shape[1:], len(learn.classes)
        teacher, regime = sizes.build(shape, classes, seed), Regime(4 * steps // 5, learning_rate=2e-3)
        distill(None, teacher, learn, loss="ce", regime=regime, seed=seed, progress=False)
        rows = []
        for way in WAYS.values():
            student = Network((hidden,)).build(shape, classes, 1000 + seed)
            how: dict[str, Any] = {"loss": way, "test": test, "regime": Regime(steps), "seed": seed, "progress": False}
            judged = distill(teacher, student, few, **how).judged
            assert judged is not None
            rows.append([judged.student.accuracy, judged.student.loss])
        accuracy, loss = (list(column) for column in zip(*rows, strict=True))
        said = answers(teacher_of(teacher, few), few).softmax(-1)
        trust = float(said.gather(-1, few.labels[:, None]).mean())
        right = evaluate(teacher, teacher, test).student.accuracy
        return {"accuracy": accuracy, "loss": loss, "teacher": right, "trust": trust, "letters": letters}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare PLD with labels, with the ranking alone, and with losses that match distributions."""
        accuracy, loss, teacher, trust = stacked(measured, "accuracy", "loss", "teacher", "trust")
        points = 100 * accuracy  # [seed, way]
        gains, letters = points - points[:, [LABELS]], all(one["letters"] for one in measured)
        mean, error, weighed = gains.mean(0), sem(gains), points[:, PLD] - points[:, UNIFORM]
        title = (
            f"PLD {mean[PLD]:+.1f} ± {error[PLD]:.1f} points over labels alone, the ranking alone {mean[UNIFORM]:+.1f}"
        )
        checks = {
            "PLD gains at least two points over labels": mean[PLD] >= 2,
            "and more than three standard errors": mean[PLD] > 3 * error[PLD],
            "the teacher's probabilities as weights are worth five points over the ranking alone": weighed.mean() >= 5,
        }
        data = "62 digits and letters" if letters else "ten digits, ten labels each (make data brings the letters)"
        sure = f"the teacher gives the true class {trust.mean():.2f} on average"
        return Outcome(
            effects=gains[:, PLD],
            checks=checks,
            details={
                "ways": list(WAYS), "accuracy": points.mean(0), "gain over labels": mean, "standard error": error,
                "loss": loss.mean(0), "teacher": 100 * teacher.mean(),
            },
            notes=[
                f"{data}; {sure}" + (": too sure, PLD is then the cross-entropy" if trust.mean() > SURE else ""),
                f"KD {mean[KD]:+.1f} ± {error[KD]:.1f}, DIST {mean[DIST]:+.1f} ± {error[DIST]:.1f}, smoothed labels "
                f"{mean[SMOOTH]:+.1f} ± {error[SMOOTH]:.1f}, PLD with τ = 4 {mean[WARM]:+.1f} ± {error[WARM]:.1f}: no "
                "win over tuned distillation is claimed",
            ],
            figure=Figure(title, "loss", "points over labels alone", [
                Series.measured("over labels alone", range(len(WAYS)), gains),
            ]),
        )  # fmt: skip
