"""Columns that follow from others; what was computed is marked, cell by cell where a column is only partly there."""

from __future__ import annotations

import polars as pl

RULES: tuple[tuple[str, str, pl.Expr, tuple[str, ...]], ...] = (
    ("params", "params_non_embedding", pl.col("params_non_embedding"), ("params_non_embedding",)),
    ("params", "params_total", pl.col("params_total"), ("params_total",)),
    ("tokens", "step · batch_tokens", pl.col("step") * pl.col("batch_tokens"), ("step", "batch_tokens")),
    ("tokens", "flops / (6 · params)", pl.col("flops") / (6 * pl.col("params")), ("flops", "params")),
    ("params", "flops / (6 · tokens)", pl.col("flops") / (6 * pl.col("tokens")), ("flops", "tokens")),
    ("flops", "6 · params · tokens", 6 * pl.col("params") * pl.col("tokens"), ("params", "tokens")),
    ("loss", "train_loss", pl.col("train_loss"), ("train_loss",)),
    ("error", "1 - accuracy_percent / 100", 1 - pl.col("accuracy_percent") / 100, ("accuracy_percent",)),
    ("accuracy_percent", "100 · (1 - error)", 100 * (1 - pl.col("error")), ("error",)),
)
"""What follows from what: (column, formula in words, formula, columns it needs), tried in this order."""

WHOLE = ("loss",)
"""Columns that are only computed when they are absent: a missing held-out loss is not replaced by a training loss."""


def derive(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, str]]:
    """Fill what follows from other columns.

    flops = 6 · params · tokens (Kaplan et al., Scaling Laws for Neural Language Models, 2020, arXiv 2001.08361, table
    1: forward and backward pass), or either factor from the other two.

    A table that counts samples gets no tokens: its compute per sample is not 6 · params.

    Returns:
        The frame, and for each column that holds computed cells the formula (and how many cells, if not all).
    """
    derived: dict[str, str] = {}
    for name, words, formula, needs in RULES:
        counted_in_samples = name == "tokens" and "samples" in frame.columns
        if counted_in_samples or not all(column in frame.columns for column in needs):
            continue
        if name not in frame.columns:
            frame = frame.with_columns(formula.alias(name))
            derived[name] = words
        elif name not in WHOLE and name not in derived and frame[name].null_count():
            filled = frame.select(pl.coalesce(name, formula)).to_series()
            count = frame[name].null_count() - filled.null_count()
            if count:
                frame = frame.with_columns(filled.alias(name))
                derived[name] = f"{words} in {count} of {len(frame)} rows"
    return frame, derived
