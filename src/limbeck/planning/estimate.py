"""A planned quantity with its interval, and the rows of parameters it comes from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from limbeck.errors import PlanningError
from limbeck.fitting import Fit, Model
from limbeck.fitting.model import Array
from limbeck.fitting.prediction import percentile_interval
from limbeck.laws import Distillation, Published
from limbeck.runs import COLUMNS
from limbeck.runs.quantities import number, quantity

Source = Fit | Published
"""What a plan is made from: a fit of one's own runs, or published constants."""


def positive(**given: float | None) -> None:
    """Refuse numbers that are not above zero; None counts as not given.

    Raises:
        PlanningError: one is not.
    """
    for name, value in given.items():
        if value is not None and not value > 0:
            raise PlanningError(f"{name.replace('_', ' ')} must be positive; got {value:g}.")


def check_varied(source: Source, *columns: str) -> None:
    """Refuse to trade columns of which the runs of a fit held only one value.

    Raises:
        PlanningError: they did.
    """
    held = source.data.columns if isinstance(source, Fit) else {}
    for name in columns:
        if name in held and np.ptp(seen := held[name]) == 0:
            raise PlanningError(f"{name} is {seen[0]:g} in all runs: its effect is not known. Add runs of another one.")


class Plan(ABC):
    """A decision as text and as numbers. Every plan is a dataclass; what it prints are its lines, then its notes."""

    notes: tuple[str, ...]

    def summary(self) -> str:
        """Return the plan as plain text."""
        return "\n".join([*self._lines(), *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and words."""
        return asdict(cast(Any, self))

    @abstractmethod
    def _lines(self) -> list[str]:
        """What is printed before the notes."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Args:
        value: point estimate.
        lower, upper: ends of the interval, None where there are no draws to take it from.
    """

    value: float
    lower: float | None = None
    upper: float | None = None

    @classmethod
    def of(cls, rows: Array, level: float) -> Estimate:
        """Return the estimate of a quantity by rows: the optimum's value first, then one per draw.

        There is no interval without draws, and none where a draw has no end.
        """
        if len(rows) == 1 or np.isinf(rows).any():
            return cls(float(rows[0]))
        lower, upper = percentile_interval(rows[1:], level)
        return cls(float(rows[0]), float(lower), float(upper))

    @classmethod
    def each(cls, level: float, *quantities: Array) -> list[Estimate]:
        """Return the estimates of several quantities by rows."""
        return [cls.of(rows, level) for rows in quantities]

    def words(self, column: str, level: float) -> str:
        """Return the number with its interval, in the column's unit.

        Example:
            >>> Estimate(8.1e9, 6.6e9, 1e10).words("params", 0.8)
            '8.1 B parameters (80 %: 6.6 B – 10 B)'
        """
        digits = None if column in COLUMNS else 2
        text = quantity(column, self.value, digits)
        if self.lower is None or self.upper is None:
            return text
        band = f"{number(column, self.lower, digits)} – {number(column, self.upper, digits)}"
        return f"{text} ({100 * level:.0f} %: {band})"

    def plus_minus(self) -> str:
        """Return the number and half of its interval.

        Example:
            >>> Estimate(2.3, 2.28, 2.33).plus_minus()
            '2.300 ± 0.025'
        """
        half = "" if self.lower is None or self.upper is None else f" ± {(self.upper - self.lower) / 2:.2g}"
        return f"{self.value:.3f}{half}"

    def to_dict(self) -> dict[str, float | None]:
        """Return plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Ensemble:
    """A law with its parameters as rows, the optimum first and then the draws, each of shape [rows, 1]."""

    source: Source
    parameters: dict[str, Array]

    @classmethod
    def of(cls, source: Source, *columns: str) -> Ensemble:
        """Return the rows of a fit or of published constants.

        Raises:
            PlanningError: the law does not read exactly the columns that the plan varies.
        """
        law = source.model
        if set(law.columns) != set(columns):
            raise PlanningError(
                f"this plan needs a law in {' and '.join(columns)}; {law.name} reads {', '.join(law.columns)}."
            )
        drawn = ((name, [value, *source.draws.get(name, [])]) for name, value in source.parameters.items())
        return cls(source, {name: np.array(values)[:, None] for name, values in drawn})

    @property
    def model(self) -> Model:
        """The law."""
        return self.source.model

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def rows(self, value: float) -> Array:
        """Return a number repeated for every row."""
        return np.full(len(self), float(value))

    def loss(self, **columns: ArrayLike) -> Array:
        """Return the prediction of every row, [rows, k]."""
        with np.errstate(over="ignore", under="ignore"):
            return self.model(self.parameters, **columns)


@dataclass(frozen=True)
class Outlook:
    """A predicted loss and how far it reaches.

    Args:
        loss: with run-to-run noise in the interval.
        extrapolation: how many times larger than the largest run (of published constants: than the largest column of
            the source's runs), None where it is not known.
        note: the reach in words.
    """

    loss: Estimate
    extrapolation: float | None
    note: str


def outlook(source: Source, level: float, **columns: float) -> Outlook:
    """Return the prediction of one run by a fit, or by published constants with the error that their source reports."""
    if isinstance(source, Published):
        value = float(source.value(**columns))
        where = f"Published constants (arXiv {source.source.arxiv}, {source.where}): {source.note}."
        factors = {name: columns[name] / most for name, most in source.reach.items() if name in columns}
        widest = max(factors, key=lambda name: factors[name], default=None)
        factor = factors[widest] if widest else None
        if widest and factor is not None:
            of = f"{source.reach[widest]:.3g} {widest} of the source's largest run"
            far, near = f" {factor:.2g}× beyond the {of}.", f" Inside its data ({factor:.2g} of the {of})."
            where += far if factor > 1 else near
        half = value * source.relative_error * float(ndtri((1 + level) / 2)) or None
        return Outlook(Estimate(value, half and value - half, half and value + half), factor, where)
    if not source.draws and source.degrees_of_freedom < 2:
        value = float(source.value(**columns))
        return Outlook(Estimate(value), None, "no interval possible: fewer than two residual degrees of freedom")
    p = source.predict(level, **columns)
    factor = float(p.extrapolation[0])
    near = f"{'below' if p.outside else 'inside'} the data ({factor:.2g} of the largest run)"
    note = f"{factor:.2g}× beyond the largest run" if factor > 1 else near
    note += f"; outside the range of {' and '.join(p.outside)}" if p.outside else ""
    return Outlook(Estimate(float(p.mean[0]), float(p.lower[0]), float(p.upper[0])), factor, note)


def distillation_law(source: Source) -> Distillation:
    """Return the distillation law of a fit or of published constants.

    Raises:
        PlanningError: it is another law.
    """
    if not isinstance(source.model, Distillation):
        raise PlanningError(f"this plan needs a fit of the distillation law; it was given one of {source.model.name}.")
    return source.model
