"""Choose rows: `{"outlier": 0}`, `"family=opt"`, `["tokens>=1e9", "seed=0,1"]`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from limbeck.errors import LimbeckError, RunsError, nearest

from .quantities import parse_quantity
from .vocabulary import recognise

Where = Mapping[str, Any] | str | Iterable[str]
_ORDER: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


@dataclass(frozen=True)
class Condition:
    """One condition on one column; several values with `=` mean any of them, with `!=` none of them."""

    column: str
    comparison: str
    values: tuple[Any, ...]
    text: str

    def keeps(self, series: pl.Series) -> pl.Series:
        """Return which values of a column satisfy the condition; text that is a number also compares as a number."""
        numbers = series.cast(pl.Float64, strict=False)
        if self.comparison in _ORDER:
            bound = _number(self.values[0])
            if bound is None:
                raise RunsError(
                    f'the condition "{self.text}" compares sizes: a number is expected, not {self.values[0]!r}.'
                )
            ordered: pl.Series = _ORDER[self.comparison](numbers, bound)
            return ordered.fill_null(False)
        texts = series.cast(pl.String, strict=False)
        kept = pl.Series([False] * len(series), dtype=pl.Boolean)
        for value in self.values:
            kept = kept | (texts == str(value)).fill_null(False)
            if (wanted := _number(value)) is not None:
                kept = kept | (numbers == wanted).fill_null(False)
        return kept if self.comparison == "=" else ~kept


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) else parse_quantity(str(value))
    except LimbeckError:
        return None


def parse_conditions(where: Where | None) -> list[Condition]:
    """Read conditions from a mapping or from text.

    Args:
        where: `{"column": value}` (a list of values means any of them), or text: `column=value`, `!=`, `<`, `<=`, `>`,
            `>=`; commas separate the values of `=` and `!=`. Numbers may be written `1e9`, `7B`.

    Raises:
        RunsError: a text holds no comparison.

    Example:
        >>> [(c.column, c.comparison, c.values) for c in parse_conditions(["outlier=0", "tokens >= 1B"])]
        [('outlier', '=', ('0',)), ('tokens', '>=', ('1B',))]
    """
    if where is None:
        return []
    if isinstance(where, Mapping):
        several = {
            column: value if isinstance(value, list | tuple | set) else [value] for column, value in where.items()
        }
        return [Condition(c, "=", tuple(v), f"{c}={','.join(map(str, v))}") for c, v in several.items()]
    return [_parse(text) for text in ([where] if isinstance(where, str) else where)]


def _parse(text: str) -> Condition:
    match = re.fullmatch(r"\s*([^=<>!]+?)\s*(>=|<=|!=|==|=|>|<)\s*(.*?)\s*", text)
    if not match:
        raise RunsError(
            f'cannot read the condition "{text}". Write it as column=value, column!=value or column>=value.'
        )
    column, comparison, value = match[1], match[2].replace("==", "="), match[3]
    values = (value,) if comparison in _ORDER or "," not in value else (*value.split(","), value)
    return Condition(column, comparison, values, text.strip())


def choose(frame: pl.DataFrame, where: Where | None, source: str, names: Mapping[str, str] | None = None) -> pl.Series:
    """Return which rows satisfy all conditions.

    Args:
        frame: the table.
        where: see `parse_conditions`; columns may be named as in the file, canonically, or by an alias.
        source: name of the table, for messages.
        names: how the file's columns are called in `frame`.

    Raises:
        RunsError: a column is unknown, or no row is left.
    """
    kept = pl.Series([True] * len(frame), dtype=pl.Boolean)
    for condition in parse_conditions(where):
        alias = recognise(condition.column)
        candidates = [condition.column, (names or {}).get(condition.column), alias[0] if alias else None]
        column = next((name for name in candidates if name in frame.columns), None)
        if column is None:
            raise RunsError(
                f'{source} has no column "{condition.column}".{nearest(condition.column, frame.columns)} '
                f"It has: {', '.join(frame.columns)}."
            )
        fits = condition.keeps(frame[column])
        if len(frame) and not (kept & fits).any():
            present = frame[column].filter(kept).cast(pl.String, strict=False).drop_nulls().unique(maintain_order=True)
            shown = ", ".join(present.head(10)) + (", ..." if len(present) > 10 else "")
            raise RunsError(f"{source}: no row has {condition.text}. There {column} is one of: {shown}.")
        kept = kept & fits
    return kept
