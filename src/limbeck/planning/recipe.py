"""The best teacher that one could train: its loss for a given student, and the split of one budget between both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limbeck.errors import PlanningError
from limbeck.fitting.model import Array
from limbeck.laws import DISTILLATION_2025, forward_flops
from limbeck.planning._search import minimise
from limbeck.planning.costs import LARGEST, SCENARIOS, SMALLEST, Forward, charges
from limbeck.planning.estimate import Plan, Source, distillation_law
from limbeck.runs.quantities import scientific, si


def best_teacher_loss(
    student_params: float, student_tokens: float, *, law: Source = DISTILLATION_2025, highest: float = 12.0
) -> tuple[float, float]:
    """Return the teacher loss that gives the best student, and that student's loss.

    A stronger teacher is worse: the capacity gap.

    Args:
        student_params, student_tokens: N_S, D_S.
        law: a fit of `distillation`, or published constants.
        highest: largest teacher loss that is looked at.

    Source: Distillation Scaling Laws (Busbridge et al., 2025, arXiv 2502.08606).

    Example:
        >>> teacher, student = best_teacher_loss(1e9, 20e9)
        >>> round(teacher, 3), round(student, 4)
        (1.723, 2.2523)
    """
    model = distillation_law(law)

    def student(log_teacher: Array) -> Array:
        return model(law.parameters, params=student_params, tokens=student_tokens, teacher_loss=np.exp(log_teacher))

    low, high = np.log(model.supervised.E), np.log(highest)
    found = minimise(student, np.array([low]), np.array([high]), points=257)
    return float(np.exp(found[0])), float(student(found)[0])


@dataclass(frozen=True)
class Recipe(Plan):
    """The best split of a budget between a teacher that is still to be trained and its student.

    Args:
        student_params, flops, scenario: what was asked.
        tokens: of the student.
        teacher_params, teacher_tokens: of the teacher. Where its pretraining is not charged, only its loss means
            something.
        teacher_loss: nats/token.
        loss: of the student.
        supervised_loss: of training the student alone with the same budget.
    """

    student_params: float
    flops: float
    scenario: str
    tokens: float
    teacher_params: float
    teacher_tokens: float
    teacher_loss: float
    loss: float
    supervised_loss: float

    notes = ()

    def _lines(self) -> list[str]:
        better = "distil" if self.loss < self.supervised_loss else "train alone"
        teacher = f"teacher of loss {self.teacher_loss:.4g}"
        if SCENARIOS[self.scenario][1]:
            teacher += f" ({si(self.teacher_params)} parameters, {si(self.teacher_tokens)} tokens)"
        return [
            f"{better}: {self.loss:.4f} distilled, {self.supervised_loss:.4f} alone at {scientific(self.flops)} FLOP",
            f"  {teacher}, student on {si(self.tokens)} tokens, scenario {self.scenario}",
        ]


def recipe(
    student_params: float, flops: float, *, scenario: str = "both", law: Source = DISTILLATION_2025,
    forward: Forward = forward_flops,
) -> Recipe:  # fmt: skip
    """Return the best D_S, N_T, D_T for a student size and a budget (eq. 10), the teacher following the supervised law.

    The budget gives D_S from N_T and D_T, so two logarithms are searched, in [1e6, 1e17] each: a grid, then finer
    grids.

    Raises:
        PlanningError: the budget does not pay for 1e6 tokens, or the scenario is unknown.

    Source: Distillation Scaling Laws (Busbridge et al., 2025, arXiv 2502.08606).

    Example:
        >>> plan = recipe(1e9, 1e21, scenario="inference")
        >>> round(plan.loss, 4), round(plan.supervised_loss, 4)
        (2.2083, 2.2215)
    """
    logits, pretraining = charges(scenario)
    model, rate = distillation_law(law), 3.0 * float(forward(student_params))
    if flops < rate * SMALLEST:
        raise PlanningError(
            f"{flops:g} FLOP do not pay for {SMALLEST:g} tokens of a model with {student_params:g} parameters."
        )

    def student(u: Array, v: Array) -> tuple[Array, Array, Array]:
        f = forward(np.exp(u))
        d = (flops - 3.0 * pretraining * f * np.exp(v)) / (rate + logits * f)
        teacher_loss = np.asarray(model.supervised(np.exp(u), np.exp(v)))
        loss = model(law.parameters, params=student_params, tokens=np.maximum(d, SMALLEST), teacher_loss=teacher_loss)
        return np.where(d >= SMALLEST, loss, np.inf), d, teacher_loss

    low, high = np.full(2, np.log(SMALLEST)), np.full(2, np.log(LARGEST))
    for _ in range(12):
        axes = np.linspace(low, high, 97)
        loss, _, _ = student(axes[:, None, 0], axes[None, :, 1])
        i, j = np.unravel_index(int(loss.argmin()), loss.shape)
        centre, half = np.array([axes[i, 0], axes[j, 1]]), (high - low) / 6
        low, high = np.maximum(centre - half, np.log(SMALLEST)), np.minimum(centre + half, np.log(LARGEST))
    loss, d, teacher_loss = student(*centre)
    alone = model.supervised(student_params, flops / rate)
    asked = float(student_params), float(flops), scenario
    found = [float(one) for one in (d, *np.exp(centre), teacher_loss, loss, alone)]
    return Recipe(*asked, *found)
