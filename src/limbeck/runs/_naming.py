"""Give the columns of a file their canonical names: by mapping where the user says so, by the vocabulary elsewhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from limbeck.errors import RunsError, nearest

from .conditions import no_column
from .quantities import scientific
from .vocabulary import COLUMNS, recognise

Mapped = Mapping[str, str | None] | str | Iterable[str]


@dataclass(frozen=True)
class Naming:
    """What became of the columns: canonical name → the file's columns that make it, and the factor applied."""

    origin: dict[str, list[str]]
    factor: dict[str, float]

    def names(self) -> dict[str, str]:
        """Return how the file's columns are called now."""
        return {theirs[0]: ours for ours, theirs in self.origin.items() if len(theirs) == 1}

    def scaled(self) -> dict[str, str]:
        """Return the columns that were multiplied, with the formula."""
        return {n: f"{self.origin[n][0]} · {scientific(f)}" for n, f in self.factor.items() if f != 1.0}


def rename(frame: pl.DataFrame, mapping: Mapped | None, source: str) -> tuple[pl.DataFrame, Naming]:
    """Return the cells under canonical names; columns outside the vocabulary keep their own.

    Raises:
        RunsError: the mapping names a column that is not there, or two columns of the file mean the same.
    """
    origin: dict[str, list[str]] = {}
    hidden: set[str] = set()
    for left, right in _pairs(mapping):
        theirs, ours = _direction(left, right, frame.columns, source)
        if ours is None:
            hidden |= set(theirs)
        elif ours in origin:
            raise RunsError(f"the mapping gives {_quoted([*origin[ours], *theirs])} the same name {ours}. Keep one.")
        else:
            origin[ours] = theirs
    naming = Naming(origin, factor := {})
    taken = hidden | set(naming.names())
    for column in frame.columns:
        match = recognise(column)
        if column in taken or match is None or (match[0] in origin and match[0] not in factor):
            continue
        ours, scale = match
        if ours in origin:
            raise RunsError(
                f"{source}: the columns {_quoted([*origin[ours], column])} both mean {ours} ({COLUMNS[ours].meaning}). "
                f'Choose one with mapping={{"{column}": "{ours}"}} (--map {column}={ours}).'
            )
        origin[ours], factor[ours] = [column], scale
    made = [
        pl.col(theirs[0]).alias(ours) if len(theirs) == 1 else pl.concat_str(theirs, separator="/").alias(ours)
        for ours, theirs in origin.items()
    ]
    taken |= set(naming.names())
    # A column whose own name now belongs to another one steps aside instead of getting lost.
    rest = [pl.col(c).alias(f"{c} (in the file)" if c in origin else c) for c in frame.columns if c not in taken]
    return frame.select(made + rest), naming


def _pairs(mapping: Mapped | None) -> Iterable[tuple[str, str | None]]:
    """Read a mapping as pairs; text is `theirs=ours` (or the reverse), `theirs=` leaves a column out."""
    if isinstance(mapping, Mapping):
        yield from mapping.items()
        return
    for text in [mapping] if isinstance(mapping, str) else mapping or ():
        left, mark, right = text.rpartition("=")  # the last one: the file's own names may hold another
        if not mark or not left.strip():
            raise RunsError(f'cannot read the mapping "{text}". Write "their column=ours", for example "val_ce=loss".')
        yield left.strip(), right.strip() or None


def _direction(left: str, right: str | None, columns: list[str], source: str) -> tuple[list[str], str | None]:
    """Tell which side of a mapping is the file's: (their columns, our name or None)."""
    if right is not None and left in COLUMNS and (right not in COLUMNS or left not in columns):
        left, right = right, left
    theirs = [left] if left in columns else [part.strip() for part in left.split("+")]
    for name in theirs:
        if name not in columns:
            raise no_column(source, name, columns)
    match = recognise(right or "")
    ours = match[0] if match else right
    if ours and not match and (hint := nearest(ours, COLUMNS)):
        raise RunsError(f'the mapping names the unknown column "{ours}".{hint} The vocabulary: {", ".join(COLUMNS)}.')
    return theirs, ours


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f'"{name}"' for name in names)
