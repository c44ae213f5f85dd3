"""Super-resolution in one step by scale distillation (YONOS-SR): a model that is told more teaches one told less.

Teacher and student see the same noisy picture. The teacher is told a small version of it of an easier factor; the
student learns to answer the same from a smaller one, then becomes the teacher of the next factor. Where what the
student is told follows from what the teacher is told, an exact teacher has the same optimum as the picture itself, and
targets of less variance (the tower rule). A teacher that errs hands its errors on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from limbeck.diffusion.denoisers import Denoiser, Preconditioned
from limbeck.diffusion.game import Scene
from limbeck.diffusion.matching import fake_loss, noised
from limbeck.diffusion.metrics import frechet
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.samplers import euler
from limbeck.diffusion.sources import Source
from limbeck.diffusion.students import Student, one_network
from limbeck.diffusion.training import Distilled, Regime, distill
from limbeck.diffusion.trigflow import PURE
from limbeck.distill.examples import Labelled, labelled
from limbeck.errors import ConfigError

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "v": lambda snr: snr + 1, "x0": torch.ones_like, "truncated": lambda snr: snr.clamp(min=1),
}  # fmt: skip
"""Of the squared error of x0, by the signal-to-noise ratio (d / sigma)^2: plain loss of v, none, max(snr, 1)."""
SCALING = Regime(800, 256, 1e-3, turns=1, betas=(0.9, 0.999), average=0.995)


def box_down(x: Tensor, factor: int) -> Tensor:
    """Return the mean of every block of factor x factor pixels; nested: factor 4 is factor 2 of factor 2.

    Example:
        >>> box_down(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), 2)
        tensor([[[[1.5000]]]])
    """
    return avg_pool2d(x, factor)


def bilinear_up(low: Tensor, factor: int) -> Tensor:
    """Return a picture of `factor` times the size, bilinear.

    Example:
        >>> bilinear_up(torch.tensor([[[[0.0, 1.0]]]]), 2)[0, 0, 0]
        tensor([0.0000, 0.2500, 0.7500, 1.0000])
    """
    return interpolate(low, scale_factor=factor, mode="bilinear")


@dataclass(frozen=True)
class Conditioning:
    """What a model of a factor is told about a picture: encode(up(down(x, factor), factor)).

    Any ladder from easy to hard can take the place of sizes: blur, holes, compression. What is told at one factor
    should follow from what is told at an easier one.

    Args:
        down: makes the small picture; a function of the picture and the factor alone, so that all rungs see one crop.
        up: brings it back to the size of the picture.
        encode: frozen map of pictures to latents of unit scale; pictures themselves by default.

    Example:
        >>> Conditioning().told(torch.eye(2)[None, None], 2)[0, 0].tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """

    down: Callable[[Tensor, int], Tensor] = box_down
    up: Callable[[Tensor, int], Tensor] = bilinear_up
    encode: Callable[[Tensor], Tensor] = nn.Identity()  # noqa: RUF009 (it has no state)

    def told(self, x: Tensor, factor: int) -> Tensor:
        """Return what a model of this factor is told."""
        return self.encode(self.up(self.down(x, factor), factor))


class Conditioned(nn.Module):
    """A network that sees a second picture beside the noisy one, as further channels.

    It answers N([x, cond], noise) of the channels of x: a `Denoiser` around it takes a picture in the place of classes,
    and so do samplers.

    Args:
        network: N, of all channels.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map x and cond, [B, C, H, W] each, and [B] to [B, C, H, W].

        Raises:
            ConfigError: no second picture, or one of another size.
        """
        if cond is None or cond.shape[2:] != x.shape[2:]:
            told = "nothing" if cond is None else list(cond.shape)
            raise ConfigError(f"this network is told a picture of the size of {list(x.shape)} beside it, got {told}")
        answer: Tensor = self.network(torch.cat([x, cond.to(x.dtype)], 1), noise, None)
        return answer[:, : x.shape[1]]


def conditioned(sizes: Sizes, shape: Sequence[int], data_std: float = 0.5, seed: int = 0) -> Preconditioned:
    """Return a denoiser that is told a picture and knows nothing yet.

    Its clock is the angle, finite at pure noise, where the only step begins. Preconditioning makes it predict v, which
    there still is the picture; the noise would not be.

    Args:
        sizes: of the network.
        shape: of one picture or latent, [C, H, W].
        data_std: standard deviation of its values.
        seed: of the weights.

    Example:
        >>> model, x = conditioned(Sizes(8, 1), [1, 4, 4]), torch.ones(2, 1, 4, 4)
        >>> model(x, torch.full((2,), 1e16), x).abs().max().item() < 1e-6
        True
    """
    made = replace(sizes, clock="angle").build([2 * shape[0], *shape[1:]], 0, data_std, seed)
    made.network = Conditioned(made.network)
    return made


@dataclass(frozen=True)
class Scaling:
    """The loss of one rung, as a part of `distill`.

        L = mean w(snr) (D(x, sigma, told_s) - target)^2 / d^2,  x = z + sigma eps,  sigma = d tan(t),
        target = D_teacher(x, sigma, told_easier), or z without a teacher;  t uniform from `lowest` to pi / 2

    Args:
        factor: s.
        easier: factor of the teacher; None learns from the pictures.
        source: of pictures.
        conditioning: what the models are told.
        batch: of an update.
        weight: see `WEIGHTS`.
        lowest: least angle.
    """

    factor: int
    easier: int | None
    source: Source = field(repr=False)
    conditioning: Conditioning = field(default=Conditioning(), repr=False)
    batch: int = 256
    weight: Literal["v", "x0", "truncated"] = "v"
    lowest: float = 0.02

    def __call__(self, student: Student, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Also`."""
        denoiser: Any = student.experts[0]
        d, draws = float(getattr(denoiser, "data_std", 1.0)), scene.draws
        with torch.no_grad():
            x = self.source.draw(draws, self.batch)[0].to(next(denoiser.parameters()))
            z, told = self.conditioning.encode(x), self.conditioning.told(x, self.factor)
            t = self.lowest + (PURE - self.lowest) * draws.uniform("t", len(x))
            there = noised(z, (d * t.tan()).to(z), draws.normal("eps", *z.shape).to(z), d)
            weight = WEIGHTS[self.weight]((d / there.sigma) ** 2) / d**2
            target = there.target
            if self.easier is not None:
                target = scene.real(there.x, there.sigma, self.conditioning.told(x, self.easier))
        return fake_loss(denoiser(there.x, there.sigma, told), there._replace(target=target, weight=weight)), {}


def distill_scales(
    denoiser: nn.Module,
    source: Source,
    factors: Sequence[int] = (2, 4, 8),
    *,
    conditioning: Conditioning | None = None,
    regime: Regime = SCALING,
    first: Regime | None = None,
    init: Literal["teacher", "scratch"] = "teacher",
    weight: Literal["v", "x0", "truncated"] = "v",
    ready: bool = False,
    allow_skip: bool = False,
    judge: Callable[[int, Student], Mapping[str, float]] | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    **how: Any,
) -> dict[int, Distilled]:
    """Climb a ladder of factors: the first model learns from pictures, every other one from the one before.

    Args:
        denoiser: as the first model begins, see `conditioned`.
        source: of pictures; classes are not told.
        factors: each twice the one before.
        conditioning: what a model is told at a factor.
        regime: of every rung.
        first: of the first one, if it differs: a teacher trained as briefly as its student teaches its own errors.
        init: begin a rung with the weights of its teacher, or with those of `denoiser` (reconstructed).
        weight: see `WEIGHTS`.
        ready: `denoiser` is the model of the first factor, trained before.
        allow_skip: let a rung be any multiple of the one before.
        judge: numbers about the student of a factor.
        seed: of every random choice; each rung draws its own.
        out: folder, in it one for each rung; the same call goes on after a stop.
        how: the rest of what `distill` takes.

    Returns:
        What each factor's training gave: students of one step, from pure noise and the picture that they are told.

    Raises:
        ConfigError: factors that do not double, or do not divide the size of pictures.
        TrainingError: see `distill`.

    Example:
        >>> from limbeck.diffusion.sources import Pictures
        >>> source = Pictures(labelled(torch.rand(9, 1, 4, 4), [0] * 9))
        >>> model, brief = conditioned(Sizes(8, 1), source.shape, source.data_std), Regime(2, 4, turns=1)
        >>> list(distill_scales(model, source, (2, 4), regime=brief, progress=False))
        [2, 4]

    Source: Noroozi et al., You Only Need One Step: Fast Super-Resolution with Stable Diffusion via Scale Distillation
        (2024), arXiv 2401.17258; settings of the training are reconstructed.
    """
    steps = [(easier, factor) for easier, factor in pairwise(factors)]
    if not factors or any(b % a or b <= a or (b != 2 * a and not allow_skip) for a, b in steps):
        raise ConfigError(
            f"every factor must be twice the one before, got {list(factors)}. A rung that is skipped makes the teacher "
            "better told but farther away: say allow_skip=True to have multiples"
        )
    if any(side % factors[-1] for side in source.shape[1:]):
        raise ConfigError(f"pictures of {list(source.shape)} cannot be made {factors[-1]} times smaller: crop them")
    task, done = conditioning or Conditioning(), dict[int, Distilled]()
    told = [getattr(one, "__qualname__", repr(one)) for one in (task.down, task.up, task.encode)]
    teacher: Any = denoiser if ready else None
    for rung, (easier, factor) in enumerate([(None, factors[0]), *steps][ready:], ready):
        own = first if first is not None and easier is None else regime
        also = Scaling(factor, easier, source, task, own.batch, weight)
        folder = None if out is None else Path(out) / f"x{factor}"
        begin = denoiser if teacher is None or init == "scratch" else teacher
        done[factor] = distill(
            one_network(begin, [pure_level(denoiser)]), teacher, source, regime=replace(own, turns=1), push=None,
            also=also, judge=None if judge is None else partial(judge, factor), seed=seed + 1000 * rung, out=folder,
            **{"label": f"super-resolution x{factor}", "config": {"init": init, "told": told}} | how,
        )  # fmt: skip
        teacher = done[factor].student.experts[0]
    return done


def pure_level(denoiser: Denoiser | nn.Module) -> float:
    """Return the noise level that stands for pure noise, d tan(pi / 2): large, and finite in floating point."""
    return float(getattr(denoiser, "data_std", 1.0)) * math.tan(PURE)


def super_resolve(
    denoiser: Denoiser,
    low: Tensor,
    factor: int,
    *,
    steps: int = 1,
    conditioning: Conditioning | None = None,
    decode: Callable[[Tensor], Tensor] | None = None,
    seed: int = 0,
) -> Tensor:
    """Return pictures of `factor` times the size, by DDIM from pure noise at even angles.

    One step is the sharpest in PSNR, being nearest to a mean; more steps look more like pictures.

    Args:
        denoiser: of that factor: `done[4].student.experts[0]`.
        low: small pictures, [B, C, h, w].
        factor: how many times larger.
        steps: network calls.
        conditioning: as in training.
        decode: latents to pictures.
        seed: of the noise.

    Example:
        >>> told = lambda x, sigma, cond: cond
        >>> super_resolve(told, torch.ones(1, 1, 1, 2), 2).shape
        torch.Size([1, 1, 2, 4])
    """
    task = conditioning or Conditioning()
    told = task.encode(task.up(low, factor))
    noise = torch.randn(told.shape, generator=torch.Generator().manual_seed(seed)).to(told)
    angles = torch.linspace(PURE, 0, steps + 1, dtype=torch.float64)
    z = euler(denoiser, noise, float(getattr(denoiser, "data_std", 1.0)) * angles.tan(), told)
    return z if decode is None else decode(z)


def psnr(made: Tensor, true: Tensor, span: float = 2.0) -> float:
    """Return the mean over pictures of 10 log10(span^2 / mean (made - true)^2), in dB.

    Args:
        made, true: pictures, [B, ...]; what lies outside of the values' range is cut off, as in a file.
        span: of the values: 2 from -1 to 1.

    Example:
        >>> round(psnr(torch.full((1, 4), 0.2), torch.zeros(1, 4)), 6)
        20.0
    """
    error = (made.clamp(-span / 2, span / 2) - true).double().square().flatten(1).mean(1)
    return float(10 * (span**2 / error).log10().mean())


def judge_super_resolution(
    denoiser: Denoiser,
    x: Tensor,
    factor: int,
    features: Callable[[Tensor], Tensor],
    *,
    steps: Sequence[int] = (1, 2, 4, 16),
    conditioning: Conditioning | None = None,
    **how: Any,
) -> dict[int, dict[str, float]]:
    """Return `psnr` and `frechet` by steps; the more steps, the worse the one and the better the other. Look at both.

    Args:
        denoiser: of that factor.
        x: pictures that were not learnt from, [B, C, H, W].
        factor: by which they are made small first.
        features: of pictures, in which Fréchet distances are taken: `feature_network(data).features`.
        steps: of the sampler.
        conditioning: as in training.
        how: see `super_resolve`.
    """
    low, real = (conditioning or Conditioning()).down(x, factor), features(x)
    made = {n: super_resolve(denoiser, low, factor, steps=n, conditioning=conditioning, **how) for n in steps}
    return {n: {"psnr": psnr(one, x), "frechet": frechet(real, features(one))} for n, one in made.items()}


def patches(photographs: Sequence[Any], size: int, name: str = "patches") -> Labelled:
    """Cut photographs into pictures of size x size; the class is the photograph.

    Args:
        photographs: arrays [H, W, channels] of bytes, or of numbers from 0 to 1.
        size: height and width.
        name: what to call them.

    Example:
        >>> from sklearn.datasets import load_sample_images
        >>> patches(load_sample_images().images, 32).inputs.shape
        torch.Size([520, 3, 32, 32])
    """
    cut = [torch.tensor(one).unfold(0, size, size).unfold(1, size, size).flatten(0, 1) for one in photographs]
    classes = [k for k, own in enumerate(cut) for _ in own]
    return labelled(torch.cat(cut).numpy(), classes, name=name)
