"""The column vocabulary: one name, one meaning, one unit, and the aliases people really use.

A column of a file gets its limbeck name in three steps.

1. Names are compared without regard to case, with every run of blanks and punctuation read as one underscore:
   `val/loss`, `Val Loss` and `val_loss` are the same. One-letter aliases (`N`, `D`, `C`, `L`) are the exception: their
   case counts.
2. A count may carry its scale in the name: `tokens_B`, `Model Size (B)` and `FLOPs (1E21)` are multiplied by 1e9, 1e9
   and 1e21.
3. What is not in the vocabulary keeps its own name and is left alone.
"""

import math
import re
import textwrap
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


@dataclass(frozen=True)
class Column:
    """One name of the vocabulary.

    Args:
        name: the canonical name.
        unit: unit of its values ("" for text and plain numbers).
        meaning: what it is, in a few words.
        aliases: other names for it (see the module's rules on case).
        kind: `count` (may carry its scale in its name), `number`, `flag` (0/1) or `text`.
        essential: every row of a table that has this column must hold it; other columns may have empty cells until a
            law asks for them.
        positive: a law needs values above zero here.
        maximum: largest value that makes sense.
    """

    name: str
    unit: str
    meaning: str
    aliases: tuple[str, ...] = ()
    kind: Literal["count", "number", "flag", "text"] = "number"
    essential: bool = False
    positive: bool = True
    maximum: float = math.inf


def _read(name: str, said: dict[str, Any]) -> Column:
    """Return the column that an entry of `vocabulary.toml` describes."""
    usual = {"unit": "", "positive": said.get("kind") != "text"}
    return Column(name, **{**usual, **said, "aliases": tuple(said.get("aliases", "").split())})


TABLE = tomllib.loads(resources.files(__package__).joinpath("vocabulary.toml").read_text("utf-8"))
VOCABULARY: tuple[Column, ...] = tuple(_read(name, said) for name, said in TABLE.items())
COLUMNS: dict[str, Column] = {column.name: column for column in VOCABULARY}
SETUP: tuple[str, ...] = ("family", "recipe", "tokenizer", "dataset")
"""The fingerprint of a setup: runs that differ here lie on different curves."""


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name).strip("_").lower()


_EXACT = {alias: column for column in VOCABULARY for alias in column.aliases if len(alias) == 1}
_ALIASES = {_key(a): column for column in VOCABULARY for a in (column.name, *column.aliases) if len(a) > 1}


@cache
def recognise(name: str) -> tuple[str, float] | None:
    """Return the canonical name of a column and the factor that brings it to the vocabulary's unit, or None.

    Example:
        >>> recognise("val/loss"), recognise("D"), recognise("d"), recognise("FLOPs (1E21)")
        (('loss', 1.0), ('tokens', 1.0), None, ('flops', 1e+21))
    """
    name = name.strip()
    if name in _EXACT:
        return _EXACT[name].name, 1.0
    key = _key(name)
    if key in _ALIASES:
        return _ALIASES[key].name, 1.0
    scaled = re.fullmatch(r"(\w+)_(k|m|b|t|1e\d+)", key)
    column = _ALIASES.get(scaled[1]) if scaled else None
    if scaled and column and column.kind == "count":
        return column.name, SCALES.get(scaled[2]) or float(scaled[2])
    return None


def vocabulary_table(width: int = 100) -> str:
    """Return the vocabulary as a text table for `--help` and the documentation, with the rules on case and scale."""
    head = max(len(column.name) for column in VOCABULARY) + 2
    lines = []
    for column in VOCABULARY:
        unit = f" [{column.unit}]" if column.unit else ""
        also = f"; also: {', '.join(column.aliases)}" if column.aliases else ""
        text = textwrap.wrap(column.meaning + unit + also, width - head, break_long_words=False)
        lines += [f"{column.name if i == 0 else '':<{head}}{part}" for i, part in enumerate(text)]
    rules = (
        "Case and punctuation do not count (val/loss, Val Loss and val_loss are one name), except in one-letter names. "
        "A count may carry its scale: tokens_B, Model Size (M), FLOPs (1E21)."
    )
    return "\n".join([*lines, "", *textwrap.wrap(rules, width)])
