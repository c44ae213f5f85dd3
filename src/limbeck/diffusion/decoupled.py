"""Decoupled DMD: guidance is a push of its own, beside matching, at noise levels of its own.

With a guided teacher the push of DMD is a sum: matching, which vanishes where the student's law is the teacher's, and
augmentation, the difference that a class makes, which never vanishes and knows nothing of the student. Augmentation
alone runs away; matching, or another shield, holds it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from limbeck.diffusion.game import PUSHED, Law, Push, Scene, disagreement
from limbeck.diffusion.matching import matching_direction, normalised_direction
from limbeck.diffusion.students import Student
from limbeck.errors import ConfigError

Windows = Literal["shared", "above", "decoupled", "hybrid"]
"""Noise levels of matching and augmentation (the paper's schedules 1 to 4; what 2 and 3 are is reconstructed).

| name | draws | matching | augmentation |
|---|---|---|---|
| shared | one for both | all levels | all levels |
| above | one for both | cleaner than the step's input | cleaner than the step's input |
| decoupled | one each | all levels | all levels |
| hybrid | one each | all levels | cleaner than the step's input |
"""


@dataclass(frozen=True)
class Decoupled:
    """Matching at one noise level, augmentation by guidance at another, each over a divisor of its own.

        g = (D_fake(x_t, c) - D_real(x_t, c)) / mean |x - D_real(x_t, c)|
            - (guidance - 1) (D_real(x_s, c) - D_real(x_s, no class)) / mean |x - D_real(x_s, c)|

    The teacher given to `distill` must not be guided. Guidance 1 is plain matching; the fake score is asked by matching
    alone. Recorded beside `gap` and `cos` of matching and `std` of the pictures: `balance`, rms of the first difference
    over rms of the second.

    Args:
        guidance: kappa, the paper's alpha; 1 is conditional.
        null: the number that stands for "no class".
        schedule: of the two noise levels, see `Windows`.
        which: both terms or one alone.
        shield: loss of clean pictures that takes the place of matching, see `MeanVariance`; no fake score is needed.
            An `Adversary` beside `which="augmentation"` is another shield.
        levels: all noise levels, in quantiles.
        floor: least divisor.

    Raises:
        ConfigError: no classes to guide by, no fake score to match.

    Example:
        >>> from limbeck.diffusion.mixtures import Mixture
        >>> from limbeck.diffusion.sources import Draws
        >>> scene = Scene(Draws(0, 0), 0, torch.tensor([0]), Mixture([[0.5], [-0.5]], 0.5), None, 0.7)
        >>> scene.x, scene.start = torch.zeros(1, 1), 2.5
        >>> g, _ = Decoupled(3.0, null=2, which="augmentation")(scene)  # move against it: towards the class
        >>> bool(g < 0)
        True

    Source: Liu et al., Decoupled DMD: CFG Augmentation as the Spear, Distribution Matching as the Shield (2025), arXiv
        2511.22677; the floor of 0.1 is byliutao/cdm's.
    """

    guidance: float
    null: int
    schedule: Windows = "hybrid"
    which: Literal["both", "matching", "augmentation"] = "both"
    shield: Callable[[Tensor], Tensor] | None = None
    levels: Law = PUSHED
    floor: float = 0.1

    def __call__(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Push`."""
        x, cond, limit = scene.x.detach(), scene.cond, scene.start or torch.inf  # a rollout of one's own has no start
        shared = self.schedule in ("shared", "above")
        there = scene.noised("match", self.levels, limit if self.schedule == "above" else torch.inf)
        g, said, real, pull = torch.zeros_like(x), dict[str, Tensor](), None, None
        if self.which != "augmentation" and self.shield is not None:
            clean = x.clone().requires_grad_()
            said["shield"] = self.shield(clean)
            g = clean.numel() * torch.autograd.grad(said["shield"], clean)[0]
        elif self.which != "augmentation":
            real, fake = scene.scores(there)
            g, empty = matching_direction(x, real, fake, self.floor)
            said, pull = disagreement(real, fake) | {"empty": empty.float()}, fake - real
        if self.which == "matching" or self.guidance == 1:
            return g, said
        if cond is None:
            raise ConfigError(f"guidance {self.guidance:g} needs classes: this source has none, use guidance 1")
        with torch.no_grad():
            if not shared:
                there = scene.noised("augment", self.levels, limit if self.schedule == "hybrid" else torch.inf)
            real = real if shared and real is not None else scene.real(there.x, there.sigma, cond)
            without = scene.real(there.x, there.sigma, torch.full_like(cond, self.null))
            push = (self.guidance - 1) * (without - real)
        if pull is not None:
            said["balance"] = pull.square().mean().sqrt() / push.square().mean().sqrt()
        return g + normalised_direction(x, real, push, self.floor)[0], said


@dataclass(frozen=True)
class MeanVariance:
    """A shield: each picture's values should have the mean and spread of the data's.

        L = weight mean_i (log(S / s_i) + (s_i^2 + (m_i - M)^2) / (2 S^2) - 1/2)

    the KL of N(m_i, s_i^2) from N(M, S^2), with m_i and s_i over all values of a picture; at least 0, and 0 only where
    both agree.

    Args:
        mean, std: M and S; S^2 is the variance within a picture (n - 1).
        weight: of the loss.

    Example:
        >>> MeanVariance(0.0, 1.0)(torch.tensor([[-1.0, 0.0, 1.0], [0.0, 1.0, 2.0]]))
        tensor(0.2500)

    Source: Liu et al., Decoupled DMD (2025), arXiv 2511.22677, eq. 7.
    """

    mean: float
    std: float
    weight: float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return the loss of pictures, [B, ...]."""
        values = x.flatten(1)
        variance, offset = values.var(1) / self.std**2, (values.mean(1) - self.mean) / self.std
        return self.weight * ((variance + offset**2 - 1 - variance.log()) / 2).mean()


@dataclass
class Stopping:
    """Ends a training whose push says that it goes wrong: `push=stop, judge=stop.judge, stop_when=stop.due`.

    A number that the push says, or `std` of its pictures, is too high if it is above `rise` times its least so far at
    two judgements in a row; the student of then is what the training gives. A rising gap means a fake score that lags,
    or pictures that are over-baked; a rising std, pictures that run away. Judge late and seldom: a fake score that
    begins as the teacher has no gap at first, a student that begins blurred has a small std, and every number is that
    of one batch.

    Args:
        push: whose numbers are looked at.
        rise: factor of each number that is looked at.
        also: further numbers about the averaged student.

    Example:
        >>> stop = Stopping(Decoupled(3.0, 10), rise={"gap": 2.0})
        >>> [stop.due({1: {"gap": 0.1}, 2: {"gap": 0.3}, 3: {"gap": last}}) for last in (0.15, 0.25)]
        [False, True]
    """

    push: Push
    rise: Mapping[str, float]
    also: Callable[[Student], Mapping[str, float]] = field(default=lambda student: {}, repr=False)
    _said: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __call__(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Push`."""
        g, said = self.push(scene)
        self._said = said | {"std": scene.x.std()}
        return g, said

    def judge(self, student: Student) -> dict[str, float]:
        """Return what the push said last, beside further numbers."""
        return {name: float(value) for name, value in self._said.items()} | dict(self.also(student))

    def due(self, judged: Mapping[int, Mapping[str, float]]) -> bool:
        """Whether judgements, by step, are reason to end."""
        seen = {name: [judged[step][name] for step in sorted(judged) if name in judged[step]] for name in self.rise}
        return any(len(one) > 1 and min(one[-2:]) > self.rise[name] * min(one) for name, one in seen.items())
