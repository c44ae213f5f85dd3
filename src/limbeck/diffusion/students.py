"""Students: generators that turn noise into pictures in one call, or in a few."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError


class Student(nn.Module):
    """A generator of few steps: denoisers used at a short list of noise levels, from noisy to clean.

        x = sigma_1 z;  x0 = D(x, sigma_1);  x = x0 + sigma_2 z' (re-noised) or x0 + sigma_2 / sigma_1 (x - x0) (Euler);
        x0 = D(x, sigma_2);  ...

    Args:
        experts: one denoiser for all steps, or one for each phase.
        levels: noise levels of each expert, falling: `[[2.5, 0.6]]` is one network of two steps, `[[2.5], [0.6]]` two
            phases of one step.
        renoise: fresh noise between the steps (multi-step DMD2), or a step of the ODE (phases).

    Raises:
        ConfigError: levels that do not fall.

    Example:
        >>> student = Student([nn.Identity()], [[2.0]])  # doctest: +SKIP
    """

    def __init__(self, experts: Sequence[nn.Module], levels: Sequence[Sequence[float]], renoise: bool = True) -> None:
        super().__init__()
        flat = [level for own in levels for level in own]
        if len(experts) != len(levels) or not flat or any(a <= b for a, b in zip(flat, [*flat[1:], 0.0], strict=True)):
            raise ConfigError(f"noise levels must fall and be positive, one list for each expert; got {levels}")
        self.experts, self.levels, self.renoise = nn.ModuleList(experts), [list(own) for own in levels], renoise

    @property
    def steps(self) -> int:
        """Network calls of one picture."""
        return sum(map(len, self.levels))

    def forward(self, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return pictures.

        Args:
            noise: unit noise of every step, [B, steps, ...].
            cond: class of each, [B].
        """
        return self.roll(noise, cond, len(self.levels) - 1, len(self.levels[-1]) - 1)

    def roll(self, noise: Tensor, cond: Tensor | None, phase: int, exit_step: int) -> Tensor:
        """Return what a phase hands on if it ends with its step `exit_step`; only that last call has a gradient.

        This is the backward simulation of DMD2: every input but pure noise is the student's own.

        Args:
            noise: unit noise of every step, [B, steps, ...].
            cond: class of each, [B].
            phase: expert that is trained, from 0.
            exit_step: its step, from 0.

        Returns:
            x at the noise level of the next phase, [B, ...]; x0 after the last one.
        """
        plan = [(k, sigma) for k in range(phase) for sigma in self.levels[k]]
        plan += [(phase, sigma) for sigma in self.levels[phase][: exit_step + 1]]
        after = [sigma for _, sigma in plan[1:]] + [self.anchor(phase)]
        x = plan[0][1] * noise[:, 0]
        for step, ((expert, sigma), below) in enumerate(zip(plan, after, strict=True)):
            with torch.set_grad_enabled(torch.is_grad_enabled() and step == len(plan) - 1):
                x0: Tensor = self.experts[expert](x, x.new_full(x.shape[:1], sigma), cond)
                if below == 0:
                    return x0
                fresh = noise[:, step + 1] if self.renoise else (x - x0) / sigma
                x = x0 + below * fresh
        return x

    def anchor(self, phase: int) -> float:
        """Noise level of what a phase hands on; 0 after the last."""
        return self.levels[phase + 1][0] if phase + 1 < len(self.levels) else 0.0


def one_network(denoiser: nn.Module, levels: Sequence[float], renoise: bool = True) -> Student:
    """Return a student that begins as a copy of a teacher, one network for all its steps.

    Args:
        denoiser: the teacher's.
        levels: noise levels of its steps, falling. At the teacher's largest level a first picture is almost the mean of
            the data; at a few times the data's standard deviation it is blurred but diverse.
        renoise: see `Student`.
    """
    return Student([deepcopy(denoiser).requires_grad_(True)], [list(levels)], renoise)


def noise_for(student: nn.Module, shape: Sequence[int], count: int, seed: int) -> Tensor:
    """Return unit noise for `count` pictures of a student, [count, steps, ...]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, student.steps, *shape, generator=generator)  # type: ignore[call-overload, no-any-return]


@torch.no_grad()
def generate(student: Callable[..., Tensor], noise: Tensor, cond: Tensor | None = None, chunk: int = 1024) -> Tensor:
    """Return pictures in chunks, without gradients."""
    conds = [None] * len(noise.split(chunk)) if cond is None else cond.split(chunk)
    return torch.cat([student(part, told) for part, told in zip(noise.split(chunk), conds, strict=True)])
