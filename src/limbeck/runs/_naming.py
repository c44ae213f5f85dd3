"""Give the columns of a file their canonical names: by mapping where the user says so, by the vocabulary elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from limbeck.errors import RunsError, nearest

from ._tables import RawTable
from .quantities import scientific
from .vocabulary import COLUMNS, recognise

Mapped = Mapping[str, str | Sequence[str] | None] | str | Iterable[str]


@dataclass(frozen=True)
class Naming:
    """What became of the columns: canonical name → the file's columns that make it, and the factor applied."""

    origin: dict[str, tuple[str, ...]]
    factor: dict[str, float]

    def names(self) -> dict[str, str]:
        """Return how the file's columns are called now."""
        return {several[0]: ours for ours, several in self.origin.items() if len(several) == 1}

    def scaled(self) -> dict[str, str]:
        """Return the columns that were multiplied, with the formula."""
        return {
            ours: f"{self.origin[ours][0]} · {scientific(factor, 6)}"
            for ours, factor in self.factor.items()
            if factor != 1.0
        }


def parse_mapping(mapping: Mapped | None) -> list[tuple[str, str | Sequence[str] | None]]:
    """Read a mapping as pairs; text is `theirs=ours` (or the reverse), `theirs=` leaves a column out.

    Example:
        >>> parse_mapping(["loss_c4_val=loss", "run=model+schedule", "lr="])
        [('loss_c4_val', 'loss'), ('run', 'model+schedule'), ('lr', None)]
    """
    if mapping is None:
        return []
    if isinstance(mapping, Mapping):
        return list(mapping.items())
    pairs: list[tuple[str, str | Sequence[str] | None]] = []
    for text in [mapping] if isinstance(mapping, str) else mapping:
        # The last "=" separates: the file's own names may hold one.
        left, mark, right = text.rpartition("=")
        if not mark or not left.strip():
            raise RunsError(
                f'cannot read the mapping "{text}". Write it as "their column=ours", for example "val_ce=loss".'
            )
        pairs.append((left.strip(), right.strip() or None))
    return pairs


def rename(table: RawTable, mapping: Mapped | None) -> tuple[pl.DataFrame, Naming]:
    """Return the table's cells under canonical names; columns outside the vocabulary keep their own.

    Raises:
        RunsError: the mapping names a column that is not there, or two columns of the file mean the same.
    """
    columns = table.frame.columns
    origin: dict[str, tuple[str, ...]] = {}
    factor: dict[str, float] = {}
    hidden: set[str] = set()
    for left, right in parse_mapping(mapping):
        theirs, ours, scale = _direction(left, right, columns, table.source)
        if ours is None:
            hidden.update(theirs)
        elif ours in origin:
            raise RunsError(f"the mapping gives {_quoted([*origin[ours], *theirs])} the same name {ours}. Keep one.")
        else:
            origin[ours], factor[ours] = theirs, scale
    renamed = {several[0] for several in origin.values() if len(several) == 1}
    found: dict[str, list[tuple[str, float]]] = {}
    for column in columns:
        if column not in renamed | hidden and (match := recognise(column)) and match[0] not in origin:
            found.setdefault(match[0], []).append((column, match[1]))
    for ours, candidates in found.items():
        if len(candidates) > 1:
            names = [name for name, _ in candidates]
            both = "both" if len(names) == 2 else "all"
            raise RunsError(
                f"{table.source}: the columns {_quoted(names)} {both} mean {ours} ({COLUMNS[ours].meaning}). "
                f'Choose one with mapping={{"{names[-1]}": "{ours}"}} (--map {names[-1]}={ours}).'
            )
        origin[ours], factor[ours] = (candidates[0][0],), candidates[0][1]
    renamed = {several[0] for several in origin.values() if len(several) == 1}
    joined = [pl.concat_str([pl.col(c).cast(pl.String) for c in s], separator="/").alias(o) for o, s in origin.items()]
    single = [pl.col(s[0]).alias(o) for o, s in origin.items()]
    ours_first = [join if len(s) > 1 else one for join, one, s in zip(joined, single, origin.values(), strict=True)]
    # A column whose own name now belongs to another one steps aside instead of getting lost.
    rest = [pl.col(c).alias(f"{c} (in the file)" if c in origin else c) for c in columns if c not in renamed | hidden]
    return table.frame.select(ours_first + rest), Naming(origin, factor)


def _direction(
    left: str, right: str | Sequence[str] | None, columns: list[str], source: str
) -> tuple[tuple[str, ...], str | None, float]:
    """Tell which side of a mapping is the file's: (their columns, our name or None, factor)."""
    if right is None:
        return _theirs(left, columns, source)[0], None, 1.0
    reverse = (
        not isinstance(right, str)
        or (left in COLUMNS and right not in COLUMNS)
        or (left not in columns and (left in COLUMNS or (right in columns and right not in COLUMNS)))
    )
    theirs, ours = (right, left) if reverse else (left, str(right))
    if ours not in COLUMNS and (hint := nearest(ours, COLUMNS)):
        raise RunsError(f'the mapping names the unknown column "{ours}".{hint} The vocabulary: {", ".join(COLUMNS)}.')
    names, scale = _theirs(theirs, columns, source)
    return names, ours, scale


def _theirs(text: str | Sequence[str], columns: list[str], source: str) -> tuple[tuple[str, ...], float]:
    """Read one side of a mapping that names columns of the file: a name, `a+b` (joined text) or `name*1e9`."""
    if not isinstance(text, str):
        names, scale = list(text), 1.0
    elif text in columns:
        names, scale = [text], 1.0
    elif scaled := re.fullmatch(r"(.+?)\s*\*\s*(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)", text):
        names, scale = [scaled[1]], float(scaled[2])
    else:
        names, scale = [part.strip() for part in text.split("+")], 1.0
    for name in names:
        if name not in columns:
            raise RunsError(f'{source} has no column "{name}".{nearest(name, columns)} It has: {", ".join(columns)}.')
    return tuple(names), scale


def _quoted(names: Sequence[str]) -> str:
    return " and ".join(f'"{name}"' for name in names)
