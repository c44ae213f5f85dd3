"""Variational score distillation at a random scale of guidance, the same for teacher and fake score (PG-SB)."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from limbeck.diffusion.denoisers import Denoiser, spread
from limbeck.diffusion.game import Law, Scene, disagreement
from limbeck.diffusion.matching import Noised
from limbeck.diffusion.schedules import DDPM, Schedule
from limbeck.diffusion.students import Student
from limbeck.errors import ConfigError


@dataclass(frozen=True)
class UniformTime:
    """Noise levels of a schedule whose time is uniform: sigma = b(t) / a(t), t ~ U(low, high) of its length.

    Args:
        schedule: DDPM's by default.
        low, high: shares of its largest time.

    Example:
        >>> [round(one, 3) for one in UniformTime()(torch.tensor([0.0, 0.5], dtype=torch.float64)).tolist()]
        [0.079, 3.434]
    """

    schedule: Schedule = field(default_factory=DDPM)
    low: float = 0.02
    high: float = 0.98

    def __call__(self, u: Tensor, above: float = 0.0, below: float = torch.inf) -> Tensor:
        """Return the levels of the quantiles u, [B]; the two bounds of phases are not needed here."""
        t = self.schedule.largest * (self.low + u * (self.high - self.low))
        return self.schedule.b(t) / self.schedule.a(t)


@dataclass(frozen=True)
class RandomGuidance:
    """The push of PG-SB: fake minus real score, both guided by one scale k that is drawn for each picture.

        eps(k) = (1 - k) eps(x_t, no class) + k eps(x_t, class),  k ~ U(low, high)
        g = b_t^2 (eps_real(k) - eps_fake(k)) = sigma / (1 + sigma^2) (D_fake(k) - D_real(k)),  a^2 + b^2 = 1

    The teacher must be given without guidance. low = high is SwiftBrush, 1 and 1 is without guidance. The paper's
    ranges: 0.5 to 4 for students of Stable Diffusion 1.5 and 2.1, 0.5 to 3 for PixArt-alpha. That one k serves both
    scores of a step is our reading of the paper (reconstructed): with two, g is not 0 where both scores agree.

    Args:
        null: the number that stands for "no class".
        low, high: range of k; 1 is no guidance.
        levels: law of the noise levels; DDPM's time, uniform from 0.02 to 0.98.
        dropout: share of pictures whose class the fake score is not told while it learns.

    Raises:
        ConfigError: a range that falls, a share outside of 0 to 1.

    Source: Nguyen et al., SNOOPI: Supercharged One-step Diffusion Distillation with Proper Guidance (2024), arXiv
        2412.02687; Nguyen, Tran, SwiftBrush (2023), arXiv 2312.05239.
    """

    null: int
    low: float = 0.5
    high: float = 4.0
    levels: Law = field(default_factory=UniformTime)
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.low > self.high or not 0 <= self.dropout <= 1:
            raise ConfigError(f"low must not be above high, and dropout be from 0 to 1; got {self}")

    def __call__(self, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Push`.

        Raises:
            ConfigError: no classes, or no fake score.
        """
        if scene.cond is None or scene.fake is None:
            raise ConfigError("random guidance needs classes and a fake score: give a source with classes, and fake")
        there = scene.noised("match", self.levels)
        k = self.low + (self.high - self.low) * scene.draws.uniform("guidance", len(there.x))
        with torch.no_grad():
            real, fake = (self.at(score, there, scene.cond, k) for score in (scene.real, scene.fake))
        g = spread(there.sigma / (1 + there.sigma**2), real) * (fake - real)
        return g, disagreement(real, fake) | {"guidance": k.mean()}

    def at(self, score: Denoiser, there: Noised, cond: Tensor, k: Tensor) -> Tensor:
        """Return what a score says, guided by a scale for each picture, [B]."""
        free, told = (score(there.x, there.sigma, one) for one in (torch.full_like(cond, self.null), cond))
        k = spread(k, told)
        return (1 - k) * free + k * told

    def told(self, scene: Scene) -> Tensor:
        """Return the classes that the fake score is told while it learns, one coin for each picture."""
        assert scene.cond is not None
        dropped = scene.draws.uniform("dropped", len(scene.x)) < self.dropout
        return torch.where(spread(dropped, scene.cond) > 0, self.null, scene.cond)


def noise_loss(answer: Tensor, there: Noised) -> Tensor:
    """Return the loss of the paper's fake score: mean a_t^2 (eps_fake - eps)^2, a^2 = 1 / (1 + sigma^2)."""
    weight = 1 / (there.sigma**2 * (1 + there.sigma**2))
    return (spread(weight, answer) * (answer - there.target).square()).mean()


class Adapter(nn.Module):
    """A fake score that is the teacher with an adapter of low rank; the teacher's weights never learn.

    Args:
        teacher: copied.
        targets: ends of the names of the maps that are adapted; `("to_q", "to_v")` for transformers.
        rank, alpha: the change is alpha / rank B A; the paper has 64 and 128.
        seed: of A; B begins at 0.

    Example:
        >>> from limbeck.diffusion.networks import Sizes
        >>> fake = Adapter(Sizes(16, 1).build([2]), ["maps.0"], rank=2, alpha=4)
        >>> sum(one.numel() for one in fake.requires_grad_(True).parameters() if one.requires_grad)
        64

    Source: Hu et al., LoRA (2021), arXiv 2106.09685.
    """

    def __init__(self, teacher: nn.Module, targets: Sequence[str], rank: int = 64, alpha: float = 128, seed: int = 0):
        super().__init__()
        import peft

        settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets))  # type: ignore[arg-type]
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.score: Any = peft.inject_adapter_in_model(settings, deepcopy(teacher))
        self.requires_grad_(True)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Thaw or freeze the adapter alone."""
        for name, one in self.named_parameters():
            one.requires_grad_(requires_grad and "lora_" in name)
        return self

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the expected x0, see `Denoiser`."""
        answer: Tensor = self.score(x, sigma, cond)
        return answer


@dataclass(frozen=True)
class ClampedSimilarity:
    """A further loss, for `distill(also=...)`: weight mean max(0, tau - cos(picture, class)).

    Args:
        similarity: of pictures and their classes, [B], with a gradient; CLIP's in the paper.
        tau: beyond this the loss stops pulling.
        weight: of the loss.

    Source: Dao et al., SwiftBrush v2 (2024), arXiv 2408.14176.
    """

    similarity: Callable[[Tensor, Tensor | None], Tensor]
    tau: float = 0.37
    weight: float = 0.1

    def __call__(self, student: Student, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and the mean similarity, of the pictures that the push sees too."""
        x = student(scene.draws.normal("z", len(scene.data), student.steps, *scene.data.shape[1:]), scene.cond)
        found = self.similarity(x, scene.cond)
        return self.weight * relu(self.tau - found).mean(), {"similarity": found.detach().mean()}
