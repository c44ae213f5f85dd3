"""Data and networks small enough for every test."""

import torch

from limbeck.vision import Labelled, Network, labelled


def points(count: int = 60, seed: int = 0, classes: int = 3) -> Labelled:
    """Points in four dimensions, of the class whose coordinate is largest."""
    x = torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))
    return labelled(x, x[:, :classes].argmax(1))


def pictures(count: int = 12, seed: int = 0) -> Labelled:
    """Noise of 8 x 8, of three classes."""
    x = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    return labelled(x, torch.arange(count) % 3)


def network(*hidden: int, seed: int = 0, shape: tuple[int, ...] = (4,)) -> torch.nn.Module:
    """A perceptron of three classes."""
    return Network(hidden).build(shape, 3, seed)


def sure(inputs: torch.Tensor) -> torch.Tensor:
    """The teacher of `points`: right, and not too sure."""
    return 3 * inputs[:, :3]
