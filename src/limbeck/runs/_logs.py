"""Training logs: JSONL files of `RunRecorder`, Hugging Face `trainer_state.json`, and folders of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from limbeck.errors import RunsError

from ._sources import RawTable, labels, of_records, read_text
from .vocabulary import recognise

STATE = "trainer_state.json"
LOGGED = {"loss": "train_loss", "eval_loss": "loss", "num_input_tokens_seen": "tokens", "total_flos": "flops"}
"""What Hugging Face logs, by its canonical name."""
Rows = dict[str, dict[str, Any]]
"""Records by their label, as in "row 3"."""


def evaluations(frame: pl.DataFrame) -> pl.Series:
    """Return which rows of a log (under canonical names) hold an evaluation of a trained model.

    A row with a step and without a loss, an error or an accuracy reports progress between two evaluations; where no row
    has one, rows without a training loss do. A loss that was recorded as null or NaN is an evaluation that failed, and
    stays. Step 0 is left out: an untrained model lies on no law.
    """
    for measures in (("loss", "error", "accuracy_percent"), ("train_loss",)):
        present = [name for name in measures if name in frame.columns]
        if present and "step" in frame.columns:
            held = pl.any_horizontal(pl.col(name).is_not_null() for name in present)
            step = pl.col("step").cast(pl.Float64, strict=False)
            return frame.select((held & (step != 0)) | step.is_null()).to_series()
    return pl.repeat(True, len(frame), eager=True)


def read_lines(path: Path) -> RawTable:
    """Read one JSONL file."""
    return _table(_line_rows(path), {}, str(path))


def read_state(path: Path) -> RawTable:
    """Read one `trainer_state.json`; the run is named after its folder."""
    return _table(*_state_rows(path, _run_folder(path)), str(path))


def read_folder(folder: Path) -> RawTable:
    """Read a folder of runs: `trainer_state.json` and JSONL files in it and in its direct sub-folders, one run each.

    Raises:
        RunsError: it holds no run.
    """
    rows: Rows = {}
    shared: dict[str, str] = {}
    for path, run in _logs(folder):
        found, computed = _state_rows(path, run) if path.name == STATE else (_line_rows(path), {})
        meant = {match[0] for record in found.values() for key in record if (match := recognise(key))}
        name = {} if "run" in meant else {"run": run}
        if meant:  # else it is a text data set beside the logs
            rows |= {f"{path.relative_to(folder)} {label}": name | record for label, record in found.items()}
            shared |= computed
    if not rows:
        raise RunsError(
            f"{folder} holds no runs. Expected {STATE} (also in checkpoint-*) or .jsonl record files, in it or in its "
            "direct sub-folders. Tables (CSV, Parquet) are read by their own path."
        )
    return _table(rows, shared, str(folder))


def has_states(folder: Path) -> bool:
    """Return whether a folder of runs holds a `trainer_state.json`."""
    return any(path.name == STATE for path, _ in _logs(folder))


def _table(rows: Rows, derived: dict[str, str], source: str) -> RawTable:
    frame = of_records(list(rows.values()))
    if not frame.width:
        raise RunsError(f"{source} has no columns.")
    return RawTable(frame, pl.Series(list(rows), dtype=pl.String), source, is_log=True, derived=derived)


def _line_rows(path: Path) -> Rows:
    """Read the objects of a JSONL file; a last line cut short by a kill is ignored.

    Raises:
        RunsError: a line is not a JSON object.
    """
    lines = read_text(path).split("\n")
    records: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line) if line.strip() else None
        except ValueError as error:
            if number == len(lines):
                break
            raise RunsError(f"{path}, row {number}: not JSON ({error}). Every line must be one JSON object.") from error
        if isinstance(record, dict):
            records[number] = record
        elif line.strip():
            like = '{"params": 1e7, "loss": 3.1}'
            raise RunsError(f"{path}, row {number}: {line[:40]} is not a JSON object like {like}.")
    if not records:
        raise RunsError(f"{path} holds no complete row.")
    return dict(zip(labels(records), records.values(), strict=True))


def _state_rows(path: Path, run: str) -> tuple[Rows, dict[str, str]]:
    """Read the logged steps of a `trainer_state.json`.

    The logged `loss` is the training loss, `eval_loss` the held-out loss. Tokens and FLOP that the log gives only at
    its end are shared out in proportion to the steps, and marked.
    """
    try:
        state = json.loads(read_text(path))
    except ValueError as error:
        raise RunsError(f"{path} is not JSON: {error}.") from error
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise RunsError(
            f'{path} is not a Hugging Face trainer state: it has no list "log_history". Tables are read as JSONL.'
        )
    steps: dict[float, dict[str, Any]] = {}
    entries: dict[float, int] = {}
    for number, entry in enumerate(state["log_history"], 1):
        step = entry.get("step") if isinstance(entry, dict) else None
        if isinstance(step, int | float) and "train_loss" not in entry:  # the last entry sums up the whole training
            row = {LOGGED.get(key, key): value for key, value in entry.items()}
            steps.setdefault(step, {"run": run}).update(row)
            entries[step] = number
    if not steps:
        raise RunsError(f"{path} has logged no step yet.")
    last = max(*steps, state.get("global_step") or 0)
    shared: dict[str, str] = {}
    for logged in ("num_input_tokens_seen", "total_flos"):
        total, name = state.get(logged), LOGGED[logged]
        lacking = {step: row for step, row in steps.items() if name not in row}
        if isinstance(total, int | float) and total > 0 and last > 0 and lacking:
            shared[name] = "total of the log · step / last step"
            for step, row in lacking.items():
                row[name] = total * step / last
    return dict(zip(labels(entries.values(), "entry"), steps.values(), strict=True)), shared


def _logs(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the log files of a folder of runs with the name of their run."""
    children = sorted(path for path in folder.iterdir() if path.is_dir())
    for place in [folder, *(path for path in children if not path.name.startswith((".", "checkpoint-")))]:
        states = [place / STATE] if (place / STATE).is_file() else list(place.glob(f"checkpoint-*/{STATE}"))
        if states:
            last = max(states, key=lambda state: (len(state.parent.name), state.parent.name))
            yield last, _run_folder(last)
        files = sorted(place.glob("*.jsonl"))
        for path in files:
            own = path.stem if place == folder else place.name if len(files) == 1 else f"{place.name}/{path.stem}"
            yield path, own


def _run_folder(state: Path) -> str:
    folder = state.resolve().parent
    return folder.parent.name if folder.name.startswith("checkpoint-") else folder.name
