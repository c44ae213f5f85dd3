"""The registry of losses."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import Tensor

from limbeck.distill import Paper, get_loss, loss_names, register
from limbeck.errors import ConfigError


def test_knows_the_divergences_and_their_papers() -> None:
    assert {"forward_kl", "reverse_kl", "generalized_jsd"} <= set(loss_names())
    assert [get_loss(name).paper.arxiv for name in ("forward_kl", "reverse_kl", "generalized_jsd")] == [
        "1503.02531",
        "2306.08543",
        "2306.13649",
    ]


@pytest.mark.parametrize("name", loss_names())
def test_every_loss_has_the_common_signature(name: str) -> None:
    entry = get_loss(name)
    parameters = list(inspect.signature(entry.function).parameters)
    assert parameters[:3] == ["student", "teacher", "target"]
    assert {"mask", "reduction"} <= set(parameters[3:])
    assert entry.paper.title in str(entry.function.__doc__).replace("\n        ", " ")


def test_a_name_is_given_once() -> None:
    def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
        return torch.zeros(())

    with pytest.raises(ConfigError, match='"forward_kl" exists already'):
        register(Paper("Another", "Someone", 2026, "0000.00000"))(forward_kl)


def test_near_miss_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r'unknown loss "foward_kl"\. Did you mean "forward_kl"'):
        get_loss("foward_kl")
