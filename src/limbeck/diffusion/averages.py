"""Moving averages of a network's weights, which sample better than the weights themselves."""

from collections.abc import Callable
from copy import deepcopy
from typing import Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.distill.players import freeze

Network = TypeVar("Network", bound=nn.Module)


def ramped(update: int, *, decay: float) -> float:
    """Decay of an average that forgets its start quickly: min(decay, (update + 1) / (update + 10)).

    Example:
        >>> [round(ramped(update, decay=0.99), 3) for update in (0, 9, 10_000)]
        [0.1, 0.526, 0.99]
    """
    return min(decay, (update + 1) / (update + 10))


def half_life(update: int, *, images: float, batch: int, ramp: float = 0.05) -> float:
    """Decay of an average that has forgotten half after so many images, fewer at the start.

        0.5^(batch / h),  h = min(images, ramp x images seen before)

    Args:
        update: number of the update, from 0, before which update x batch images were seen.
        images: half-life, in images.
        batch: images of an update.
        ramp: largest half-life as a share of the images seen.

    Example:
        >>> [round(half_life(update, images=500_000, batch=256), 5) for update in (0, 100, 100_000)]
        [0.0, 0.87055, 0.99965]

    Source: Zheng, Yang, Diffusion Models Are Innate One-Step Generators (2024), arXiv 2405.20750.
    """
    reached = min(images, ramp * update * batch)
    return 0.5 ** (batch / reached) if reached else 0.0


def power(update: int, *, sigma_rel: float) -> float:
    """Decay of an average whose width is a constant share of the training so far.

        (1 - 1 / (update + 1))^(gamma + 1), where gamma is the largest root of
        gamma^3 + 7 gamma^2 + (16 - sigma_rel^-2) gamma + 12 - sigma_rel^-2 = 0

    Args:
        update: number of the update, from 0, which takes the weights as they are.
        sigma_rel: width (standard deviation) of the average as a share of the training, below 0.28.

    Example:
        >>> [round(power(update, sigma_rel=0.05), 4) for update in (0, 100, 10_000)]
        [0.0, 0.8362, 0.9982]

    Source: Karras et al., Analyzing and Improving the Training Dynamics of Diffusion Models (2023), arXiv 2312.02696.
    """
    gamma = np.roots([1, 7, 16 - sigma_rel**-2, 12 - sigma_rel**-2]).real.max()
    return float((1 - 1 / (update + 1)) ** (gamma + 1))


class Average(nn.Module, Generic[Network]):
    """The exponential moving average of a network's parameters, beside a copy of its buffers.

        average <- d(i) average + (1 - d(i)) weights

    The number of updates is a buffer: `state_dict` holds all that goes on after a stop. `module` is the averaged
    network, always in evaluation mode and without gradients.

    Args:
        module: the network, which goes on training.
        decay: d of the number of the update, from 0: `partial(ramped, decay=0.99)`, `half_life`, `power`.

    Example:
        >>> network = nn.Linear(1, 1, bias=False)
        >>> nn.init.zeros_(network.weight).requires_grad
        True
        >>> average = Average(network, lambda update: 0.75)
        >>> nn.init.ones_(network.weight).requires_grad
        True
        >>> average.update()
        >>> average.module.weight.item()
        0.25
    """

    updates: Tensor

    def __init__(self, module: Network, decay: Callable[[int], float]) -> None:
        super().__init__()
        self.module, self.decay = deepcopy(module), decay
        self._source = [module]  # in a list: the network's own weights are no part of this module
        self._weights: tuple[list[Tensor], list[Tensor]] = list(self.module.parameters()), list(module.parameters())
        self.register_buffer("updates", torch.tensor(0))
        freeze(self.module)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the network's weights of now."""
        source, weight = self._source[0], 1 - self.decay(int(self.updates))
        torch._foreach_lerp_(*self._weights, weight)
        for own, new in zip(self.module.buffers(), source.buffers(), strict=True):
            own.copy_(new)
        self.updates += 1

    def train(self, mode: bool = True) -> Self:
        """Keep the averaged network in evaluation mode."""
        super().train(mode)
        self.module.eval()
        return self
