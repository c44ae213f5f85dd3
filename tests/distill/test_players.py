"""Players: learning rates, state, description, frozen teachers."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import torch
from small_training import network
from torch import nn

from limbeck.distill import Player, cosine, every, freeze


def player(seed: int, **options: object) -> Player:
    module = network(seed)
    groups = [{"params": module[0].parameters(), "lr": 0.4}, {"params": module[3].parameters()}]
    return Player("student", module, torch.optim.AdamW(groups, lr=0.1), **options)


def step(of: Player, seed: int) -> None:
    of.set_learning_rate()
    of.optimizer.zero_grad()
    of.module(torch.randn(2, 4, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
    of.optimizer.step()
    of.updates += 1


def test_the_schedule_scales_every_group_from_its_own_rate() -> None:
    half = player(0, schedule=lambda update: 0.5 ** (update + 1))
    assert half.set_learning_rate() == 0.2
    assert [group["lr"] for group in half.optimizer.param_groups] == [0.2, 0.05]
    half.updates = 1
    half.set_learning_rate()
    assert [group["lr"] for group in half.optimizer.param_groups] == [0.1, 0.025]


def test_state_moves_bit_for_bit_and_settings_stay() -> None:
    ours, theirs = player(0), player(5)
    for seed in range(3):
        step(ours, seed)
    theirs.optimizer.param_groups[0]["weight_decay"] = 0.0
    theirs.load(copy.deepcopy(ours.state()))
    assert theirs.updates == 3
    assert theirs.optimizer.param_groups[0]["weight_decay"] == 0.0
    theirs.optimizer.param_groups[0]["weight_decay"] = ours.optimizer.param_groups[0]["weight_decay"]
    step(ours, 9)
    step(theirs, 9)
    for mine, other in zip(ours.parameters, theirs.parameters, strict=True):
        assert torch.equal(mine, other)


def test_description_tells_settings_apart() -> None:
    described = player(0, schedule=partial(cosine, steps=5, floor=0.1), turn=every(3), clip=1.0).describe()
    assert described["schedule"] == "cosine(steps=5, floor=0.1)"
    assert described["turn"] == "_at_phase(period=3, phase=0)"
    assert described["optimised"] == ["0.weight", "0.bias", "3.weight", "3.bias"]
    assert described["tensors"]["0.weight"] == "torch.float32 [8, 4]"
    assert [(group["initial_lr"], group["parameters"]) for group in described["optimizer"]] == [(0.4, 2), (0.1, 2)]
    assert "lr" not in described["optimizer"][0]
    assert player(0).describe()["schedule"] == "none"


@pytest.mark.parametrize(("period", "phase", "steps"), [(1, 0, [0, 1, 2, 3, 4, 5]), (3, 1, [1, 4])])
def test_every(period: int, phase: int, steps: list[int]) -> None:
    assert [step for step in range(6) if every(period, phase=phase)(step)] == steps


def test_every_module_is_in_evaluation_mode_without_gradients() -> None:
    first, second = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9)), nn.BatchNorm1d(2)
    freeze(first, second)
    assert not any(part.training for module in (first, second) for part in module.modules())
    assert not any(parameter.requires_grad for module in (first, second) for parameter in module.parameters())
    ones = torch.ones(3, 2)
    assert torch.equal(first(ones), first(ones))
    second(ones)
    assert second.running_mean is not None
    assert torch.equal(second.running_mean, torch.zeros(2))
