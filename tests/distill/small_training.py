"""A training of two players on a few numbers, with all that a resume must get right; it can kill itself anywhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.distill import Player, Trainer, checkpoints, cosine, every, forward_kl, warmup_stable_decay
from limbeck.runs import RunRecorder

STEPS = 23


def network(seed: int, *, dropout: float = 0.0) -> nn.Sequential:
    """Four numbers in, three logits out."""
    module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 3))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 2)
    return module


def inputs(step: int, *, size: int = 8) -> Tensor:
    """Batch of a step: a pure function."""
    return torch.randn(size, 4, generator=torch.Generator().manual_seed(1000 + step))


def small_training(
    out: Path, *, die: Callable[[str, int], None] = lambda place, count: None, **changes: Any
) -> Trainer:
    """Student (dropout, AdamW, warm-up and decay, clipped), critic (momentum, every third step), a noise generator.

    `die(place, step)` is called in the loss, batch and evaluation functions.
    """
    teacher, student, critic = network(1), network(2, dropout=0.3), network(3)
    noise = torch.Generator().manual_seed(9)

    def loss(player: str, batch: Tensor, step: int) -> dict[str, Tensor]:
        die(f"loss of {player}", step)
        logits = player_of[player].module(batch + 0.1 * torch.randn(batch.shape, generator=noise))
        divergence = forward_kl(logits, teacher(batch))
        return {"loss": divergence, "size": logits.detach().square().mean()}

    def batch(step: int) -> Tensor:
        die("batch", step)
        return inputs(step)

    def evaluate(step: int) -> dict[str, Tensor]:
        die("evaluate", step)
        torch.rand(3)  # measuring may draw random numbers
        return {"loss": forward_kl(student(inputs(-1)), teacher(inputs(-1)))}

    schedule = partial(warmup_stable_decay, steps=STEPS, warmup=4)
    players = [
        Player("student", student, torch.optim.AdamW(student.parameters(), lr=0.05, fused=True), schedule, clip=0.5),
        Player(
            "critic",
            critic,
            torch.optim.SGD(critic.parameters(), lr=0.02, momentum=0.9),
            partial(cosine, steps=8),
            turn=every(3),
        ),
    ]
    player_of = {player.name: player for player in players}
    options: dict[str, Any] = {
        "steps": STEPS,
        "out": out,
        "frozen": [teacher],
        "generators": {"noise": noise},
        "recorder": partial(RunRecorder, out / "log.jsonl", run="small", params=67),
        "record_every": 2,
        "columns": lambda step: {"samples": 8 * step},
        "evaluate": evaluate,
        "evaluate_at": (10, STEPS),
        "checkpoint_every": 5,
        "checkpoint_at": (12,),
        "progress": False,
    }
    return Trainer(players, loss, batch, **(options | changes))


def run(out: Path, place: str | None = None, when: int = 0) -> None:
    """Run to the end, or until SIGKILL at a place: a function of the training at a step, or in the n-th checkpoint."""
    torch.set_num_threads(1)
    torch.manual_seed(5)

    def die(here: str, count: int) -> None:
        if (here, count) == (place, when):
            os.kill(os.getpid(), signal.SIGKILL)

    writes, renames = count(), count()
    write_json, sync_folder = checkpoints.write_json, checkpoints.sync_folder

    def watched_write(path: Path, content: Any) -> Path:
        number = next(writes)
        die("tensors written", number)
        write_json(path, content)
        die("all written", number)
        return path

    def watched_sync(folder: Path) -> None:
        die("renamed", next(renames))
        sync_folder(folder)

    checkpoints.write_json, checkpoints.sync_folder = watched_write, watched_sync
    small_training(out, die=die).run()
