"""What makes a `Model` a law: a source that one can look up, a name that finds it, and runs that it is fitted to.

A law registers itself by being defined: write a subclass of `Law` with a `name`, and `limbeck fit --law NAME` knows it.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.typing import ArrayLike

from limbeck.errors import FittingError, nearest
from limbeck.fitting import Comparison, Fit, Loss, Model, Prior, estimation, selection
from limbeck.fitting.model import Array
from limbeck.fitting.resampling import Method
from limbeck.runs import COLUMNS, RunTable, read_runs

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


def fit(
    law: Model | str, runs: RunTable | str | Path | Mapping[str, ArrayLike] | Any, *, bootstrap: int = 1000,
    seed: int = 0, fixed: Mapping[str, float] | None = None, priors: Mapping[str, Prior] | None = None,
    prior_noise: float = 0.01, loss: Loss | None = None, delta: float | Literal["auto"] | None = None,
    weights: ArrayLike | None = None, method: Method | None = None, holdout: float | None = None, **read: Any,
) -> Fit:  # fmt: skip
    """Fit a law to runs. Checkpoints of one run are resampled together.

    Args:
        law: a law, or its name (`limbeck.laws.names()`).
        runs: a run table, a path that `read_runs` reads, a data frame, or columns by name.
        bootstrap: number of resamples; 0 for none.
        seed: of starts and resamples.
        fixed: parameters held at a number: borrowed constants.
        priors: normal beliefs about parameters (about their logarithm where they are positive).
        prior_noise: standard deviation of one residual, which weighs data against priors.
        loss: what is minimised; the law's own choice by default, else Huber 1e-3 on log residuals, summed.
        delta: replaces the loss's threshold between squared and absolute; "auto" takes it from the residuals.
        weights: of the rows, [n].
        method: of resampling: `pairs`, `residual`, `wild`, `mammen` or `block`; the law's own choice by default.
        holdout: share of the largest runs that is left out once to check the law (0.3 is usual).
        read: options of `read_runs`, such as `mapping`, `where` or `skip_bad`.

    Raises:
        FittingError: the law is unknown, or the runs cannot identify it.
        RunsError: the table lacks a column that the law reads, or a row is bad.

    Example:
        >>> runs = {"tokens": [1e8, 1e9, 1e10, 1e11, 1e12], "loss": [3.8, 2.8, 2.3, 2.05, 1.925]}
        >>> found = fit("power-floor:tokens", runs, bootstrap=0)
        >>> round(found.parameters["E"], 2), round(found.parameters["alpha"], 2)
        (1.8, 0.3)
    """
    model = get(law) if isinstance(law, str) else law
    model, table = _prepared(model, _read(runs, read), read)
    own_loss, own_method = (model.preferred_loss, model.resampling) if isinstance(model, Law) else (None, "pairs")
    return estimation.fit(
        model, {name: table.column(name) for name in model.columns}, table.column(model.target),
        clusters=table.clusters(), loss=loss or own_loss, delta=delta, weights=weights, fixed=fixed, priors=priors,
        prior_noise=prior_noise, bootstrap=bootstrap, method=method or own_method, holdout=holdout, seed=seed,
        units={name: COLUMNS[name].unit for name in (*model.columns, model.target) if name in COLUMNS},
    )  # fmt: skip


def _read(runs: Any, read: Mapping[str, Any]) -> RunTable:
    return runs if isinstance(runs, RunTable) else read_runs(runs, **read)


def _prepared(model: Model, table: RunTable, read: Mapping[str, Any]) -> tuple[Model, RunTable]:
    """The law and the table with every column that it reads."""
    skip_bad = bool(read.get("skip_bad", False))
    if isinstance(model, Law):
        model, table = model.prepare(table, skip_bad=skip_bad)
    return model, table.require(*model.columns, model.target, skip_bad=skip_bad)


def compare(
    laws: Sequence[Model | str], runs: RunTable | str | Path | Mapping[str, ArrayLike] | Any, *, bootstrap: int = 200,
    seed: int = 0, loss: Loss | None = None, **read: Any,
) -> Comparison:  # fmt: skip
    """Compare laws on the same runs by how well each predicts the largest from the smaller ones.

    Args:
        laws: laws or their names; they must predict the same column.
        runs: as for `fit`; rows must have every column that one of the laws reads.
        bootstrap: number of resamples, of the fits and per cut.
        seed: of starts and resamples.
        loss: what is minimised, the same for all; Huber 1e-3 on log residuals by default.
        read: options of `read_runs`.

    Raises:
        FittingError: no laws, a law is unknown, laws predict different columns, or there are too few runs for all.
        RunsError: the table lacks a column, or a row is bad.
    """
    models = [get(law) if isinstance(law, str) else law for law in laws]
    if len({model.target for model in models}) != 1:
        targets = "; ".join(f"{model.name}: {model.target}" for model in models) or "none given"
        raise FittingError(f"laws that are compared must predict the same column ({targets}).")
    table = _read(runs, read)
    for i, model in enumerate(models):
        models[i], table = _prepared(model, table, read)
    fits, left_out = [], {}
    for model in models:
        try:
            fits.append(fit(model, table, bootstrap=bootstrap, seed=seed, loss=loss or Loss()))
        except FittingError as error:
            left_out[model.name] = str(error)
    if not fits:
        raise FittingError("\n".join(left_out.values()))
    return replace(selection.compare(fits, resamples=bootstrap), left_out=left_out)


def load_fit(path: str | Path) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Raises:
        FittingError: the file is missing, is not a saved fit, or its law is not defined here.
    """
    try:
        record = json.loads(Path(path).read_text())
        return Fit.from_dict(record, get(record["law"], **record["options"]))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        advice = "Write one with: limbeck fit runs.csv --law NAME"
        wrong = "does not exist" if isinstance(error, FileNotFoundError) else "is not a saved fit"
        raise FittingError(f"{path} {wrong}. {advice}") from error
