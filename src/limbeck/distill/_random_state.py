"""The random states that a training depends on, as tensors: torch's global ones and the named generators."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def random_state(generators: Mapping[str, torch.Generator]) -> dict[str, Tensor]:
    """Copy every random state (`random/cpu`, `random/cuda/0`, `random/generator/NAME`)."""
    state = {"random/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state |= {f"random/cuda/{index}": value for index, value in enumerate(torch.cuda.get_rng_state_all())}
    return state | {f"random/generator/{name}": generator.get_state() for name, generator in generators.items()}


def set_random_state(state: Mapping[str, Tensor], generators: Mapping[str, torch.Generator]) -> None:
    """Put every random state back. Devices that this machine lacks are passed over."""
    torch.set_rng_state(state["random/cpu"])
    for index in range(torch.cuda.device_count()):
        if f"random/cuda/{index}" in state:
            torch.cuda.set_rng_state(state[f"random/cuda/{index}"], index)
    for name, generator in generators.items():
        generator.set_state(state[f"random/generator/{name}"])
