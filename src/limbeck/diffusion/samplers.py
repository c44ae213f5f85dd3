"""Samplers: from noise to pictures by a denoiser, in as many network calls as one pays for.

All are functions of any `Denoiser`. The state is float64; the network sees, and the caller gets, the dtype of the noise
that was handed in. No gradients. A `callback` is called once a step with a dict:

    step    number of the step, from 0
    sigma   noise level at which the network was asked
    x       x0 + sigma eps there, float64 [B, ...]
    x0      what the denoiser answered, float64 [B, ...]
    calls   network calls so far, this step's included (Heun's second one too)

Fresh noise comes from `draws`: a generator, or the tensors themselves in the order of use.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from limbeck.diffusion.denoisers import Denoiser
from limbeck.diffusion.schedules import Schedule, between
from limbeck.errors import ConfigError

Callback = Callable[[dict[str, Any]], object]
Fresh = torch.Generator | Iterable[Tensor] | None


def karras(n: int = 18, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Tensor:
    """Return n noise levels that fall from sigma_max to sigma_min, and a final 0, float64 [n + 1].

        sigma_i = (sigma_max^(1/rho) + i/(n-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho

    Args:
        n: levels, which are steps.
        sigma_min: last level above 0.
        sigma_max: first level.
        rho: how much denser the small levels are; 1 is even.

    Raises:
        ConfigError: no level.

    Example:
        >>> karras(3, 1.0, 9.0, rho=2.0)
        tensor([9., 4., 1., 0.], dtype=torch.float64)

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022), arXiv 2206.00364.
    """
    if n < 1:
        raise ConfigError(f"a sampler needs at least 1 step, got {n}")
    roots = torch.linspace(sigma_max ** (1 / rho), sigma_min ** (1 / rho), n, dtype=torch.float64)
    return torch.cat([roots**rho, roots.new_zeros(1)])


class _Run:
    """Asks the denoiser, counts the calls, tells the callback."""

    def __init__(self, denoiser: Denoiser, dtype: torch.dtype, cond: Tensor | None, callback: Callback | None) -> None:
        self.denoiser, self.dtype, self.cond, self.callback, self.calls = denoiser, dtype, cond, callback, 0

    def ask(self, x: Tensor, sigma: float) -> Tensor:
        self.calls += 1
        level = torch.full((len(x),), sigma, dtype=self.dtype, device=x.device)
        return self.denoiser(x.to(self.dtype), level, self.cond).double()

    def tell(self, step: int, sigma: float, x: Tensor, x0: Tensor) -> None:
        if self.callback is not None:
            self.callback({"step": step, "sigma": sigma, "x": x, "x0": x0, "calls": self.calls})


def _noises(draws: Fresh, like: Tensor) -> Iterator[Tensor]:
    """Fresh unit noise, drawn in the dtype of `like`, used in float64."""
    if draws is None:
        raise ConfigError("this sampler draws fresh noise: give draws=torch.Generator().manual_seed(...)")
    if not isinstance(draws, torch.Generator):
        yield from (one.to(like.device, torch.float64) for one in draws)
    while isinstance(draws, torch.Generator):
        yield torch.randn(like.shape, generator=draws, dtype=like.dtype, device=draws.device).to(like.device).double()


@torch.no_grad()
def euler(
    denoiser: Denoiser, noise: Tensor, sigmas: Tensor, cond: Tensor | None = None, *, callback: Callback | None = None
) -> Tensor:
    """Follow the flow of probability in straight steps, one call each; equal to `ddim` with eta = 0.

        x <- x0 + (sigma_{i+1} / sigma_i) (x - x0),  x0 = D(x, sigma_i)

    Args:
        denoiser: of the pictures.
        noise: unit noise, [B, ...].
        sigmas: falling noise levels, `karras(n)`; where the last is 0 the end is a picture.
        cond: class of each, int64 [B].
        callback: see the top of this file.

    Example:
        >>> point = lambda x, sigma, cond: torch.full_like(x, 3.0)
        >>> euler(point, torch.ones(1, 2), karras(5))
        tensor([[3., 3.]])

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022), arXiv 2206.00364.
    """
    run, x = _Run(denoiser, noise.dtype, cond, callback), noise.double() * sigmas[0].item()
    for step, (sigma, after) in enumerate(pairwise(sigmas.tolist())):
        x0 = run.ask(x, sigma)
        run.tell(step, sigma, x, x0)
        x = x0 + after / sigma * (x - x0)
    return x.to(noise.dtype)


@torch.no_grad()
def heun(
    denoiser: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    cond: Tensor | None = None,
    *,
    churn: float = 0.0,
    s_min: float = 0.0,
    s_max: float = math.inf,
    s_noise: float = 1.0,
    draws: Fresh = None,
    callback: Callback | None = None,
) -> Tensor:
    """Follow the flow of probability to second order, 2 n - 1 calls for n steps; with churn, noise is added on the way.

        s = sigma_i (1 + gamma),  x <- x + sqrt(s^2 - sigma_i^2) s_noise n,  d = (x - D(x, s)) / s
        y = x + (sigma_{i+1} - s) d,  d' = (y - D(y, sigma_{i+1})) / sigma_{i+1}
        x <- x + (sigma_{i+1} - s) (d + d') / 2;  y where sigma_{i+1} = 0

    gamma = min(churn / n, sqrt(2) - 1) for levels from s_min to s_max, else 0.

    Args:
        denoiser: of the pictures.
        noise: unit noise, [B, ...].
        sigmas: falling noise levels, `karras(n)`.
        cond: class of each, int64 [B].
        churn: how much noise is added in all; 0 is deterministic.
        s_min: least level at which it is.
        s_max: largest.
        s_noise: standard deviation of the noise added.
        draws: of that noise, one at every step.
        callback: see the top of this file.

    Raises:
        ConfigError: churn without draws.

    Example:
        >>> gauss = lambda x, sigma, cond: x / (1 + sigma[:, None] ** 2)  # data of unit variance
        >>> heun(gauss, torch.ones(1, 2, dtype=torch.float64), karras(200)).round(decimals=3)
        tensor([[1., 1.]], dtype=torch.float64)

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022), arXiv 2206.00364,
        Algorithms 1 and 2.
    """
    run, x = _Run(denoiser, noise.dtype, cond, callback), noise.double() * sigmas[0].item()
    fresh = _noises(draws, noise)
    for step, (sigma, after) in enumerate(pairwise(sigmas.tolist())):
        if churn:
            gamma = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1) if s_min <= sigma <= s_max else 0.0
            x = x + sigma * math.sqrt((1 + gamma) ** 2 - 1) * s_noise * next(fresh)
            sigma *= 1 + gamma
        x0 = run.ask(x, sigma)
        ahead = x0 + after / sigma * (x - x0)
        if after > 0:
            slope = (x - x0) / sigma + (ahead - run.ask(ahead, after)) / after
            ahead = x + (after - sigma) * slope / 2
        run.tell(step, sigma, x, x0)
        x = ahead
    return x.to(noise.dtype)


def _path(schedule: Schedule, times: Tensor) -> list[tuple[float, float]]:
    """a and b at the times; a network can be asked at pure noise, where sigma = b / a would be infinite."""
    times = times.double()
    return list(zip(schedule.a(times).clamp(min=1e-12).tolist(), schedule.b(times).tolist(), strict=True))


@torch.no_grad()
def ddim(
    denoiser: Denoiser,
    x: Tensor,
    schedule: Schedule,
    times: Tensor,
    cond: Tensor | None = None,
    *,
    eta: float = 0.0,
    draws: Fresh = None,
    callback: Callback | None = None,
) -> Tensor:
    """Walk along the times of a schedule, one call a step; any part of the way.

        x_s = a_s x0 + sqrt(b_s^2 - c^2) eps + c n,  c = eta (b_s / b_t) sigma_{t|s}

    with x0 = D(x_t / a_t, b_t / a_t), eps = (x_t - a_t x0) / b_t and sigma_{t|s} of `between`, which is
    sqrt(1 - a_t^2 / a_s^2) where a^2 + b^2 = 1.

    Args:
        denoiser: of the pictures, in its own coordinates x0 + sigma eps whatever the schedule.
        x: state a_t x0 + b_t eps at the first time, [B, ...]; to begin, unit noise times `schedule.b(times[0])`.
        schedule: of the times and of x.
        times: falling; x is returned at the last.
        cond: class of each, int64 [B].
        eta: 0 is deterministic, 1 is ancestral sampling.
        draws: of the noise n, one at every step.
        callback: see the top of this file.

    Raises:
        ConfigError: eta without draws.

    Example:
        >>> from limbeck.diffusion.schedules import TrigFlow
        >>> point = lambda x, sigma, cond: torch.full_like(x, 3.0)
        >>> ddim(point, torch.ones(1, 2), TrigFlow(), torch.tensor([1.5, 0.0]))
        tensor([[3., 3.]])

    Source: Song, Meng, Ermon, Denoising Diffusion Implicit Models (2020), arXiv 2010.02502; c for any schedule is ours.
    """
    run, dtype, fresh = _Run(denoiser, x.dtype, cond, callback), x.dtype, _noises(draws, x)
    x, path, times = x.double(), _path(schedule, times), times.double()
    for step, ((a, b), (a_s, b_s)) in enumerate(pairwise(path)):
        x0 = run.ask(x / a, b / a)
        run.tell(step, b / a, x / a, x0)
        eps, c = (x - a * x0) / b, 0.0
        if eta:
            c = eta * b_s / b * between(schedule, times[step + 1], times[step])[1].item()
        x = a_s * x0 + math.sqrt(b_s**2 - c**2) * eps + (c * next(fresh) if eta else 0.0)
    return x.to(dtype)


@torch.no_grad()
def multistep(
    denoiser: Denoiser,
    noise: Tensor,
    schedule: Schedule,
    times: Tensor,
    cond: Tensor | None = None,
    *,
    draws: Fresh = None,
    callback: Callback | None = None,
) -> Tensor:
    """Sample from a student of few steps: guess the picture, add fresh noise, guess again.

        x0 = D(x_i / a_i, b_i / a_i),  x_{i+1} = a_{i+1} x0 + b_{i+1} n;  the last x0 is the picture

    Args:
        denoiser: the student.
        noise: unit noise, [B, ...]; the first state is b_1 times it.
        schedule: of the times.
        times: falling, one a call.
        cond: class of each, int64 [B].
        draws: of the noise n, one at every time but the first.
        callback: see the top of this file.

    Raises:
        ConfigError: two or more times without draws.

    Example:
        >>> from limbeck.diffusion.schedules import EDM
        >>> half = lambda x, sigma, cond: x / 2
        >>> multistep(half, torch.ones(1, 2), EDM(), torch.tensor([80.0, 2.0]), draws=[torch.ones(1, 2)])
        tensor([[21., 21.]])

    Source: Song et al., Consistency Models (2023), arXiv 2303.01469; Luo et al., Latent Consistency Models (2023),
        arXiv 2310.04378.
    """
    run, path = _Run(denoiser, noise.dtype, cond, callback), _path(schedule, times)
    x0, fresh = torch.zeros_like(noise, dtype=torch.float64), _noises(draws, noise)
    for step, (a, b) in enumerate(path):
        x = a * x0 + b * (next(fresh) if step else noise.double())
        x0 = run.ask(x / a, b / a)
        run.tell(step, b / a, x / a, x0)
    return x0.to(noise.dtype)
