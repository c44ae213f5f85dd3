"""Distribution matching: which way to push a generated picture so that the student's law becomes the teacher's.

Plain functions of what the networks said; `Distillation` calls the networks. Pictures may be clean (s = 0) or stand at
a noise level s of their own (phases): x_t = x_s + sqrt(t^2 - s^2) eps either way.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.diffusion.denoisers import spread
from limbeck.errors import ConfigError


@dataclass(frozen=True)
class Levels:
    """Noise levels to compare at: a grid of Karras, of which a window is drawn uniformly.

        sigma_n = (max^(1/rho) + (1 - n/(N - 1)) (min^(1/rho) - max^(1/rho)))^rho,  n in [low N, high N]

    Args:
        sigma_min, sigma_max, rho: ends and curvature of the grid.
        low, high: window, shares of the grid; DMD pushes the student between 0.02 and 0.98 of it.
        count: N.

    Raises:
        ConfigError: ends or shares that do not rise.

    Example:
        >>> [round(sigma, 6) for sigma in Levels()(torch.tensor([0.0, 0.5, 0.9999], dtype=torch.float64)).tolist()]
        [0.002, 2.526507, 80.0]
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    low: float = 0.0
    high: float = 1.0
    count: int = 1000

    def __post_init__(self) -> None:
        if not (0 < self.sigma_min < self.sigma_max and 0 <= self.low < self.high <= 1 and self.count > 1):
            raise ConfigError(f"noise levels must rise and be positive, and the window lie in 0 to 1; got {self}")

    def grid(self) -> Tensor:
        """Return all levels, rising, float64 [N]."""
        near, far = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        rest = 1 - torch.arange(self.count, dtype=torch.float64) / (self.count - 1)
        levels: Tensor = (far + rest * (near - far)) ** self.rho
        return levels

    def __call__(self, u: Tensor, above: float = 0.0, below: float = torch.inf) -> Tensor:
        """Return the levels of the window's quantiles u.

        Args:
            u: uniform numbers, [B].
            above, below: cut the window to levels in this open interval.

        Raises:
            ConfigError: nothing is left.
        """
        window = _window(self, above, below).to(u.device)
        return window[(u * len(window)).long()]


@cache
def _window(levels: Levels, above: float, below: float) -> Tensor:
    grid, last = levels.grid(), levels.count - 1
    window = grid[round(levels.low * levels.count) : min(round(levels.high * levels.count), last) + 1]
    window = window[(window > above) & (window < below)]
    if not len(window):
        raise ConfigError(f"no noise level of {levels} lies between {above:g} and {below:g}")
    return window


class Noised(NamedTuple):
    """Pictures with more noise.

    Args:
        x: x_t, [B, ...].
        sigma: t, [B].
        target: what a denoiser should say about it, without the clean picture: x_s - s^2 / sqrt(t^2 - s^2) eps.
        weight: of that answer's squared error, [B].
        base: the pictures before, x_s, [B, ...].
    """

    x: Tensor
    sigma: Tensor
    target: Tensor
    weight: Tensor
    base: Tensor


def noised(x: Tensor, sigma: Tensor, eps: Tensor, data_std: float, anchor: float = 0.0) -> Noised:
    """Add noise to pictures that stand at the level `anchor`.

        x_t = x_s + r eps,  r = sqrt(t^2 - s^2),  target = x_s - (s^2 / r) eps,
        weight = (1 / t^2 + 1 / d^2) (r / t)^2

    The target's expectation given x_t is E[x0 | x_t], the same function as in ordinary denoising, which it is for
    s = 0. With x_s itself as the target it would be another function at every s > 0.

    Args:
        x: x_s, [B, ...].
        sigma: t, [B], above `anchor`.
        eps: unit noise, of the shape of x.
        data_std: d.
        anchor: s.

    Example:
        >>> noised(torch.ones(1, 1), torch.tensor([2.0]), torch.ones(1, 1), 1.0).x
        tensor([[3.]])

    Source: Fan et al., Phased DMD (2025), arXiv 2510.27684, here for x0 + sigma eps (derived; the paper has flows).
    """
    between = (sigma**2 - anchor**2).sqrt()
    r = spread(between, x)
    weight = (sigma**-2 + data_std**-2) * (between / sigma) ** 2
    return Noised(x + r * eps, sigma, x - anchor**2 / r * eps if anchor else x, weight, x)


def fake_loss(answer: Tensor, there: Noised) -> Tensor:
    """Return the denoising loss of the fake score: mean of weight (D_fake - target)^2."""
    return (spread(there.weight, answer) * (answer - there.target.detach()).square()).mean()


def matching_direction(x: Tensor, real: Tensor, fake: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the direction of DMD, and how many pictures had nothing to divide by.

        g = (D_fake - D_real) / mean |x - D_real|  for each picture; no gradient flows through it

    Args:
        x: the student's pictures, [B, ...].
        real, fake: what teacher and fake score say about them with noise, [B, ...].
        floor: least divisor.

    Example:
        >>> g, _ = matching_direction(torch.zeros(1, 2), torch.ones(1, 2), torch.zeros(1, 2))
        >>> g
        tensor([[-1., -1.]])

    Source: Yin et al., One-step Diffusion with Distribution Matching Distillation (2024), arXiv 2311.18828, as the
        authors' code computes it: a factor of the paper's eq. 8 is left out there.
    """
    return normalised_direction(x, real, fake - real, floor)


@torch.no_grad()
def normalised_direction(x: Tensor, real: Tensor, difference: Tensor, floor: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return a difference over mean |x - real| of its picture, 0 where that is 0, and how many such there were."""
    size = spread((x - real).abs().flatten(1).mean(1).clamp(min=floor), x)
    return (difference / size).masked_fill(size == 0, 0.0), (size == 0).sum()


def surrogate(x: Tensor, g: Tensor) -> Tensor:
    """Return a loss whose gradient with respect to x is g over its number of values; its value means nothing.

    L = mean (x - stop(x - g))^2 / 2

    Example:
        >>> x = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> surrogate(x, torch.tensor([[2.0, -4.0]])).backward()
        >>> x.grad
        tensor([[ 1., -2.]])
    """
    return (x - (x - g).detach()).square().mean() / 2
