"""What the engine fits: named parameters and a formula written once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError, nearest

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a model.

    Args:
        name: as in the formula.
        meaning: what it is, in a few words with its unit.
        start: values to try first, combined with those of the other parameters, in units where every column that
            `dimension` names has geometric mean 1. Parameters named in `Model.linear` need none.
        lower, upper: bounds in natural units (in centred units where `dimension` is given).
        log: positive; fitted as its logarithm.
        dimension: the parameter's unit as powers of columns. `{"params": "alpha"}` says params^alpha, `{"tokens": 1.0}`
            says tokens. The engine uses it to centre the columns.
    """

    name: str
    meaning: str = ""
    start: tuple[float, ...] = ()
    lower: float = -math.inf
    upper: float = math.inf
    log: bool = False
    dimension: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def axis(self) -> tuple[float, ...]:
        """The start values as the solver takes them: logarithms of a positive parameter's."""
        return tuple(np.log(self.start)) if self.log else self.start


@dataclass(frozen=True)
class Model(ABC):
    """A law as data: the columns it reads, the column it predicts, its parameters and one formula.

    A subclass sets the class attributes and writes `formula(self, p, x)` with NumPy functions on the attributes of `p`
    (parameters) and `x` (columns). Derivatives come from the engine.

    Example:
        >>> class Line(Model):
        ...     name = "line"
        ...     columns = ("x",)
        ...     target = "y"
        ...     parameters = (Parameter("slope"), Parameter("offset"))
        ...     linear = ("slope", "offset")
        ...     def formula(self, p, x):
        ...         return p.offset + p.slope * x.x
        >>> Line()({"slope": 2.0, "offset": 1.0}, x=[0.0, 3.0])
        array([1., 7.])
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    target: ClassVar[str]
    parameters: ClassVar[tuple[Parameter, ...]]
    linear: ClassVar[tuple[str, ...]] = ()
    equation: ClassVar[str] = ""
    dependent: ClassVar[tuple[str, ...]] = ()
    """Columns that follow from one another: a design is not judged by them."""

    floor: ClassVar[str | None] = None
    """The parameter at which the formula levels off and which may be 0; a fit checks whether the data show it."""

    @abstractmethod
    def formula(self, p: Any, x: Any) -> Any:
        """Return the prediction from parameters `p.name` and columns `x.name` (arrays that broadcast, or symbols)."""

    def size(self, x: Any) -> Any:
        """Return what orders data from small to large (compute, say): extrapolation is measured along it.

        The product of the columns unless a model says otherwise; only ratios matter.
        """
        return math.prod(getattr(x, name) for name in self.columns)

    def sizes(self, columns: Mapping[str, Array]) -> Array:
        """Return the size of every point, [n], of columns [n]."""
        n = len(next(iter(columns.values())))
        return np.broadcast_to(np.asarray(self.size(SimpleNamespace(**columns)), float), n)

    def by_rows(self, parameters: Mapping[str, Array], columns: Mapping[str, ArrayLike]) -> Array:
        """Return one prediction per row of parameters, [B, n], from parameters [B]."""
        return self({name: row[:, None] for name, row in parameters.items()}, **columns)

    def remarks(self, columns: Mapping[str, Array]) -> list[str]:
        """Return what a design, one array [n] per column, leaves open for reasons of this model's own."""
        return []

    @property
    def refusal(self) -> str:
        """Why nothing beyond the data may be predicted, in words; empty where it may."""
        return ""

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Names of the parameters, in the order of every parameter vector."""
        return tuple(parameter.name for parameter in self.parameters)

    def __call__(self, parameters: Mapping[str, ArrayLike], **columns: ArrayLike) -> Array:
        """Evaluate the formula. Parameters and columns broadcast against each other.

        Raises:
            FittingError: a column or a parameter is missing or unknown.
        """
        self.check_names("parameter", parameters, self.parameter_names)
        self.check_names("column", columns, self.columns)
        p = SimpleNamespace(**{name: np.asarray(parameters[name], float) for name in self.parameter_names})
        x = SimpleNamespace(**{name: np.asarray(columns[name], float) for name in self.columns})
        return np.asarray(self.formula(p, x), float)

    def check_names(self, kind: str, given: Mapping[str, Any], expected: tuple[str, ...]) -> None:
        """Raise a `FittingError` unless exactly the expected names are given."""
        known = ", ".join(expected)
        if (name := next((name for name in given if name not in expected), None)) is not None:
            raise FittingError(f'{self.name} has no {kind} "{name}".{nearest(name, expected)} It has: {known}.')
        if missing := [name for name in expected if name not in given]:
            raise FittingError(f"{self.name} needs the {kind}s {known}; missing: {', '.join(missing)}.")
