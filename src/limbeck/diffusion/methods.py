"""Methods by name, as recipes choose them: each is one call of this room, with the choices that people change.

| name | the student learns from | as published |
|---|---|---|
| `dmd` | distribution matching, perhaps pairs to regress on | Yin et al. 2023 |
| `dmd2` | distribution matching and a critic on features of the fake score | Yin et al. 2024 |
| `decoupled` | matching and augmentation by guidance, each with noise of its own | Liu et al. 2025 |
| `disback` | the teacher's degradation to the student, walked back | Zhang et al. 2024 |
| `gdd`, `gdd-i` | a critic alone; with a frozen trunk | Zheng, Yang 2024 |
| `phased` | matching, one expert for each range of noise | Fan et al. 2025 |
| `multi-student` | matching and a critic, one student for each group of classes | Song et al. 2024 |
| `consistency` | the ODE of the teacher, or of data alone, by a rule of pairs or by tangents | Song et al. 2023 |
| `rcm` | consistency by tangents on data, and distribution matching on its own pictures | Zheng et al. 2025 |
| `pg-sb` | distribution matching at a scale of guidance drawn for each picture | Nguyen et al. 2024 |
| `progressive` | two steps of a sampler at a time, until few are left | Salimans, Ho 2022 |
| `slider` | an adapter from one class to another, turned up, perhaps carried to a student | Gandikota, Bau 2025 |
| `scale-distillation` | the model of an easier magnification (super-resolution) | Noroozi et al. 2024 |
"""

import inspect
import math
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Annotated, Any, Literal, cast

from pydantic import Field, TypeAdapter, ValidationError, model_validator
from torch import nn

from limbeck.diffusion.adversary import Adversary, FeatureCritic, PixelCritic
from limbeck.diffusion.consistency import RULES, distil_consistency
from limbeck.diffusion.continuous import Tangent
from limbeck.diffusion.decoupled import Decoupled, Windows
from limbeck.diffusion.denoisers import Denoiser, Preconditioned, guided
from limbeck.diffusion.disback import Storage, backtrack, record_degradation
from limbeck.diffusion.folders import load_model
from limbeck.diffusion.game import Matching, make_pairs
from limbeck.diffusion.gdd import Alternating, ProjectedCritic, distill_gdd, freeze_trunk, innate
from limbeck.diffusion.matching import Levels
from limbeck.diffusion.multi_student import distill_students, partition
from limbeck.diffusion.phased import distill_phases, experts
from limbeck.diffusion.progressive import distil_progressively
from limbeck.diffusion.random_guidance import RandomGuidance, noise_loss
from limbeck.diffusion.rcm import distil_rcm
from limbeck.diffusion.samplers import karras
from limbeck.diffusion.schedules import reach
from limbeck.diffusion.sliders import slider_rule, train_slider, transfer
from limbeck.diffusion.sources import Draws, Source
from limbeck.diffusion.students import Student, one_network
from limbeck.diffusion.super_resolution import SCALING, distill_scales
from limbeck.diffusion.teachers import Pretraining, train_teacher
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.diffusion.trigflow import few_levels
from limbeck.errors import ConfigError, nearest
from limbeck.settings import Count, Number, Settings, named

Critic = Literal["values", "features"]
"""What a critic looks at: pictures or points themselves, or what a denoiser sees in them."""
Finite = Annotated[Number, Field(allow_inf_nan=False)]
Weight = Annotated[Finite, Field(ge=0)]
Rank = Annotated[Count, Field(gt=0)]
Trained = tuple[nn.Module, list[Distilled]]
"""The generator, and the trainings that gave it."""


@dataclass(frozen=True)
class Job:
    """What every method needs.

    Args:
        network: the teacher's, without guidance, as fake scores begin.
        first: the network that students begin as; smaller than the teacher's, perhaps.
        guidance: of the teacher; None is none.
        source: the data.
        sigmas: noise levels of the student's steps, falling.
        given: choices of the regime that the user made.
        how: `judge`, `judge_at`, `seed`, `out`, `progress` of the training.
    """

    network: nn.Module
    first: nn.Module
    guidance: float | None
    source: Source
    sigmas: list[float]
    given: Mapping[str, Any]
    how: Mapping[str, Any]

    def guide(self, network: nn.Module) -> Denoiser:
        """A teacher's network, guided if it should be."""
        return network if self.guidance is None else guided(network, self.guidance, self.source.classes)

    @property
    def teacher(self) -> Denoiser:
        """What the student should be like."""
        return self.guide(self.network)

    def student(self) -> Student:
        """One network for all steps."""
        return one_network(self.first, self.sigmas)

    def fake(self) -> nn.Module:
        """The fake score as it begins."""
        return deepcopy(self.network).requires_grad_(True)

    def regime(self, regime: Regime | None = None) -> Regime:
        """A method's regime with what the user chose."""
        return replace(regime or Regime(), **self.given)

    def learning(self, network: nn.Module) -> tuple[Preconditioned, Pretraining]:
        """A network that learns from another by denoising, and how, by what the user chose of the student's regime.

        Raises:
            ConfigError: a network of another schedule than EDM's.
        """
        if not isinstance(network, Preconditioned):
            raise ConfigError("this method trains networks as limbeck makes them: leave out the teacher's path")
        names = {"updates": "steps", "batch": "batch", "lr": "lr", "average": "average"}
        return network, Pretraining(**{names[key]: one for key, one in self.given.items() if key in names})

    def levels(self, low: float = 0.0, high: float = 1.0) -> Levels:
        """Noise levels that the teacher knows, 0.002 to 80 at most, or a window of them."""
        return Levels(*reach(self.network), low=low, high=high)

    @property
    def matching(self) -> dict[str, Any]:
        """The push of DMD and what the fake score learns, at these levels."""
        return {"push": Matching(self.levels(0.02, 0.98)), "fake_levels": self.levels()}

    def adversary(
        self, denoiser: nn.Module, weight: float, critic: Critic = "features", joint: bool = True
    ) -> Adversary:
        """A critic on values, or on the late half of a denoiser's features: of one that learns, or of a frozen one."""
        seed, data = int(self.how["seed"]), self.source
        if critic == "values" or len(data.shape) == 1:
            return Adversary(PixelCritic(data.shape, data.classes, min(128, 32 * math.prod(data.shape)), seed), weight)
        layers = [name for name, one in denoiser.named_modules() if isinstance(one, nn.Conv2d) or ".maps." in name]
        paths = layers[len(layers) // 2 :: max(1, len(layers) // 4)]
        x, cond = data.draw(Draws(0, 0), 2)
        if not joint:
            return Adversary(ProjectedCritic(denoiser, paths, x, data.classes, seed=seed), weight)
        return Adversary(
            FeatureCritic(denoiser, paths, x, cond, seed), weight, joint=True, levels=self.levels(high=0.7)
        )

    def distill(self, teacher: Denoiser | None = None, **parts: Any) -> Trained:
        """One student by the loop of this room."""
        how = {"regime": self.regime(), "fake": self.fake(), **self.matching, **self.how, **parts}
        done = distill(self.student(), teacher or self.teacher, self.source, **how)
        return done.student, [done]


def dmd(job: Job, *, pairs: Count = 0, weight: Number = 0.25) -> Trained:
    """Distribution matching, with a regression of this weight on so many pairs of noise and the teacher's picture."""
    if not pairs:
        return job.distill()
    sigmas, seed = karras(18, *reach(job.network)), job.how["seed"]
    return job.distill(pairs=make_pairs(job.teacher, job.source, pairs, sigmas=sigmas, seed=seed, weight=weight))


def dmd2(job: Job, *, critic: Critic = "features", weight: Number = 0.01) -> Trained:
    """Distribution matching, and a critic of this weight on the features of the fake score, or on values."""
    fake = job.fake()
    return job.distill(fake=fake, adversary=job.adversary(fake, weight, critic))


def decoupled(job: Job, *, schedule: Windows = "hybrid") -> Trained:
    """Matching without guidance, and guidance as a push of its own, at noise levels of its own."""
    levels = job.levels(0.02, 0.98)
    push = Decoupled(job.guidance or 0.0, job.source.classes, schedule, levels=levels)
    return job.distill(job.network, push=push)


def disback(
    job: Job, *, steps: Count = 150, every: Count = 50, interval: Count = 20, storage: Storage = "full"
) -> Trained:
    """The fake score's way from the teacher to the untrained student, recorded and walked back."""
    student, brief = job.student(), {name: job.how[name] for name in ("seed", "progress")}
    path = record_degradation(
        student,
        job.network,
        job.source,
        job.how["out"] / "path",
        steps=steps,
        every=every,
        storage=storage,
        levels=job.levels(),
        **brief,
    )
    how: dict[str, Any] = {"interval": interval, "guide": job.guide, "regime": job.regime(), **job.matching, **job.how}
    done = backtrack(student, job.network, job.source, path, **how)
    return done.student, [done]


def gdd(job: Job, *, critic: Critic = "values", r1: Number = 0.1, frozen: bool = False) -> Trained:
    """A critic alone, on values or on the teacher's frozen features; the student's trunk may be frozen."""
    adversary = replace(job.adversary(job.network, 1.0, critic, joint=False), r1=r1)
    student: Any = innate(cast(Preconditioned, job.first), job.sigmas)
    regime, freeze = cast(Alternating, job.regime(Alternating())), freeze_trunk if frozen else None
    done = distill_gdd(student, job.source, adversary, regime=regime, freeze=freeze, **job.how)
    return done.student, [done]


def gdd_i(job: Job, *, critic: Critic = "values", r1: Number = 0.1) -> Trained:
    """GDD with a frozen trunk."""
    return gdd(job, critic=critic, r1=r1, frozen=True)


def phased(job: Job) -> Trained:
    """Distribution matching, an expert for each of the student's noise levels."""
    student = experts(job.first, [[sigma] for sigma in job.sigmas])
    done = distill_phases(
        student, job.teacher, job.source, fake=job.network, regime=job.regime(), **job.matching, **job.how
    )
    return done[-1].student, done


def multi_student(
    job: Job, *, students: Count = 2, split: Literal["contiguous", "random"] = "contiguous", weight: Number = 0.0
) -> Trained:
    """Distribution matching, a student for each part of the classes; then with a critic of this weight, if any."""
    owner = partition(job.source.classes, students, split, seed=job.how["seed"])
    done = distill_students(
        job.first, job.teacher, job.source, owner, fake=job.network, levels=job.sigmas, regime=job.regime(),
        adversary=partial(job.adversary, weight=weight) if weight else None,
        **{**job.matching, **job.how, "judge": None},
    )  # fmt: skip
    return done.bundle, [run for own in done.runs for run in own]


def consistency(
    job: Job, *, rule: Literal["scm", "cd", "ct", "ict", "ect", "lcm", "dcm"] = "cd", steps: Count = 2
) -> Trained:
    """A consistency model, asked in 1 to 4 steps; ct, ict, ect learn from data alone, scm wants the clock "angle"."""
    chosen: Any = Tangent() if rule == "scm" else RULES[rule]()
    teacher = None if rule in ("ct", "ict", "ect") else job.teacher
    student = one_network(job.first, few_levels(steps, job.source.data_std))
    done = distil_consistency(student, job.source, chosen, teacher, regime=job.regime(), **job.how)
    return done.student, [done]


def rcm(job: Job, *, lam: Weight = 0.1, steps: Count = 2) -> Trained:
    """Consistency by tangents, and matching of weight lam, asked in 1 to 4 steps; wants the clock "angle"."""
    student = one_network(job.first, few_levels(steps, job.source.data_std))
    how: dict[str, Any] = {"lam": lam, "fake": job.fake(), "regime": job.regime(), **job.how}
    done = distil_rcm(student, job.teacher, job.source, **how)
    return done.student, [done]


def scale_distillation(job: Job, *, factors: tuple[Count, ...] = (2, 4), longer: Count = 4) -> Trained:
    """Super-resolution by a ladder of factors; the first model learns for `longer` times the updates of the others."""
    regime = job.regime(SCALING)
    first = replace(regime, updates=longer * regime.updates)
    done = distill_scales(job.network, job.source, factors, regime=regime, first=first, **job.how)
    return done[factors[-1]].student, list(done.values())


def pg_sb(job: Job, *, low: Weight = 0.5, high: Weight = 4.0) -> Trained:
    """Matching at a scale of guidance from low to high, drawn for each picture, the same for teacher and fake score."""
    if job.guidance is not None or not job.source.classes:
        raise ConfigError(
            "pg-sb draws its guidance between low and high, for classes: leave guidance out, tell classes"
        )
    push = RandomGuidance(job.source.classes, low, high, job.levels(0.02, 0.98))
    return job.distill(job.network, push=push, denoising=noise_loss)


def progressive(job: Job, *, start: Count = 16, end: Count = 1, truncated: bool = True) -> Trained:
    """A sampler of `start` steps halved until `end` are left; `updates` are those of one halving, after guidance."""
    teacher, how = job.learning(job.first)
    began, common = perf_counter(), {name: job.how[name] for name in ("seed", "progress")}
    if job.guidance is not None:
        how, out = replace(how, label_dropout=0.0), job.how["out"] / "guided"
        begin, target = deepcopy(teacher).requires_grad_(True), job.guide(teacher)
        teacher = train_teacher(begin, job.source, how, target=target, out=out, **common).denoiser
    done = distil_progressively(
        teacher, job.source, how, start=start, end=end, truncated=truncated, out=job.how["out"], **common
    )
    judged = {k * how.steps: dict(job.how["judge"](one)) for k, one in enumerate(done.values(), 1)}
    return done[end], [Distilled(done[end], None, len(done) * how.steps, 1.0, perf_counter() - began, judged, {})]


def slider(
    job: Job,
    *,
    more: Count = 1,
    less: Count = 0,
    eta: Weight = 1.0,
    strength: Finite = 1.0,
    rank: Rank = 4,
    to: str = "",
) -> Trained:
    """An adapter to the class `more` from `less`, learnt on the teacher; worn by it, or by the student in `to`."""
    if not 0 <= min(more, less) <= max(more, less) < job.source.classes:
        raise ConfigError(f"a slider goes between two classes, 0 to {job.source.classes - 1}; got {less} and {more}")
    teacher, how = job.learning(job.network)
    began, model = perf_counter(), load_model(to).model if to else teacher
    rule, common = slider_rule(teacher, more, less, eta), {name: job.how[name] for name in ("seed", "out", "progress")}
    learnt = train_slider(teacher, job.source, how, rank=rank, target=rule, **common)
    edited: Any = transfer(learnt, model, strength)
    return edited, [Distilled(edited, None, how.steps, 1.0, perf_counter() - began, {}, {})]


METHODS: dict[str, Callable[..., Trained]] = {
    "dmd": dmd, "dmd2": dmd2, "decoupled": decoupled, "disback": disback, "gdd": gdd, "gdd-i": gdd_i,
    "phased": phased, "multi-student": multi_student, "consistency": consistency, "rcm": rcm,
    "pg-sb": pg_sb, "progressive": progressive, "slider": slider, "scale-distillation": scale_distillation,
}  # fmt: skip


class Method(Settings):
    """The group `method`; a name alone stands for the whole group.

    Args:
        name: see the table above.
        options: its choices, written beside the name.
    """

    name: str = "dmd2"
    options: Mapping[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _checked(cls, value: Any) -> Any:
        given = named(value)
        name = str(given.pop("name", "dmd2"))
        if name not in METHODS:
            raise ValueError(f'no method is called "{name}".{nearest(name, METHODS)} Known: {", ".join(METHODS)}')
        known = {
            key: one.annotation for key, one in inspect.signature(METHODS[name]).parameters.items() if key != "job"
        }
        for key, chosen in given.items():
            if key not in known:
                there = ", ".join(known) or "none"
                raise ValueError(f'{name} has no choice "{key}".{nearest(key, known)} Known: {there}')
            try:
                given[key] = TypeAdapter(known[key]).validate_python(chosen)
            except ValidationError as error:
                raise ValueError(f'"{key}" of {name}: {error.errors()[0]["msg"]}, got {chosen!r}') from error
        return {"name": name, "options": given}

    def run(self, job: Job) -> Trained:
        """Distil."""
        return METHODS[self.name](job, **self.options)
