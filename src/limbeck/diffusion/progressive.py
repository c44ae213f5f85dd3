"""Progressive distillation: a sampler of N steps becomes one of N / 2, again and again.

Guidance is distilled before: `train_teacher` with `target=guided(teacher, kappa, null)` and no label dropout gives one
network whose single call is the guided answer, for one kappa (the paper tells its network kappa; ours has it fixed).
"""

import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.diffusion.consistency import euler_step
from limbeck.diffusion.denoisers import Denoiser, Preconditioned, spread
from limbeck.diffusion.matching import Noised, fake_loss
from limbeck.diffusion.sources import Draws, Source
from limbeck.diffusion.students import Student
from limbeck.diffusion.teachers import Pretraining, train_teacher
from limbeck.errors import ConfigError


def even_angles(steps: int, data_std: float = 0.5, sigma_max: float = 80.0) -> Tensor:
    """Return falling noise levels d tan(t) of even angles, and a final 0, float64 [steps + 1]: the cosine schedule.

    Every second one of 2 n steps is one of n.

    Example:
        >>> even_angles(2, data_std=1.0, sigma_max=1.0).round(decimals=4)
        tensor([1.0000, 0.4142, 0.0000], dtype=torch.float64)
    """
    return data_std * torch.linspace(math.atan(sigma_max / data_std), 0, steps + 1, dtype=torch.float64).tan()


def in_one_step(x_t: Tensor, x_s: Tensor, sigma_t: Tensor, sigma_s: Tensor) -> Tensor:
    """Return the x0 with which one step of DDIM from x_t ends at x_s.

        x0 = (x_s - (sigma_s / sigma_t) x_t) / (1 - sigma_s / sigma_t)

    In the paper's coordinates: (z_s - (b_s / b_t) z_t) / (a_s - (b_s / b_t) a_t), with z = a x and sigma = b / a.

    Args:
        x_t, x_s: pictures with noise, x0 + sigma eps, [B, ...].
        sigma_t, sigma_s: their noise levels, sigma_s below sigma_t, [B].

    Example:
        >>> in_one_step(torch.tensor([[4.0]]), torch.tensor([[3.0]]), torch.tensor([2.0]), torch.tensor([1.0]))
        tensor([[2.]])

    Source: Salimans, Ho, Progressive Distillation for Fast Sampling of Diffusion Models (2022), arXiv 2202.00512.
    """
    ratio = spread(sigma_s / sigma_t, x_t)
    return (x_s - ratio * x_t) / (1 - ratio)


class TwoSteps(nn.Module):
    """What a student must say so that one step of it is two of its teacher; a `Denoiser` at the student's levels.

    Args:
        teacher: frozen.
        levels: the teacher's, falling, an even number of steps; the student has every second one.

    Raises:
        ConfigError: an odd number of steps.
    """

    levels: Tensor

    def __init__(self, teacher: Denoiser, levels: Tensor) -> None:
        super().__init__()
        if len(levels) % 2 == 0:
            raise ConfigError(f"a teacher of {len(levels) - 1} steps cannot be halved: an even number is needed")
        self.teacher = teacher
        self.register_buffer("levels", levels, persistent=False)

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the student's x0."""
        place = (self.levels[:-1:2] - sigma.double()[:, None]).abs().argmin(1) * 2
        high, middle, low = (self.levels[place + k].to(x.dtype) for k in range(3))
        between = euler_step(self.teacher, x, high, middle, cond, 0.0)
        return in_one_step(x, euler_step(self.teacher, between, middle, low, cond, 0.0), high, low)


def truncated_loss(answer: Tensor, there: Noised, data_std: float) -> Tensor:
    """Return mean max(1 / sigma^2, 1 / d^2) (D - target)^2: "truncated SNR", at least 1 for data of unit variance."""
    weight = (1 / there.sigma**2).clamp(min=1 / data_std**2)
    return fake_loss(answer, there._replace(weight=weight))


def distil_progressively(
    teacher: Preconditioned,
    source: Source,
    how: Pretraining,
    *,
    start: int = 32,
    end: int = 1,
    truncated: bool = True,
    levels: Callable[[int, float], Tensor] = even_angles,
    judge: Callable[[Student], Mapping[str, float]] | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    progress: bool = True,
) -> dict[int, Student]:
    """Halve a sampler's steps until few are left; each student begins as its teacher and teaches the next.

    Args:
        teacher: predicts x0, v or EDM's mixture of both; eps alone fails at high noise.
        source: what it was trained on.
        how: regime of one halving; those to 2 steps and to 1 take twice as long. Its law of noise is not used.
        start: steps of the teacher, `end` times a power of 2.
        end: steps of the last student.
        truncated: weight max(SNR, 1), else SNR + 1.
        levels: noise levels of n steps for data of standard deviation d, falling to 0, those of n in those of 2 n.
        judge: numbers about each student, for the records.
        seed: of every random choice.
        out: folder with one training a halving; the same call goes on after a stop.
        progress: one line on a terminal.

    Returns:
        Students by their steps, from many to few; they sample by DDIM.

    Raises:
        ConfigError: steps that halving does not lead to.

    Example:
        >>> from limbeck.diffusion import Exact, Sizes, mixture
        >>> source = Exact(mixture("ring8"))
        >>> teacher = Sizes(16, 1).build(source.shape, source.classes, source.data_std)
        >>> [*distil_progressively(teacher, source, Pretraining(steps=2), start=8, end=2, progress=False)]
        [4, 2]

    Source: Salimans, Ho, Progressive Distillation for Fast Sampling of Diffusion Models (2022), arXiv 2202.00512;
        guidance before: Meng et al., On Distillation of Guided Diffusion Models (2022), arXiv 2210.03142.
    """
    rungs = start // end if end > 0 else 0
    if rungs < 2 or rungs & (rungs - 1) or end * rungs != start:
        raise ConfigError(f"halving does not lead from {start} steps to {end}: start must be end times a power of 2")
    d, students = teacher.data_std, dict[int, Student]()

    def loss(answer: Tensor, there: Noised) -> Tensor:
        return truncated_loss(answer, there, d) if truncated else fake_loss(answer, there)

    while (steps := start // 2 ** (len(students) + 1)) >= end:
        own = levels(2 * steps, d)

        def sampler(denoiser: nn.Module, fall: Tensor = own[:-1:2]) -> Student:
            return Student([denoiser], [fall.tolist()], renoise=False)

        def drawn(draws: Draws, count: int, fall: Tensor = own[:-1:2]) -> Tensor:
            return fall.to(draws.device)[draws.integers("level", len(fall), count)].float()

        trained = train_teacher(
            deepcopy(teacher).requires_grad_(True),
            source,
            replace(how, steps=how.steps * (2 if steps <= 2 else 1)),
            target=TwoSteps(teacher, own).requires_grad_(False),
            levels=drawn,
            loss=loss,
            judge=judge and (lambda one, sampler=sampler: judge(sampler(one))),  # type: ignore[misc]
            judge_at=[how.steps * (2 if steps <= 2 else 1)],
            seed=seed,
            out=None if out is None else Path(out) / f"steps-{steps}",
            progress=progress,
            label=f"{2 * steps} steps to {steps}",
        )
        teacher = trained.denoiser
        students[steps] = sampler(teacher)
    return students
