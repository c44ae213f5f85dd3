"""Training logs: JSONL files of `RunRecorder`, Hugging Face `trainer_state.json`, and folders of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from limbeck.errors import RunsError

from ._tables import RawTable, labels, of_records, read_jsonl, read_text
from .vocabulary import recognise

STATE = "trainer_state.json"
Rows = tuple[list[dict[str, Any]], list[str]]


def evaluations(frame: pl.DataFrame) -> pl.Series:
    """Return which rows of a log (under canonical names) hold an evaluation.

    A row with a step and without a loss, an error or an accuracy reports progress between two evaluations, and is left
    out where other rows have one; where none has, rows without a training loss are. A loss that was recorded as null or
    NaN is an evaluation that failed, and stays.
    """
    for measures in (("loss", "error", "accuracy_percent"), ("train_loss",)):
        present = [name for name in measures if name in frame.columns]
        if present and "step" in frame.columns:
            held = pl.any_horizontal(pl.col(name).is_not_null() for name in present)
            return frame.select(held | pl.col("step").is_null()).to_series()
    return pl.Series([True] * len(frame), dtype=pl.Boolean)


def jsonl_rows(path: Path, file: str = "") -> Rows:
    """Read the rows of a JSONL file with their labels."""
    records, numbers = read_jsonl(path)
    return records, labels(numbers, file)


def load_state(path: Path) -> dict[str, Any]:
    """Parse a JSON file that must be a Hugging Face trainer state."""
    try:
        state = json.loads(read_text(path))
    except ValueError as error:
        raise RunsError(f"{path} is not JSON: {error}.") from error
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise RunsError(
            f'{path} is not a Hugging Face trainer state: it has no list "log_history". Tables are read as JSONL.'
        )
    return state


def state_rows(path: Path, run: str, file: str = "") -> Rows:
    """Read the logged steps of a `trainer_state.json` with their labels.

    The logged `loss` is the training loss, `eval_loss` the held-out loss. Tokens and FLOP that the log gives only at
    its end are shared out in proportion to the steps.
    """
    state = load_state(path)
    steps: dict[float, dict[str, Any]] = {}
    order: dict[float, int] = {}
    for number, entry in enumerate(state["log_history"], 1):
        step = entry.get("step") if isinstance(entry, dict) else None
        if not isinstance(step, int | float) or "train_loss" in entry:  # the last entry sums up the whole training
            continue
        steps.setdefault(step, {"run": run}).update(
            {"train_loss" if key == "loss" else key: value for key, value in entry.items()}
        )
        order[step] = number
    if not steps:
        raise RunsError(f"{path} has logged no step yet.")
    last = max(steps)
    for name in ("num_input_tokens_seen", "total_flos"):
        total = state.get(name)
        if isinstance(total, int | float) and total > 0 and last > 0:
            for step, row in steps.items():
                row.setdefault(name, total * step / max(last, state.get("global_step") or 0))
    return list(steps.values()), [f"{file} entry {order[step]}".strip() for step in steps]


def read_state(path: Path) -> RawTable:
    """Read one `trainer_state.json`; the run is named after its folder."""
    run = path.resolve().parent
    name = run.parent.name if run.name.startswith("checkpoint-") else run.name
    return of_records(*state_rows(path, name), str(path), counting="entries of log_history, the first is 1")


def read_lines(path: Path) -> RawTable:
    """Read one JSONL file."""
    return of_records(*jsonl_rows(path), str(path))


def read_folder(folder: Path) -> RawTable:
    """Read a folder of runs: `trainer_state.json` and JSONL files in it and in its direct sub-folders, one run each.

    Raises:
        RunsError: it holds no run.
    """
    records: list[dict[str, Any]] = []
    rows: list[str] = []
    for path, run in _logs(folder):
        file = str(path.relative_to(folder))
        if path.name == STATE:
            found, where = state_rows(path, run, file)
        else:
            found, where = jsonl_rows(path, file)
            if not any(recognise(key) for record in found for key in record):
                continue  # a text data set beside the logs
            has_run = any(match and match[0] == "run" for key in found[0] if (match := recognise(key)))
            found = found if has_run else [{"run": run, **record} for record in found]
        records += found
        rows += where
    if not records:
        raise RunsError(
            f"{folder} holds no runs. Expected {STATE} (also in checkpoint-*) or .jsonl record files, in it or in its "
            "direct sub-folders. Tables (CSV, Parquet) are read by their own path."
        )
    return of_records(_one_spelling(records), rows, str(folder))


def _one_spelling(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give columns that the files of a folder spell differently their canonical name.

    Two spellings within one row are left: they are ambiguous.
    """
    spellings: dict[str, set[str]] = {}
    ambiguous: set[str] = set()
    for record in records:
        names = [(match[0], key) for key in record if (match := recognise(key)) and match[1] == 1.0]
        for name, key in names:
            spellings.setdefault(name, set()).add(key)
        ambiguous.update(name for name, count in Counter(name for name, _ in names).items() if count > 1)
    renamed = {key: name for name, keys in spellings.items() if len(keys) > 1 and name not in ambiguous for key in keys}
    return (
        [{renamed.get(key, key): value for key, value in record.items()} for record in records] if renamed else records
    )


def _logs(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the log files of a folder of runs with the name of their run."""
    children = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "checkpoint-"))
    )
    for place in [folder, *children]:
        if state := _state_of(place):
            yield state, place.resolve().name
        files = sorted(place.glob("*.jsonl"))
        for path in files:
            own = path.stem if place == folder else place.name if len(files) == 1 else f"{place.name}/{path.stem}"
            yield path, own


def _state_of(folder: Path) -> Path | None:
    """Return the trainer state of a run folder, or of its last checkpoint."""
    if (folder / STATE).is_file():
        return folder / STATE
    states = {
        int(p.parent.name.split("-")[1]): p
        for p in folder.glob(f"checkpoint-*/{STATE}")
        if p.parent.name[11:].isdigit()
    }
    return states[max(states)] if states else None
