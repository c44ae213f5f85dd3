"""Read cells as numbers and find the rows that cannot be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import polars as pl

from limbeck.errors import LimbeckError

from ._tables import Problem
from .quantities import parse_quantity
from .vocabulary import COLUMNS, SETUP, Column

SHOWN = 10
PROGRESS = ("step", "tokens", "samples", "flops")
UNNAMED = "missing: whose checkpoint is this"
REPEATS = "repeats"
ABSENT = ["", "na", "n/a", "null", "none", "-"]


def numbers(series: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return a column as numbers and the mask of the cells that are text.

    Blanks before a number and the usual signs of an empty cell ("", NA, N/A, null, None, -) are understood; NaN stays
    NaN.
    """
    if series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        return series.cast(pl.Float64), pl.Series([False] * len(series), dtype=pl.Boolean)
    text = series.cast(pl.String, strict=False).str.strip_chars_start()
    absent = text.is_null() | text.str.to_lowercase().is_in(ABSENT)
    read = text.cast(pl.Float64, strict=False)
    return read, read.is_null() & ~absent


def interpret(frame: pl.DataFrame, rows: pl.Series, scale: Mapping[str, float]) -> tuple[pl.DataFrame, list[Problem]]:
    """Turn the cells of the vocabulary's columns into numbers or text, and list the cells that are neither.

    Missing cells are no problem yet; a column outside the vocabulary becomes numbers if all its cells are.
    """
    problems: list[Problem] = []
    done: list[pl.Series] = []
    for series in frame:
        column = COLUMNS.get(series.name)
        if column is not None and column.is_text:
            text = series.cast(pl.String, strict=False).str.strip_chars()
            done.append(text.replace("", None))
            continue
        raw = _flags(series) if column is not None and column.kind == "flag" else series
        values, is_text = numbers(raw)
        if column is None:
            kept = series.cast(pl.String, strict=False) if is_text.any() else _finite(values)
            done.append(kept.alias(series.name))
            continue
        problems += _cells(raw, is_text, rows, column.name, _not_a_number)
        values = values * scale.get(column.name, 1.0)
        problems += _cells(values, _out_of_range(values, column), rows, column.name, lambda v, c=column: _range(v, c))
        done.append(_finite(values).alias(column.name))
    return pl.DataFrame(done), problems


def _finite(values: pl.Series) -> pl.Series:
    return pl.select(pl.when(values.is_finite()).then(values)).to_series()


def _flags(series: pl.Series) -> pl.Series:
    if series.dtype != pl.String:
        return series
    return series.str.replace("(?i)^true$", "1").str.replace("(?i)^false$", "0")


def _out_of_range(values: pl.Series, column: Column) -> pl.Series:
    low = values <= 0 if column.positive and column.essential else values < column.minimum
    high = values.is_infinite() | (values > column.maximum)
    # NaN orders above every number in polars; outside the essential columns it is an empty cell.
    bad = low | high | values.is_nan() if column.essential else (low | high) & ~values.is_nan()
    return bad.fill_null(False)


def _range(value: float, column: Column) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinite"
    if value > column.maximum:
        return f"{value:g}: must be at most {column.maximum:g}"
    return f"{value:g}: must be positive" if column.positive else f"{value:g}: must be at least {column.minimum:g}"


def _not_a_number(cell: object) -> str:
    text = str(cell)
    bare = text.strip()
    try:
        value = parse_quantity(bare)
    except LimbeckError:
        hint = "write numbers without commas, with a point for decimals" if "," in text else "a number is expected"
        return f'"{text}" is text: {hint}'
    digits = bare if bare[-1].isdigit() and "_" not in bare else f"{value:.15g}"
    return f'"{text}" is text: write {digits} without quotes'


def _cells(
    series: pl.Series, bad: pl.Series, rows: pl.Series, column: str, reason: Callable[..., str]
) -> list[Problem]:
    return [Problem(row, column, reason(cell)) for row, cell in zip(rows.filter(bad), series.filter(bad), strict=True)]


def missing(frame: pl.DataFrame, rows: pl.Series, names: Iterable[str]) -> list[Problem]:
    """List the empty cells of the named columns."""
    return [
        problem
        for name in names
        for problem in _cells(frame[name], frame[name].is_null(), rows, name, lambda _: "missing")
    ]


def not_positive(frame: pl.DataFrame, rows: pl.Series, names: Iterable[str]) -> list[Problem]:
    """List the cells ≤ 0 of those named columns that a law takes powers and logarithms of."""
    found = []
    for column in (COLUMNS[name] for name in names if name in COLUMNS and COLUMNS[name].positive):
        bad = (frame[column.name] <= 0).fill_null(False)
        found += _cells(frame[column.name], bad, rows, column.name, lambda v, c=column: _range(v, c))
    return found


def identity(frame: pl.DataFrame, rows: pl.Series) -> list[Problem]:
    """List checkpoints without a run and rows that repeat another one's key.

    With a `run` column every row must name its run, and a run (with its seed and setup) holds a step only once. Without
    one, several rows of one size and setup are checkpoints of an unnamed run if there is a `step` column; a table
    without steps is a table of final results, where only a row identical to another in every column repeats it.
    """
    key = [name for name in ("run", "seed", *SETUP) if name in frame.columns]
    if "run" in frame.columns:
        progress = [name for name in PROGRESS if name in frame.columns][:1]
        return missing(frame, rows, ["run"]) + _repeats(frame, rows, [*key, *progress], frame["run"].is_not_null())
    if "step" not in frame.columns:
        return _repeats(frame, rows, frame.columns)
    same = [name for name in (*key, "params", "teacher_params", "bits", "batch_tokens") if name in frame.columns]
    same += [name for name, kind in frame.schema.items() if kind == pl.String and name not in same]
    alone = frame.select((pl.len().over(same) if same else pl.lit(len(frame))) == 1).to_series()
    unnamed = ~alone if same else pl.Series([len(frame) > 1] * len(frame), dtype=pl.Boolean)
    unnamed = unnamed & frame["step"].is_not_null()
    return _cells(frame["step"], unnamed, rows, "run", lambda step: f"{UNNAMED} (step {step:g})?")


def first_of_group(frame: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Return for every row the number of the first row (from 0) that agrees with it in all columns of the key."""
    index = pl.Series("\0", range(len(frame)), dtype=pl.Int64)
    return frame.select(key).with_columns(index).select(pl.col("\0").first().over(key)).to_series()


def _repeats(frame: pl.DataFrame, rows: pl.Series, key: Sequence[str], among: pl.Series | None = None) -> list[Problem]:
    """List the rows that agree with an earlier one in all columns of the key."""
    first = first_of_group(frame, key)
    repeated = first != pl.Series(range(len(frame)), dtype=pl.Int64)
    if among is not None:
        repeated = repeated & among
    where = zip(
        rows.filter(repeated),
        rows.gather(first.filter(repeated)),
        frame.filter(repeated).iter_rows(named=True),
        strict=True,
    )
    shown = key if len(key) < len(frame.columns) else []
    return [
        Problem(row, key[0], f"{REPEATS} {earlier}" + "".join(f", {name} {_plain(cells[name])}" for name in shown))
        for row, earlier, cells in where
    ]


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def listing(problems: Sequence[Problem]) -> str:
    """Return the problems as aligned lines, at most ten and a count."""
    shown = problems[:SHOWN]
    row_width = max(len(problem.row) for problem in shown)
    name_width = max(len(problem.column) for problem in shown)
    lines = [f"  {p.row:<{row_width}}  {p.column:<{name_width}}  {p.reason}".rstrip() for p in shown]
    if len(problems) > SHOWN:
        lines.append(f"  ... and {len(problems) - SHOWN} more")
    return "\n".join(lines)


def advice(problems: Sequence[Problem], frame: pl.DataFrame) -> str:
    """Return what to do about the problems."""
    names = [name for name, kind in frame.schema.items() if kind == pl.String and name not in ("run", *SETUP)]
    if any(problem.column == "run" and problem.reason.startswith(UNNAMED) for problem in problems):
        example = "+".join(names[:3]) or "column"
        return (
            f'Say which column names the run: mapping={{"run": "{example}"}} (--map run={example}; + joins several). '
            'If every row is a run of its own, leave the steps out: mapping={"step": None} (--map step=).'
        )
    if names and any(problem.column == "run" and problem.reason.startswith(REPEATS) for problem in problems):
        return (
            f"Nothing was used. If {' or '.join(names[:3])} tells these runs apart, join it to the name of the run: "
            f'--map "run=their column+{names[0]}". Copies are dropped with skip_bad=True (--skip-bad).'
        )
    return "Nothing was used. Correct them, or drop them with skip_bad=True (--skip-bad)."
