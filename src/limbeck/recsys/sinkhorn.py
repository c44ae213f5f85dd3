"""Matrices whose rows and columns each sum to one, and the temperature at which they are made.

Source: Ha et al., UniMixer: A Unified Architecture for Scaling Laws in Recommendation Systems (2026), arXiv
2604.00590. Reconstructed: the number of rounds, 5, is that of a re-implementation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limbeck.errors import ConfigError


def sinkhorn(weight: Tensor, temperature: float = 1.0, iterations: int = 5, *, symmetric: bool = False) -> Tensor:
    """A positive matrix with sums of one, from any square matrix.

    `M = exp((W + W^T) / (2 tau))`, then as often as asked: rows divided by their sums, columns by theirs. All of it on
    logarithms, so that no temperature overflows. Columns sum to one exactly, rows nearly (`row_residual`), and the
    result is as nearly symmetric. The symmetric form scales rows and columns alike instead: `S = D M D` with
    `D <- D (D M 1)^(-1/2)`, which is symmetric to the last bit, and both sums are nearly one.

    Args:
        weight: [..., N, N].
        temperature: near 0 a permutation, at infinity 1 / N everywhere.
        iterations: rounds.
        symmetric: which form.

    Raises:
        ConfigError: no square matrix, a temperature that is not positive, no rounds.

    Example:
        >>> sinkhorn(torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([[0.2689, 0.7311],
                [0.7311, 0.2689]])
    """
    if weight.ndim < 2 or weight.shape[-1] != weight.shape[-2]:
        raise ConfigError(f"only a square matrix gets rows and columns that sum to one, got {list(weight.shape)}")
    if not temperature > 0 or iterations < 1:
        raise ConfigError(f"temperature and iterations must be positive, got {temperature} and {iterations}")
    log = (weight + weight.mT) / (2 * temperature)
    if symmetric:
        scale = torch.zeros_like(log[..., 0])
        for _ in range(iterations):
            scale = (scale - (log + scale[..., None, :]).logsumexp(-1)) / 2
        return (log + (scale[..., :, None] + scale[..., None, :])).exp()
    for _ in range(iterations):
        log = log.log_softmax(-1).log_softmax(-2)
    return log.exp()


def row_residual(matrix: Tensor) -> float:
    """How far the sum of any row is from one.

    Example:
        >>> row_residual(torch.tensor([[0.5, 0.5], [0.5, 0.25]]))
        0.25
    """
    return float((matrix.detach().sum(-1) - 1).abs().max())


def rounded(matrix: Tensor, above: float = 0.95) -> Tensor | None:
    """The permutation that a matrix with sums of one nearly is; None if it is not one.

    Args:
        matrix: [N, N].
        above: every row must hold an entry larger than this, at least 0.5.

    Example:
        >>> rounded(torch.tensor([[0.01, 0.99], [0.98, 0.02]]))
        tensor([[0., 1.],
                [1., 0.]])
        >>> rounded(torch.tensor([[0.5, 0.5], [0.5, 0.5]]))
    """
    largest, place = matrix.max(-1)
    if not bool((largest > above).all()) or len(place.unique()) < len(matrix):
        return None
    return torch.zeros_like(matrix).scatter_(1, place[:, None], 1.0)


@dataclass(frozen=True)
class Temperature:
    """A temperature that falls over the updates of a training.

    Args:
        start, end: its values; `constant` is at the end from the first update on.
        schedule: a straight line, half a cosine, or none.
        steps: updates until the end is reached; 0 is at the end from the first on.

    Raises:
        ConfigError: a value that is not positive, or no such schedule.

    Example:
        >>> [round(Temperature(steps=100).at(update), 3) for update in (0, 50, 100, 150)]
        [1.0, 0.525, 0.05, 0.05]
        >>> round(Temperature(schedule="cosine", steps=100).at(25), 3), Temperature(schedule="constant").at(0)
        (0.861, 0.05)
    """

    start: float = 1.0
    end: float = 0.05
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    steps: int = 0

    def __post_init__(self) -> None:
        if not (self.start > 0 and self.end > 0) or self.steps < 0:
            raise ConfigError(f"temperatures must be positive, got {self.start} to {self.end} in {self.steps} steps")
        if self.schedule not in ("linear", "constant", "cosine"):
            raise ConfigError(f'schedule is linear, constant or cosine, got "{self.schedule}"')

    def at(self, update: int) -> float:
        """The temperature after so many updates."""
        share = 1.0 if self.schedule == "constant" else min(1.0, update / self.steps) if self.steps else 1.0
        if self.schedule == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.start * (1 - share) + self.end * share
