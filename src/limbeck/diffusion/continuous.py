"""Consistency without steps: the student's answer must not change along the ODE (sCM), or be its average (MeanFlow)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from limbeck.diffusion.consistency import Drawn, Logs
from limbeck.diffusion.denoisers import Denoiser, spread
from limbeck.diffusion.tangents import TangentMode, check_tangent, tangent
from limbeck.diffusion.trigflow import LogNormal, TimeLaw, diffused, velocity_of

Warmup = Literal["rcm", "scm"]
Norm = Literal["l2", "rms"]


def direction(
    answer: Tensor, slope: Tensor, x: Tensor, moved: Tensor, t: Tensor, r: float = 1.0, warmup: Warmup = "rcm"
) -> Tensor:
    """Return where the student's velocity should go, g, in float64.

        scm: g = -cos^2 t (F - dx/dt) - r (cos t sin t x + J)
        rcm: g = -cos t sqrt(1 - r^2 sin^2 t) (F - dx/dt) - (r cos t sin t x + J)

    At r = 1 both are cos(t) df/dt, for df/dt = -cos t (F - dx/dt) - sin t (x + dF/dt), and 0 for the exact map.

    Args:
        answer: the student's F, [B, ...].
        slope: dx/dt of the ODE, the teacher's F.
        x: where, for data of unit variance.
        moved: J = cos t sin t dF/dt along the ODE, from `tangent`.
        t: angles, [B]; for a jump to another time s, t - s.
        r: warm-up, from 0 to 1.
        warmup: whose.

    Source: Lu, Song, Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models (2024), arXiv 2410.11081;
        rcm: Zheng et al., Large Scale Diffusion Distillation via Score-Regularized Continuous-Time Consistency (2025),
        arXiv 2510.08431, as their code has it.
    """
    x = x.double()
    cos, sin = spread(t.cos(), x), spread(t.sin(), x)
    pull, rest = (cos * (1 - (r * sin) ** 2).sqrt(), 1.0) if warmup == "rcm" else (cos**2, r)
    return -pull * (answer.double() - slope.double()) - r * cos * sin * x - rest * moved.double()


def normalised(g: Tensor, constant: float = 0.1, norm: Norm = "l2") -> Tensor:
    """Return g / (|g| + c), |g| over all values of a picture; for "rms" their root mean square.

    Here data have unit variance: sCM's c = 0.1 for data of standard deviation 0.5 is 0.2. The paper of rCM prints
    |g|^2 in the divisor; its code, and its text, have |g|.

    Example:
        >>> normalised(torch.tensor([[3.0, 4.0]]), 0.0)
        tensor([[0.6000, 0.8000]])
    """
    size = g.flatten(1).norm(dim=1) / (g[0].numel() ** 0.5 if norm == "rms" else 1.0)
    return g / spread(size + constant, g)


class TimeWeight(nn.Module):
    """A learned logarithm of a weight for each time: w(t) = a . (cos k t, sin k t), k = 0 ... 7; it begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.amplitudes = nn.Parameter(torch.zeros(16))

    def forward(self, t: Tensor) -> Tensor:
        """Map angles [B] to [B]."""
        angles = t[:, None].to(self.amplitudes) * torch.arange(8, device=t.device)
        return torch.cat([angles.cos(), angles.sin()], 1) @ self.amplitudes


def weighted(square: Tensor, size: int, log_weight: Tensor, prior: Tensor | float = 1.0) -> Tensor:
    """Return prior e^w / D |.|^2 - w, [B]: minimal where e^-w is the mean loss at its time, so that all weigh alike.

    Args:
        square: |.|^2, [B].
        size: D, values a picture.
        log_weight: w, [B].
        prior: of the time; 1 / (d tan t) in sCM.
    """
    return prior * log_weight.exp() * square / size - log_weight


@dataclass(frozen=True)
class Tangent:
    """Continuous-time consistency (sCM, and the consistency part of rCM).

        L = mean |F(x_t, t) - stop(F + g / (|g| + c))|^2,  g: see `direction`;  its gradient in F is -2 g / B

    A picture whose tangent or answer is not finite counts 0.

    Args:
        times: law of tan(t). rCM: (-0.8, 1.6); sCM on data of standard deviation d: `LogNormal(-1, 1.4, 1 / d)`.
        mode: of the derivative, see `tangent`. "exact" is compared with differences at the first update.
        warmup: updates over which r rises from 0 to 1; 0 for none. For r < 1 the exact map is not the solution.
        form: rcm or scm, what r multiplies.
        constant: c.
        norm: l2, or rms, where c does not depend on the number of values.
        head: learned weight of the times (sCM), see `weighted`; None weighs all alike, as rCM does.
        prior: weigh times by 1 / (d tan t) (sCM), with a head.
        jumps: learn f(x, t, s) from any t to any s < t, not only to 0; the student's network is a `TwoTimes`.

    Source: see `direction`.
    """

    times: TimeLaw = LogNormal(-0.8, 1.6)  # noqa: RUF009 (frozen)
    mode: TangentMode = "exact"
    warmup: int = 0
    form: Warmup = "rcm"
    constant: float = 0.1
    norm: Norm = "l2"
    head: TimeWeight | None = None
    prior: bool = False
    jumps: bool = False

    def __call__(self, student: Denoiser, target: Denoiser, teacher: Denoiser | None, drawn: Drawn) -> Logs:
        """See `Rule`."""
        x0, cond, draws, d = drawn.x0 / drawn.data_std, drawn.cond, drawn.draws, drawn.data_std
        z = self.times(draws.uniform("t", len(x0)).to(x0.device))
        t, eps = z.atan(), draws.normal("eps/tangent", *x0.shape).to(x0)
        x, gap = diffused(x0, t, eps), t
        field: Callable[..., Tensor] = partial(velocity_of(student, d), cond=cond)
        if self.jumps:
            s = t * draws.uniform("s", len(x0)).to(t)
            gap, field = t - s, partial(student.network, s=s, cond=cond)  # type: ignore[attr-defined]
        scale = gap.cos() * gap.sin()
        with torch.no_grad():
            slope = diffused(eps, t, -x0) if teacher is None else velocity_of(teacher, d)(x, t, cond)
            if self.mode == "exact" and drawn.update == 0:
                check_tangent(field, x, t, slope, scale)
            here, moved = tangent(field, x, t, slope, scale, self.mode)
            r = min(1.0, drawn.update / self.warmup) if self.warmup else 1.0
            g = direction(here, slope, x, moved, gap, r, self.form)
            bad = spread(~(g + here).isfinite().flatten(1).all(1), x) > 0
            g = g.masked_fill(bad, 0.0)
            step = normalised(g, self.constant, self.norm)
            aim = here.masked_fill(bad, 0.0) + step
        apart = (field(x.masked_fill(bad, 0.0), t) - aim).masked_fill(bad, 0.0).square().flatten(1).sum(1)
        size, gradient = (one.flatten(1).norm(dim=1).mean() for one in (g, 2 * step))
        logs = {"tangent": size, "gradient": gradient, "skipped": bad.flatten(1).any(1).sum()}
        if self.head is not None:
            apart = weighted(apart, x[0].numel(), self.head(t), 1 / (d * z) if self.prior else 1.0)
        return {"loss": apart.mean(), **logs}


class TwoTimes(nn.Module):
    """A network that is told where it comes from and where it goes: N(x, (t, t - s), cond). Asked for one time, s = 0.

    Args:
        network: reads two clocks, as `ResidualPerceptron` with `Sizes(clocks=2)`.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, cond: Tensor | None = None, s: Tensor | None = None) -> Tensor:
        """Map [B, ...] and times [B] to [B, ...]."""
        told = torch.stack([t, t if s is None else t - s], 1).to(x.dtype)
        return self.network(x, told, cond)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class MeanFlow:
    """Average velocities of a rectified flow, z = (1 - t) x0 + t eps.

        u(z, r, t) = 1 / (t - r) int_r^t v;  u = v - (t - r) du/dt,  du/dt = v . grad u + partial u
        L = mean |u - stop(v - (t - r) du/dt)|^2 / stop(|.|^2 + 0.01)^p

    The student is `Translated(TwoTimes(network), RectifiedFlow(), "u")`: with r = 0 its answer leads to the clean
    picture. v is the teacher's, or eps - x0 without one; guidance is that of the teacher, not of the training.

    Args:
        mean, std: of the logits of two times, of which the larger is t.
        same: share of the batch with r = t, plain flow matching.
        power: p.
        mode: of the derivative, see `tangent`.

    Source: Geng et al., Mean Flows for One-step Generative Modeling (2025), arXiv 2505.13447.
    """

    mean: float = -0.4
    std: float = 1.0
    same: float = 0.75
    power: float = 1.0
    mode: TangentMode = "exact"

    def __call__(self, student: Denoiser, target: Denoiser, teacher: Denoiser | None, drawn: Drawn) -> Logs:
        """See `Rule`."""
        x0, cond, draws, count = drawn.x0, drawn.cond, drawn.draws, len(drawn.x0)
        logits = LogNormal(self.mean, self.std)(draws.uniform("t", 2 * count).to(x0.device)).reshape(2, count)
        r, t = (logits / (1 + logits)).sort(0).values
        r = torch.where(draws.uniform("same", count).to(t) < self.same, t, r)
        eps = draws.normal("eps/mean", *x0.shape).to(x0)
        z = spread(1 - t, x0) * x0 + spread(t, x0) * eps
        field = partial(student.network, s=r, cond=cond)  # type: ignore[attr-defined]
        with torch.no_grad():
            v = eps - x0
            if teacher is not None:
                v = (z - teacher(z / spread(1 - t, z), t / (1 - t), cond)) / spread(t, z)
            _, moved = tangent(field, z, t, v, torch.ones_like(t), self.mode)
            aim = v - spread(t - r, z) * moved
        square = (field(z, t) - aim).square().flatten(1).sum(1)
        return {"loss": (square / (square.detach() + 0.01) ** self.power).mean()}
