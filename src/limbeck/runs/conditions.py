"""Choose rows: `{"outlier": 0}`, `"family=opt"`, `["tokens>=1e9", "seed=0,1"]`."""

import operator
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from limbeck.errors import RunsError, nearest

from .quantities import parse_quantity
from .vocabulary import recognise

Where = Mapping[str, Any] | str | Iterable[str]
ORDER = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def choose(frame: pl.DataFrame, where: Where | None, source: str, names: Mapping[str, str] | None = None) -> pl.Series:
    """Return which rows satisfy all conditions.

    Args:
        frame: the table, numbers as numbers.
        where: `{"column": value}` (a list of values means any of them), or text: `column=value`, `!=`, `<`, `<=`, `>`,
            `>=`; commas separate the values of `=` and `!=`. Numbers may be written `1e9`, `7B`. Columns may be named
            as in the file, canonically, or by an alias.
        source: name of the table, for messages.
        names: how the file's columns are called in `frame`.

    Raises:
        LimbeckError: a condition cannot be read, a column is unknown, or no row is left.

    Example:
        >>> table = pl.DataFrame({"tokens": [1e9, 2e9, 3e9], "seed": [0.0, 0.0, 1.0]})
        >>> choose(table, ["tokens>=2B", "seed=0"], "runs.csv").to_list()
        [False, True, False]
    """
    kept = pl.repeat(True, len(frame), eager=True)
    for column, comparison, values in _conditions(where):
        alias = recognise(column)
        candidates = (column, (names or {}).get(column), alias and alias[0])
        name = next((name for name in candidates if name in frame.columns), None)
        if name is None:
            raise no_column(source, column, frame.columns)
        fits = kept & _fits(frame[name], comparison, values)
        if len(frame) and not fits.any():
            present = frame[name].filter(kept).drop_nulls().unique(maintain_order=True)
            shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in present.head(10))
            text, more = f"{column}{comparison}{','.join(map(str, values))}", ", ..." if len(present) > 10 else ""
            raise RunsError(f"{source}: no row has {text}. There {name} is one of: {shown}{more}.")
        kept = fits
    return kept


def no_column(source: str, name: str, columns: Sequence[str]) -> RunsError:
    """Return the error for a column that a table does not have."""
    return RunsError(f'{source} has no column "{name}".{nearest(name, columns)} It has: {", ".join(columns)}.')


def _conditions(where: Where | None) -> Iterator[tuple[str, str, list[Any]]]:
    if isinstance(where, Mapping):
        for column, value in where.items():
            yield column, "=", list(value) if isinstance(value, list | tuple | set) else [value]
        return
    for text in [where] if isinstance(where, str) else where or ():
        match = re.fullmatch(r"\s*([^=<>!]+?)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*", text)
        if not match:
            raise RunsError(f'cannot read the condition "{text}". Write column=value, column!=value or column>=value.')
        comparison = match[2].replace("==", "=")
        yield match[1], comparison, [match[3]] if comparison in ORDER else match[3].split(",")


def _fits(series: pl.Series, comparison: str, values: list[Any]) -> pl.Series:
    """Return which values satisfy one condition; an empty cell satisfies only `!=`."""
    if not series.dtype.is_numeric():
        if comparison in ORDER:
            raise RunsError(f'"{series.name}" holds text: it can be chosen by = and !=, not by {comparison}.')
        found = series.is_in([str(value) for value in values])
    else:
        numbers = [float(value) if isinstance(value, int | float) else parse_quantity(str(value)) for value in values]
        found = ORDER[comparison](series, numbers[0]) if comparison in ORDER else series.is_in(numbers)
    return ~found.fill_null(False) if comparison == "!=" else found.fill_null(False)
