"""Weights at a few bits, as the forward pass of a quantised model sees them."""

from __future__ import annotations

import torch
from torch import Tensor

from limbeck.errors import ConfigError


def fake_quantise(weights: Tensor, bits: int, group: int | None = None) -> Tensor:
    """Return weights on a symmetric uniform grid, with a gradient as if nothing had happened (straight through).

    `q = s clip(round(w / s), -m, m)`, `m = 2^(bits-1) - 1`, `s = max|w| / m`, one scale a row or group; halves are
    rounded to even, and a row of zeros stays one.

    Args:
        weights: [..., n].
        bits: 2 or more; 2 leave three levels.
        group: neighbours in a row that share a scale; None for whole rows.

    Raises:
        ConfigError: fewer than 2 bits, or a group that does not divide the row.

    Example:
        >>> fake_quantise(torch.tensor([1.0, -0.4, 0.2]), bits=2)
        tensor([1., 0., 0.])

    Source: Ding, Cao, Cao, Chen, Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative
        Models (2025), arXiv 2501.06218; reconstructed: the usual absolute-maximum rounding.
    """
    size = group or weights.shape[-1]
    if bits < 2 or weights.shape[-1] % size:
        raise ConfigError(f"rows of {weights.shape[-1]} weights cannot have {bits} bits in groups of {size}.")
    top = 2 ** (bits - 1) - 1
    grouped = weights.detach().unflatten(-1, (-1, size))
    scale = grouped.abs().amax(-1, keepdim=True) / top
    steps = torch.where(scale > 0, grouped / scale, 0.0).round().clamp(-top, top)
    quantised: Tensor = (steps * scale).flatten(-2)
    return quantised + (weights - weights.detach())
