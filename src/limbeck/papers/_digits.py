"""Small classifiers of scikit-learn's handwritten digits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from limbeck.papers._data import shuffled_digits
from limbeck.papers._training import descend, draws, seeded


def digits(seed: int) -> tuple[Tensor, Tensor]:
    """Return 1797 images in random order and what they are: float32 [n, 64], int64 [n]."""
    images, labels = shuffled_digits(np.random.default_rng(seed))
    return torch.from_numpy(images).float(), torch.from_numpy(labels).long()


def mlp(*widths: int, seed: int) -> nn.Module:
    """Return a classifier of 64 pixels and 10 classes with hidden layers of these widths."""
    sizes = 64, *widths, 10

    def build() -> nn.Module:
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    return seeded(build, seed)


def learn(
    model: nn.Module, x: Tensor, target: Any, *, steps: int, seed: int = 0, rate: float = 3e-3, batch: int | None = 64,
    loss: Callable[..., Tensor] = cross_entropy,
) -> Any:  # fmt: skip
    """Return the model after AdamW steps on `loss(logits, target)`; `batch` examples each, or all of them."""
    rows = torch.arange(len(x)).expand(steps, -1) if batch is None else draws(len(x), steps, batch, seed)
    return descend(model, lambda at: loss(model(x[at]), target[at]), rows, learning_rate=rate)


@torch.no_grad()
def accuracy(model: Any, x: Tensor, y: Tensor) -> float:
    """Return the share of right answers."""
    return float((model(x).argmax(-1) == y).double().mean())
