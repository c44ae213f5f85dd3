"""Consistency models: every point of the ODE's path is mapped to its start, so that one call samples.

A rule compares the student at two neighbouring noise levels of one path (`Discrete`), or asks how its answer changes
along the path (`Tangent`, `MeanFlow`). With a teacher the path is the teacher's (distillation); without, it is that of
the data and the noise themselves (consistency training).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from limbeck.diffusion.averages import Average, ramped
from limbeck.diffusion.denoisers import Denoiser, spread
from limbeck.diffusion.game import Scene
from limbeck.diffusion.matching import Levels
from limbeck.diffusion.schedules import DDPM
from limbeck.diffusion.sources import Draws, Source
from limbeck.diffusion.students import Student
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.diffusion.trigflow import LogNormal, ShiftedUniform, velocity_of

Logs = dict[str, Tensor]


class Drawn(NamedTuple):
    """What one update learns from.

    Args:
        x0: real pictures, [B, ...].
        cond: their classes, [B]; None without classes.
        draws: random numbers of this update.
        data_std: d, standard deviation of the pictures' values.
        update: its number, from 0.
        progress: share of the training before it.
    """

    x0: Tensor
    cond: Tensor | None
    draws: Draws
    data_std: float = 1.0
    update: int = 0
    progress: float = 0.0


class Rule(Protocol):
    """What the student is compared with."""

    def __call__(self, student: Denoiser, target: Denoiser, teacher: Denoiser | None, drawn: Drawn) -> Logs:
        """Return `loss`, and numbers to record.

        Args:
            student: that learns.
            target: the student, or its moving average where the rule names a `decay`.
            teacher: whose ODE is followed; None follows the data's own path.
            drawn: of this update.
        """
        ...


# ---- pairs of noise levels: from quantiles u [B] to (high, low) --------------------------------------------


@dataclass(frozen=True)
class Ladder:
    """Neighbours on a grid of Karras that becomes finer by doubling.

        N = min(first 2^floor(progress S), last) steps,  S = floor(log2(last / first)) + 1

    Args:
        first, last: steps of the grid at the start and at the end; equal ones keep it. CD: 17; CT: 1 to 149 (its paper
            grows the number by a root instead of doubling); iCT: 10 to 1280.
        law: of the noise level whose interval is taken; None takes all alike. iCT: `LogNormal(-1.1, 2.0)`.
        sigma_min, sigma_max, rho: of the grid.

    Example:
        >>> high, low = Ladder(2, 2)(torch.tensor([0.7]), Drawn(torch.zeros(1, 1), None, Draws(0, 0)))
        >>> round(float(high)), round(float(low), 2)
        (80, 2.52)
    """

    first: int = 17
    last: int = 17
    law: LogNormal | None = None
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __call__(self, u: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Return the levels."""
        stages = math.floor(math.log2(self.last / self.first)) + 1
        steps = min(self.first * 2 ** int(drawn.progress * stages), self.last)
        grid = Levels(self.sigma_min, self.sigma_max, self.rho, count=steps + 1).grid().to(u.device)
        place = (u * steps).long()
        if self.law is not None:
            place = torch.searchsorted(grid, self.law(u, self.sigma_min, self.sigma_max)) - 1
        place = place.clamp(0, steps - 1)
        return grid[place + 1], grid[place]


@dataclass(frozen=True)
class Shrinking:
    """A level and one nearer and nearer to it as the training goes on (ECT).

        low = max(0, high (1 - n / q^a)),  n = 1 + k / (1 + e^(b high)),  a = floor(progress stages)

    At the start a = 0 and low = 0: plain denoising. It is meant for a student that begins as a diffusion model.

    Args:
        law: of `high`.
        stages: how often the gap shrinks.
        q, k, b: how it does.

    Source: Geng et al., Consistency Models Made Easy (2024), arXiv 2406.14548.
    """

    law: LogNormal = LogNormal(-1.1, 2.0)  # noqa: RUF009 (frozen)
    stages: int = 8
    q: float = 2.0
    k: float = 8.0
    b: float = 1.0

    def __call__(self, u: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Return the levels."""
        high = self.law(u)
        n = 1 + self.k * torch.sigmoid(-self.b * high)
        return high, high * (1 - n / self.q ** int(drawn.progress * self.stages)).clamp(min=0)


@dataclass(frozen=True)
class Skipping:
    """Two times of DDPM, `skip` apart, uniform (LCM).

    Source: Luo et al., Latent Consistency Models (2023), arXiv 2310.04378.
    """

    skip: int = 20

    def __call__(self, u: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Return the levels."""
        schedule = DDPM()
        n = (u * (schedule.largest + 1 - self.skip)).long().double()
        return schedule.sigma(n + self.skip), schedule.sigma(n)


@dataclass(frozen=True)
class Shifted:
    """Two times of a flow, 1 / steps apart before the shift (discrete consistency of rCM).

    s_k = shift v / (1 + (shift - 1) v),  v = 1 - u (1 - 1 / steps) - k / steps,  k = 0, 1;  sigma = d s / (1 - s)
    """

    steps: int = 48
    shift: float = 5.0

    def __call__(self, u: Tensor, drawn: Drawn) -> tuple[Tensor, Tensor]:
        """Return the levels."""
        v, law = 1 - u * (1 - 1 / self.steps), ShiftedUniform(self.shift, drawn.data_std)
        return law(v.clamp(max=1 - 1e-9)), law((v - 1 / self.steps).clamp(min=0))


# ---- one step of the teacher's ODE -------------------------------------------------------------------------


def euler_step(teacher: Denoiser, x: Tensor, high: Tensor, low: Tensor, cond: Tensor | None, d: float) -> Tensor:
    """Return x at the level `low`, by one call; it is the step of DDIM, whatever the schedule."""
    return x + spread((low - high) / high, x) * (x - teacher(x, high, cond))


def heun_step(teacher: Denoiser, x: Tensor, high: Tensor, low: Tensor, cond: Tensor | None, d: float) -> Tensor:
    """Return x at the level `low`, by two calls."""
    ahead = euler_step(teacher, x, high, low, cond, d)
    gap = spread(low - high, x)
    back = torch.where(spread(low, x) > 0, gap / spread(low, x) * (ahead - teacher(ahead, low, cond)), ahead - x)
    return x + (ahead - x + back) / 2


def angle_step(teacher: Denoiser, x: Tensor, high: Tensor, low: Tensor, cond: Tensor | None, d: float) -> Tensor:
    """Return x at the level `low`, by Euler in the angle, x - (t - s) F, as the code of rCM does (not the rotation)."""
    t, s = (high / d).atan(), (low / d).atan()
    there = spread(t.cos() / d, x) * x
    return spread(d / s.cos(), x) * (there - spread(t - s, x) * velocity_of(teacher, d)(there, t, cond))


SOLVERS = {"euler": euler_step, "heun": heun_step, "angle": angle_step}


# ---- distances, one number a picture ------------------------------------------------------------


def squared(a: Tensor, b: Tensor) -> Tensor:
    """Return the squared distance, [B]."""
    return (a - b).square().flatten(1).sum(1)


def pseudo_huber(a: Tensor, b: Tensor, c: float | None = None) -> Tensor:
    """Return sqrt(|a - b|^2 + c^2) - c, [B]; by default c = 0.00054 sqrt(D), D values a picture.

    Source: Song, Dhariwal, Improved Techniques for Training Consistency Models (2023), arXiv 2310.14189.
    """
    c = 0.00054 * math.sqrt(a[0].numel()) if c is None else c
    return (squared(a, b) + c**2).sqrt() - c


DISTANCES = {"squared": squared, "huber": pseudo_huber}


@dataclass(frozen=True)
class Discrete:
    """Consistency at two levels of one path.

        L = mean w / d^2 dist(f(x_high, high), stop f'(x_low, low)),  x_high = x0 + high eps
        x_low: a step of the teacher's ODE from x_high; without a teacher x0 + low eps, the same noise

    Where low = 0 the student is compared with x_low itself.

    Args:
        pairs: law of the levels: `Ladder`, `Shrinking`, `Skipping`, `Shifted`.
        solver: of the teacher's step: heun, euler (DDIM), angle.
        distance: squared, or huber (pseudo-Huber).
        by_gap: w = 1 / (high - low), which iCT and ECT have; else 1.
        decay: f' is a moving average of the student of this decay (ramped); None is the student itself.

    Example:
        >>> d = 2.0  # all data N(0, d^2): the exact map is f(x, sigma) = d x / sqrt(sigma^2 + d^2)
        >>> exact = lambda x, sigma, cond: d * x / (sigma**2 + d**2).sqrt()[:, None]
        >>> ideal = lambda x, sigma, cond: (d**2 / (sigma**2 + d**2))[:, None] * x
        >>> drawn = Drawn(d * torch.ones(4, 1, dtype=torch.float64), None, Draws(0, 0), d)
        >>> bool(Discrete(Ladder(200, 200))(exact, exact, ideal, drawn)["loss"] < 1e-6)
        True

    Source: Song et al., Consistency Models (2023), arXiv 2303.01469.
    """

    pairs: Ladder | Shrinking | Skipping | Shifted = Ladder()
    solver: Literal["heun", "euler", "angle"] = "heun"
    distance: Literal["squared", "huber"] = "squared"
    by_gap: bool = False
    decay: float | None = None

    def __call__(self, student: Denoiser, target: Denoiser, teacher: Denoiser | None, drawn: Drawn) -> Logs:
        """See `Rule`."""
        x0, cond, draws, d = drawn.x0, drawn.cond, drawn.draws, drawn.data_std
        high, low = self.pairs(draws.uniform("pair", len(x0)).to(x0.device), drawn)
        eps = draws.normal("eps/pair", *x0.shape).to(x0)
        x = x0 + spread(high, x0) * eps
        with torch.no_grad():
            near = x0 + spread(low, x0) * eps
            if teacher is not None:
                near = SOLVERS[self.solver](teacher, x, high, low, cond, d)
            aim = torch.where(spread(low, x0) > 0, target(near, low, cond), near)
        apart = DISTANCES[self.distance](student(x, high, cond), aim)
        return {"loss": (apart / (high - low if self.by_gap else 1.0)).mean() / d**2}


RULES: dict[str, Callable[[], Discrete]] = {
    "cd": partial(Discrete, decay=0.95),
    "ct": partial(Discrete, Ladder(1, 149), decay=0.95),
    "ict": partial(Discrete, Ladder(10, 1280, LogNormal(-1.1, 2.0)), distance="huber", by_gap=True),
    "ect": partial(Discrete, Shrinking(), distance="huber", by_gap=True),
    "lcm": partial(Discrete, Skipping(), "euler", "huber", decay=0.95),
    "dcm": partial(Discrete, Shifted(), "angle"),
}
"""Rules by name. ct, ict and ect need no teacher. lcm follows the teacher that it is given, guided with one scale (its
paper draws the scale and tells the student). The distances of cd and ct were perceptual where such a net exists."""


class Consistency(nn.Module):
    """The loss of a consistency rule, as a part of `distill`.

    Args:
        rule: which.
        denoiser: the student's.
        source: real pictures.
        regime: of the training.
        teacher: see `Rule`.
    """

    def __init__(
        self, rule: Rule, denoiser: nn.Module, source: Source, regime: Regime, teacher: Denoiser | None = None
    ) -> None:
        super().__init__()
        self.rule, self.source, self.regime = rule, source, regime
        self.data_std = float(getattr(denoiser, "data_std", 1.0))
        self.head: nn.Module | None = getattr(rule, "head", None)
        decay: float | None = getattr(rule, "decay", None)
        self.target = None if decay is None else Average(denoiser, partial(ramped, decay=decay))
        self._teacher = (teacher,)  # in a tuple: no part of this module

    def forward(self, student: Student, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of an update, whose random numbers are those of its number."""
        denoiser: Any = student.experts[-1]
        if self.target is not None and scene.update > 0:
            self.target.update()
        draws = replace(scene.draws, step=scene.update)
        x0, cond = self.source.draw(draws, self.regime.batch)
        drawn = Drawn(x0, cond, draws, self.data_std, scene.update, scene.update / self.regime.updates)
        target = denoiser if self.target is None else self.target.module
        logs = self.rule(denoiser, target, self._teacher[0], drawn)
        return logs["loss"], {f"consistency/{name}": value for name, value in logs.items()}

    def extra_repr(self) -> str:
        """The rule."""
        return repr(self.rule)


def distil_consistency(
    student: Student, source: Source, rule: Rule, teacher: Denoiser | None = None, **how: Any
) -> Distilled:
    """Make a consistency model: of a teacher, or of data alone.

    Args:
        student: one network, a denoiser that is the identity without noise; its levels (`few_levels`) are where the
            finished student is asked, they change nothing in the training.
        source: real pictures; its classes are told.
        rule: `RULES["cd"]()` ..., `Tangent()`, `MeanFlow()`.
        teacher: whose ODE is followed, guided if it should be; None trains on the data alone.
        how: the rest of what `distill` takes: regime, judge, out, seed ...

    Raises:
        ConfigError, TrainingError: see `distill`.

    Example:
        >>> from limbeck.diffusion import Exact, Regime, Sizes, few_levels, one_network
        >>> from limbeck.diffusion.mixtures import mixture
        >>> source, d = Exact(mixture("ring8")), mixture("ring8").data_std
        >>> student = one_network(Sizes(16, 1).build(source.shape, data_std=d), few_levels(2, d))
        >>> distil_consistency(
        ...     student, source, RULES["cd"](), mixture("ring8"), regime=Regime(5, turns=1), progress=False
        ... ).student.steps
        2
    """
    regime: Regime = how.pop("regime", None) or Regime(turns=1)
    also = Consistency(rule, student.experts[-1], source, regime, teacher)
    plain: dict[str, Any] = {"regime": regime, "push": None, "also": also, "label": "consistency"}
    return distill(student, teacher, source, **plain | how)
