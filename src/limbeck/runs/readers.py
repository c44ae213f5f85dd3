"""Read runs from wherever they are: files, folders of logs, data frames."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from limbeck.errors import RunsError, nearest

from . import _bad_rows, _logs, _sources, _trackers
from ._naming import Mapped, rename
from .conditions import Where, choose
from .table import RunTable
from .vocabulary import COLUMNS, SETUP

FORMATS: dict[str, Callable[[Path], _sources.RawTable]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt"), _sources.read_csv),
    **dict.fromkeys((".parquet", ".pq"), _sources.read_parquet),
    **dict.fromkeys((".jsonl", ".ndjson"), _logs.read_lines),
    ".json": _logs.read_state,
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), _trackers.read_mlflow_database),
}

RULES: tuple[tuple[str, str, pl.Expr], ...] = (
    ("params", "params_non_embedding", pl.col("params_non_embedding")),
    ("params", "params_total", pl.col("params_total")),
    ("tokens", "step · batch_tokens", pl.col("step") * pl.col("batch_tokens")),
    ("tokens", "flops / (6 · params)", pl.col("flops") / (6 * pl.col("params"))),
    ("params", "flops / (6 · tokens)", pl.col("flops") / (6 * pl.col("tokens"))),
    ("flops", "6 · params · tokens", 6 * pl.col("params") * pl.col("tokens")),
    ("total_bits", "params · bits", pl.col("params") * pl.col("bits")),
    ("loss", "train_loss", pl.col("train_loss")),
    ("error", "1 - accuracy_percent / 100", 1 - pl.col("accuracy_percent") / 100),
    ("accuracy_percent", "100 · (1 - error)", 100 * (1 - pl.col("error"))),
)
"""What follows from what: (column, formula in words, formula), tried in this order."""


def read_runs(
    source: Any, mapping: Mapped | None = None, *, skip_bad: bool = False, mix_setups: bool = False,
    where: Where | None = None,
) -> RunTable:  # fmt: skip
    """Read training runs, one row per training or checkpoint, under limbeck's column names (`vocabulary_table()`).

    flops = 6 · params · tokens is computed where one of the three is missing, and marked in `RunTable.derived`.

    The columns params, tokens, samples, flops and loss must hold a positive number in every row if they are there.
    Other columns of the vocabulary must hold no text, but may have empty cells until a law asks for them
    (`RunTable.require`). Columns outside the vocabulary are kept as they are. Rows of a training log that hold no
    evaluation are left out. Checkpoints need a `run` column to be taken as one run.

    Args:
        source: a CSV, Parquet or JSONL file (also a history or a chart exported from W&B), a Hugging Face
            `trainer_state.json`, a folder of runs (sub-folders with a `trainer_state.json` or with JSONL records), a
            folder of TensorBoard events, a store of MLflow (`mlflow.db` or `mlruns`), a data frame (pandas, polars,
            pyarrow, duckdb), a list of dictionaries or a dictionary of columns. Of a `RunTable`, only rows are chosen.
        mapping: `{"their column": "ours"}` (or the reverse) where the names are not recognised or ambiguous.
            `{"run": "model+schedule"}` joins columns, `{"lr": None}` leaves one out. Also text: `["ce=loss", "lr="]`.
        skip_bad: drop rows that cannot be used (they are listed in `RunTable.dropped`) instead of refusing.
        mix_setups: accept runs that differ in family, recipe, tokenizer or dataset.
        where: choose rows first, as `{"outlier": 0}` or `["outlier=0", "tokens>=1e9"]` (see `conditions.choose`).

    Raises:
        RunsError: the source cannot be read, columns are ambiguous, rows are bad, or setups are mixed.

    Example:
        >>> runs = read_runs([{"n_params": 1e7, "train_tokens": 1e9, "val/loss": 3.5, "note": "ok"}])
        >>> runs.columns
        ['params', 'tokens', 'loss', 'note', 'flops']
    """
    if isinstance(source, RunTable):
        return source if where is None else source.filter(where)
    raw = _open(source)
    cells, naming = rename(raw.frame, mapping, raw.source)
    rows = raw.rows
    if raw.is_log:
        reported = _logs.evaluations(cells)
        if not reported.any():
            raise RunsError(f"{raw.source} has no evaluation of a trained model yet.")
        cells, rows = cells.filter(reported), rows.filter(reported)
    frame, bad = _bad_rows.interpret(cells, rows, naming.factor)
    essential = [name for name in frame.columns if name in COLUMNS and COLUMNS[name].essential]
    frame, derived = derive(frame)
    kept = choose(frame, where, raw.source, naming.names())
    frame, rows = frame.filter(kept), rows.filter(kept)
    if not mix_setups:
        refuse_mixture(frame, raw.source)
    bad += _bad_rows.unusable(frame, rows, essential) + _bad_rows.identity(frame, rows)
    order = {row: i for i, row in enumerate(rows)}
    once: dict[tuple[str, str], _bad_rows.BadRow] = {}
    for one in sorted((one for one in bad if one.row in order), key=lambda one: order[one.row]):
        once.setdefault((one.row, one.column), one)  # the first reason: text is also a missing number
    table = RunTable(frame, raw.source, rows, {**raw.derived, **naming.scaled(), **derived})
    return table.without([*raw.bad, *once.values()], skip_bad, raw.counting)


def derive(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """Fill what follows from other columns.

    flops = 6 · params · tokens (Kaplan et al., Scaling Laws for Neural Language Models, 2020, arXiv 2001.08361, table
    1: forward and backward pass), or either factor from the other two. A table that counts samples gets no tokens: its
    compute per sample is not 6 · params. A missing held-out loss is not replaced by a training loss.

    Returns:
        The frame, and for each column that holds computed cells the formula (and how many cells, if not all).
    """
    derived: dict[str, str] = {}
    for name, words, formula in RULES:
        known = set(formula.meta.root_names()) <= set(frame.columns)
        if not known or name in derived or (name == "tokens" and "samples" in frame.columns):
            continue
        if name not in frame.columns:
            frame = frame.with_columns(formula.alias(name))
            derived[name] = words
        elif name != "loss":
            filled = frame.select(pl.coalesce(name, formula)).to_series()
            if count := frame[name].null_count() - filled.null_count():
                frame = frame.with_columns(filled)
                derived[name] = f"{words} in {count} of {len(frame)} rows"
    return frame, derived


def refuse_mixture(frame: pl.DataFrame, source: str) -> None:
    """Raise unless all rows have one setup.

    Raises:
        RunsError: says which of family, recipe, tokenizer and dataset differ, with their values and how to choose.
    """
    lines, example = list[str](), ""
    for name in (name for name in SETUP if name in frame.columns):
        counts = frame[name].fill_null("not recorded").value_counts().sort("count", name, descending=[True, False])
        if len(counts) > 1:
            values = [f"{value} ({_bad_rows.plural(count, 'row')})" for value, count in counts.head(8).rows()]
            more = f", and {len(counts) - 8} more" if len(counts) > 8 else ""
            lines.append(f"  {name:<9}  {', '.join(values)}{more}")
            example = example or f"{name}={counts[name][0]}"
    if lines:
        advice = f'Choose one with where="{example}" (--where "{example}"), or take all with mix_setups=True'
        head = f"{source} mixes setups, whose runs lie on different curves:"
        raise RunsError("\n".join([head, *lines, f"{advice} (--mix-setups)."]))


def _open(source: Any) -> _sources.RawTable:
    if not isinstance(source, str | os.PathLike):
        return _sources.of_frame(source)
    path = Path(source)
    if path.is_dir():
        return _read_folder(path)
    if not path.exists():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise RunsError(f"{path} does not exist.{nearest(path.name, siblings)}")
    suffix = Path(path.stem if path.suffix == ".gz" else path).suffix.lower()
    if suffix not in FORMATS:
        raise RunsError(f'{path}: the ending "{suffix}" is not one of {", ".join(FORMATS)}. Export the table as CSV.')
    return _trackers.of_wandb(FORMATS[suffix](path), path.name.removesuffix(".gz").removesuffix(suffix))


def _read_folder(folder: Path) -> _sources.RawTable:
    """Read what MLflow, TensorBoard or trainings with files of their own wrote (those of Hugging Face come first)."""
    store = folder / "mlruns" if (folder / "mlruns").is_dir() else folder
    if _trackers.is_mlflow(store):
        return _trackers.read_mlflow_folder(store)
    if (folder / "mlflow.db").is_file():
        return _trackers.read_mlflow_database(folder / "mlflow.db")
    if not _logs.has_states(folder) and _trackers.is_tensorboard(folder):
        return _trackers.read_tensorboard(folder)
    return _logs.read_folder(folder)
