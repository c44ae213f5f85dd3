"""How a network is trained: one optimiser, one schedule; and the same as keys of a recipe."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field
from torch import nn

from limbeck.distill.players import Player
from limbeck.distill.schedules import constant, cosine
from limbeck.errors import ConfigError
from limbeck.settings import Count, FilePath, Number, Settings


@dataclass(frozen=True)
class Regime:
    """How a network is trained.

    Args:
        steps: updates.
        batch: examples a step; at most what there are.
        learning_rate: peak.
        optimizer: "adam", "adamw" or "sgd", whose momentum is 0.9.
        weight_decay: of the optimiser.
        schedule: "cosine" to 0, or "constant".
        warmup: steps of linear warm-up.
        clip: largest gradient norm; None does not clip.
        evaluate_every: steps between evaluations; 0 evaluates once, at the end.
    """

    steps: int = 800
    batch: int = 64
    learning_rate: float = 0.01
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: int = 0
    clip: float | None = None
    evaluate_every: int = 0

    def player(self, module: nn.Module, name: str = "student") -> Player:
        """Who trains a module so.

        Raises:
            ConfigError: a value that cannot work.
        """
        if self.steps < 1 or self.batch < 1 or not self.learning_rate > 0:
            raise ConfigError(f"steps, batch and learning_rate must be positive, got {self}")
        kinds: dict[str, Any] = {
            "adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": partial(torch.optim.SGD, momentum=0.9),
        }  # fmt: skip
        if self.optimizer not in kinds:
            raise ConfigError(f'optimizer must be one of {", ".join(kinds)}, got "{self.optimizer}"')
        optimizer = kinds[self.optimizer](module.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay)
        schedules: dict[str, Any] = {"cosine": partial(cosine, steps=self.steps), "constant": constant}
        return Player(name, module, optimizer, partial(schedules[self.schedule], warmup=self.warmup), clip=self.clip)

    @property
    def evaluate_at(self) -> list[int]:
        """After which steps a training is evaluated: the last is always among them."""
        every = self.evaluate_every
        return sorted({*range(every, self.steps, every), self.steps} if every else {self.steps})


class TrainingSettings(Settings):
    """What the recipe of any network says of its training.

    Args:
        steps, batch, lr, optimizer, weight_decay, schedule, warmup, clip, evaluate_every: see `Regime`.
        seed: of every random choice.
        threads: CPU threads.
        out: folder of the student and the records.
    """

    steps: Count = Field(default=800, gt=0)
    batch: Count = Field(default=64, gt=0)
    lr: Number = Field(default=0.01, gt=0)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    weight_decay: Number = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: Count = Field(default=0, ge=0)
    clip: Number | None = Field(default=None, gt=0)
    evaluate_every: Count = Field(default=0, ge=0)
    seed: Count = Field(default=0, ge=0)
    threads: Count = Field(default=1, gt=0)
    out: FilePath

    @property
    def regime(self) -> Regime:
        """How the student is trained."""
        names = ("steps", "batch", "optimizer", "weight_decay", "schedule", "warmup", "clip", "evaluate_every")
        return Regime(learning_rate=self.lr, **{name: getattr(self, name) for name in names})


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """So many CPU threads for a while.

    Example:
        >>> with cpu_threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
