"""Noise schedules: how much picture and how much noise there is at a time.

`x_t = a(t) x0 + b(t) eps`. All functions take times as float64 tensors of any shape. What two schedules have in common
is the noise-to-signal ratio `sigma = b / a`: a network moves between schedules through `time(sigma)`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from limbeck.errors import ConfigError


class Schedule(ABC):
    """x_t = a(t) x0 + b(t) eps, with a falling and b rising from `smallest` to `largest`, the ends of the times.

    Example:
        >>> flow, trig, third = RectifiedFlow(), TrigFlow(), torch.tensor(1 / 3, dtype=torch.float64)
        >>> sigma = flow.sigma(third)
        >>> round(float(sigma), 9), round(float(trig.time(sigma)), 4)  # the same noise-to-signal ratio elsewhere
        (0.5, 0.4636)
    """

    @property
    def smallest(self) -> float:
        """Time of least noise."""
        return 0.0

    @property
    def largest(self) -> float:
        """Time of most noise."""
        return 1.0

    @abstractmethod
    def a(self, t: Tensor) -> Tensor:
        """Share of the picture."""

    @abstractmethod
    def b(self, t: Tensor) -> Tensor:
        """Share of the noise."""

    @abstractmethod
    def _time(self, sigma: Tensor) -> Tensor:
        """Time of a noise-to-signal ratio within reach."""

    def da(self, t: Tensor) -> Tensor:
        """Derivative of a."""
        slope: Tensor = torch.func.jvp(self.a, (t,), (torch.ones_like(t),))[1]
        return slope

    def db(self, t: Tensor) -> Tensor:
        """Derivative of b."""
        slope: Tensor = torch.func.jvp(self.b, (t,), (torch.ones_like(t),))[1]
        return slope

    def sigma(self, t: Tensor) -> Tensor:
        """Noise-to-signal ratio b / a."""
        return self.b(t) / self.a(t)

    def angle(self, t: Tensor) -> Tensor:
        """atan(b / a), between 0 and pi / 2: the time of `TrigFlow`."""
        return torch.atan2(self.b(t), self.a(t))

    def time(self, sigma: Tensor) -> Tensor:
        """Time of a noise-to-signal ratio: the inverse of `sigma`.

        Raises:
            ConfigError: a ratio that the schedule does not reach.
        """
        if torch.compiler.is_compiling():  # a graph cannot ask for values
            return self._time(sigma)
        low, high = self.sigma(torch.tensor([self.smallest, self.largest], dtype=torch.float64)).tolist()
        # the ends, written in float32, lie up to 6e-8 outside
        if not bool(((sigma >= low * (1 - 1e-6)) & (sigma <= high * (1 + 1e-6))).all()):
            raise ConfigError(
                f"{self} reaches noise levels from {low:g} to {high:g}, got {sigma.min():g} to {sigma.max():g}: "
                "sample within these levels, or use a network of a wider schedule"
            )
        return self._time(sigma)


@dataclass(frozen=True)
class EDM(Schedule):
    """a = 1, b = t: the time is the noise level (variance exploding).

    Args:
        sigma_min: smallest noise level.
        sigma_max: largest noise level.

    Example:
        >>> EDM().time(torch.tensor(2.0))
        tensor(2.)

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022), arXiv 2206.00364.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0

    @property
    def smallest(self) -> float:
        """sigma_min."""
        return self.sigma_min

    @property
    def largest(self) -> float:
        """sigma_max."""
        return self.sigma_max

    def a(self, t: Tensor) -> Tensor:
        """1."""
        return torch.ones_like(t)

    def b(self, t: Tensor) -> Tensor:
        """t."""
        return t

    def _time(self, sigma: Tensor) -> Tensor:
        return sigma


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """a = 1 - s, b = s, where s = shift t / (1 + (shift - 1) t) and t goes from 0 to 1.

    The network is told t. One that is told the noise level s itself has shift = 1, whatever times it was trained on.

    Args:
        shift: above 1, equal steps of t spend more of them at high noise (large pictures, video).

    Example:
        >>> RectifiedFlow(shift=3).b(torch.tensor(0.5))
        tensor(0.7500)

    Source: Liu et al., Flow Straight and Fast (2022), arXiv 2209.03003; shift: Esser et al., Scaling Rectified Flow
        Transformers for High-Resolution Image Synthesis (2024), arXiv 2403.03206.
    """

    shift: float = 1.0

    def a(self, t: Tensor) -> Tensor:
        """1 - s."""
        return (1 - t) / (1 + (self.shift - 1) * t)

    def b(self, t: Tensor) -> Tensor:
        """s."""
        return self.shift * t / (1 + (self.shift - 1) * t)

    def _time(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + self.shift / sigma)  # finite from sigma = 0 to infinity


@dataclass(frozen=True)
class TrigFlow(Schedule):
    """a = cos t, b = sin t, t from 0 to pi / 2.

    Example:
        >>> TrigFlow().sigma(torch.tensor(math.pi / 4))
        tensor(1.)

    Source: Lu, Song, Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models (2024), arXiv 2410.11081.
    """

    @property
    def largest(self) -> float:
        """pi / 2."""
        return math.pi / 2

    def a(self, t: Tensor) -> Tensor:
        """cos t."""
        return t.cos()

    def b(self, t: Tensor) -> Tensor:
        """sin t."""
        return t.sin()

    def _time(self, sigma: Tensor) -> Tensor:
        return sigma.atan()


@dataclass(frozen=True)
class Cosine(Schedule):
    """a = cos(pi t / 2), b = sin(pi t / 2), t from 0 to 1: `TrigFlow` by another clock.

    Example:
        >>> Cosine().sigma(torch.tensor(0.5))
        tensor(1.)

    Source: Nichol, Dhariwal, Improved Denoising Diffusion Probabilistic Models (2021), arXiv 2102.09672, without their
        offset of 0.008.
    """

    def a(self, t: Tensor) -> Tensor:
        """cos(pi t / 2)."""
        return (t * (math.pi / 2)).cos()

    def b(self, t: Tensor) -> Tensor:
        """sin(pi t / 2)."""
        return (t * (math.pi / 2)).sin()

    def _time(self, sigma: Tensor) -> Tensor:
        return sigma.atan() / (math.pi / 2)


def _interpolated(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    knots, values = knots.to(x.device), values.to(x.device)
    left = ((x.detach()[..., None] >= knots).sum(-1) - 1).clamp(0, len(knots) - 2)  # ONNX knows no searchsorted
    slope = (values[left + 1] - values[left]) / (knots[left + 1] - knots[left])
    return values[left] + (x - knots[left]) * slope


def _linear_betas() -> tuple[float, ...]:
    return tuple((1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0).tolist())


@dataclass(frozen=True)
class DDPM(Schedule):
    """a = sqrt(abar_n), b = sqrt(1 - abar_n), n = 0 ... N - 1, with ln(a^2 / b^2) linear between whole n.

    The time -1 is the clean picture, a = 1 and b = 0, where samplers end.

    Args:
        alphas_cumprod: abar, falling, strictly between 0 and 1; by default 1000 of betas from 1e-4 to 0.02.

    Raises:
        ConfigError: abar does not fall from below 1 to above 0.

    Example:
        >>> DDPM((0.9, 0.5)).a(torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)) ** 2
        tensor([1.0000, 0.9000, 0.5000], dtype=torch.float64)

    Source: Ho, Jain, Abbeel, Denoising Diffusion Probabilistic Models (2020), arXiv 2006.11239.
    """

    alphas_cumprod: tuple[float, ...] = field(default_factory=_linear_betas, repr=False)

    def __post_init__(self) -> None:
        bounds = (1.0, *self.alphas_cumprod, 0.0)
        if len(bounds) < 4 or any(one <= other for one, other in pairwise(bounds)):
            raise ConfigError(
                f"alphas_cumprod must be two or more numbers that fall from below 1 to above 0, got {bounds[1:4]} ...: "
                "a last one of 0 (zero terminal SNR) has no noise level, leave it out"
            )

    @property
    def largest(self) -> float:
        """N - 1."""
        return len(self.alphas_cumprod) - 1.0

    @cached_property
    def _noise(self) -> Tensor:
        return -torch.tensor(self.alphas_cumprod, dtype=torch.float64).logit()

    def _level(self, t: Tensor) -> Tensor:
        return torch.where(t <= -1, -math.inf, _interpolated(t, torch.arange(len(self._noise)).double(), self._noise))

    def a(self, t: Tensor) -> Tensor:
        """sqrt(abar)."""
        return torch.sigmoid(-self._level(t)).sqrt()

    def b(self, t: Tensor) -> Tensor:
        """sqrt(1 - abar)."""
        return torch.sigmoid(self._level(t)).sqrt()

    def _time(self, sigma: Tensor) -> Tensor:
        return _interpolated(2 * sigma.log(), self._noise, torch.arange(len(self._noise)).double())


def reach(model: object) -> tuple[float, float]:
    """Return the least and the largest noise level that a model knows, within 0.002 to 80.

    Args:
        model: a denoiser; one without a schedule of its own is taken to know all.

    Example:
        >>> reach(None)
        (0.002, 80.0)
    """
    schedule: Schedule = getattr(model, "schedule", EDM())
    ends = schedule.sigma(torch.tensor([schedule.smallest, schedule.largest], dtype=torch.float64)).tolist()
    return max(ends[0], 0.002), min(ends[1], 80.0)


def between(schedule: Schedule, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """How x_t follows from a less noisy x_s: x_t = alpha x_s + sigma eps.

        alpha = a(t) / a(s),  sigma^2 = b(t)^2 - alpha^2 b(s)^2

    Args:
        schedule: of both.
        s: time of x_s.
        t: time of x_t, not below s.

    Example:
        >>> alpha, sigma = between(EDM(), torch.tensor(3.0), torch.tensor(5.0))
        >>> float(alpha), float(sigma)
        (1.0, 4.0)

    Source: Fan et al., Phased DMD (2025), arXiv 2510.27684, section 2.
    """
    alpha = schedule.a(t) / schedule.a(s)
    return alpha, (schedule.b(t) ** 2 - (alpha * schedule.b(s)) ** 2).sqrt()
