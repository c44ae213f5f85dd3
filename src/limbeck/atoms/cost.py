"""What a step of a training costs: every matrix product that runs is counted, those of both derivatives included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


class _Counted(TorchDispatchMode):
    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += int(count(*args, **(kwargs or {}), out_val=out))
        return out


def flops_of(work: Callable[[], Any]) -> int:
    """Floating-point operations of the matrix products of some work, which is done.

    Example:
        >>> import torch
        >>> flops_of(lambda: torch.zeros(2, 3) @ torch.zeros(3, 5))
        60
    """
    with _Counted() as counted:
        work()
    total: int = counted.flops
    return total
