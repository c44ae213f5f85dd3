"""Checkpoints: written so that a kill at any moment loses nothing, read without running code.

A checkpoint is a folder `step-00000100` with `tensors.pt` (read with `weights_only`) and `state.json`. It is written
under a temporary name; its files reach the disk before the rename, which is when the checkpoint begins to exist.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from limbeck.errors import TrainingError
from limbeck.files import sync_folder, write_json

TENSORS = "tensors.pt"
STATE = "state.json"
KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after a step.

    Args:
        path: the checkpoint's folder.
        step: steps done.
        tensors: nested dicts and lists of tensors, on the CPU.
        state: JSON values.
    """

    path: Path
    step: int
    tensors: dict[str, Any]
    state: dict[str, Any]


def write_checkpoint(path: Path, step: int, tensors: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write a checkpoint folder atomically; an older folder of the same name is replaced. Args as for `Checkpoint`."""
    writing = path.with_name(f".writing-{path.name}")
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    with (writing / TENSORS).open("wb") as file:
        torch.save(tensors, file)
        file.flush()
        os.fsync(file.fileno())
    write_json(writing / STATE, {"step": step, **state})
    if path.exists():
        shutil.rmtree(path)
    writing.rename(path)
    sync_folder(path.parent)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read one checkpoint folder.

    Raises:
        TrainingError: the folder is missing, incomplete or damaged.
    """
    path = Path(path)
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        tensors = torch.load(path / TENSORS, map_location="cpu", weights_only=True)
        return Checkpoint(path, state["step"], tensors, state)
    except (OSError, ValueError, KeyError, RuntimeError, EOFError, UnpicklingError) as error:
        raise TrainingError(f"{path} is not a complete checkpoint: {error}") from error


class Checkpoints:
    """The checkpoints of one run: the newest two, and milestones that stay until you delete them.

    Args:
        folder: the run's folder; created when the first checkpoint is written.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def recent(self, step: int) -> Path:
        """Folder of the rolling checkpoint after `step` steps."""
        return self.folder / f"step-{step:08d}"

    def milestone(self, step: int) -> Path:
        """Folder of the milestone after `step` steps: what a branch starts from."""
        return self.folder / f"milestone-{step:08d}"

    def save(self, step: int, tensors: Mapping[str, Any], state: Mapping[str, Any], *, milestone: bool = False) -> Path:
        """Write the checkpoint of a step, then drop the rolling ones that are too old; return its folder."""
        path = self.milestone(step) if milestone else self.recent(step)
        write_checkpoint(path, step, tensors, state)
        unfinished = self.folder.glob(".writing-*")  # left by a kill
        for old in [*unfinished, *sorted(self.folder.glob("step-*"))[:-KEEP]]:
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


def random_state(generators: Mapping[str, torch.Generator]) -> dict[str, Any]:
    """Copy every random state that a training depends on: torch's global ones and the named generators'."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "generators": {name: generator.get_state() for name, generator in generators.items()},
    }


def set_random_state(state: Mapping[str, Any], generators: Mapping[str, torch.Generator]) -> None:
    """Put every random state back. Devices that this machine lacks are passed over."""
    torch.set_rng_state(state["cpu"])
    for device, cuda in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(cuda, device)
    for name, generator in generators.items():
        generator.set_state(state["generators"][name])
