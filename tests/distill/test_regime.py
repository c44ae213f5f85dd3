"""A regime gives a player; a recipe gives a regime."""

from pathlib import Path

import pytest
import torch
from torch import nn

from limbeck.distill import Regime, TrainingSettings, cpu_threads
from limbeck.errors import ConfigError


@pytest.mark.parametrize(("every", "at"), [(0, [10]), (4, [4, 8, 10]), (5, [5, 10]), (30, [10])])
def test_the_last_step_is_always_evaluated(every: int, at: list[int]) -> None:
    assert Regime(steps=10, evaluate_every=every).evaluate_at == at


def test_a_player_has_the_optimiser_and_the_schedule() -> None:
    player = Regime(10, learning_rate=0.5, optimizer="sgd", weight_decay=0.1, clip=2.0).player(
        nn.Linear(1, 1), "teacher"
    )
    assert player.name == "teacher" and player.clip == 2.0
    group = player.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.5, 0.9, 0.1)
    player.updates = 5
    assert player.set_learning_rate() == pytest.approx(0.25)


def test_values_that_cannot_work() -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        Regime(steps=0).player(nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="one of adam"):
        Regime(optimizer="lion").player(nn.Linear(1, 1))  # type: ignore[arg-type]


def test_the_keys_of_a_recipe_are_those_of_a_regime(tmp_path: Path) -> None:
    keys = {"steps": 7, "batch": 3, "lr": 0.2, "optimizer": "sgd", "weight_decay": 0.3, "schedule": "constant",
            "warmup": 2, "clip": 4.0, "evaluate_every": 5}  # fmt: skip
    assert TrainingSettings(out=tmp_path, **keys).regime == Regime(7, 3, 0.2, "sgd", 0.3, "constant", 2, 4.0, 5)


def test_threads_are_given_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), cpu_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before
