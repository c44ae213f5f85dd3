"""Training a diffusion model on pictures or points: the teacher."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.diffusion.averages import Average, ramped
from limbeck.diffusion.denoisers import Denoiser, Preconditioned, spread
from limbeck.diffusion.loop import run
from limbeck.diffusion.matching import Noised, fake_loss, noised
from limbeck.diffusion.sources import Draws, Source
from limbeck.distill import Player, warmup_stable_decay
from limbeck.errors import ConfigError


@dataclass(frozen=True)
class Pretraining:
    """How a diffusion model learns to denoise.

    Args:
        steps, batch, lr: of Adam; the learning rate warms up for 100 steps, then falls to 0.
        average: decay of the moving average, ramped.
        log_mean, log_std: of the normal law of ln sigma.
        label_dropout: share of pictures whose class is not told, for guidance.

    Raises:
        ConfigError: a value that cannot work.
    """

    steps: int = 6000
    batch: int = 256
    lr: float = 1e-3
    average: float = 0.995
    log_mean: float = -0.8
    log_std: float = 1.4
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        if min(self.steps, self.batch) < 1 or min(self.lr, self.log_std) <= 0 or not 0 <= self.label_dropout <= 1:
            raise ConfigError(f"steps, batch, lr and log_std must be positive, label_dropout from 0 to 1; got {self}")


@dataclass(frozen=True)
class Pretrained:
    """A trained diffusion model.

    Args:
        denoiser: its moving average, frozen.
        steps: of the training.
        seconds: wall time.
        losses: mean loss of the last record.
    """

    denoiser: Preconditioned
    steps: int
    seconds: float
    loss: float


def train_teacher(
    denoiser: Preconditioned,
    source: Source,
    how: Pretraining | None = None,
    *,
    target: Denoiser | None = None,
    levels: Callable[[Draws, int], Tensor] | None = None,
    loss: Callable[[Tensor, Noised], Tensor] = fake_loss,
    judge: Callable[[nn.Module], Mapping[str, float]] | None = None,
    judge_at: Collection[int] = (),
    seed: int = 0,
    out: Path | str | None = None,
    progress: bool = True,
    label: str = "teacher",
) -> Pretrained:
    """Train a diffusion model.

        L = mean (1 / sigma^2 + 1 / d^2) (D(x0 + sigma eps, sigma, cond) - x0)^2,  ln sigma ~ N(log_mean, log_std^2)

    Args:
        denoiser: trained in place; what is returned is its moving average.
        source: what it learns.
        how: regime.
        target: frozen denoiser whose answers take the place of x0 (teacher score matching).
        levels: noise levels of so many pictures, [B], where they do not have the law above.
        loss: of its answer and the `Noised` pictures that it saw.
        judge: numbers about the averaged denoiser.
        judge_at: after which steps.
        seed: of noise, order and classes left out.
        out: folder of records and checkpoints; the same call goes on after a stop.
        progress: one line on a terminal.
        label: what the line calls the training.

    Example:
        >>> from limbeck.diffusion import Exact, Sizes, mixture
        >>> source = Exact(mixture("ring8"))
        >>> network = Sizes(16, 1).build(source.shape, source.classes, source.data_std)
        >>> train_teacher(network, source, Pretraining(steps=20), progress=False).loss < 1.2
        True

    Source: Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models (2022), arXiv 2206.00364.
    """
    how = how or Pretraining()
    average = Average(denoiser, partial(ramped, decay=how.average))

    def losses(player: str, draws: Draws, step: int) -> dict[str, Tensor]:
        x, cond = source.draw(draws, how.batch)
        normal = levels or (lambda draws, count: (how.log_mean + how.log_std * draws.normal("sigma", count)).exp())
        sigma = normal(draws, how.batch)
        if cond is not None:
            dropped = draws.uniform("dropped", how.batch) < how.label_dropout
            cond = torch.where(spread(dropped, cond) > 0, source.classes, cond)
        there = noised(x, sigma, draws.normal("eps", *x.shape), denoiser.data_std)
        if target is not None:
            with torch.no_grad():
                there = there._replace(target=target(there.x, there.sigma, cond))
        return {"loss": loss(denoiser(there.x, there.sigma, cond), there)}

    warm = min(100, how.steps // 10)
    schedule = partial(warmup_stable_decay, steps=how.steps, warmup=warm, decay=1 - warm / how.steps)
    modules = nn.ModuleDict({"denoiser": denoiser, "average": average})
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=how.lr)
    params = sum(one.numel() for one in denoiser.parameters())
    recipe = "teacher" if target is None else "teacher-score-matching"
    result = run(
        [Player("teacher", modules, optimizer, schedule, after=average.update)],
        losses,
        lambda step: Draws(seed, step, next(denoiser.parameters()).device),
        steps=how.steps,
        average=average,
        out=out,
        config={"how": asdict(how), "source": source.describe(), "seed": seed, "recipe": recipe},
        frozen=[target] if isinstance(target, nn.Module) else [],
        known={"params": params, "seed": seed, "recipe": recipe},
        columns=lambda step: {"samples": step * how.batch},
        judge=judge,
        judge_at=judge_at,
        checkpoint_every=max(100, how.steps // 20),
        progress=progress,
        label=label,
    )
    return Pretrained(average.module, how.steps, result.seconds, result.values["train/teacher/loss"])
