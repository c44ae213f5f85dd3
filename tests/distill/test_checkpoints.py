"""Checkpoint folders: round trip, atomic replacement, the rolling window."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from limbeck.distill import Checkpoints, read_checkpoint
from limbeck.distill.checkpoints import write_checkpoint
from limbeck.errors import TrainingError

TENSORS = {
    "half": torch.tensor([1.0, -0.0, math.inf]).bfloat16(),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "scalar": torch.tensor(0.1, dtype=torch.float64),
    "strided": torch.arange(6.0).view(2, 3).T,
    "empty": torch.zeros(0, 3),
}


def test_round_trip_to_the_bit(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one", 7, {"nested": TENSORS}, {"lr": 0.1 + 0.2, "betas": [0.9, 0.95]})
    found = read_checkpoint(tmp_path / "one")
    assert (found.step, found.path) == (7, tmp_path / "one")
    assert (found.state["lr"], found.state["betas"]) == (0.1 + 0.2, [0.9, 0.95])
    torch.testing.assert_close(found.tensors, {"nested": TENSORS}, rtol=0, atol=0)
    assert math.copysign(1, found.tensors["nested"]["half"][1].item()) == -1


def test_writing_again_replaces(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "one", 7, TENSORS, {})
    write_checkpoint(tmp_path / "one", 8, {"scalar": torch.ones(())}, {})
    found = read_checkpoint(tmp_path / "one")
    assert (found.step, list(found.tensors)) == (8, ["scalar"])
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def test_newest_wins_whatever_its_kind_and_leftovers_go(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.latest() is None
    checkpoints.save(5, TENSORS, {})
    (tmp_path / "run" / ".writing-step-00000007").mkdir()
    assert checkpoints.save(9, TENSORS, {}, milestone=True) == checkpoints.milestone(9)
    newest = checkpoints.latest()
    assert newest is not None
    assert newest.step == 9
    checkpoints.save(10, TENSORS, {})
    checkpoints.save(11, TENSORS, {})
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["milestone-00000009", "step-00000010", "step-00000011"]


def test_a_folder_that_is_no_checkpoint_and_one_that_holds_code(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is not a complete checkpoint"):
        read_checkpoint(tmp_path)
    (tmp_path / "state.json").write_text("{}")
    torch.save({}, tmp_path / "tensors.pt")
    with pytest.raises(TrainingError, match="is not a complete checkpoint: 'step'"):
        read_checkpoint(tmp_path)
    torch.save({"code": Path.unlink}, tmp_path / "tensors.pt")
    with pytest.raises(TrainingError, match="is not a complete checkpoint: Weights only load failed"):
        read_checkpoint(tmp_path)
