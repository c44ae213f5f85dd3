"""Runs are where everything starts: a table with a row per training or checkpoint (size, tokens, compute, loss, setup).

`read_runs` reads them from CSV, Parquet, JSONL, Hugging Face logs and data frames, gives the columns their limbeck
names and refuses, by row and column, what cannot be used. `RunRecorder` writes them, crash-safe, from every training
that limbeck does.
"""

from ._tables import Problem
from .conditions import parse_conditions
from .quantities import parse_quantity, quantity, scientific, si, span
from .readers import read_runs
from .recorder import RunRecorder
from .table import RunTable
from .vocabulary import COLUMNS, VOCABULARY, Column, vocabulary_table

__all__ = [
    "COLUMNS",
    "VOCABULARY",
    "Column",
    "Problem",
    "RunRecorder",
    "RunTable",
    "parse_conditions",
    "parse_quantity",
    "quantity",
    "read_runs",
    "scientific",
    "si",
    "span",
    "vocabulary_table",
]
