"""GDD: the student learns from a critic and real pictures alone; GDD-I trains only what is not its trunk.

No score is matched and the teacher is not asked: all that is left of it is where the student begins.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.diffusion.adversary import Adversary, FeatureCritic
from limbeck.diffusion.averages import half_life
from limbeck.diffusion.denoisers import Preconditioned
from limbeck.diffusion.networks import ResidualPerceptron
from limbeck.diffusion.sources import Source
from limbeck.diffusion.students import Student, one_network
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.errors import ConfigError


def innate(denoiser: Preconditioned, levels: Sequence[float], boundary: float = 0.002) -> Student:
    """Return a student that begins as a copy of a teacher, and is the identity at its smallest noise level.

    Args:
        denoiser: the teacher's.
        levels: noise levels of its steps, falling.
        boundary: that smallest level, see `Preconditioned`.

    Example:
        >>> from limbeck.diffusion.networks import Sizes
        >>> student = innate(Sizes(width=8, blocks=1).build([2]), [2.5])
        >>> student.experts[0](torch.ones(1, 2), torch.tensor([0.002])).detach()
        tensor([[1., 1.]])
    """
    student = one_network(denoiser, levels)
    student.experts[0].boundary = boundary  # type: ignore[assignment]
    return student


def freeze_trunk(module: nn.Module) -> list[str]:
    """Return the names of the parameters of the trunk, for `distill(freeze=freeze_trunk)`.

    The residual maps of a `ResidualPerceptron`; in other networks all convolutions but the first and the last, and the
    projections behind attention. Norms, embeddings, queries, keys, values and both ends go on learning.

    Raises:
        ConfigError: the network has none of these.

    Example:
        >>> from limbeck.diffusion.networks import Sizes
        >>> freeze_trunk(Sizes(width=8, blocks=1).build([2]))
        ['network.maps.0.weight', 'network.maps.0.bias']

    Source: Zheng, Yang, Diffusion Models Are Innate One-Step Generators (2024), arXiv 2405.20750; the authors' code
        goes by parts of names, this by kinds of modules, so that convolutions of skips are frozen too.
    """
    trunk: list[Any] = [one for one in module.modules() if isinstance(one, nn.Conv2d)][1:-1]
    for one in module.modules():
        trunk += [one.maps] if isinstance(one, ResidualPerceptron) else []
        trunk += [one.to_out] if hasattr(one, "to_out") else []
    inside = {parameter for one in trunk for parameter in one.parameters()}
    if not inside:
        raise ConfigError(f"{type(module).__name__} has no trunk to freeze: neither residual maps nor convolutions")
    return [name for name, parameter in module.named_parameters() if parameter in inside]


class ProjectedCritic(FeatureCritic):
    """Heads on frozen features that fixed random maps have mixed, each scale with the one behind it.

        h_k = P_k f_k + Q h_(k+1) from the last path to the first;  logit_k = e_k(class) . LeakyReLU(V_k h_k) / sqrt(64)

    P and Q are orthogonal and never learn; e and V do. Features of maps are averaged over places. The metric that
    judges the student must not use these features.

    Args:
        denoiser: frozen: the teacher's, asked without a class. It is not a part of this module.
        paths: of modules inside it, from early to late.
        x: a few pictures, from which the sizes of the features are seen.
        classes: that it is told; 0 for none.
        level: noise level that the denoiser is told for clean pictures.
        seed: of the maps and heads.

    Example:
        >>> from limbeck.diffusion.networks import Sizes
        >>> x = torch.zeros(3, 2)
        >>> critic = ProjectedCritic(Sizes(8, 2).build([2]), ["network.maps.0", "network.maps.1"], x)
        >>> critic(x, torch.zeros(3)).shape
        torch.Size([3, 2])

    Source: Sauer et al., Projected GANs Converge Faster (2021), arXiv 2111.01007; heads and sizes are ours.
    """

    def __init__(
        self, denoiser: nn.Module, paths: Sequence[str], x: Tensor, classes: int = 0, level: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__(denoiser, paths, x, None, seed)
        self.classes, self.level = classes, level
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            sizes = [one.shape[1] for one in self.features(x[:2], torch.ones(2), None)]
            across = [nn.init.orthogonal_(torch.empty(64, size)) for size in [*sizes, 64]]
            self.across = nn.ParameterList(across).requires_grad_(False)
            self.heads = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.LeakyReLU(0.2)) for _ in sizes)
            self.labels = nn.ModuleList(nn.Embedding(classes + 1, 64) for _ in sizes)

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map pictures [B, ...] to logits [B, heads]."""
        told = torch.full_like(sigma, self.classes, dtype=torch.long) if cond is None or not self.classes else cond
        *across, down = self.across
        h, logits = x.new_zeros(len(x), 64), list[Tensor]()
        parts = zip(self.features(x, sigma.clamp(min=self.level), None), across, self.heads, self.labels, strict=True)
        for feature, project, head, label in reversed(list(parts)):
            h = feature @ project.T + h @ down.T
            logits.append((head(h) * label(told)).sum(1) / 8)
        return torch.stack(logits[::-1], 1)


@contextmanager
def finite_gradients(*modules: nn.Module) -> Iterator[None]:
    """For a while, gradients of what learns are finite: NaN becomes 0, what is infinite 1e5.

    Example:
        >>> module = nn.Linear(1, 1, bias=False)
        >>> with finite_gradients(module):
        ...     (module.weight * torch.inf).sum().backward()
        >>> module.weight.grad
        tensor([[100000.]])
    """
    keep = partial(torch.nan_to_num, nan=0.0, posinf=1e5, neginf=-1e5)
    hooks = [one.register_hook(keep) for module in modules for one in module.parameters() if one.requires_grad]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class Alternating(Regime):
    """A regime of student and critic in turn, one update each.

    Args:
        images: half-life of the moving average, in pictures; at most a twentieth of those seen. It takes the place of
            `average`.
    """

    turns: int = 1
    images: float = 500_000


def distill_gdd(
    student: Student, source: Source, adversary: Adversary, *, regime: Alternating | None = None, **how: Any
) -> Distilled:
    """Distil by a critic alone: GDD, and GDD-I with `freeze=freeze_trunk`.

        student: mean softplus(-l(G(z, c), c)), summed over heads;  critic: the same game, on pictures that the updated
        student made anew and on real ones x, c, with R1 every few updates

    R1 is added to the critic's loss where it is due; the authors take a step of its own for it.

    Args:
        student: see `innate`; trained in place.
        source: real pictures; pictures are made for their classes.
        adversary: the critic and how it plays; it plays alone, on fresh pictures.
        regime: how long, how fast.
        how: see `distill`.

    Raises:
        ConfigError, TrainingError: see `distill`.

    Example:
        >>> from limbeck.diffusion import Exact, PixelCritic, Sizes, mixture
        >>> source, network = Exact(mixture("ring8")), Sizes(8, 1).build([2], data_std=0.7)
        >>> how = {"regime": Alternating(2), "freeze": freeze_trunk, "progress": False}
        >>> round(distill_gdd(innate(network, [2.5]), source, Adversary(PixelCritic([2])), **how).trainable, 3)
        0.866

    Source: Zheng, Yang, Diffusion Models Are Innate One-Step Generators (2024), arXiv 2405.20750.
    """
    regime, adversary = regime or Alternating(), replace(adversary, joint=False, fresh=True)
    average = partial(half_life, images=regime.images, batch=regime.batch)
    student.requires_grad_(True)
    with finite_gradients(student, adversary.critic):
        parts: dict[str, Any] = {"push": None, "adversary": adversary, "average": average}
        return distill(student, None, source, regime=regime, **parts, **how)
