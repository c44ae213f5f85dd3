"""The loss of a distilled student from its size, its tokens and its teacher's loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from limbeck.fitting.model import Parameter
from limbeck.laws.law import SOURCES, Law, published
from limbeck.laws.loss import A, B, E, exponent

BUSBRIDGE = SOURCES["busbridge-2025"]


def _reducible(p: Any, params: Any, tokens: Any) -> Any:
    """ln (A N^-alpha + B D^-beta)^gamma."""
    size = np.log(p.A) - p.alpha * np.log(params)
    data = np.log(p.B) - p.beta * np.log(tokens)
    return p.gamma * np.logaddexp(size, data)


class Supervised(Law):
    """Loss of a model trained on data alone: L = E + (A N^-alpha + B D^-beta)^gamma (eq. 1).

    gamma = 1 is Chinchilla's form. N counts non-embedding parameters.

    Source: Distillation Scaling Laws (Busbridge et al., 2025, arXiv 2502.08606).

    Example:
        >>> float(SUPERVISED_2025.value(params=1e9, tokens=20e9).round(4))
        2.3747
    """

    name = "supervised"
    source = BUSBRIDGE
    columns = ("params", "tokens")
    equation = "E + (A / params^alpha + B / tokens^beta)^gamma"
    linear = ("E",)
    floor = "E"
    parameters = (
        E,
        replace(A, start=(0.1, 1.0, 10.0)),
        replace(B, start=(0.1, 1.0, 10.0)),
        exponent("alpha", "exponent of size", (0.2, 0.4, 0.8)),
        exponent("beta", "exponent of data", (0.2, 0.4, 0.8)),
        Parameter("gamma", "outer exponent", start=(0.4, 0.7, 1.0), lower=0.05, upper=5.0, log=True),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """E + (A N^-alpha + B D^-beta)^gamma."""
        return p.E + np.exp(_reducible(p, x.params, x.tokens))


@dataclass(frozen=True)
class SupervisedLoss:
    """A supervised law with its numbers, frozen inside a distillation law. The defaults are those of table 6.

    Example:
        >>> float(SupervisedLoss()(1e9, 20e9).round(4))
        2.3747
    """

    E: float = 1.220
    A: float = 3355.0
    B: float = 18186.0
    alpha: float = 0.408
    beta: float = 0.431
    gamma: float = 0.452

    @classmethod
    def of(cls, parameters: Mapping[str, float]) -> SupervisedLoss:
        """Return the loss of a fitted `supervised`, `chinchilla` (gamma = 1) or `overtraining` (beta = alpha)."""
        p = {"gamma": 1.0, "beta": parameters["alpha"], **parameters}
        return cls(**{name: float(p[name]) for name in cls.__dataclass_fields__})

    def __call__(self, params: Any, tokens: Any) -> Any:
        """Return the loss of `params` parameters trained on `tokens` tokens."""
        return self.E + np.exp(_reducible(self, params, tokens))


@dataclass(frozen=True)
class Distillation(Law):
    """Loss of a student of N_S parameters distilled on D_S tokens from a teacher of loss L_T (eq. 8).

    L_S = L_T + L_T^-c0 (1 + (L_T/(L~ d1))^(1/f1))^(-c1 f1) (A N_S^-alpha + B D_S^-beta)^gamma, where L~ =
    supervised(N_S, D_S) is what the student would reach alone. The teacher's size and tokens enter through L_T only.
    L_S is U-shaped in L_T, with the turn near L_T = d1 L~: the capacity gap. The law cannot represent a student better
    than its teacher. Its coefficients are not identified by runs of a realistic number (c1, f1 and A trade off); its
    predictions are.

    Args:
        supervised: the student's supervised law, fitted first and frozen here.

    Source: Distillation Scaling Laws (Busbridge et al., 2025, arXiv 2502.08606).

    Example:
        >>> float(DISTILLATION_2025.value(params=1e9, tokens=20e9, teacher_loss=1.7226).round(4))
        2.2523
    """

    supervised: SupervisedLoss = SupervisedLoss()

    name = "distillation"
    source = BUSBRIDGE
    columns = ("params", "tokens", "teacher_loss")
    equation = (
        "L_T + L_T^-c0 (1 + (L_T / (L~ d1))^(1/f1))^(-c1 f1) (A / params^alpha + B / tokens^beta)^gamma; "
        "L_T = teacher_loss, L~ = supervised loss of the student"
    )
    parameters = (
        replace(A, start=(1.0,)),
        replace(B, start=(1.0,)),
        exponent("alpha", "exponent of size", (0.3,)),
        exponent("beta", "exponent of data", (0.5,)),
        Parameter("gamma", "outer exponent", start=(0.7,), lower=0.05, upper=5.0, log=True),
        Parameter("c0", "power of the teacher's loss", start=(0.5, 2.0), lower=-5.0, upper=10.0),
        Parameter("c1", "strength of the turn", start=(3.0, 100.0), lower=1e-3, upper=1e4, log=True),
        Parameter("f1", "width of the turn", start=(0.1, 0.3), lower=0.01, upper=3.0, log=True),
        Parameter("d1", "place of the turn, in units of L~", start=(1.0, 1.3), lower=0.1, upper=10.0, log=True),
    )

    def __post_init__(self) -> None:
        if isinstance(self.supervised, Mapping):
            object.__setattr__(self, "supervised", SupervisedLoss.of(self.supervised))

    def formula(self, p: Any, x: Any) -> Any:
        """Equation 8 in logarithms; the bracket's power (47 of something to the 11th) becomes a softplus."""
        teacher = np.log(x.teacher_loss)
        turn = (teacher - np.log(self.supervised(x.params, x.tokens)) - np.log(p.d1)) / p.f1
        gap = -p.c0 * teacher - p.c1 * p.f1 * np.logaddexp(0.0, turn) + _reducible(p, x.params, x.tokens)
        return np.exp(np.logaddexp(teacher, gap))


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
    equation = "E + B / tokens^beta, E ≥ teacher loss"
    linear = ("E", "B")

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """E, B and beta."""
        floor = Parameter("E", "loss with endless data", log=True, lower=self.teacher_loss)
        return floor, B, exponent("beta", "exponent of data", (0.3, 0.5, 0.7, 0.9, 1.1, 1.4))

    def formula(self, p: Any, x: Any) -> Any:
        """E + B / tokens^beta."""
        return p.E + p.B * x.tokens**-p.beta


DISTILLATION_2025 = published("distillation-2025")
SUPERVISED_2025 = Supervised().published(
    DISTILLATION_2025.where, "C4, one tokenizer, muP, non-embedding parameters", relative_error=0.01,
    reach=DISTILLATION_2025.reach, **asdict(SupervisedLoss()),
)  # fmt: skip
