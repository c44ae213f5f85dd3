"""One round of a distillation: the student makes pictures, is pushed, and fake score and critic learn from them."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from limbeck.diffusion.adversary import Adversary, frozen
from limbeck.diffusion.denoisers import Denoiser
from limbeck.diffusion.matching import Levels, Noised, fake_loss, matching_direction, noised, surrogate
from limbeck.diffusion.samplers import heun, karras
from limbeck.diffusion.sources import Draws, Source
from limbeck.diffusion.students import Student
from limbeck.diffusion.watch import Watch
from limbeck.errors import ConfigError

Law = Callable[..., Tensor]
"""Noise levels of quantiles, between two levels: `law(u, above, below)`, as `Levels` and `LogNormal` are."""
PUSHED = Levels(low=0.02, high=0.98)
"""Where DMD compares: the middle of the grid of noise levels."""


@dataclass
class Scene:
    """One round, as a push sees it.

    Args:
        draws: the round's random numbers.
        step: round, from 0.
        cond: classes that pictures are made for, [B]; None without classes.
        x: the student's pictures, at the noise level `anchor`, [B, ...]; none before they are made.
        update: of the student, from 0; a round has one, or none.
        data: real pictures of the same classes, [B, ...].
        real: the teacher at this step.
        fake: the fake score; None if there is none.
        start: noise level of the input of the student's trained step.
        anchor: noise level of its pictures.
        data_std: of the data's values.
    """

    draws: Draws
    step: int
    cond: Tensor | None
    real: Denoiser
    fake: Denoiser | None
    data_std: float
    start: float = 0.0
    anchor: float = 0.0
    x: Tensor = field(default_factory=lambda: torch.empty(0))
    update: int = 0
    data: Tensor = field(default_factory=lambda: torch.empty(0))

    def noised(self, name: str, levels: Law, below: float = torch.inf) -> Noised:
        """Return the pictures behind noise of a level drawn under a name, without a gradient."""
        x = self.x.detach()
        sigma = levels(self.draws.uniform(f"u/{name}", len(x)).to(x.device), self.anchor, below).to(x.dtype)
        return noised(x, sigma, self.draws.normal(f"eps/{name}", *x.shape).to(x), self.data_std, self.anchor)

    @torch.no_grad()
    def scores(self, there: Noised) -> tuple[Tensor, Tensor]:
        """Return what teacher and fake score say.

        Raises:
            ConfigError: there is no fake score.
        """
        if self.fake is None:
            raise ConfigError("this push needs a teacher and a fake score: give fake, a copy of the teacher")
        real, fake = (score(there.x, there.sigma, self.cond) for score in (self.real, self.fake))
        return real, fake


class Push(Protocol):
    """Which way the student's pictures should go."""

    def __call__(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the direction to move against, of the shape of `scene.x`, and numbers to record."""
        ...


class Also(Protocol):
    """A further loss of the student; a module's parameters learn with the student, and its state is kept with it."""

    def __call__(self, student: Student, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and numbers to record."""
        ...


class Rollout(Protocol):
    """How the student makes pictures while it learns, where that is not backward simulation."""

    def __call__(self, student: Student, scene: Scene, name: str, count: int, shape: Sequence[int]) -> Tensor:
        """Return `count` pictures for the classes of the scene, from noise of this name."""
        ...


@dataclass(frozen=True)
class Matching:
    """The push of DMD: fake minus real score at one noise level, over the teacher's distance from the picture.

    Args:
        levels: noise levels: `Levels`, uniform on a grid, or another law of quantiles.
        floor: least divisor.
    """

    levels: Law = PUSHED
    floor: float = 0.0

    def __call__(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Push`."""
        real, fake = scene.scores(scene.noised("match", self.levels))
        g, empty = matching_direction(scene.x.detach(), real, fake, self.floor)
        return g, disagreement(real, fake) | {"empty": empty.float()}


def disagreement(real: Tensor, fake: Tensor) -> dict[str, Tensor]:
    """Return what tells a lagging or over-baked fake score: relative distance `gap` and cosine `cos` of the two."""
    gap = (real - fake).square().mean().sqrt() / real.square().mean().sqrt()
    return {"gap": gap, "cos": torch.cosine_similarity(real.flatten(), fake.flatten(), 0)}


@dataclass(frozen=True)
class Pairs:
    """Noise and what the teacher's sampler makes of it (DMD's regression term).

    Args:
        noise: unit noise of the student's first step, [N, ...].
        x: the teacher's pictures from the same noise, [N, ...].
        cond: their classes, [N]; None without.
        weight: of the mean squared difference in the student's loss.
    """

    noise: Tensor
    x: Tensor
    cond: Tensor | None = None
    weight: float = 0.25

    def loss(self, student: Student, draws: Draws, count: int) -> Tensor:
        """Return weight times the mean squared difference on pairs drawn for this step."""
        rows, device = draws.integers("pairs", len(self.noise), count).to(self.noise.device), draws.device
        noise, x = (one[rows].to(device) for one in (self.noise, self.x))
        cond = None if self.cond is None else self.cond[rows].to(device)
        made = student.roll(noise[:, None].expand(-1, student.steps, *noise.shape[1:]), cond, 0, 0)
        return self.weight * (made - x).square().mean()


def make_pairs(
    teacher: Denoiser, source: Source, count: int, *, sigmas: Tensor | None = None, seed: int = 0, weight: float = 0.25
) -> Pairs:
    """Return noise and the pictures that the teacher's ODE, solved by Heun's method, makes of it.

    Args:
        teacher: denoiser, guided if it should be.
        source: of classes and shapes.
        count: pairs.
        sigmas: noise levels of the solver, `karras()` by default. Begin far above the student's level: at a low one
            noise alone lacks the mean of the data, and so would the pictures.
        seed: of noise and classes.
        weight: of the regression; DMD's 0.25 is for LPIPS.

    Example:
        >>> from limbeck.diffusion.mixtures import mixture
        >>> from limbeck.diffusion.sources import Exact
        >>> point = lambda x, sigma, cond: torch.ones_like(x)
        >>> make_pairs(point, Exact(mixture("ring8")), 2).x
        tensor([[1., 1.],
                [1., 1.]])

    Source: Yin et al., One-step Diffusion with Distribution Matching Distillation (2024), arXiv 2311.18828.
    """
    draws = Draws(seed, 0)
    noise, (_, cond) = draws.normal("noise", count, *source.shape), source.draw(draws, count)
    return Pairs(noise, heun(teacher, noise, karras() if sigmas is None else sigmas, cond), cond, weight)


@dataclass
class Game:
    """The losses of student, fake score and critic in one round; for the arguments see `distill`."""

    student: Student
    real: Callable[[int], Denoiser]
    fake: nn.Module | None
    source: Source
    batch: int
    seed: int
    turns: int = 1
    phase: int = 0
    push: Push | None = None
    adversary: Adversary | None = None
    pairs: Pairs | None = None
    fake_levels: Law = Levels()  # noqa: RUF009 (frozen)
    denoising: Callable[[Tensor, Noised], Tensor] = fake_loss
    watch: Watch | None = None
    also: Also | None = None
    rollout: Rollout | None = None

    def scene(self, step: int) -> Scene:
        """Return the round, its pictures not yet made. The classes are those of real data."""
        draws = Draws(self.seed, step, next(self.student.parameters()).device)
        data, cond = self.source.draw(draws, self.batch)
        update, std = step // self.turns, self.source.data_std
        return Scene(draws, step, cond, self.real(step), self.fake, std, update=update, data=data)

    def make(self, scene: Scene, name: str = "z") -> Tensor:
        """Return the student's pictures; the step at which it ends is the same for all."""
        if self.rollout is not None:
            return self.rollout(self.student, scene, name, self.batch, self.source.shape)
        levels = self.student.levels[self.phase]
        exit_step = int(scene.draws.integers("exit", len(levels), 1))
        scene.start, scene.anchor = levels[exit_step], self.student.anchor(self.phase)
        noise = scene.draws.normal(name, self.batch, self.student.steps, *self.source.shape)
        return self.student.roll(noise, scene.cond, self.phase, exit_step)

    def __call__(self, player: str, scene: Scene, step: int) -> dict[str, Tensor]:
        """Return the loss of a player, for the trainer."""
        if player == "student":
            return self._student(scene)
        if not len(scene.x):
            with torch.no_grad():
                scene.x = self.make(scene)
        return self._fake(scene, step) if player == "fake" else self._critic(scene, step)

    def _student(self, scene: Scene) -> dict[str, Tensor]:
        loss, logs = torch.zeros(()), dict[str, Tensor]()
        if self.also is not None:
            loss, logs = self.also(self.student, scene)
            if self.push is None and self.adversary is None and self.pairs is None:
                return {"loss": loss, **logs}
        x = self.make(scene)
        scene.x = x.detach()
        loss, logs["std"] = loss.to(x.device), scene.x.var(0, correction=0).mean().sqrt()
        if self.watch is not None:
            self.watch.look(logs["std"], math.hypot(scene.data_std, scene.anchor))
        if self.push is not None:
            g, said = self.push(scene)
            loss, logs = loss + surrogate(x, g), logs | said
        if self.adversary is not None:
            with frozen(self.fake) if self.fake is not None else nullcontext():
                logs["gan"] = self.adversary.student_loss(x, scene.cond, scene.draws)
            loss = loss + self.adversary.weight * logs["gan"]
        if self.pairs is not None:
            logs["regression"] = self.pairs.loss(self.student, scene.draws, self.batch)
            loss = loss + logs["regression"]
        return {"loss": loss, **logs}

    def _fake(self, scene: Scene, step: int) -> dict[str, Tensor]:
        assert self.fake is not None
        there = scene.noised("fake", self.fake_levels)
        told = getattr(self.push, "told", lambda scene: scene.cond)(scene)  # a push may leave classes out
        loss = self.denoising(self.fake(there.x, there.sigma, told), there)
        if self.adversary is None or not self.adversary.joint:
            return {"loss": loss}
        critic = self._against(scene, scene.x, step)
        return {"loss": loss + self.adversary.critic_weight * critic, "denoising": loss, "critic": critic}

    def _critic(self, scene: Scene, step: int) -> dict[str, Tensor]:
        assert self.adversary is not None
        x = scene.x
        if self.adversary.fresh:
            with torch.no_grad():
                x = self.make(scene, "z/critic")
        return {"loss": self._against(scene, x, step)}

    def _against(self, scene: Scene, x: Tensor, step: int) -> Tensor:
        assert self.adversary is not None
        real = scene.data
        if scene.anchor:  # a phase's pictures are noisy: so are the real ones beside them
            real = real + scene.anchor * scene.draws.normal("eps/anchor", *real.shape).to(real)
        return self.adversary.loss_of_critic(x, real, scene.cond, scene.draws, step)
