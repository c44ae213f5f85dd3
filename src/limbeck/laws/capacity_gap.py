"""Which teacher size is best for a student of a given size, when students are pruned from their teachers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting import aicc
from limbeck.fitting.model import Array, Parameter
from limbeck.laws.law import SOURCES, Law, published
from limbeck.laws.trend import bottom

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
