"""The registry of losses."""

from __future__ import annotations

import inspect

import pytest

from limbeck.distill import get_loss, loss_names
from limbeck.errors import ConfigError


@pytest.mark.parametrize("name", loss_names())
def test_every_loss_has_the_common_signature(name: str) -> None:
    entry = get_loss(name)
    parameters = list(inspect.signature(entry.function).parameters)
    assert parameters[:3] == ["student", "teacher", "target"]
    assert parameters[-1] == "how" or {"mask", "reduction"} <= set(parameters[3:])
    assert "Example:" in str(entry.function.__doc__)


def test_near_miss_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r'unknown loss "foward_kl"\. Did you mean "forward_kl"'):
        get_loss("foward_kl")
