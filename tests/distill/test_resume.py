"""Kill and resume: after SIGKILL anywhere, the finished training equals an uninterrupted one bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import small_training
import torch
from small_training import STEPS, run

from limbeck.distill import read_checkpoint
from limbeck.errors import TrainingError


def run_in(forkserver: ForkServerContext, *arguments: object) -> int | None:
    child = forkserver.Process(target=run, args=arguments)
    child.start()
    child.join(60)
    return child.exitcode


@pytest.fixture(scope="module")
def uninterrupted(forkserver: ForkServerContext, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted")
    assert run_in(forkserver, out) == 0
    return out


def assert_same_training(out: Path, reference: Path) -> None:
    assert (out / "log.jsonl").read_bytes() == (reference / "log.jsonl").read_bytes()
    ours, theirs = (read_checkpoint(folder / f"step-{STEPS:08d}") for folder in (out, reference))
    torch.testing.assert_close(ours.tensors, theirs.tensors, rtol=0, atol=0)
    assert ours.state.pop("seconds") > 0 < theirs.state.pop("seconds")
    assert ours.state == theirs.state


# The checkpoints of a whole run come after steps 5, 10, 12 (milestone), 15, 20 and 23; their numbers count per process.
KILLS = {
    "before any checkpoint, then in the second player": [("loss of student", 3), ("loss of critic", 9)],
    "in an evaluation, right after the milestone, in the last step": [
        ("evaluate", 10),
        ("batch", 12),
        ("loss of student", STEPS - 1),
    ],
    "in the last evaluation": [("evaluate", STEPS)],
    "in checkpoints again and again": [
        ("tensors written", 0),
        ("all written", 1),
        ("renamed", 1),
        ("all written", 2),
        ("renamed", 0),
    ],
}


@pytest.mark.parametrize("kills", KILLS.values(), ids=KILLS)
def test_resumes_bit_for_bit_after_sigkill(
    kills: list[tuple[str, int]],
    forkserver: ForkServerContext,
    uninterrupted: Path,
    tmp_path: Path,
) -> None:
    for place, when in kills:
        assert run_in(forkserver, tmp_path, place, when) == -signal.SIGKILL
    assert run_in(forkserver, tmp_path) == 0
    assert_same_training(tmp_path, uninterrupted)
    assert not list(tmp_path.glob(".writing-*"))


def test_the_reference_run_is_not_trivial(uninterrupted: Path) -> None:
    """It learns, draws random numbers, keeps what it should, and records rows in order."""
    rows = [json.loads(line) for line in (uninterrupted / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(2, STEPS, 2), STEPS]
    assert [row["step"] for row in rows if "loss" in row] == [10, STEPS]
    assert rows[-1]["loss"] < 0.7 * rows[4]["loss"]
    assert rows[0]["samples"] == 16
    assert rows[0]["params"] == 67
    assert sorted(path.name for path in uninterrupted.glob("*-0*")) == [
        "milestone-00000012",
        "step-00000020",
        "step-00000023",
    ]
    players = read_checkpoint(uninterrupted / "step-00000023").tensors["players"]
    assert [players[name]["updates"] for name in ("student", "critic")] == [23, 8]


def test_a_finished_training_is_not_run_again(uninterrupted: Path, tmp_path: Path) -> None:
    out = shutil.copytree(uninterrupted, tmp_path / "copy")

    def die(place: str, step: int) -> None:
        raise AssertionError(f"{place} was called at step {step}")

    result = small_training.small_training(out, die=die).run()
    assert (result.steps, result.resumed_from) == (STEPS, STEPS)
    assert set(result.evaluations) == {10, STEPS}
    assert result.values["train/student/loss"] > 0
    assert result.seconds > read_checkpoint(uninterrupted / f"step-{STEPS:08d}").state["seconds"]
    assert_same_training(out, uninterrupted)


@pytest.mark.parametrize("damage", ["truncated tensors", "no state", "half a state"])
def test_a_damaged_checkpoint_is_passed_over_with_a_message(damage: str, uninterrupted: Path, tmp_path: Path) -> None:
    out = shutil.copytree(uninterrupted, tmp_path / "copy")
    tensors, state = out / "step-00000023" / "tensors.pt", out / "step-00000023" / "state.json"
    match damage:
        case "truncated tensors":
            tensors.write_bytes(tensors.read_bytes()[:-10])
        case "no state":
            state.unlink()
        case "half a state":
            state.write_text(state.read_text()[:100])
    with pytest.warns(UserWarning, match="step-00000023.*going back to the checkpoint before it"):
        result = small_training.small_training(out).run()
    assert result.resumed_from == 20
    assert_same_training(out, uninterrupted)


def test_a_checkpoint_of_another_configuration_is_refused(uninterrupted: Path, tmp_path: Path) -> None:
    out = shutil.copytree(uninterrupted, tmp_path / "copy")
    trainer = small_training.small_training(out, config={"seed": 4}, accumulate=2)
    trainer.players[1].clip = 2.0
    before = [parameter.clone() for parameter in trainer.players[0].parameters]
    with pytest.raises(TrainingError, match="belongs to another configuration") as caught:
        trainer.run()
    assert "config.seed: absent in the checkpoint, 4 now" in str(caught.value)
    assert "accumulate: 1 in the checkpoint, 2 now" in str(caught.value)
    assert "players.critic.clip: None in the checkpoint, 2.0 now" in str(caught.value)
    assert all(torch.equal(*pair) for pair in zip(before, trainer.players[0].parameters, strict=True))
