"""Runs are where everything starts: a table with a row per training or checkpoint (size, tokens, compute, loss, setup).

`read_runs` reads them from CSV, Parquet, JSONL, Hugging Face logs and data frames, gives the columns their limbeck
names and refuses, by row and column, what cannot be used. `RunRecorder` writes them, crash-safe, from every training
that limbeck does.
"""

from ._bad_rows import BadRow
from .quantities import parse_quantity, quantity, scientific, si, span
from .readers import read_runs
from .recorder import RunRecorder
from .table import RunTable
from .vocabulary import COLUMNS, VOCABULARY, Column, vocabulary_table

__all__ = [
    "COLUMNS", "VOCABULARY", "BadRow", "Column", "RunRecorder", "RunTable", "parse_quantity", "quantity", "read_runs",
    "scientific", "si", "span", "vocabulary_table",
]  # fmt: skip
