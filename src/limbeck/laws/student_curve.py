"""A student's loss against its tokens, for one teacher: what a few short distillations say about a long one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from limbeck.fitting.model import Parameter
from limbeck.laws.distillation import BUSBRIDGE
from limbeck.laws.law import Law


@dataclass(frozen=True)
class StudentCurve(Law):
    """Loss of one student under one teacher: L_S = E + B / tokens^beta with E ≥ the teacher's loss.

    The distillation law at a fixed student and a fixed teacher, in one column. What it borrows from there is structure,
    not numbers: the teacher counts only through its loss, the student never beats it, and the loss falls faster in
    tokens than without a teacher. The bound keeps a first short run that is still on a plateau from sending E far below
    what is possible.

    Args:
        teacher_loss: of the teacher, in the unit of the student's loss.

    Source: Distillation Scaling Laws (Busbridge et al., 2025, arXiv 2502.08606); the one-column form is this project's.

    Example:
        >>> float(StudentCurve(1.4)({"E": 1.5, "B": 1000.0, "beta": 0.5}, tokens=1e6))
        2.5
    """

    teacher_loss: float = 0.0

    name = "student-curve"
    source = BUSBRIDGE
    columns = ("tokens",)
    target = "loss"
    equation = "E + B / tokens^beta, E ≥ teacher loss"
    linear = ("E", "B")

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """E, B and beta."""
        return (
            Parameter("E", "loss with endless data", log=True, lower=self.teacher_loss),
            Parameter("B", "data term at tokens = 1", log=True, dimension={"tokens": "beta"}),
            Parameter("beta", "exponent of data", start=(0.3, 0.5, 0.7, 0.9, 1.1, 1.4), lower=0.0, upper=5.0),
        )

    def formula(self, p: Any, x: Any) -> Any:
        """E + B / tokens^beta."""
        return p.E + p.B * x.tokens**-p.beta
