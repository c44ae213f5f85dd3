"""Phased DMD: one expert for each range of noise, from noisy to clean, each matched at the noise level where it ends.

`distill_phases` works in x0 + sigma eps like all of this room; `flow_noised` and `flow_weight` say the same in the
paper's own language, x_t = (1 - t) x0 + t eps.
"""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limbeck.diffusion.denoisers import Denoiser, spread
from limbeck.diffusion.matching import Noised, fake_loss
from limbeck.diffusion.schedules import RectifiedFlow, between
from limbeck.diffusion.sources import Source
from limbeck.diffusion.students import Student
from limbeck.diffusion.training import Distilled, distill

FLOW = RectifiedFlow()


def experts(denoiser: nn.Module, levels: Sequence[Sequence[float]]) -> Student:
    """Return a student with an expert for each phase, copies of a teacher's network; steps of the ODE lie between them.

    Args:
        denoiser: the teacher's.
        levels: noise levels of each phase's steps, falling; a phase ends at the first level of the next.

    Example:
        >>> experts(nn.Linear(2, 2), [[80.0, 9.0], [2.5, 0.6]]).steps
        4
    """
    return Student([deepcopy(denoiser).requires_grad_(True) for _ in levels], levels, renoise=False)


def distill_phases(
    student: Student,
    teacher: Denoiser,
    source: Source,
    *,
    fake: nn.Module,
    seed: int = 0,
    out: Path | str | None = None,
    **how: Any,
) -> list[Distilled]:
    """Train the experts one after the other; each then stands still.

    Phase k ends at the noise level s, where the next begins (0 after the last). Its pictures x_s, made through the
    experts before it, are compared with the teacher's at noise levels from s to the largest, not only within the phase
    ("reverse nested intervals"). The fake score learns from x_s alone, see `noised`.

    Args:
        student: an expert a phase, see `experts`; trained in place in the first phase.
        teacher: frozen denoiser, guided if it should be.
        source: see `distill`.
        fake: how the fake score begins in every phase: the teacher's network; it is copied.
        seed: of the first phase; the next have the next.
        out: folder, in it one for each phase; the same call goes on after a stop.
        how: the rest of what `distill` takes, the same in each phase.

    Returns:
        What each phase gave; the last one's student is complete.

    Example:
        >>> from limbeck.diffusion import Exact, Regime, Sizes, mixture
        >>> law, network = mixture("ring8"), Sizes(16, 1).build([2])
        >>> short = {"fake": network, "regime": Regime(updates=2), "progress": False}
        >>> done = distill_phases(experts(network, [[2.5], [0.6]]), law, Exact(law), **short)
        >>> len(done), done[-1].student.steps
        (2, 2)

    Source: Fan et al., Phased DMD (2025), arXiv 2510.27684. Left out: their LoRA of the student, and what a later
        program of the authors' group adds (a fake score drawn towards the student, losses on diversity and real data).
    """
    done: list[Distilled] = []
    for phase in range(len(student.experts)):
        own = dict[str, Any](phase=phase, fake=deepcopy(fake), seed=seed + phase, label=f"phase {phase + 1}") | how
        folder = None if out is None else Path(out) / f"phase-{phase + 1}"
        done.append(distill(student, teacher, source, out=folder, **own))
        student = deepcopy(done[-1].student)
    return done


def biased_loss(answer: Tensor, there: Noised) -> Tensor:
    """Return the denoising loss with x_s itself as the target: another function than the teacher's wherever s > 0.

    For comparison, as `distill_phases(..., denoising=biased_loss)`.
    """
    return fake_loss(answer, there._replace(target=there.base))


def flow_noised(x: Tensor, eps: Tensor, s: Tensor, t: Tensor) -> Noised:
    """Add noise to pictures of a rectified flow, and say the velocity that a network should answer.

        x_t = alpha x_s + sigma eps,  (alpha, sigma) = between(RectifiedFlow(), s, t)
        target = c eps - x_s / (1 - s),  c = ((1 - s)^2 t + (1 - t) s^2) / ((1 - s)^2 sigma)
        weight = sigma^2 min(1 / sigma^2, 10)

    The target's expectation given x_t is E[eps - x0 | x_t]; for s = 0 it is eps - x0.

    Args:
        x: x_s, [B, ...].
        eps: unit noise, of the shape of x.
        s: its noise level, from 0 to below 1, [B].
        t: above s, to 1, [B].

    Example:
        >>> import torch
        >>> x, eps, s, t = torch.ones(1, 1), torch.ones(1, 1), torch.tensor([0.0]), torch.tensor([0.25])
        >>> there = flow_noised(x, 3 * eps, s, t)
        >>> there.x, there.target
        (tensor([[1.5000]]), tensor([[2.]]))

    Source: Fan et al., Phased DMD (2025), arXiv 2510.27684.
    """
    alpha, sigma = between(FLOW, s, t)
    c = (FLOW.a(s) ** 2 * t + FLOW.a(t) * s**2) / (FLOW.a(s) ** 2 * sigma)
    target = spread(c, x) * eps - x / spread(FLOW.a(s), x)
    return Noised(spread(alpha, x) * x + spread(sigma, x) * eps, t, target, (10 * sigma**2).clamp(max=1), x)


def flow_weight(s: Tensor, t: Tensor) -> Tensor:
    """Return the weight of teacher minus fake velocity in the student's gradient.

        w = (1 - t) alpha / t,  alpha = (1 - t) / (1 - s)

    That turns the difference of velocities into alpha times that of scores, the gradient of the reverse KL at x_s.

    Example:
        >>> import torch
        >>> flow_weight(torch.tensor([0.0]), torch.tensor([0.5]))
        tensor([0.5000])
    """
    return FLOW.a(t) * between(FLOW, s, t)[0] / t
