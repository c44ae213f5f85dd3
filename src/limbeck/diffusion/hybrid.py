"""Samples made by several models in turn, what each believed at its step, and which step lost the variety.

A distilled model's samples can be less varied than its teacher's because the first step decides too early. Whether it
does is measured here, not assumed: `interventions` lets the teacher take each step in turn, on the same noise.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from limbeck.diffusion.denoisers import Denoiser, spread
from limbeck.diffusion.pictures import contact_sheet
from limbeck.diffusion.samplers import ddim, multistep
from limbeck.diffusion.schedules import EDM, Schedule
from limbeck.diffusion.students import Student
from limbeck.errors import ConfigError


@dataclass(frozen=True)
class Step:
    """One step of a sampler.

    Args:
        sigma: noise level.
        model: number of the model that was asked.
        x: what it was shown, x0 + sigma eps, float64 [B, ...].
        x0: the clean picture that it believes in (the paper's DT, or x0-hat), float64 [B, ...].
        ms: wall time of the call, for the whole batch.
    """

    sigma: float
    model: int
    x: Tensor
    x0: Tensor
    ms: float


@dataclass(frozen=True)
class Mixed:
    """Samples, and the steps that led to them; every call is in `steps`, the base's too.

    Args:
        x: the samples, [B, ...].
        steps: of the sampler.
    """

    x: Tensor
    steps: list[Step]

    @property
    def ms(self) -> float:
        """Wall time of all calls."""
        return sum(step.ms for step in self.steps)


def sample_with(
    models: Sequence[tuple[Denoiser, int]],
    x: Tensor,
    schedule: Schedule,
    times: Tensor,
    cond: Tensor | None = None,
    *,
    sampler: Callable[..., Tensor] = multistep,
    **how: Any,
) -> Mixed:
    """Sample with several models, each for some steps: `[(base, 1), (student, 3)]`.

    Args:
        models: each and its steps, in the order of use.
        x: what the sampler starts from.
        schedule, times: of the sampler; all models share them.
        cond: class of each.
        sampler: `multistep`, which adds fresh noise after each step, or `ddim`.
        how: the rest of what it takes, as `draws`.

    Raises:
        ConfigError: more or fewer steps than the sampler takes.

    Example:
        >>> ones, halves = (lambda x, sigma, cond: 0 * x + 1), (lambda x, sigma, cond: x / 2)
        >>> made = sample_with([(ones, 1), (halves, 1)], torch.zeros(1, 1), EDM(), torch.tensor([9.0, 3.0, 0.0]),
        ...                    sampler=ddim)
        >>> [(step.model, step.x0.item()) for step in made.steps], made.x.item()
        ([(0, 1.0), (1, 0.3333333432674408)], 0.3333333432674408)

    Source: Gandikota, Bau, Distilling Diversity and Control in Diffusion Models (2025), arXiv 2503.10637.
    """
    plan = [number for number, (_, count) in enumerate(models) for _ in range(count)]
    needed = len(times) - (sampler is ddim)
    if len(plan) != needed:
        raise ConfigError(f"the models have {len(plan)} steps, the sampler takes {needed}: give each model its share")
    spent: list[float] = []
    steps: list[Step] = []

    def ask(x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        began = time.perf_counter()
        x0 = models[plan[len(spent)]][0](x, sigma, cond)
        spent.append(1000 * (time.perf_counter() - began))
        return x0

    def note(seen: dict[str, Any]) -> None:
        steps.append(Step(seen["sigma"], plan[seen["step"]], seen["x"], seen["x0"], spent[-1]))

    return Mixed(sampler(ask, x, schedule, times, cond, callback=note, **how), steps)


def lcm(denoiser: Denoiser, schedule: Schedule, scale: float = 10.0, data_std: float = 0.5) -> Denoiser:
    """Give a denoiser the boundary of latent consistency models: it is the identity at time 0, and there alone.

        f(x_t, t) = d^2 / (tau^2 + d^2) x_t + tau / sqrt(tau^2 + d^2) x0,  tau = scale t

    Args:
        denoiser: of any noise level.
        schedule: of the times t.
        scale: of the time.
        data_std: d.

    Source: Luo et al., Latent Consistency Models (2023), arXiv 2310.04378.
    """

    def bounded(x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        t = schedule.time(sigma.double())
        tau, seen = scale * spread(t, x), spread(schedule.a(t), x) * x
        total = tau**2 + data_std**2
        return data_std**2 / total * seen + tau / total.sqrt() * denoiser(x, sigma, cond)

    return bounded


def switch(base_times: Tensor, student_times: Tensor, steps: int) -> int:
    """Return how many of its own steps a base takes before a student goes on with its step number `steps`, from 0.

        j = argmin_j |base_times[j] - student_times[steps]|

    Raises:
        ConfigError: none: the base's times are so coarse that it would never be asked.

    Example:
        >>> switch(torch.tensor([876, 751, 626, 501]), torch.tensor([999, 759, 499, 259]), 2)
        3
    """
    taken = int((base_times - student_times[steps]).abs().argmin())
    if not taken:
        raise ConfigError(
            f"the base would take no step before the student's time {student_times[steps]:g}: its first is "
            f"{base_times[0]:g}. Give the base more steps, or the student's own times"
        )
    return taken


def hybrid(student: Student, base: nn.Module, steps: Sequence[int] = (0,)) -> Student:
    """Return a student whose steps with these numbers are taken by its base, at the student's own noise levels.

    Args:
        student: with any number of phases.
        base: a denoiser; not guided, in the paper.
        steps: numbers from 0; 0 alone is the paper's choice.

    Raises:
        ConfigError: steps that the student does not have.

    Example:
        >>> first, then = nn.Identity(), nn.Identity()
        >>> made = hybrid(Student([then], [[2.5, 0.6]]), first)
        >>> made.experts[0] is first, made.experts[1] is then, made.levels
        (True, True, [[2.5], [0.6]])
    """
    if not set(steps) <= set(range(student.steps)):
        raise ConfigError(f"the student has the steps 0 to {student.steps - 1}, the base was to take {list(steps)}")
    plan = [(expert, level) for expert, own in zip(student.experts, student.levels, strict=True) for level in own]
    experts = [base if number in steps else expert for number, (expert, _) in enumerate(plan)]
    return Student(experts, [[level] for _, level in plan], student.renoise)


def traced(student: Student, noise: Tensor, cond: Tensor | None = None) -> Mixed:
    """Return a student's samples with what it believed at each step, `Step.model` being its phase.

    Args:
        student: with fresh noise between its steps or without.
        noise: unit noise of every step, [B, steps, ...].
        cond: class of each.
    """
    models: list[Any] = [(one, len(own)) for one, own in zip(student.experts, student.levels, strict=True)]
    levels = torch.tensor([level for own in student.levels for level in own], dtype=torch.float64)
    if student.renoise:
        return sample_with(models, noise[:, 0], EDM(), levels, cond, draws=noise[:, 1:].unbind(1))
    times = torch.cat([levels, levels.new_zeros(1)])
    return sample_with(models, levels[0].to(noise) * noise[:, 0], EDM(), times, cond, sampler=ddim)


def commitment(mixed: Mixed, distance: Callable[[Tensor, Tensor], Tensor] = nn.PairwiseDistance()) -> list[float]:  # noqa: B008
    """Return how far what is believed at each step is from the samples, as a share of the first step's distance.

    Args:
        mixed: of two steps or more.
        distance: of two batches [B, n], one number a row.

    Example:
        >>> beliefs = [Step(1.0, 0, torch.zeros(1, 2), torch.full((1, 2), value), 0.0) for value in (0.0, 3.0, 4.0)]
        >>> [round(share, 2) for share in commitment(Mixed(torch.full((1, 2), 4.0), beliefs))]
        [1.0, 0.25, 0.0]
    """
    gaps = [float(distance(step.x0.flatten(1), mixed.x.to(step.x0).flatten(1)).mean()) for step in mixed.steps]
    return [gap / gaps[0] for gap in gaps]


def interventions(
    student: Student,
    base: nn.Module,
    noise: Tensor,
    cond: Tensor | None = None,
    *,
    judge: Callable[[Tensor], Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    """Judge a student whose steps are taken by the base, each in turn, all on the same noise.

    The rows: "student"; "base at 1", "base at 2", ...; "base"; and "skip first", the student begun at its second noise
    level from pure noise. To each row's numbers is added "ms", the wall time of all its calls.

    Args:
        student: of two steps or more.
        base: a denoiser.
        noise: unit noise of every step, [B, steps, ...].
        cond: class of each.
        judge: numbers about samples.
    """
    rows = {"student": student}
    rows |= {f"base at {step + 1}": hybrid(student, base, [step]) for step in range(student.steps)}
    rows["base"] = whole = hybrid(student, base, range(student.steps))
    split = hybrid(student, base, ())
    made = {name: traced(one, noise, cond) for name, one in rows.items()}
    later = Student(list(split.experts)[1:], whole.levels[1:], student.renoise)
    made["skip first"] = traced(later, noise[:, 1:], cond)
    return {name: {**judge(mixed.x), "ms": mixed.ms} for name, mixed in made.items()}


def believed_sheet(made: Mapping[str, Mixed], decode: Callable[[Tensor], Tensor] = nn.Identity()) -> Image.Image:  # noqa: B008
    """Return the DT view: what models believe the first picture to be, a row each, a column a step, the sample last.

    Args:
        made: samples by name of the model.
        decode: turns a batch into pictures from -1 to 1, for models of latents.
    """
    rows = {name: [*(step.x0 for step in mixed.steps), mixed.x] for name, mixed in made.items()}
    return contact_sheet({name: torch.cat([decode(x[:1].float()) for x in row]) for name, row in rows.items()})
