"""What makes a `Model` a law: a source that one can look up, and a name that finds it.

A law registers itself by being defined: write a subclass of `Law` with a `name`, and `limbeck fit --law NAME` knows it.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, ClassVar

from numpy.typing import ArrayLike

from limbeck.errors import FittingError, nearest
from limbeck.fitting import Loss, Model
from limbeck.fitting.model import Array
from limbeck.fitting.resampling import Method
from limbeck.runs import RunTable

LINEAR = Loss(delta=math.inf, space="linear")
"""Least squares on the values themselves."""

TABLES: dict[str, Any] = tomllib.loads(resources.files(__package__).joinpath("published.toml").read_text("utf-8"))
"""Published constants, see `published.toml`."""

_REGISTRY: dict[str, type[Law]] = {}


@dataclass(frozen=True)
class Source:
    """A paper: title, authors, year and arXiv number."""

    title: str
    authors: str
    year: int
    arxiv: str

    def __str__(self) -> str:
        return f"{self.title} ({self.authors}, {self.year}, arXiv {self.arxiv})"


SOURCES = {name: Source(*row) for name, row in TABLES["source"].items()}


class Law(Model):
    """A model with a source. A subclass sets `name`, `source` and what `Model` asks for.

    Example:
        >>> get("chinchilla").equation
        'E + A / params^alpha + B / tokens^beta'
    """

    source: ClassVar[Source]
    target = "loss"
    preferred_loss: ClassVar[Loss | None] = None
    """What `laws.fit` minimises unless told otherwise; None is the engine's default, Huber on log residuals."""

    resampling: ClassVar[Method] = "pairs"
    """How `laws.fit` resamples unless told otherwise."""

    def size(self, x: Any) -> Any:
        """Return params times tokens where the law reads both, else the product of all columns."""
        both = {"params", "tokens"} <= set(self.columns)
        return x.params * x.tokens if both else super().size(x)

    def published(self, constants: Mapping[str, float], source: Source | None = None, **facts: Any) -> Published:
        """Return the law with a paper's constants, by default of its own source; `facts` are fields of `Published`."""
        return Published(self, constants, source or self.source, **facts)

    def prepare(self, runs: RunTable, *, skip_bad: bool = False) -> tuple[Law, RunTable]:
        """Return the law and the table that a fit reads: a law whose columns follow from others computes them here."""
        return self, runs

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            return
        known = _REGISTRY.get(cls.name)
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise FittingError(f'the law name "{cls.name}" is taken by {known.__module__}.{known.__qualname__}.')
        _REGISTRY[cls.name] = cls


def names() -> list[str]:
    """Return the names of all laws, sorted.

    Example:
        >>> "chinchilla" in names()
        True
    """
    return sorted(_REGISTRY)


def catalogue() -> list[dict[str, Any]]:
    """Return every law as plain data: its name, equation, columns, target, parameters and source.

    Example:
        >>> [law["equation"] for law in catalogue() if law["law"] == "chinchilla"]
        ['E + A / params^alpha + B / tokens^beta']
    """
    return [
        {
            "law": name, "equation": law.equation, "columns": list(law.columns), "target": law.target,
            "parameters": {p.name: p.meaning for p in law.parameters}, "source": str(law.source),
        }
        for name in names() for law in [get(name)]
    ]  # fmt: skip


def get(name: str, **fields: Any) -> Law:
    """Return the law of a name.

    Args:
        name: one of `names()`. A law of one free column takes the column after a colon: `"power-floor:params"`.
        fields: the law's own fields, where it has any.

    Raises:
        FittingError: no law has this name; the message offers the nearest one.

    Example:
        >>> get("power-floor:params").columns
        ('params',)
    """
    base, _, column = name.partition(":")
    if base not in _REGISTRY:
        raise FittingError(
            f'unknown law "{base}".{nearest(base, _REGISTRY)} (limbeck fit --laws lists all {len(_REGISTRY)})'
        )
    law = _REGISTRY[base]
    if column:
        if "column" not in law.__dataclass_fields__:
            raise FittingError(f'{base} reads the columns {", ".join(law.columns)}: it takes no ":{column}".')
        fields["column"] = column
    return law(**fields)


@dataclass(frozen=True)
class Published:
    """A law with the constants of a paper: evaluate it, plan with it, compare with it.

    Args:
        law: the law.
        parameters: its constants, natural units.
        source: the paper.
        where: the table or equation they stand in.
        note: what the constants hold for, and anything doubtful about them.
        relative_error: relative error of its predictions that the source reports, 0 if it reports none.
        reach: largest value of a column among the source's own runs, where it is known.
    """

    law: Law
    parameters: Mapping[str, float]
    source: Source
    where: str
    note: str = ""
    relative_error: float = 0.0
    reach: Mapping[str, float] = field(default_factory=dict)
    draws: Mapping[str, Array] = field(default_factory=dict, repr=False)

    @property
    def model(self) -> Law:
        """The law, under the name that a `Fit` has for it."""
        return self.law

    def value(self, **columns: ArrayLike) -> Array:
        """Return the prediction at columns that broadcast."""
        return self.law(self.parameters, **columns)


def published(name: str, source: Source | None = None) -> Published:
    """Return the constants that `published.toml` has under a name; the source is the law's own unless given.

    Example:
        >>> published("zhang-2023").parameters["a"]
        2.498
    """
    row = dict(TABLES["law"][name])
    return get(row.pop("law")).published(source=source, **row)


def published_family(name: str, source: Source | None = None) -> dict[str, Published]:
    """Return all constants whose name begins with that of a family, by the rest of their names."""
    return {k.removeprefix(f"{name}-"): published(k, source) for k in TABLES["law"] if k.startswith(f"{name}-")}
