"""Adversaries: networks that tell generated pictures from real ones, and the losses between them and a student."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, relu, softplus

from limbeck.diffusion.matching import Levels
from limbeck.diffusion.sources import Draws
from limbeck.distill.features import captured
from limbeck.errors import ConfigError

GanLoss = Literal["softplus", "hinge"]


def generator_loss(fake: Tensor, kind: GanLoss = "softplus") -> Tensor:
    """Return what the student minimises, summed over heads: mean softplus(-l_fake), or -mean l_fake.

    Args:
        fake: logits of generated pictures, [B, heads]; large means "real".
        kind: of loss.
    """
    return (softplus(-fake) if kind == "softplus" else -fake).mean(0).sum()


def critic_loss(real: Tensor, fake: Tensor, kind: GanLoss = "softplus") -> Tensor:
    """Return what the critic minimises, summed over heads.

    softplus: mean softplus(l_fake) + mean softplus(-l_real);  hinge: mean relu(1 + l_fake) + mean relu(1 - l_real)

    Args:
        real, fake: logits, [B, heads].
        kind: of loss.

    Example:
        >>> round(critic_loss(torch.zeros(3, 1), torch.zeros(3, 1)).item(), 4) == round(2 * math.log(2), 4)
        True
    """
    if kind == "softplus":
        return softplus(fake).mean(0).sum() + softplus(-real).mean(0).sum()
    return relu(1 + fake).mean(0).sum() + relu(1 - real).mean(0).sum()


def r1_penalty(logits: Tensor, x: Tensor, gamma: float) -> Tensor:
    """Return gamma/2 E |grad_x sum of heads|^2 at real pictures.

    Args:
        logits: of real pictures, [B, heads], computed from x.
        x: pictures that require a gradient, [B, ...].
        gamma: weight.

    Source: Mescheder, Geiger, Nowozin, Which Training Methods for GANs do actually Converge? (2018), arXiv 1801.04406.
    """
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return gamma / 2 * slope.square().flatten(1).sum(1).mean()


class PixelCritic(nn.Module):
    """A perceptron on the values of a picture or point, and on its class.

    Args:
        shape: of one picture.
        classes: that it is told; 0 for none.
        width: of its two hidden layers.
        seed: of its weights.

    Example:
        >>> PixelCritic([2], 0, 8)(torch.zeros(3, 2), torch.zeros(3)).shape
        torch.Size([3, 1])
    """

    def __init__(self, shape: Sequence[int], classes: int = 0, width: int = 64, seed: int = 0) -> None:
        super().__init__()
        self.classes = classes
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            size = math.prod(shape) + classes
            self.layers = nn.Sequential(
                nn.Linear(size, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2),
                nn.Linear(width, 1),
            )  # fmt: skip

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map pictures [B, ...] to logits [B, 1]; the noise level is not looked at."""
        told = [x.flatten(1)]
        if self.classes and cond is not None:
            told.append(one_hot(cond, self.classes + 1)[:, : self.classes].to(x.dtype))
        return self.layers(torch.cat(told, 1))  # type: ignore[no-any-return]


class FeatureCritic(nn.Module):
    """Linear heads on what a denoiser sees inside: one head for each of its modules that is named.

    Args:
        denoiser: a frozen teacher, or the fake score while it learns (DMD2); it is not a part of this module.
        paths: of modules inside it.
        x, cond: a few pictures, from which the sizes of the features are seen.
        seed: of the heads.
    """

    def __init__(
        self, denoiser: nn.Module, paths: Sequence[str], x: Tensor, cond: Tensor | None = None, seed: int = 0
    ) -> None:
        super().__init__()
        self._denoiser, self.paths = (denoiser,), tuple(paths)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            features = self.features(x[:2], torch.ones(2), None if cond is None else cond[:2])
            self.heads = nn.ModuleList(
                nn.Sequential(nn.Linear(one.shape[1], 64), nn.LeakyReLU(0.2), nn.Linear(64, 1)) for one in features
            )

    def features(self, x: Tensor, sigma: Tensor, cond: Tensor | None) -> list[Tensor]:
        """Return what the modules give, averaged over places in the picture, [B, width] each."""
        with captured(self._denoiser[0], self.paths) as seen:
            self._denoiser[0](x, sigma, cond)
        return [seen[path].flatten(2).mean(2) if seen[path].ndim > 2 else seen[path] for path in self.paths]

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map pictures with noise [B, ...] to logits [B, heads]."""
        features = self.features(x, sigma, cond)
        return torch.cat([head(one) for head, one in zip(self.heads, features, strict=True)], 1)


@dataclass
class Adversary:
    """A critic and how it plays.

    Args:
        critic: `critic(x, sigma, cond) -> logits [B, heads]`.
        weight: of its term in the student's loss.
        joint: it learns within the fake score's update, with `critic_weight` (DMD2: heads on the fake score); else it
            is a player of its own.
        critic_weight: of its loss in a joint update.
        lr: of a critic that plays alone.
        loss: softplus (non-saturating) or hinge.
        r1, r1_every: penalty on the slope at real pictures, and every how many updates it is taken (then times that
            number, so that its average over time stays the same).
        levels: noise levels at which pictures are shown, drawn for real and generated ones apart; None shows them
            clean.
        fresh: the critic sees pictures that the updated student made anew, as in GDD; else those that the student was
            just judged by.
    """

    critic: nn.Module
    weight: float = 1.0
    joint: bool = False
    critic_weight: float = 0.01
    lr: float = 4e-4
    loss: GanLoss = "softplus"
    r1: float = 0.0
    r1_every: int = 16
    levels: Levels | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.weight < 0 or self.critic_weight < 0 or self.r1 < 0 or self.r1_every < 1:
            raise ConfigError("weights and r1 must be at least 0, and r1_every at least 1")

    def logits(self, x: Tensor, cond: Tensor | None, draws: Draws, name: str) -> Tensor:
        """Return the critic's opinion of clean pictures, behind noise if it wants that."""
        sigma = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        if self.levels is not None:
            sigma = self.levels(draws.uniform(f"u/{name}", len(x))).to(x)
            noise = draws.normal(f"eps/{name}", *x.shape).to(x)
            x = x + sigma.reshape(-1, *[1] * (x.ndim - 1)) * noise
        return self.critic(x, sigma, cond)  # type: ignore[no-any-return]

    def student_loss(self, x: Tensor, cond: Tensor | None, draws: Draws) -> Tensor:
        """Return the student's loss; the critic gets no gradient."""
        with frozen(self.critic):
            return generator_loss(self.logits(x, cond, draws, "judged"), self.loss)

    def loss_of_critic(self, x: Tensor, real: Tensor, cond: Tensor | None, draws: Draws, update: int) -> Tensor:
        """Return the critic's loss on generated pictures x and real ones of their classes, with R1 where it is due."""
        due = self.r1 > 0 and update % self.r1_every == 0 and (update > 0 or self.r1_every == 1)
        real = real.detach().requires_grad_(due)
        truth = self.logits(real, cond, draws, "real")
        loss = critic_loss(truth, self.logits(x.detach(), cond, draws, "made"), self.loss)
        return loss + r1_penalty(truth, real, self.r1 * self.r1_every) if due else loss


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module, and none into its parameters, while a graph is built."""
    learning = [one for one in module.parameters() if one.requires_grad]
    for one in learning:
        one.requires_grad_(False)
    try:
        yield
    finally:
        for one in learning:
            one.requires_grad_(True)
