"""TrigFlow: pictures and noise on a quarter circle, where a step of the ODE is a rotation.

    x_t = cos(t) x0 + sin(t) eps,  t from 0 to pi / 2;  dx/dt = F(x, t) = E[cos(t) eps - sin(t) x0 | x_t]

Here x0 has unit variance: pictures are divided by the data's standard deviation d, so that x_t = cos(t) x_sigma / d at
the noise level sigma = d tan(t).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from limbeck.diffusion.denoisers import Denoiser, spread
from limbeck.errors import ConfigError

PURE = math.pi / 2
LEAST_SHARE = 1e-4
"""Least cos(t) at which a denoiser is asked: at pure noise its own noise level would be infinite."""


class Velocity(Protocol):
    """F(x_t, t, cond) -> dx/dt."""

    def __call__(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the velocity.

        Args:
            x: cos(t) x0 + sin(t) eps, [B, ...].
            t: float64 angles, [B].
            cond: class of each, see `Denoiser`.
        """
        ...


def velocity_of(denoiser: Denoiser, data_std: float) -> Velocity:
    """Return the velocity of any denoiser.

        F = (cos(t) x - f) / sin(t),  f = D(d x / cos t, d tan t) / d

    Denoisers that know a velocity of their own (`Preconditioned`, `Translated`) are asked for that: it is finite at
    both ends.

    Args:
        denoiser: in x0 + sigma eps.
        data_std: d, the standard deviation of its pictures' values.

    Example:
        >>> point = lambda x, sigma, cond: 0 * x + 1  # all data at 1: F = (cos(t) x - 1) / sin(t)
        >>> t = torch.tensor([math.pi / 2], dtype=torch.float64)
        >>> velocity_of(point, 1.0)(torch.ones(1, 1), t).round(decimals=3)
        tensor([[-1.]])
    """
    own: Velocity | None = getattr(denoiser, "velocity", None)
    if own is not None and getattr(denoiser, "data_std", 1.0) == data_std and not getattr(denoiser, "boundary", 0.0):
        return own

    def velocity(x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        share = t.cos().clamp(min=LEAST_SHARE)
        clean = denoiser(data_std / spread(share, x) * x, data_std * t.sin() / share, cond) / data_std
        return (spread(share, x) * x - clean) / spread(t.sin(), x)

    return velocity


def diffused(x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Return cos(t) x0 + sin(t) eps, for angles t [B]."""
    return spread(t.cos(), x0) * x0 + spread(t.sin(), x0) * eps


def rotated(x: Tensor, velocity: Tensor, angle: Tensor) -> Tensor:
    """Return where an ODE of constant x0 and eps ends: cos(a) x - sin(a) F, an angle a nearer to the data.

    With a = t it is the clean picture f(x, t) = cos(t) x - sin(t) F. The step of DDIM is exactly this.

    Example:
        >>> t, x0, eps = torch.tensor([0.7]), torch.tensor([[2.0]]), torch.tensor([[5.0]])
        >>> rotated(diffused(x0, t, eps), diffused(eps, t, -x0), t)
        tensor([[2.]])
    """
    return spread(angle.cos(), x) * x - spread(angle.sin(), x) * velocity


@dataclass(frozen=True)
class LogNormal:
    """Noise levels whose logarithm is normal: sigma = scale e^(mean + std z).

    In units of the data's standard deviation (scale 1) they are tan(t). Those of rCM are (-0.8, 1.6) for consistency
    and (0, 1.6) for matching; for video the scale is the root of the number of frames.

    Args:
        mean, std: of ln(sigma / scale).
        scale: unit of sigma.

    Example:
        >>> law = LogNormal(0.0, 1.0)
        >>> law(torch.tensor([0.5, 0.75], dtype=torch.float64)).numpy().round(3)
        array([1.   , 1.963])
    """

    mean: float = -0.8
    std: float = 1.6
    scale: float = 1.0

    def __call__(self, u: Tensor, above: float = 0.0, below: float = math.inf) -> Tensor:
        """Return the levels of the quantiles u, [B], of the law between two levels."""
        ends = torch.tensor([above, below], dtype=torch.float64, device=u.device)
        low, high = torch.special.ndtr(((ends / self.scale).log() - self.mean) / self.std)
        levels: Tensor = self.scale * (self.mean + self.std * torch.special.ndtri(low + u * (high - low))).exp()
        return levels


@dataclass(frozen=True)
class ShiftedUniform:
    """Noise levels of a flow whose time is uniform, then shifted: sigma = scale s / (1 - s).

        s = shift u / (1 + (shift - 1) u),  u uniform from 0 to 1

    Example:
        >>> ShiftedUniform(5.0)(torch.tensor([0.5], dtype=torch.float64))
        tensor([5.], dtype=torch.float64)
    """

    shift: float = 5.0
    scale: float = 1.0

    def __call__(self, u: Tensor, above: float = 0.0, below: float = math.inf) -> Tensor:
        """Return the levels of the quantiles u, [B], of the law between two levels."""
        ends = torch.tensor([above, below], dtype=torch.float64, device=u.device) / self.scale
        low, high = 1 / (1 + self.shift / ends)
        place = low + u * (high - low)
        levels: Tensor = self.scale * self.shift * place / (1 - place)
        return levels


TimeLaw = LogNormal | ShiftedUniform


def rollout(velocity: Velocity, noise: Tensor, times: Tensor, cond: Tensor | None = None) -> Tensor:
    """Return the pictures of a consistency sampler; only the last call has a gradient.

        x0 = f(x, t_n);  x = cos(t_{n+1}) x0 + sin(t_{n+1}) eps;  ...

    Args:
        velocity: of the student, for data of unit variance.
        noise: unit noise of every step, [B, N, ...] or more steps.
        times: angles that do not rise, float64 [N, B].
        cond: class of each.

    Example:
        >>> identity = lambda x, t, cond: torch.zeros_like(x)  # f(x, t) = cos(t) x
        >>> rollout(identity, torch.ones(1, 1, 1), torch.full((1, 1), math.pi / 3, dtype=torch.float64))
        tensor([[0.5000]])
    """
    x = noise[:, 0]
    for step, t in enumerate(times):
        with torch.set_grad_enabled(torch.is_grad_enabled() and step == len(times) - 1):
            x = x if step == 0 else diffused(x, t, noise[:, step])
            x = rotated(x, velocity(x, t, cond), t)
    return x


def few_levels(
    steps: int, data_std: float, sigma_max: float = 80.0, middle: Sequence[float] = (1.3, 1.0, 0.6)
) -> list[float]:
    """Return the noise levels of a student of few steps, d tan(t) of the angles that rCM uses.

        t = atan(sigma_max), then the first `steps` - 1 of `middle`

    Args:
        steps: network calls, 1 to 4.
        data_std: d.
        sigma_max: of unit data; larger ones gave the paper's images more quality and less variety.
        middle: angles, falling; (1.3, 1.0, 0.6) in the paper, (1.5, 1.4, 1.0) in its code.

    Raises:
        ConfigError: more steps than angles.

    Example:
        >>> [round(level, 2) for level in few_levels(3, 0.5)]
        [40.0, 1.8, 0.78]

    Source: Zheng et al., Large Scale Diffusion Distillation via Score-Regularized Continuous-Time Consistency (2025),
        arXiv 2510.08431.
    """
    if not 1 <= steps <= len(middle) + 1:
        raise ConfigError(f"{steps} steps need {steps - 1} angles between the ends, got {list(middle)}: give middle")
    return [data_std * sigma_max, *(data_std * math.tan(t) for t in middle[: steps - 1])]
