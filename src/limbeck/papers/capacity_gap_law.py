"""Towards the Law of Capacity Gap in Distilling Language Models: the largest teacher is not the best one.

Character models with a context of five characters learn from CPython's documentation. A student of 838 parameters is
distilled from teachers of 1 to 22 times its size, which get better and better; its own loss falls with the teacher's
size and then rises again. The paper puts the best teacher at 2.5 times the student, for students pruned from their
teachers. Ours start from scratch, so only the existence of an optimum is tested.
"""

from collections.abc import Sequence

import numpy as np

from limbeck.laws import fit_capacity_gap
from limbeck.laws.distillation import ZHANG
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

STUDENT, TEACHERS = 8, (8, 16, 32, 64, 256)  # hidden units
STEPS = 500, 300  # of teachers, of students


class CapacityGapLaw(Paper):
    """One student size, five teacher sizes, character models on real English."""

    source = ZHANG
    claim = "The best teacher of a student has an intermediate size: a larger, better one teaches it worse."
    metric = "loss under the largest teacher minus loss under the teacher that is best on the other seeds"
    unit = "nats/char"
    baseline = "largest teacher"
    extras = ("distill",)
    seeds = 8

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Train teachers of all sizes, then the same student alone and under each of them."""
        from limbeck.papers._characters import cross_entropy, learn, split
        from limbeck.papers._training import draws

        widths = TEACHERS[1:] if quick else TEACHERS
        train, validation = split()
        batches = [draws(len(train), count, 128, 100 * seed + k) for k, count in enumerate(STEPS)]
        teachers = [learn(width, train[batches[0]], seed) for width in widths]
        students = [learn(STUDENT, train[batches[1]], seed + 1000, teacher) for teacher in (None, *teachers)]
        return {
            "params": [sum(weight.numel() for weight in model.parameters()) for model in (students[0], *teachers)],
            "teacher_loss": [cross_entropy(model, validation) for model in teachers],
            "student_loss": [cross_entropy(model, validation) for model in students],
        }

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Choose the teacher on the other seeds and compare it with the largest on this one."""
        student, *teachers = measured[0]["params"]
        losses, own = stacked(measured, "student_loss", "teacher_loss")
        taught, teacher_loss, ratio = losses[:, 1:], own.mean(0), np.array(teachers) / student
        others = (taught.sum(0) - taught) / max(len(taught) - 1, 1)
        chosen = others[:, :-1].argmin(1)
        best = fit_capacity_gap(np.full(taught.size, student), np.tile(teachers, len(taught)), taught.ravel()).best[0]
        curve = Series.measured("student", ratio, taught)
        title = f"A student of {student} parameters learns best from a teacher of intermediate size"
        x = "teacher parameters / student parameters"
        return Outcome(
            effects=taught[:, -1] - taught[np.arange(len(taught)), chosen],
            checks={
                "the largest teacher has the lowest loss itself": teacher_loss.argmin() == len(teachers) - 1,
                "the largest teacher is not the best in the mean over seeds": min(curve.y) < curve.y[-1],
            },
            details={
                "size ratio": ratio, "teacher loss": teacher_loss, "student loss alone": losses[:, 0].mean(),
                "student loss": curve.y, "standard error": curve.error, "student loss by seed": taught,
                "chosen ratio": ratio[chosen],
                "optimum of the quadratic in ln T": best.teacher_params and best.teacher_params / student,
                "spread of its logarithm": best.log_sd if np.isfinite(best.log_sd) else None,
                "largest teacher best in resamples": best.largest_is_best,
            },
            notes=["students start from scratch, not pruned from the teacher: the paper's ratio of 2.5 is not tested"],
            figure=Figure(title, x, "student loss, nats/char", [curve], log_x=True),
        )  # fmt: skip
