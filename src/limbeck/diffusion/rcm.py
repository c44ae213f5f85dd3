"""rCM: a consistency loss on real pictures keeps the variety, a matching loss on the student's own repairs the quality.

One knob, `lam`, goes from pure consistency (0) to distribution matching; `rule=None` leaves matching alone.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from limbeck.diffusion.averages import power
from limbeck.diffusion.consistency import Consistency, Rule, distil_consistency
from limbeck.diffusion.continuous import Tangent
from limbeck.diffusion.denoisers import Denoiser
from limbeck.diffusion.game import Matching, Push, Rollout, Scene
from limbeck.diffusion.sources import Source
from limbeck.diffusion.students import Student
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.diffusion.trigflow import PURE, LogNormal, TimeLaw, rollout, velocity_of


@dataclass(frozen=True)
class RandomRollout:
    """The student's own pictures, in 1 to `longest` steps at random times, of each picture its own.

        t_1 = pi / 2,  t_n = min(t_n', t_{n-1}),  tan(t_n') ~ times

    Args:
        longest: most steps.
        cycle: take 1, 2, ... steps in turn, one number for each update, as the authors' code does; else a random one.
        times: law of tan(t).
    """

    longest: int = 4
    cycle: bool = False
    times: TimeLaw = LogNormal(0.0, 1.6)  # noqa: RUF009 (frozen)

    def __call__(self, student: Student, scene: Scene, name: str, count: int, shape: Sequence[int]) -> Tensor:
        """See `Rollout`."""
        d = float(getattr(student.experts[-1], "data_std", 1.0))
        drawn = int(scene.draws.integers(f"steps/{name}", self.longest, 1))
        steps = (scene.update % self.longest if self.cycle else drawn) + 1
        law = self.times(scene.draws.uniform(f"t/{name}", (self.longest - 1) * count)).atan().reshape(-1, count)
        times = torch.cat([law.new_full((1, count), PURE), law]).cummin(0).values[:steps]
        noise = scene.draws.normal(name, count, self.longest, *shape)
        return d * rollout(velocity_of(student.experts[-1], d), noise, times, scene.cond)


@dataclass(frozen=True)
class Weighed:
    """A push on the scale of a consistency loss: weight mean_b |y - stop(y - g)|^2, y = x / d.

    Its gradient with respect to y is 2 weight g / B, as that of `Tangent` with respect to F is -2 g / B.

    Args:
        push: whose direction g is in units of the data's standard deviation.
        weight: lam.
        data_std: d.
        per_dim: divide by sqrt(D), D values a picture: |g| grows like sqrt(D), a normalised tangent does not.
        begin: updates before it sets in.
    """

    push: Push
    weight: float
    data_std: float = 1.0
    per_dim: bool = False
    begin: int = 0

    def __call__(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Push`."""
        g, logs = self.push(scene)
        size = g[0].numel()
        scale = 2 * self.weight * (scene.update >= self.begin) / (size**0.5 if self.per_dim else 1.0)
        logs["gradient"] = scale * g.flatten(1).norm(dim=1).mean()
        return scale * size / self.data_std * g, logs


def distil_rcm(
    student: Student,
    teacher: Denoiser,
    source: Source,
    *,
    lam: float = 0.01,
    lam_mode: Literal["sum", "per_dim"] = "sum",
    rule: Rule | None = Tangent(),  # noqa: B008 (frozen)
    fake: nn.Module | None = None,
    levels: TimeLaw = LogNormal(0.0, 1.6),  # noqa: B008 (frozen)
    rolled: Rollout | None = RandomRollout(),
    warmup: int = 0,
    sigma_rel: float | None = 0.05,
    regime: Regime | None = None,
    **how: Any,
) -> Distilled:
    """Distil by consistency on real pictures and, weighed by lam, by matching on the student's own.

        L = L_consistency + lam mean_b |x0 - stop(x0 - g)|^2,  x0 the end of a rollout, in units of d
        g = (f_fake(x_t, t) - f_teacher(x_t, t)) / mean |x0 - f_teacher(x_t, t)|

    lam weighs a tangent of length about 1 against |g| of about sqrt(D), D values a picture: the paper's 0.01 is for a D
    of a hundred thousand and more. For a small D use 0.1 to 1, or lam_mode "per_dim". Both gradients are recorded.

    Args:
        student: see `distil_consistency`.
        teacher: frozen denoiser, guided if it should be: the student is told the class alone.
        source: real pictures.
        lam: weight of matching; 0 is pure consistency.
        lam_mode: "per_dim" divides it by sqrt(D).
        rule: of consistency: `Tangent()`, `RULES["dcm"]()`, which is steadier on some models; None for none.
        fake: how the fake score begins; a copy of the student's network by default.
        levels: law of tan(t) at which pictures are compared and the fake score learns.
        rolled: how pictures are made; None is backward simulation at the student's own levels, as in DMD2.
        warmup: updates before matching sets in.
        sigma_rel: width of the power-function average; None leaves the average to the regime.
        regime: the paper's learning rates are 1e-6 and a fifth of it; `turns` updates of the fake score for each of the
            student (the paper updates one of both: its F is turns + 1). No clipping, and no momentum.
        how: the rest of what `distill` takes.

    Raises:
        ConfigError, TrainingError: see `distill`.

    Example:
        >>> from limbeck.diffusion import Exact, Sizes, few_levels, one_network
        >>> from limbeck.diffusion.mixtures import mixture
        >>> source, d = Exact(mixture("ring8")), mixture("ring8").data_std
        >>> student = one_network(Sizes(16, 1, clock="angle").build([2], data_std=d), few_levels(2, d))
        >>> done = distil_rcm(student, mixture("ring8"), source, regime=Regime(4, 32, turns=2), progress=False)
        >>> sorted(name for name in done.values if name.endswith("gradient"))
        ['train/student/consistency/gradient', 'train/student/gradient']

    Source: Zheng et al., Large Scale Diffusion Distillation via Score-Regularized Continuous-Time Consistency (2025),
        arXiv 2510.08431.
    """
    regime = regime or Regime(turns=4, betas=(0.0, 0.999), weight_decay=0.01)
    how = {"average": None if sigma_rel is None else partial(power, sigma_rel=sigma_rel), "label": "rCM"} | how
    if lam == 0 and rule is not None:
        return distil_consistency(student, source, rule, teacher, regime=replace(regime, turns=1), **how)
    denoiser = student.experts[-1]
    d = float(getattr(denoiser, "data_std", 1.0))
    law = replace(levels, scale=d * levels.scale)
    also = None
    if rule is not None:
        also = Consistency(rule, denoiser, source, regime, teacher)
    push = Weighed(Matching(law, floor=1e-5), lam, d, lam_mode == "per_dim", warmup)
    return distill(
        student, teacher, source, regime=regime, push=push, fake=fake or deepcopy(denoiser), also=also, rollout=rolled,
        fake_levels=law, **how,
    )  # fmt: skip
