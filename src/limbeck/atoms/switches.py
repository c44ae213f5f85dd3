"""What is smooth: switches that take an edge away before its cut-off, and the activation of the network."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

STEEPNESS = 20.0
"""C of the exponential switch."""


def exponential_switch(r: Tensor, start: float, cutoff: float) -> Tensor:
    """Nearly 1 below `start`, nearly 0 at the cut-off, all its derivatives continuous in between.

    `s(r) = exp(-exp(C (min(r, cutoff) - start) / start))`, C = 20. At `start` it is 1/e; at the cut-off it is tiny,
    not 0 (8e-7 for 5.3 and 6): an energy jumps by so much of an edge.

    Args:
        r: distances in Å, [n].
        start, cutoff: in Å.

    Example:
        >>> exponential_switch(torch.tensor([1.0, 5.3]), 5.3, 6.0)
        tensor([1.0000, 0.3679])

    Source: D. Zhang et al., A Graph Neural Network for the Era of Large Atomistic Models (2025), arXiv 2506.01686,
        equation 9.
    """
    return (-(STEEPNESS * (r.clamp(max=cutoff) - start) / start).exp()).exp()


def quintic_switch(r: Tensor, start: float, cutoff: float) -> Tensor:
    """1 below `start`, 0 from the cut-off on, two derivatives continuous at both ends.

    `s = 1 - 10 u^3 + 15 u^4 - 6 u^5`, `u = (r - start) / (cutoff - start)` kept within 0 and 1.

    Args:
        r: distances in Å, [n].
        start, cutoff: in Å.

    Example:
        >>> quintic_switch(torch.tensor([5.0, 5.5, 6.0]), 5.0, 6.0)
        tensor([1.0000, 0.5000, 0.0000])
    """
    u = ((r - start) / (cutoff - start)).clamp(0, 1)
    return 1 - u**3 * (10 - 15 * u + 6 * u**2)


SWITCHES = {"exponential": exponential_switch, "quintic": quintic_switch}


def silut(x: Tensor, threshold: float) -> Tensor:
    """SiLU whose growth ends: beyond a threshold t it goes on as a tanh.

    `x sigmoid(x)` below t, else `tanh(S (x - t)) + B` with `q = sigmoid(t)`, `S = q + t q (1 - q)`, `B = t q`: value
    and first derivative are continuous (the paper says the second too; at t that of the tanh is 0). Never above B + 1.

    Args:
        x: any shape.
        threshold: t.

    Example:
        >>> silut(torch.tensor([0.0, 3.0, 1e9]), 3.0)
        tensor([0.0000, 2.8577, 3.8577])

    Source: D. Zhang et al., A Graph Neural Network for the Era of Large Atomistic Models (2025), arXiv 2506.01686.
    """
    return _Silut.apply(x, threshold, 0)  # type: ignore[no-any-return]


class _Silut(torch.autograd.Function):
    """The derivative of an order by its closed form, whose derivative is the next: forces are learnt through two."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: float, order: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.next = (threshold, order + 1)
        s = x.sigmoid()
        if order == 0:
            below = x * s
        elif order == 1:
            below = torch.addcmul(s, x * s, 1 - s)
        else:
            below = s * (1 - s) * torch.addcmul(torch.full_like(x, 2.0), x, 1 - 2 * s)
        if not torch.compiler.is_exporting() and not (x >= threshold).any():
            return below
        q = 1 / (1 + math.exp(-threshold))
        slope, base = q + threshold * q * (1 - q), threshold * q
        bend = torch.tanh(slope * (x - threshold))
        ends = (bend + base, slope * (1 - bend**2), -2 * slope**2 * bend * (1 - bend**2))
        return torch.where(x >= threshold, ends[order], below)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * _Silut.apply(x, *ctx.next), None, None
