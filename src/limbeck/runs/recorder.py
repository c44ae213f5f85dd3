"""The recorder that every training writes through: JSON lines that survive Ctrl-C, SIGKILL and resumption."""

import json
import os
from pathlib import Path
from typing import Any, Self

from limbeck.errors import RunsError
from limbeck.files import sync_folder, write_text


class RunRecorder:
    """Append the checkpoints of one training to a JSONL file, one object per line.

    Each line is flushed and fsynced before `write` returns: a kill at any moment loses at most the line being written,
    and `read_runs` can read the file while the training runs. A last line cut short by a kill is removed when the file
    is opened again. NaN and infinities are written as null. One process writes to a file at a time.

    Args:
        path: the JSONL file; its folder is made.
        run: name of the run (default: the file's name without its ending).
        resume_after_step: the step of the checkpoint that the training goes on from; rows of this run beyond it are
            removed, because the training will write them again.
        constants: columns that are the same in every row (params, family, dataset, seed, ...), by their canonical
            names.

    Raises:
        RunsError: the file holds something else than run records.

    Example:
        >>> import tempfile
        >>> from limbeck.runs import read_runs
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RunRecorder(f"{folder}/small.jsonl", params=1e6) as recorder:
        ...         recorder.write(step=100, tokens=1e6, loss=4.0)
        ...     print(read_runs(folder).summary())
        1 run · 1 M parameters · 6e12 FLOP · loss 4 nats/token
    """

    def __init__(
        self, path: str | Path, *, run: str | None = None, resume_after_step: int | None = None, **constants: Any
    ) -> None:
        self.path = Path(path)
        self.run = run or self.path.stem
        self._constants = {"run": self.run, **constants}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._repair(resume_after_step)
        self._file = self.path.open("ab")
        sync_folder(self.path.parent)

    def write(self, **row: Any) -> None:
        """Append one row; returns when it is on disk."""
        line = json.dumps({**self._constants, **row}, default=_plain)
        if "NaN" in line or "Infinity" in line:
            line = json.dumps(json.loads(line, parse_constant=lambda _: None))
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file. Nothing is lost without it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _repair(self, resume_after_step: int | None) -> None:
        """Remove a last line cut short by a kill and the rows that a resumed training will write again."""
        lines = self.path.read_bytes().split(b"\n")
        # The last item is empty, a row cut short, or a whole row that only lacks its line break.
        complete = lines[:-1] if _record(lines[-1]) is None else lines
        kept = [line for line in complete if self._stays(line, resume_after_step)]
        if kept == lines[:-1] and not lines[-1]:
            return
        write_text(self.path, "".join(line.decode() + "\n" for line in kept))

    def _stays(self, line: bytes, resume_after_step: int | None) -> bool:
        row = _record(line)
        if row is None:
            given = f"{self.path} holds a line that is no run record: {line[:60]!r}"
            raise RunsError(f"{given}. Give the recorder another path.")
        later = resume_after_step is not None and (row.get("step") or 0) > resume_after_step
        return not (later and row.get("run") == self.run)


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _plain(value: Any) -> Any:
    """Return the Python number behind a NumPy or torch scalar."""
    return value.item() if hasattr(value, "item") else str(value)
