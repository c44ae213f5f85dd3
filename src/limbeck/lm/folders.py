"""The folder of a training: what it is for, which token budgets are finished, and where each budget keeps its model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limbeck.errors import ConfigError, TrainingError
from limbeck.files import write_json

RECORDS = "runs.jsonl"
NOTE = "training.json"


def claim(out: Path | str, settings: Mapping[str, Any]) -> None:
    """Note in a folder what it is for, or compare with what it was for once it holds a checkpoint or a record.

    Args:
        out: the folder; it is made.
        settings: everything that changes the result of the training, except its length; JSON values.

    Raises:
        TrainingError: the folder holds another training, with the settings that differ.
    """
    out = Path(out)
    mine = json.loads(json.dumps(settings))
    if (out / NOTE).is_file() and ((out / RECORDS).is_file() or any(out.glob("*-tokens/*-*"))):
        theirs = json.loads((out / NOTE).read_text())
        differing = [key for key in dict.fromkeys([*theirs, *mine]) if theirs.get(key) != mine.get(key)]
        if differing:
            listed = "\n".join(f"  {key}: {theirs.get(key)} there, {mine.get(key)} now" for key in differing)
            raise TrainingError(f"{out} holds another training. Choose another folder, or delete it.\n{listed}")
        return
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / NOTE, mine)


def finished(out: Path | str) -> dict[int, dict[str, Any]]:
    """The run records of the finished budgets, by the steps that they buy."""
    path = Path(out) / RECORDS
    if not path.is_file():
        return {}
    complete, _, _ = path.read_text().rpartition("\n")  # a line that a kill cut short does not count
    rows = [json.loads(line) for line in complete.splitlines()]
    return {row.get("planned_steps", row["step"]): row for row in rows}


def records(out: Path | str, steps: Sequence[int]) -> list[dict[str, Any]]:
    """The records of all these lengths, shortest first, or nothing while one is missing."""
    rows, wanted = finished(out), sorted(set(steps))
    return [rows[one] for one in wanted] if rows.keys() >= set(wanted) else []


def budget_folder(out: Path | str, tokens: int) -> Path:
    """Where a budget of a training keeps its log and its checkpoints."""
    return Path(out) / f"{tokens}-tokens"


def model_folder(out: Path | str, tokens: int) -> Path:
    """Where a finished budget of a training keeps its model, for `from_pretrained`."""
    return budget_folder(out, tokens) / "model"


def corpus_hash(folder: Path | str) -> str:
    """The hash of a saved corpus, from its facts alone.

    Raises:
        ConfigError: the folder is not a saved corpus.
    """
    facts = Path(folder) / "corpus.json"
    if not facts.is_file():
        raise ConfigError(f"{folder} is not a saved corpus: corpus.json is missing")
    return str(json.loads(facts.read_text())["sha256"])
