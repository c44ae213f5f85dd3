"""Read cells as numbers and find the rows that cannot be used."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from limbeck.errors import LimbeckError, RunsError

from .quantities import parse_quantity
from .vocabulary import COLUMNS, SETUP

SHOWN = 10
PROGRESS = ("step", "tokens", "samples", "flops")
EMPTY = ["", "na", "n/a", "null", "none", "-"]


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used.

    Args:
        row: the row as a person finds it: "row 17" counts as an editor does (in a CSV file the header is row 1).
        column: the column at fault.
        reason: what is wrong and what would be right.
    """

    row: str
    column: str
    reason: str


def interpret(frame: pl.DataFrame, rows: pl.Series, factors: Mapping[str, float]) -> tuple[pl.DataFrame, list[BadRow]]:
    """Turn cells into numbers or text, and list the cells of the vocabulary's numbers that are text.

    A column outside the vocabulary becomes numbers if all its cells are. An empty cell is null; NaN and infinities stay
    only in essential columns, where they are a fault to name.
    """
    bad: list[BadRow] = []
    done: list[pl.Series] = []
    for series in frame:
        name, column = series.name, COLUMNS.get(series.name)
        text = series.cast(pl.String, strict=False)
        if column and column.kind == "text":
            done.append(text.str.strip_chars().replace("", None))
            continue
        if column and column.kind == "flag":
            series = text.str.to_lowercase().replace({"true": "1", "false": "0"})
        values, is_text = _numbers(series)
        if column:
            cells = zip(rows.filter(is_text), text.filter(is_text), strict=True)
            bad += [BadRow(row, name, _not_a_number(cell)) for row, cell in cells]
            values = values * factors.get(name, 1.0)
        elif is_text.any():
            done.append(text)
            continue
        keep = column is not None and column.essential
        done.append(values if keep else pl.select(pl.when(values.is_finite()).then(values).alias(name)).to_series())
    return pl.DataFrame(done), bad


def _numbers(series: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return a column as numbers and the mask of the cells that are text; blanks before a number do not matter."""
    if series.dtype.is_numeric() or series.dtype in (pl.Boolean, pl.Null):
        return series.cast(pl.Float64), pl.repeat(False, len(series), eager=True)
    text = series.cast(pl.String, strict=False).str.strip_chars_start()
    values = text.cast(pl.Float64, strict=False)
    return values, values.is_null() & ~(text.is_null() | text.str.to_lowercase().is_in(EMPTY))


def _not_a_number(cell: str) -> str:
    bare = cell.strip().replace("_", "")
    try:
        value = parse_quantity(bare)
    except LimbeckError:
        hint = "write numbers without commas, with a point for decimals" if "," in cell else "a number is expected"
        return f'"{cell}" is text: {hint}'
    return f'"{cell}" is text: write {bare if bare[-1].isdigit() else f"{value:.15g}"} without quotes'


def unusable(frame: pl.DataFrame, rows: pl.Series, names: Iterable[str]) -> list[BadRow]:
    """List the cells of the named columns that are missing, not finite, ≤ 0 where a law takes powers, or too large."""
    found: list[BadRow] = []
    for name in names:
        values, column = frame[name], COLUMNS.get(name)
        bad = values.is_null()
        low = 0.0 if column and column.positive else -math.inf
        high = column.maximum if column else math.inf
        if values.dtype.is_numeric():
            bad = bad | (~values.is_finite() | (values <= low) | (values > high)).fill_null(False)
        cells = zip(rows.filter(bad), values.filter(bad), strict=True)
        found += [BadRow(row, name, _fault(value, high)) for row, value in cells]
    return found


def _fault(value: float | None, high: float) -> str:
    if value is None:
        return "missing"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "infinite"
    return f"{value:g}: must be " + (f"at most {high:g}" if value > high else "positive")


def identity(frame: pl.DataFrame, rows: pl.Series) -> list[BadRow]:
    """List checkpoints without a run and rows that repeat another one's key.

    With a `run` column every row must name its run, and a run (with its seed and setup) holds a step only once, at each
    precision. Without one, several rows of one size and setup are checkpoints of an unnamed run if there is a `step`
    column; a table without steps is a table of final results, where only a row identical to another in every column
    repeats it.
    """
    key = run_key(frame)
    if "run" in frame.columns:
        progress = [name for name in PROGRESS if name in frame.columns][:1]
        precision = [name for name in ("bits", "post_bits") if name in frame.columns]
        return unusable(frame, rows, ["run"]) + _repeats(frame, rows, [*key, *progress, *precision])
    if "step" not in frame.columns:
        return _repeats(frame, rows, frame.columns)
    same = {name for name in (*key, "params", "teacher_params", "bits", "batch_tokens") if name in frame.columns}
    same |= {name for name, kind in frame.schema.items() if kind == pl.String}
    several = frame.select(pl.len().over(same or [pl.lit(0)]) > 1).to_series() & frame["step"].is_not_null()
    cells = zip(rows.filter(several), frame["step"].filter(several), strict=True)
    return [BadRow(row, "run", f"missing: whose checkpoint is this (step {step:g})?") for row, step in cells]


def run_key(frame: pl.DataFrame) -> list[str]:
    """Return the columns that tell one run from another: its name, seed and setup."""
    return [name for name in ("run", "seed", *SETUP) if name in frame.columns]


def first_of_group(frame: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Return for every row the number of the first row (from 0) that agrees with it in all columns of the key."""
    return frame.select(key).with_row_index("\0").select(pl.col("\0").first().over(key)).to_series()


def _repeats(frame: pl.DataFrame, rows: pl.Series, key: Sequence[str]) -> list[BadRow]:
    """List the rows that agree with an earlier one in all columns of the key."""
    first = first_of_group(frame, key)
    repeated = first != pl.Series(range(len(frame)), dtype=first.dtype)
    earlier = rows.gather(first.filter(repeated))
    found, again = [], frame.filter(repeated).select(key).rows()
    for row, before, cells in zip(rows.filter(repeated), earlier, again, strict=True):
        agreed = [f"{n} {v:g}" if isinstance(v, float) else f"{n} {v}" for n, v in zip(key, cells, strict=True)]
        where = "in every column" if len(key) == len(frame.columns) else "in " + ", ".join(agreed)
        found.append(BadRow(row, key[0], f"repeats {before} {where}"))
    return found


def refusal(source: str, counting: str, bad: Sequence[BadRow], more: str = "") -> RunsError:
    """Return the error that lists bad rows, at most ten and a count, and says what to do."""
    shown = bad[:SHOWN]
    row, name = (max(len(getattr(one, part)) for one in shown) for part in ("row", "column"))
    lines = [f"  {one.row:<{row}}  {one.column:<{name}}  {one.reason}" for one in shown]
    if len(bad) > SHOWN:
        lines.append(f"  ... and {len(bad) - SHOWN} more")
    if any(one.column == "run" for one in bad):
        lines.append(
            'Say which column names the run, or which do together: mapping={"run": "size+schedule"} (--map '
            "run=size+schedule). If every row is a run of its own, leave the steps out: --map step="
        )
    texts = Counter(one.column for one in bad if " is text" in one.reason)
    for text in (name for name, count in texts.items() if count > SHOWN):
        lines.append(f"If {text} stands in another column: --map {text}=COLUMN; if in none: --map {text}=")
    head = f"{source}: {plural(len({one.row for one in bad}), 'row')} cannot be used{counting and f' ({counting})'}"
    advice = "Nothing was used. Correct them, or drop them with skip_bad=True (--skip-bad)."
    return RunsError("\n".join([head, *lines, more or advice]))


def plural(count: int, noun: str) -> str:
    """Return "1 row" or "3 rows"."""
    return f"{count} {noun}{'s' * (count != 1)}"
