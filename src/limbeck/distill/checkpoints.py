"""Checkpoints: tensors in safetensors, everything else in JSON, written so that a kill at any moment loses nothing.

A checkpoint is a folder `step-00000100` with `tensors.safetensors` and `state.json`. It is written under a temporary
name beside its final place; every file and the folder reach the disk before the rename, which is the only moment at
which the checkpoint begins to exist. Nothing is pickled: reading one never runs code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from limbeck.errors import TrainingError

TENSORS = "tensors.safetensors"
STATE = "state.json"
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after a step.

    Args:
        path: the checkpoint's folder.
        step: steps done.
        tensors: every tensor by its name, on the CPU.
        state: everything that is not a tensor.
    """

    path: Path
    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def write_checkpoint(path: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write a checkpoint folder atomically; an older folder of the same name is replaced.

    Args:
        path: the folder to create.
        step: steps done.
        tensors: tensors by name; none may share memory with another.
        state: JSON values.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writing = path.with_name(f".writing-{path.name}")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir()
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, writing / TENSORS)
    content = {"format": FORMAT, "step": step, "digest": _digest(writing / TENSORS), **state}
    (writing / STATE).write_text(json.dumps(content, indent=1))
    for place in (writing / TENSORS, writing / STATE, writing):
        _to_disk(place)
    if path.exists():
        shutil.rmtree(path)
    writing.rename(path)
    _to_disk(path.parent)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read and verify one checkpoint folder.

    Args:
        path: the folder.

    Raises:
        TrainingError: the folder is missing, incomplete or damaged.
    """
    path = Path(path)
    try:
        state = json.loads((path / STATE).read_text())
        if state["format"] != FORMAT:
            raise TrainingError(f"{path} has checkpoint format {state['format']}; this version reads {FORMAT}.")
        if state["digest"] != _digest(path / TENSORS):
            raise TrainingError(f"{path / TENSORS} does not match the digest in {STATE}: the file is damaged.")
        return Checkpoint(path, state["step"], load_file(path / TENSORS), state)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is not a complete checkpoint: {error}") from error


class Checkpoints:
    """The checkpoints of one run: a rolling window of recent ones, and milestones that stay until you delete them.

    Args:
        folder: the run's folder; created when the first checkpoint is written.
        keep: how many recent checkpoints stay.
    """

    def __init__(self, folder: Path | str, *, keep: int = 2) -> None:
        self.folder = Path(folder)
        self.keep = keep

    def recent(self, step: int) -> Path:
        """Folder of the rolling checkpoint after `step` steps."""
        return self.folder / f"step-{step:08d}"

    def milestone(self, step: int) -> Path:
        """Folder of the milestone after `step` steps: what a branch starts from."""
        return self.folder / f"milestone-{step:08d}"

    def save(
        self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any], *, milestone: bool = False
    ) -> Path:
        """Write the checkpoint of a step, then drop the rolling ones that are too old; return its folder."""
        path = self.milestone(step) if milestone else self.recent(step)
        write_checkpoint(path, step, tensors, state)
        for unfinished in self.folder.glob(".writing-*"):  # left by a kill
            shutil.rmtree(unfinished)
        for old in sorted(self.folder.glob("step-*"))[: -self.keep]:
            shutil.rmtree(old)
        return path

    def latest(self) -> Checkpoint | None:
        """Newest complete checkpoint, or None; each damaged one on the way is named in a warning and passed over."""
        found = [*self.folder.glob("step-*"), *self.folder.glob("milestone-*")]
        for path in sorted(found, key=lambda path: path.name.rpartition("-")[2], reverse=True):
            try:
                return read_checkpoint(path)
            except TrainingError as error:
                warnings.warn(f"{error} Ignored; going back to the checkpoint before it.", stacklevel=2)
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _to_disk(path: Path) -> None:
    """Wait until a file or a folder's list of names is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
