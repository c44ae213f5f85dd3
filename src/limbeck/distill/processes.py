"""The processes that train together: one, or those that `torchrun` and `accelerate launch` start."""

from __future__ import annotations

from typing import Any, Literal

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState


def processes() -> PartialState:
    """Who this process is among those of the launch; they talk through gloo where there is no accelerator.

    Example:
        >>> processes().is_main_process
        True
    """
    return PartialState(cpu=not torch.accelerator.is_available())


def accelerator(precision: Literal["fp32", "bf16"] = "fp32") -> Accelerator:
    """Devices and precision of a training; the library allows one precision a process unless its state is reset."""
    processes()
    AcceleratorState._reset_state()
    mixed: Any = "bf16" if precision == "bf16" else "no"
    return Accelerator(cpu=not torch.accelerator.is_available(), mixed_precision=mixed)
