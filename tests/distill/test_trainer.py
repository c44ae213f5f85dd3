"""The trainer: updates as by hand, turns, exact accumulation, branches, evaluation, failures, interruption."""

from __future__ import annotations

import copy
import math
import os
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import inputs, network, small_training
from torch import Tensor, nn

from limbeck.distill import (
    Checkpoints,
    Player,
    Trainer,
    constant,
    every,
    forward_kl,
    warmup_stable_decay,
)
from limbeck.errors import TrainingError

# Waiting for the disk is what takes time in these trainings.
UNSAVED: dict[str, Any] = {"checkpoint_every": None, "checkpoint_at": (), "recorder": None}


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def single(
    module: nn.Module, *, steps: int, schedule: Any = None, clip: float | None = None, **options: Any
) -> Trainer:
    """One AdamW player that matches a fixed teacher."""
    teacher = network(1)
    player = Player("student", module, torch.optim.AdamW(module.parameters(), lr=0.05), schedule, clip=clip)

    def loss(name: str, batch: Tensor, step: int) -> dict[str, Tensor]:
        return {"loss": forward_kl(module(batch), teacher(batch))}

    return Trainer([player], loss, inputs, steps=steps, **({"progress": False} | options))


def test_a_training_equals_the_loop_by_hand() -> None:
    ours, theirs, teacher = network(2), network(2), network(1)
    schedule = partial(warmup_stable_decay, steps=30, warmup=5)
    result = single(ours, steps=30, schedule=schedule, clip=0.1).run()

    optimizer = torch.optim.AdamW(theirs.parameters(), lr=0.05)
    for step in range(30):
        optimizer.param_groups[0]["lr"] = 0.05 * schedule(step)
        optimizer.zero_grad()
        loss = forward_kl(theirs(inputs(step)), teacher(inputs(step)))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 0.1)
        optimizer.step()
    assert torch.equal(weights(ours), weights(theirs))
    assert result.values == {
        "train/student/loss": loss.item(),
        "train/student/grad_norm": norm.item(),
        "train/student/lr": pytest.approx(0.05 / 6),
    }
    assert result.steps == 30
    assert "30 steps" in result.summary()
    assert "train/student/loss" in result.summary()


def test_players_move_in_turn_and_never_move_each_other() -> None:
    """The critic's loss runs through the student; only the mover's parameters change, by its own gradient alone."""
    student, critic = nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False)
    for module, value in ((student, 1.0), (critic, 2.0)):
        nn.init.constant_(module.weight, value)
    seen: list[tuple[int, str]] = []

    def loss(name: str, batch: Tensor, step: int) -> dict[str, Tensor]:
        seen.append((step, name))
        return {"loss": critic(student(batch)).sum() if name == "critic" else -critic(student(batch)).sum()}

    players = [
        Player("critic", critic, torch.optim.SGD(critic.parameters(), lr=0.1)),
        Player("student", student, torch.optim.SGD(student.parameters(), lr=0.1), turn=every(2, phase=1)),
    ]
    Trainer(players, loss, lambda step: torch.ones(1, 2), steps=4, progress=False).run()
    assert seen == [(0, "critic"), (1, "critic"), (1, "student"), (2, "critic"), (3, "critic"), (3, "student")]
    # By hand, w = either student weight, c = critic: c −= .1·2w; after odd steps w += .1·c.
    w, c = 1.0, 2.0
    for step in range(4):
        c -= 0.1 * 2 * w
        w += 0.1 * c if step % 2 else 0.0
    assert critic.weight.item() == pytest.approx(c, rel=1e-6)
    assert student.weight[0].tolist() == pytest.approx([w, w], rel=1e-6)
    assert [player.updates for player in players] == [4, 2]


@pytest.mark.parametrize("accumulate", [2, 4])
def test_one_batch_of_four_is_four_batches_of_one(accumulate: int) -> None:
    """Micro-batches with unequal numbers of valid tokens, in float64: the mean over all valid tokens, exactly."""
    teacher = network(1).double()
    tokens = torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lengths = torch.tensor([6, 1, 0, 3])  # the third has no valid token at all
    whole_batch = {"tokens": tokens, "mask": torch.arange(6) < lengths[:, None], "note": "common to all pieces"}

    def train(pieces: int) -> tuple[Tensor, dict[str, float]]:
        module = network(2).double()
        player = Player("student", module, torch.optim.SGD(module.parameters(), lr=0.5), clip=0.2)

        def loss(name: str, batch: Mapping[str, Any], step: int) -> dict[str, Tensor]:
            assert len(batch["tokens"]) == 4 // pieces
            mask = batch["mask"]
            value = forward_kl(module(batch["tokens"]), teacher(batch["tokens"]), mask=mask)
            return {"loss": value, "twice": 2 * value.detach(), "weight": mask.sum()}

        result = Trainer([player], loss, lambda step: whole_batch, steps=5, accumulate=pieces, progress=False).run()
        return weights(module), result.values

    expected, values = train(1)
    found, their_values = train(accumulate)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    assert their_values == pytest.approx(values, rel=1e-12)
    assert values["train/student/twice"] == pytest.approx(2 * values["train/student/loss"])
    assert "train/student/weight" not in values


def test_equal_weights_without_a_weight_and_nothing_valid() -> None:
    expected, found = network(2), network(2)
    single(expected, steps=6).run()
    single(found, steps=6, accumulate=4).run()
    torch.testing.assert_close(weights(found), weights(expected), rtol=1e-5, atol=1e-7)

    module = network(2)
    player = Player("student", module, torch.optim.SGD(module.parameters(), lr=0.5))

    def loss(name: str, batch: Tensor, step: int) -> dict[str, Tensor]:
        return {"loss": module(batch).sum() * 0, "weight": torch.zeros(())}

    before = weights(module)
    result = Trainer([player], loss, inputs, steps=1, accumulate=2, progress=False).run()
    assert torch.equal(weights(module), before)
    assert result.values["train/student/loss"] == 0.0


def test_a_batch_that_cannot_be_split_is_named() -> None:
    with pytest.raises(TrainingError, match=r"shape \[8, 4\] cannot be split into 3 equal micro-batches"):
        single(network(2), steps=1, accumulate=3).run()


def test_frozen_teacher_stays_as_it_is() -> None:
    teacher = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))
    before = copy.deepcopy(teacher.state_dict())
    student = network(2)
    player = Player("student", student, torch.optim.SGD(student.parameters(), lr=0.1))
    targets: list[Tensor] = []

    def loss(name: str, batch: Tensor, step: int) -> dict[str, Tensor]:
        targets.append(teacher(inputs(0)))
        return {"loss": forward_kl(student(batch), teacher(batch))}

    trainer = Trainer(
        [player], loss, inputs, steps=3, frozen=[teacher], evaluate=lambda step: {}, evaluate_at=[1], progress=False
    )
    trainer.run()
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert torch.equal(targets[0], targets[2])  # neither dropout nor batch statistics
    assert not targets[0].requires_grad


def test_evaluation_changes_nothing(tmp_path: Path) -> None:
    """Dropout and noise continue as if nobody had measured, although the evaluation draws random numbers."""
    final = []
    for name, evaluate_at in (("often", range(1, 24)), ("never", ())):
        torch.manual_seed(5)
        trainer = small_training(tmp_path / name, evaluate_at=evaluate_at, **UNSAVED)
        result = trainer.run()
        assert len(result.evaluations) == len(evaluate_at)
        final.append(weights(trainer.players[0].module))
        assert trainer.players[0].module.training
    assert torch.equal(*final)


def test_evaluation_runs_without_gradient_in_evaluation_mode() -> None:
    module = network(2, dropout=0.5)
    modes = []

    def evaluate(step: int) -> dict[str, float]:
        modes.append((module.training, torch.is_grad_enabled()))
        return {"loss": 1.5 * step}

    result = single(module, steps=4, evaluate=evaluate, evaluate_at=[2, 4]).run()
    assert modes == [(False, False), (False, False)]
    assert result.evaluations == {2: {"loss": 3.0}, 4: {"loss": 6.0}}
    assert result.to_dict()["evaluations"][4]["loss"] == 6.0
    assert "step 4: loss 6" in result.summary()


# ---- branches ------------------------------------------------------------------------------------


def test_a_branch_equals_the_run_from_scratch(tmp_path: Path) -> None:
    """One trunk at a constant rate, decay branches from its milestones: bit for bit the runs of each length."""
    trunk = single(
        network(2), steps=40, schedule=partial(constant, warmup=5), out=tmp_path / "trunk", checkpoint_at=(16, 32)
    )
    trunk.run()
    for length, start in ((20, 16), (40, 32)):
        schedule = partial(warmup_stable_decay, steps=length, warmup=5)
        scratch, branch = network(2), network(99)
        single(scratch, steps=length, schedule=schedule).run()
        milestone = Checkpoints(tmp_path / "trunk").milestone(start)
        result = single(branch, steps=length, schedule=schedule).run(start_from=milestone)
        assert torch.equal(weights(branch), weights(scratch))
        assert result.resumed_from == start
        assert result.values["train/student/lr"] == pytest.approx(0.05 / (length - start))


def test_a_branch_takes_its_own_learning_rate_and_its_own_checkpoints_first(tmp_path: Path) -> None:
    single(network(2), steps=6, out=tmp_path / "trunk", checkpoint_at=(3,)).run()
    milestone = Checkpoints(tmp_path / "trunk").milestone(3)
    module = network(2)
    trainer = single(module, steps=10, out=tmp_path / "branch", checkpoint_every=4)
    trainer.players[0].optimizer.param_groups[0]["initial_lr"] = 0.5
    first = trainer.run(start_from=milestone)
    assert first.resumed_from == 3
    assert first.values["train/student/lr"] == 0.5

    again = single(network(2), steps=10, out=tmp_path / "branch")
    again.players[0].optimizer.param_groups[0]["initial_lr"] = 0.5
    assert again.run(start_from=milestone).resumed_from == 10


def test_a_branch_needs_the_same_tensors_and_an_early_enough_start(tmp_path: Path) -> None:
    single(network(2), steps=6, out=tmp_path).run()
    start = Checkpoints(tmp_path).recent(6)
    other = nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3))
    with pytest.raises(TrainingError, match=r"(?s)needs the same tensors.*0\.weight: torch\.float32 \[8, 4\] in the"):
        single(other, steps=9).run(start_from=start)
    reordered = network(2)
    player = Player("student", reordered, torch.optim.AdamW(reversed(list(reordered.parameters())), lr=0.05))
    with pytest.raises(TrainingError, match=r"(?s)needs the same tensors.*optimised"):
        Trainer([player], lambda *_: {}, inputs, steps=9, progress=False).run(start_from=start)
    with pytest.raises(TrainingError, match=r"at step 6, beyond steps=5"):
        single(network(2), steps=5).run(start_from=start)
    with pytest.raises(TrainingError, match="nowhere is not a complete checkpoint"):
        single(network(2), steps=5).run(start_from=tmp_path / "nowhere")


# ---- failures and interruption -------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_stops_with_the_last_good_checkpoint(value: float, tmp_path: Path) -> None:
    trainer = small_training(tmp_path)
    honest = trainer.loss

    def loss(name: str, batch: Tensor, step: int) -> Mapping[str, Tensor]:
        parts = honest(name, batch, step)
        return {"loss": parts["loss"] * value} if (name, step) == ("critic", 9) else parts

    trainer.loss = loss
    words = rf'player "critic": the loss is {value} at step 9 of 23.*step-00000005'
    with pytest.raises(TrainingError, match=words):
        trainer.run()
    checkpoint = Checkpoints(tmp_path).latest()
    assert checkpoint is not None
    assert checkpoint.step == 5
    assert weights(trainer.players[1].module).isfinite().all()  # the bad update was not made


def test_parameters_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    """A gradient can be infinite where the loss is not: sqrt at 0."""
    module = nn.Linear(1, 1, bias=False)
    player = Player("student", module, torch.optim.SGD(module.parameters(), lr=0.1))

    def loss(name: str, batch: Tensor, step: int) -> dict[str, Tensor]:
        return {"loss": (module(batch) * (0.0 if step == 3 else 1.0)).square().sqrt().mean()}

    trainer = Trainer(
        [player], loss, lambda step: torch.ones(2, 1), steps=9, out=tmp_path, checkpoint_every=2, progress=False
    )
    with pytest.raises(TrainingError, match=r'"student": its module is not finite after step 4 of 9'):
        trainer.run()
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000002"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(number: int, tmp_path: Path) -> None:
    torch.manual_seed(5)
    uninterrupted = small_training(tmp_path / "whole", **UNSAVED)
    uninterrupted.run()

    def interrupt(place: str, step: int) -> None:
        if (place, step) == ("loss of student", 7):
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    torch.manual_seed(5)
    with pytest.raises(
        KeyboardInterrupt, match=r"Stopped at step 8 of 23, saved in .*step-00000008: run the same again"
    ):
        small_training(tmp_path / "part", die=interrupt, **UNSAVED).run()
    assert signal.getsignal(number) is before
    resumed = small_training(tmp_path / "part", **UNSAVED)
    assert resumed.run().resumed_from == 8
    for ours, theirs in zip(resumed.players, uninterrupted.players, strict=True):
        assert torch.equal(weights(ours.module), weights(theirs.module))


def test_a_second_signal_interrupts_at_once() -> None:
    def batch(step: int) -> Tensor:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    trainer = single(network(2), steps=3)
    trainer.batch = batch
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert trainer.step == 0


def test_without_a_folder_an_interruption_says_that_nothing_was_saved() -> None:
    trainer = single(network(2), steps=3)
    trainer.batch = lambda step: (os.kill(os.getpid(), signal.SIGINT), inputs(step))[1]
    with pytest.raises(KeyboardInterrupt, match=r"Stopped at step 1 of 3, nothing saved\."):
        trainer.run()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be at least 1, got 0"),
        ({"evaluate_at": [3, 11]}, r"1 to 10; got \[11\]"),
        ({"checkpoint_at": [0]}, r"1 to 10; got \[0\]"),
    ],
)
def test_mistakes_in_numbers(options: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=words):
        single(network(2), **({"steps": 10, "out": tmp_path} | options))


def test_mistakes_in_players_and_losses() -> None:
    module, other = network(2), network(3)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    with pytest.raises(TrainingError, match="4 of 4 parameters of its optimiser are not in its module"):
        Player("student", other, optimizer)
    player = Player("student", module, optimizer)
    for players, words in (([], "different names"), ([player, player], "different names"), ([player], "frozen module")):
        with pytest.raises(TrainingError, match=words):
            Trainer(players, lambda *_: {}, inputs, steps=1, frozen=[module])
    with pytest.raises(TrainingError, match=r"must return the key \"loss\", got \['lost'\]"):
        Trainer([player], lambda *_: {"lost": torch.zeros(())}, inputs, steps=1, progress=False).run()


# ---- what is kept and shown ----------------------------------------------------------------------


def test_keeps_the_newest_checkpoints_and_all_milestones(tmp_path: Path) -> None:
    single(network(2), steps=20, out=tmp_path, checkpoint_every=3, checkpoint_at=(2, 9)).run()
    steps = sorted(path.name for path in tmp_path.iterdir())
    assert steps == ["milestone-00000002", "milestone-00000009", "step-00000018", "step-00000020"]


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path: Path) -> None:
    def tied() -> nn.ModuleDict:
        module = nn.ModuleDict({"embed": nn.Embedding(3, 4), "head": nn.Linear(4, 3, bias=False)})
        module["head"].weight = module["embed"].weight
        return module

    def trainer(module: nn.ModuleDict, steps: int) -> Trainer:
        player = Player("student", module, torch.optim.AdamW(module.parameters(), lr=0.1))

        def loss(name: str, batch: Tensor, step: int) -> dict[str, Tensor]:
            return {"loss": module["head"](module["embed"](batch)).square().mean()}

        return Trainer([player], loss, lambda step: torch.arange(3), steps=steps, out=tmp_path, progress=False)

    first, second = tied(), tied()
    trainer(first, 4).run()
    trainer(second, 4).run()
    assert torch.equal(first["head"].weight, second["head"].weight)
    assert second["embed"].weight is second["head"].weight is not first["head"].weight


def test_is_silent_when_piped(capfd: pytest.CaptureFixture[str]) -> None:
    single(network(2), steps=5, progress=True).run()
    assert capfd.readouterr() == ("", "")
