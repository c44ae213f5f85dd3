"""What a classifier is worth: accuracy, likelihood, calibration, and whether it answers like its teacher."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from limbeck.distill.examples import Labelled
from limbeck.errors import ConfigError
from limbeck.fitting import calibration_error
from limbeck.fitting.paired import BINS
from limbeck.fitting.plain import Plain
from limbeck.vision.teachers import Teacher, answers, teacher_of


@dataclass(frozen=True)
class Judgement(Plain):
    """One classifier on labelled examples.

    Args:
        accuracy: share of right answers.
        loss: mean negative log-likelihood, nats.
        calibration_error: mean distance between confidence and accuracy, 15 bins.
        temperature: the one that makes the examples most likely.
        loss_at_temperature, calibration_error_at_temperature: the two at a temperature fitted to the other half.
        logit_std: mean standard deviation of the logits over the classes.
        confidence: mean probability of the favourite.
        bins: confidence, accuracy and share of the examples of each of 15 bins of confidence that has any.
    """

    accuracy: float
    loss: float
    calibration_error: float
    temperature: float
    loss_at_temperature: float
    calibration_error_at_temperature: float
    logit_std: float
    confidence: float
    bins: tuple[tuple[float, float, float], ...] = field(repr=False, default=())

    def summary(self) -> str:
        """One line."""
        return (
            f"{100 * self.accuracy:.2f} % right, loss {self.loss:.3f} nats ({self.loss_at_temperature:.3f} at "
            f"temperature {self.temperature:.2f}), calibration error {self.calibration_error:.3f} "
            f"({self.calibration_error_at_temperature:.3f}), logits spread by {self.logit_std:.2f}"
        )


def judge(logits: Tensor, labels: Tensor) -> Judgement:
    """Judge logits [N, C] by the true classes [N], at least two examples.

    Example:
        >>> found = judge(torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [0.0, 2.0]]), torch.tensor([0, 1, 1, 1]))
        >>> found.accuracy, round(found.loss, 4)
        (0.75, 0.6269)
    """
    z, y = logits.detach().double().cpu(), labels.cpu()
    halves = torch.arange(len(y)) % 2 == 0
    fitted = [best_temperature(z[half], y[half]) for half in (~halves, halves)]
    scaled = torch.where(halves[:, None], z / fitted[0], z / fitted[1])
    right = (z.argmax(-1) == y).double().numpy()

    def confidence(of: Tensor) -> Any:
        return of.softmax(-1).amax(-1).numpy()

    return Judgement(
        accuracy=float(right.mean()),
        loss=float(F.cross_entropy(z, y)),
        calibration_error=calibration_error(confidence(z), right),
        temperature=best_temperature(z, y),
        loss_at_temperature=float(F.cross_entropy(scaled, y)),
        calibration_error_at_temperature=calibration_error(confidence(scaled), right),
        logit_std=float(z.std(-1, correction=0).mean()),
        confidence=float(confidence(z).mean()),
        bins=tuple(_bins(confidence(z), right)),
    )


def _bins(confidence: Any, right: Any) -> Iterator[tuple[float, float, float]]:
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    for own in (place == k for k in np.unique(place)):
        yield float(confidence[own].mean()), float(right[own].mean()), float(own.mean())


def best_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature, from 0.05 to 100, at which the true classes are most likely.

    Source: Chuan Guo, Geoff Pleiss, Yu Sun, Kilian Weinberger, On Calibration of Modern Neural Networks (2017), arXiv
        1706.04599.
    """

    def loss(log: float) -> float:
        return float(F.cross_entropy(logits / np.exp(log), labels))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(100)), method="bounded").x))


@dataclass(frozen=True)
class Comparison(Plain):
    """A student beside its teacher, on the same examples.

    Args:
        student, teacher: how good each is.
        agreement: share of examples with one favourite.
        copied: share of the teacher's errors that the student repeats; None where it makes none.
        divergence: mean KL(teacher‖student), nats.
        examples: how many.
    """

    student: Judgement
    teacher: Judgement
    agreement: float
    copied: float | None
    divergence: float
    examples: int

    def summary(self) -> str:
        """Three lines."""
        copied = "" if self.copied is None else f", {100 * self.copied:.1f} % of the teacher's errors copied"
        return (
            f"student {self.student.summary()}\nteacher {self.teacher.summary()}\n"
            f"on {self.examples} examples: {100 * self.agreement:.1f} % answered alike{copied}, "
            f"KL(teacher‖student) {self.divergence:.3f} nats"
        )

    def plot(self) -> Any:
        """Return how often both are right at each confidence, as a plotly figure; dots grow with the examples."""
        from plotly import graph_objects as go

        figure = go.Figure(go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line_color="lightgrey", name="calibrated"))
        for name, one in (("student", self.student), ("teacher", self.teacher)):
            confidence, accuracy, share = zip(*one.bins, strict=True)
            sizes = [6 + 40 * float(part) ** 0.5 for part in share]
            figure.add_scatter(x=confidence, y=accuracy, mode="markers", marker_size=sizes, opacity=0.7, name=name)
        title = f"{self.agreement:.1%} answered alike; calibration error of the student "
        axes = {"xaxis_title": "confidence", "yaxis_title": "share of right answers", "template": "simple_white"}
        return figure.update_layout(title=f"{title}{self.student.calibration_error:.3f}", **axes)


def evaluate(student: nn.Module | Teacher | Any, teacher: Teacher | Any, data: Labelled) -> Comparison:
    """Compare a student with its teacher on labelled examples.

    Args:
        student, teacher: whatever `teacher_of` takes.
        data: examples that neither has learnt from.

    Raises:
        ConfigError: fewer than two labelled examples; a model of other classes.
    """
    known = data.at((data.labels >= 0).nonzero()[:, 0]) if bool((data.labels >= 0).any()) else None
    if known is None or len(known) < 2:
        raise ConfigError(f"{data.name} has too few labels to judge by: at least two examples need one")
    said, taught = (answers(teacher_of(one, known), known) for one in (student, teacher))
    alike, wrong = said.argmax(-1) == taught.argmax(-1), taught.argmax(-1) != known.labels
    return Comparison(
        student=judge(said, known.labels),
        teacher=judge(taught, known.labels),
        agreement=float(alike.double().mean()),
        copied=float(alike[wrong].double().mean()) if bool(wrong.any()) else None,
        divergence=float(
            F.kl_div(said.log_softmax(-1), taught.log_softmax(-1), reduction="batchmean", log_target=True)
        ),
        examples=len(known),
    )


def flat(comparison: Comparison) -> Mapping[str, float | None]:
    """The numbers of a comparison as columns of a run table; `loss` is the student's."""
    student = comparison.student
    return {
        "loss": student.loss, "accuracy": student.accuracy, "calibration_error": student.calibration_error,
        "loss_at_temperature": student.loss_at_temperature, "agreement": comparison.agreement,
        "teacher_accuracy": comparison.teacher.accuracy, "teacher_loss": comparison.teacher.loss,
        "divergence": comparison.divergence, "logit_std": student.logit_std,
    }  # fmt: skip
