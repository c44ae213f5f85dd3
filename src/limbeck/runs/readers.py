"""Read runs from wherever they are: files, folders of logs, data frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl

from limbeck.errors import RunsError, nearest

from . import _checks, _logs, _tables
from ._derived import derive
from ._naming import Mapped, rename
from ._tables import Problem, RawTable
from .conditions import Where, choose
from .table import RunTable
from .vocabulary import COLUMNS, SETUP

FORMATS: dict[str, Callable[[Path], RawTable]] = {
    ".csv": _tables.read_csv,
    ".tsv": _tables.read_csv,
    ".txt": _tables.read_csv,
    ".parquet": _tables.read_parquet,
    ".pq": _tables.read_parquet,
    ".jsonl": _logs.read_lines,
    ".ndjson": _logs.read_lines,
    ".json": _logs.read_state,
}


def read_runs(
    source: Any,
    mapping: Mapped | None = None,
    *,
    skip_bad: bool = False,
    mix_setups: bool = False,
    where: Where | None = None,
) -> RunTable:
    """Read training runs, one row per training or checkpoint, under limbeck's column names (`vocabulary_table()`).

    flops = 6 · params · tokens is computed where one of the three is missing, and marked in `RunTable.derived`.

    The columns params, tokens, samples, flops and loss must hold a positive number in every row if they are there.
    Other columns of the vocabulary may have empty cells (a supervised run has no `teacher_loss`) until a law asks for
    them (`RunTable.require`), but no text and no impossible numbers. Columns outside the vocabulary are kept as they
    are. Rows of a training log at step 0, and rows of a log that hold no evaluation, are left out.

    Args:
        source: a CSV, Parquet or JSONL file, a Hugging Face `trainer_state.json`, a folder of runs (sub-folders with a
            `trainer_state.json` or with JSONL records), a data frame (pandas, polars, pyarrow, duckdb), a list of
            dictionaries or a dictionary of columns.
        mapping: `{"their column": "ours"}` (or the reverse) where the names are not recognised or ambiguous.
            `{"run": "model+schedule"}` joins columns, `{"flops": "gflops*1e9"}` changes the unit, `{"lr": None}` leaves
            a column out. Also text: `["val_ce=loss", "lr="]`.
        skip_bad: drop rows that cannot be used (they are listed in `RunTable.dropped`) instead of refusing.
        mix_setups: accept runs that differ in family, recipe, tokenizer or dataset.
        where: choose rows first, as `{"outlier": 0}` or `["outlier=0", "tokens>=1e9"]`.

    Raises:
        RunsError: the source cannot be read, columns are ambiguous, rows are bad, or setups are mixed.

    Example:
        >>> runs = read_runs([{"n_params": 1e7, "train_tokens": 1e9, "val/loss": 3.5, "note": "ok"}])
        >>> runs.columns
        ['params', 'tokens', 'loss', 'note', 'flops']
    """
    if isinstance(source, RunTable):
        if mapping is None:
            return source if where is None else source.filter(where)
        source = source.frame
    raw = _open(source)
    cells, naming = rename(raw, mapping)
    rows = raw.rows
    if raw.is_log:
        reported = _logs.evaluations(cells)
        cells, rows = cells.filter(reported), rows.filter(reported)
    kept = choose(cells, where, raw.source, naming.names())
    cells, rows = cells.filter(kept), rows.filter(kept)
    if not mix_setups:
        refuse_mixture(cells, raw.source)
    frame, problems = _checks.interpret(cells, rows, naming.factor)
    frame, derived = derive(frame)
    # A computed cell is empty only where a given one is, which is the fault to name.
    essential = [name for name in cells.columns if name in COLUMNS and COLUMNS[name].essential]
    table = RunTable(frame, raw.source, rows, {**naming.scaled(), **derived})
    table, problems = _without_untrained(table, problems)
    known = {(problem.row, problem.column) for problem in problems}
    found = _checks.missing(table.frame, table.rows, essential) + _checks.identity(table.frame, table.rows)
    problems += [problem for problem in found if (problem.row, problem.column) not in known]
    order = {row: i for i, row in enumerate(rows)}
    everything = [*raw.problems, *sorted(problems, key=lambda problem: order[problem.row])]
    return table.without(everything, skip_bad, raw.counting)


def refuse_mixture(frame: pl.DataFrame, source: str) -> None:
    """Raise unless all rows have one setup.

    Raises:
        RunsError: says which of family, recipe, tokenizer and dataset differ, with their values and how to choose.
    """
    lines: list[str] = []
    example = ("", "")
    for name in SETUP:
        if name in frame.columns:
            counts = (
                frame[name]
                .cast(pl.String)
                .fill_null("not recorded")
                .value_counts()
                .sort("count", name, descending=[True, False])
            )
            if len(counts) > 1:
                values = [f"{value} ({count} row{'s' * (count != 1)})" for value, count in counts.head(8).iter_rows()]
                more = f", and {len(counts) - 8} more" if len(counts) > 8 else ""
                lines.append(f"  {name:<9}  {', '.join(values)}{more}")
                example = example if example[0] else (name, counts[name][0])
    if lines:
        name, value = example
        raise RunsError(
            f"{source} mixes setups, whose runs lie on different curves:\n" + "\n".join(lines) + "\n"
            f'Choose one with where={{"{name}": "{value}"}} (--where "{name}={value}"), '
            "or take all with mix_setups=True (--mix-setups)."
        )


def _open(source: Any) -> RawTable:
    if not isinstance(source, str | os.PathLike):
        return _tables.of_frame(source)
    path = Path(source)
    if path.is_dir():
        return _logs.read_folder(path)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise RunsError(f"{path} does not exist.{nearest(path.name, siblings)}")
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix.lower() not in FORMATS:
        raise RunsError(
            f'{path}: the ending "{suffix}" is not one of {", ".join(FORMATS)}.{nearest(suffix, FORMATS)} '
            "Export the table as CSV."
        )
    return FORMATS[suffix.lower()](path)


def _without_untrained(table: RunTable, problems: Sequence[Problem]) -> tuple[RunTable, list[Problem]]:
    """Leave out the checkpoints at step 0: untrained models have seen no tokens and lie on no scaling law."""
    if "step" not in table.frame.columns:
        return table, list(problems)
    untrained = (table.frame["step"] == 0).fill_null(False)
    if untrained.all():
        return table, list(problems)
    gone = [Problem(row, "step", "0: an untrained model") for row in table.rows.filter(untrained)]
    rows = {problem.row for problem in gone}
    rest = replace(table, frame=table.frame.filter(~untrained), rows=table.rows.filter(~untrained), dropped=tuple(gone))
    return rest, [problem for problem in problems if problem.row not in rows]
