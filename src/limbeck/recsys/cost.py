"""What a click network costs: weights, arithmetic, and the time that a request takes."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.distill import evaluating
from limbeck.fitting.plain import Plain
from limbeck.recsys.batches import ClickBatch, batch_of
from limbeck.recsys.clicks import Clicks

CANDIDATES = 200
"""Items that a request asks about, unless another number is given."""


@dataclass(frozen=True)
class Cost(Plain):
    """What a click network costs.

    Args:
        params: weights without embedding tables; `params_total` with them.
        flops_per_sample: of a training step, three times a forward pass; FLOP.
        latency_ms: least time of a request for 200 items by one user, milliseconds on this machine.
    """

    params: int
    params_total: int
    flops_per_sample: float
    latency_ms: float

    @classmethod
    def of(cls, network: nn.Module, clicks: Clicks, rounds: int = 5) -> Cost:
        """Count and time a network on the last event of a log."""
        tables = sum(one.weight.numel() for one in network.modules() if isinstance(one, nn.Embedding))
        total = sum(one.numel() for one in network.parameters())
        batch = batch_of(clicks, clicks.test[-1:], int(network.length))  # type: ignore[arg-type]
        with evaluating(network), torch.enable_grad(), FlopCounterMode(display=False) as counted:
            network(batch)
        items = clicks.event[torch.arange(CANDIDATES) % len(clicks)].clone()
        items[:, -1] = 0
        seconds = []
        for _ in range(rounds):
            begin = time.perf_counter()
            rank(network, batch, items)
            seconds.append(time.perf_counter() - begin)
        return cls(total - tables, total, 3.0 * counted.get_total_flops(), 1e3 * min(seconds))


def rank(network: nn.Module, batch: ClickBatch, items: Tensor) -> Tensor:
    """What a network says of many items for one user, float32 [C]; it reads the history once where it can.

    Args:
        network: of clicks.
        batch: of one offer, B = 1; its candidate is not looked at.
        items: codes [C, F] with action 0.
    """
    with evaluating(network):
        if getattr(network, "many", False):
            return network(batch._replace(candidate=items[None]))[0]  # type: ignore[no-any-return]
        rows = [one.expand(len(items), *one.shape[1:]) for one in batch]
        return network(ClickBatch(*rows)._replace(candidate=items))  # type: ignore[no-any-return]
