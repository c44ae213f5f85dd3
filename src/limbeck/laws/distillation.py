"""The loss of a distilled student from its size, tokens and teacher, and the best teacher size for pruned students."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting import aicc
from limbeck.fitting.model import Array, Parameter
from limbeck.laws.law import SOURCES, Law, published
from limbeck.laws.loss import A, B, E, exponent
from limbeck.laws.trend import bottom

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
SUPERVISED_2025 = replace(
    DISTILLATION_2025, law=Supervised(), parameters=asdict(SupervisedLoss()),
    note="C4, one tokenizer, muP, non-embedding parameters",
)  # fmt: skip


ZHANG = SOURCES["zhang-2023"]


class CapacityGap(Law):
    """Best teacher size for a student: T* = a S + b, in parameters (the paper counts all of them).

    Source: Towards the Law of Capacity Gap in Distilling Language Models (Zhang et al., 2023, arXiv 2311.07052).

    Example:
        >>> float((ZHANG_2023.value(params=3e9) / 1e6).round(3))
        7482.502
    """

    name = "capacity-gap"
    source = ZHANG
    columns = ("params",)
    target = "teacher_params"
    equation = "a params + b"
    linear = ("a", "b")
    parameters = (Parameter("a", "teacher per student parameter"), Parameter("b", "offset, parameters"))

    def formula(self, p: Any, x: Any) -> Any:
        """A S + b."""
        return p.a * x.params + p.b


ZHANG_2023 = published("zhang-2023")


def optimal_teacher(params: float) -> float:
    """Return the teacher size T* = 2.498 S - 11.498 M for a student of S parameters, never below S.

    Warns where the published law does not reach: students below 30 M or teachers above 7 B.

    Source: Towards the Law of Capacity Gap in Distilling Language Models (Zhang et al., 2023, arXiv 2311.07052).

    Example:
        >>> round(optimal_teacher(2.8e9) / 1e6, 3)
        6982.902
    """
    teacher = max(float(params), float(ZHANG_2023.value(params=params)))
    if params < 30e6 or teacher > 7.6e9:
        measured = "the capacity-gap law was measured for students above 30 M and teachers of 70 M to 7 B parameters"
        warnings.warn(f"{measured}; {params:.2g} and {teacher:.2g} lie outside", stacklevel=2)
    return teacher


def optimal_student(teacher_params: float) -> float:
    """Return the student size whose best teacher has a given size: S = (T + 11.498 M) / 2.498, about 0.4 T.

    Example:
        >>> round(optimal_student(optimal_teacher(1e9)))
        1000000000
    """
    p = ZHANG_2023.parameters
    return (float(teacher_params) - p["b"]) / p["a"]


def component_sparsity(sparsity: ArrayLike) -> Array:
    """Return the share to prune of each component so that a share p of the parameters goes: 1 - sqrt(1 - p).

    Hidden units multiply with heads and with neurons, hence the root.

    Example:
        >>> float(component_sparsity(0.6).round(5))
        0.36754
    """
    return np.asarray(1.0 - np.sqrt(1.0 - np.asarray(sparsity, float)))


@dataclass(frozen=True)
class BestTeacher:
    """The best teacher of one student size, read off a sweep.

    Args:
        params: student parameters S.
        teacher_params: T*, None if the sweep does not bracket it.
        log_sd: standard deviation of ln T* over resampled seeds, NaN with one seed.
        flag: why there is no T*, or an empty string.
        largest_is_best: share of resamples in which the largest teacher is best (no capacity gap seen).
    """

    params: float
    teacher_params: float | None
    log_sd: float
    flag: str
    largest_is_best: float


@dataclass(frozen=True)
class GapForm:
    """One form of T*(S), fitted: `a S + b`, `a S` or `a S^gamma`.

    Args:
        form: its formula.
        parameters: its numbers.
        aicc: corrected Akaike criterion of the log residuals; infinite if there are too few sizes to judge.
    """

    form: str
    parameters: Mapping[str, float]
    aicc: float


@dataclass(frozen=True)
class CapacityGapFit:
    """What a sweep over teachers says about the best teacher size.

    Args:
        best: one entry per student size.
        forms: the three forms, best AICc first; empty if fewer than two sizes bracket their optimum.
    """

    best: tuple[BestTeacher, ...]
    forms: tuple[GapForm, ...]

    @property
    def distinguishable(self) -> bool:
        """Whether the best form leads by more than 2 in AICc, which takes five sizes to compute for all forms."""
        known = bool(self.forms) and all(math.isfinite(f.aicc) for f in self.forms)
        return known and self.forms[1].aicc - self.forms[0].aicc > 2

    def summary(self) -> str:
        """Return the finding in words."""
        lines = []
        for b in self.best:
            ratio = b.teacher_params and f"best teacher {b.teacher_params / b.params:.2g}× the student"
            share = f"largest is best in {100 * b.largest_is_best:.0f} % of resamples"
            lines.append(f"student {b.params:.3g}: {ratio or f'not bracketed: {b.flag}'} ({share})")
        for f in self.forms:
            lines.append(f"T* = {f.form}: " + ", ".join(f"{k} = {v:.4g}" for k, v in f.parameters.items()))
        if len(self.forms) > 1 and not self.distinguishable:
            lines.append("the forms cannot be told apart with these sizes")
        return "\n".join(lines)


def _vertex(log_t: Array, loss: Array, weights: Array) -> tuple[float | None, str]:
    """ln T* of a weighted quadratic in ln T, or None and why."""
    if (z := bottom(log_t, loss, np.sqrt(weights))) is None:
        return None, "the loss does not rise again"
    if not log_t.min() < z < log_t.max():
        return None, f"the {'largest' if z >= log_t.max() else 'smallest'} teacher is best"
    return z, ""


def _one_size(
    teachers: Array, losses: list[Array], params: float, resamples: int, rng: np.random.Generator
) -> BestTeacher:
    log_t, counts = np.log(teachers), np.array([len(group) for group in losses], float)
    z, flag = _vertex(log_t, np.array([group.mean() for group in losses]), counts / counts.max())
    draws = np.stack([group[rng.integers(0, len(group), (resamples, len(group)))].mean(1) for group in losses], 1)
    optima = [_vertex(log_t, row, counts / counts.max())[0] for row in draws]
    found = np.array([o for o in optima if o is not None])
    spread = float(found.std(ddof=1)) if len(found) > 1 and max(np.ptp(group) for group in losses) > 0 else math.nan
    largest = float((draws.argmin(1) == int(teachers.argmax())).mean())
    return BestTeacher(params, None if z is None else math.exp(z), spread, flag, largest)


def _forms(s: Array, t: Array) -> tuple[GapForm, ...]:
    """The three forms by least squares on relative residuals, judged on log residuals."""
    gamma, level = np.polyfit(np.log(s), np.log(t), 1)
    ab = np.linalg.lstsq(np.stack([s / t, 1 / t], 1), np.ones(len(s)), rcond=None)[0]
    a = float((s / t).sum() / ((s / t) ** 2).sum())
    fitted = {
        "a S + b": ({"a": float(ab[0]), "b": float(ab[1])}, ab[0] * s + ab[1]),
        "a S": ({"a": a}, a * s),
        "a S^gamma": ({"a": float(np.exp(level)), "gamma": float(gamma)}, np.exp(level) * s**gamma),
    }
    forms = []
    for form, (parameters, prediction) in fitted.items():
        squares = float((np.log(np.maximum(prediction, 1e-300) / t) ** 2).sum())
        forms.append(GapForm(form, parameters, aicc(squares, len(s), len(parameters))))
    return tuple(sorted(forms, key=attrgetter("aicc")))


def fit_capacity_gap(
    params: ArrayLike, teacher_params: ArrayLike, loss: ArrayLike, *, resamples: int = 500, seed: int = 0
) -> CapacityGapFit:
    """Return the best teacher of every student size in a sweep, and the law through them.

    For each student size, a quadratic in ln T through the mean losses over seeds gives T*; resampling seeds gives its
    spread. A minimum at the edge of the sweep is flagged "not bracketed" and yields no number.

    Args:
        params: student size of each run, [n].
        teacher_params: its teacher's size; 0 or NaN for no teacher (left out), [n].
        loss: the student's loss; runs of the same pair of sizes are seeds, [n].
        resamples, seed: of the bootstrap over seeds.

    Raises:
        FittingError: a student size has fewer than four teachers.

    Source: Towards the Law of Capacity Gap in Distilling Language Models (Zhang et al., 2023, arXiv 2311.07052); the
    estimate of T* is reconstructed.
    """
    taught = np.asarray(teacher_params, float) > 0
    s, t, y = (np.asarray(a, float)[taught] for a in (params, teacher_params, loss))
    rng, best = np.random.default_rng(seed), []
    for size in np.unique(s):
        mine = s == size
        teachers = np.unique(t[mine])
        if (count := len(teachers)) < 4:
            raise FittingError(f"a student of {size:g} parameters has {count} teacher sizes: four or more are needed.")
        best.append(_one_size(teachers, [y[mine & (t == u)] for u in teachers], float(size), resamples, rng))
    found = np.array([(b.params, b.teacher_params) for b in best if b.teacher_params is not None])
    return CapacityGapFit(tuple(best), _forms(*found.T) if len(found) > 1 else ())
