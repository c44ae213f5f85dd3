"""Where a training runs: one CPU process without ceremony, or whatever `accelerate` finds.

`accelerate` places modules on a GPU, mixes precisions and joins the processes of `torchrun` or `accelerate launch`. A
plain CPU training needs none of it: its modules and optimisers stay as they are, and no process-wide state is made.
Both answer the same few calls.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn


class SingleProcess:
    """The part of `accelerate.Accelerator` that the trainer uses, for one process on the CPU."""

    device = torch.device("cpu")
    num_processes = 1
    process_index = 0
    is_main_process = True

    def prepare(self, *objects: Any) -> tuple[Any, ...]:
        """Leave modules and optimisers as they are."""
        return objects

    def autocast(self) -> AbstractContextManager[Any]:
        """Keep the precision."""
        return nullcontext()

    def no_sync(self, module: nn.Module) -> AbstractContextManager[Any]:
        """Do nothing: there is nobody to synchronise with."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Accumulate gradients."""
        loss.backward()

    def clip_grad_norm_(self, parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
        """Scale the gradient down to a norm and return the norm it had."""
        return nn.utils.clip_grad_norm_(parameters, max_norm)

    def reduce(self, tensor: Tensor) -> Tensor:
        """Sum over processes."""
        return tensor

    def wait_for_everyone(self) -> None:
        """Return at once."""


def choose_accelerator() -> Any:
    """`accelerate.Accelerator()` where there is a GPU or a launcher, otherwise the plain process."""
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 or any(name.startswith("ACCELERATE_") for name in os.environ)
    if not (launched or torch.accelerator.is_available()):
        return SingleProcess()
    from accelerate import Accelerator

    return Accelerator()
