"""What a diffusion model is here: a function that guesses the clean picture behind a noisy one.

Everything in this room speaks one language, `x_sigma = x0 + sigma eps`: the noisy picture is the clean one plus noise
of standard deviation sigma. Networks trained in another language (eps, v, flow; DDPM, rectified flow, TrigFlow) are
translated once, by `Translated`; samplers, losses and metrics never ask.
"""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from limbeck.diffusion.predictions import Kind, Prediction
from limbeck.diffusion.schedules import Schedule
from limbeck.errors import ConfigError

Clock = Literal["log", "angle"]
HIGHEST = math.log(80.0)
"""ln of the highest noise level that a network with a logarithmic clock is told: at pure noise it would be infinite."""


class Denoiser(Protocol):
    """D(x_sigma, sigma, cond) -> x0, the expected clean picture."""

    def __call__(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the expected x0.

        Args:
            x: noisy pictures x0 + sigma eps, [B, ...].
            sigma: noise level of each, [B].
            cond: class of each, int64 [B]; None where there are none, and the number of classes for "no class".
        """
        ...


def spread(sigma: Tensor, x: Tensor) -> Tensor:
    """Give a number per picture, [B], the shape [B, 1, ...] that multiplies pictures.

    Example:
        >>> spread(torch.ones(2), torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 1, 1, 1])
    """
    return sigma.to(x.dtype).reshape(-1, *[1] * (x.ndim - 1))


class Preconditioned(nn.Module):
    """EDM: a network between scalings that keep its input and its target at unit variance at every noise level.

        D(x, sigma) = c_skip x + c_out F(c_in x, c_noise),
        c_skip = d^2 / (sigma^2 + d^2),  c_out = sigma d / sqrt(sigma^2 + d^2),
        c_in = 1 / sqrt(sigma^2 + d^2),  c_noise = ln(sigma) / 4

    With `boundary` (GDD) sigma - boundary takes the place of sigma in c_skip and in the factor sigma of c_out, so that
    D(x, boundary) = x. With the clock "angle", c_noise = atan(sigma / d): a time whose derivative stays finite.

    Args:
        network: `F(x, c_noise, cond)`, of the shape of x.
        data_std: d, standard deviation of the pictures' values.
        boundary: smallest noise level at which D is the identity; 0 is EDM.
        clock: what tells the network the noise level.

    Example:
        >>> silent = Preconditioned(lambda x, noise, cond: 0 * x, data_std=1.0)
        >>> silent(torch.ones(1, 2), torch.tensor([1.0]))
        tensor([[0.5000, 0.5000]])

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022), arXiv 2206.00364;
        boundary: Zheng, Yang, Diffusion Models Are Innate One-Step Generators (2024), arXiv 2405.20750.
    """

    def __init__(self, network: nn.Module, data_std: float = 0.5, boundary: float = 0.0, clock: Clock = "log") -> None:
        super().__init__()
        if not data_std > 0 or boundary < 0:
            raise ConfigError(f"data_std must be positive and boundary at least 0, got {data_std} and {boundary}")
        self.network, self.data_std, self.boundary, self.clock = network, data_std, boundary, clock

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the expected x0, see `Denoiser`."""
        level, d = spread(sigma, x), self.data_std
        above, total = level - self.boundary, (level**2 + d**2).sqrt()
        sigma = sigma.to(x.dtype)
        told = sigma.log() / 4 if self.clock == "log" else (sigma / d).atan()
        answer: Tensor = self.network(x / total, told, cond)
        return d**2 / (above**2 + d**2) * x + above * d / total * answer

    def velocity(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the velocity cos(t) eps - sin(t) x0 of TrigFlow, for data of unit variance; it is minus the network.

        Args:
            x: cos(t) x0 + sin(t) eps, [B, ...].
            t: angles from 0 to pi / 2, [B].
            cond: class of each.
        """
        told = (self.data_std * t.tan()).log().clamp(max=HIGHEST) / 4 if self.clock == "log" else t
        answer: Tensor = self.network(x, told.to(x.dtype), cond)
        return -answer


class Translated(nn.Module):
    """A network of any schedule and any prediction, as a `Denoiser`.

    The time t of the same noise-to-signal ratio b(t) / a(t) = sigma is found, the network sees a(t) x_sigma, which
    is a(t) x0 + b(t) eps, and what it says is turned into x0.

    Args:
        network: `N(x_t, t, cond)`, of the shape of x.
        schedule: that it was trained with.
        kind: what it predicts: x0, eps, v, u (flow), score.

    Example:
        >>> from limbeck.diffusion.schedules import RectifiedFlow
        >>> perfect = Translated(lambda x, t, cond: x / t[:, None], RectifiedFlow(), "u")  # all data at 0
        >>> perfect(torch.ones(1, 2), torch.tensor([1.0]))
        tensor([[0., 0.]])
    """

    def __init__(self, network: nn.Module, schedule: Schedule, kind: Kind) -> None:
        super().__init__()
        self.network, self.schedule, self.kind = network, schedule, kind

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the expected x0, see `Denoiser`.

        Raises:
            ConfigError: a noise level that the schedule does not reach.
        """
        t = self.schedule.time(sigma.double())
        return self._said(spread(self.schedule.a(t), x) * x, t, cond).to("x0").to(x.dtype)

    def velocity(self, x: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the velocity of TrigFlow, see `Preconditioned.velocity`; the data are taken to have unit variance.

        At the time s where b / a = tan t the network sees sqrt(a^2 + b^2) x, and v = (a eps - b x0) / sqrt(a^2 + b^2).
        """
        s = self.schedule.time(t.double().tan())
        size = spread(torch.hypot(self.schedule.a(s), self.schedule.b(s)), x.double())
        return (self._said((size * x).to(x.dtype), s, cond).to("v") / size).to(x.dtype)

    def _said(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Prediction:
        """What the network says, in float64: at high noise x0 is a small difference of large numbers."""
        said, x64 = self.network(x, t.to(x.dtype), cond).double(), x.double()
        return Prediction(self.kind, said, x64, spread(self.schedule.a(t), x64), spread(self.schedule.b(t), x64))


def guided(
    denoiser: Denoiser,
    guidance: float,
    null: int,
    *,
    interval: tuple[float, float] = (0.0, math.inf),
    rescale: float = 0.0,
) -> Denoiser:
    """Classifier-free guidance, kappa convention: 1 is conditional, 0 unconditional, above 1 guided.

        D = (1 - kappa) D(x, no class) + kappa D(x, class)

    Written so that kappa = 0 and 1 are exact and cost one call. At one x it is the same in x0, eps, v, u and score.

    Args:
        denoiser: knows its classes and "no class".
        guidance: kappa.
        null: the number that stands for "no class".
        interval: kappa is 1 outside of low < sigma <= high.
        rescale: phi, from 0 to 1, against over-saturation: D <- (1 - phi + phi std(D(x, class)) / std(D)) D, with the
            standard deviation over one picture.

    Example:
        >>> model = guided(lambda x, sigma, cond: spread(1.0 * cond, x) + 0 * x, 3.0, null=10, interval=(0.1, 1.0))
        >>> model(torch.zeros(2, 1), torch.tensor([0.5, 2.0]), torch.tensor([12, 12])).tolist()
        [[16.0], [12.0]]

    Source: Ho, Salimans, Classifier-Free Diffusion Guidance (2022), arXiv 2207.12598; their w is kappa - 1. Interval:
        Kynkäänniemi et al. (2024), arXiv 2404.07724. Rescale: Lin et al., Common Diffusion Noise Schedules and Sample
        Steps are Flawed (2023), arXiv 2305.08891, who rescale what their network predicts.
    """

    def both(x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is None:
            raise ConfigError(f"guidance {guidance:g} needs classes: the model was asked without one")
        kappa = torch.where((sigma > interval[0]) & (sigma <= interval[1]), sigma.new_tensor(guidance), 1.0)
        if bool((kappa == 1).all()):
            return denoiser(x, sigma, cond)
        free = denoiser(x, sigma, torch.full_like(cond, null))
        if bool((kappa == 0).all()):
            return free
        with_class, kappa = denoiser(x, sigma, cond), spread(kappa, x)
        out = (1 - kappa) * free + kappa * with_class
        ratio = with_class.flatten(1).std(1) / out.flatten(1).std(1) if rescale else torch.ones_like(sigma)
        return spread(1 - rescale + rescale * ratio, x) * out

    # what trainings are told apart by
    both.__qualname__ = f"guided by {guidance}, {null}, {interval}, {rescale}"
    both.denoiser = denoiser  # type: ignore[attr-defined]
    return both
