"""The decoder behind a super-resolution model of one step, fine-tuned on what that model gives it (YONOS-SR)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.diffusion.denoisers import Denoiser
from limbeck.diffusion.game import Scene
from limbeck.diffusion.sources import Source
from limbeck.diffusion.students import Student
from limbeck.diffusion.super_resolution import Conditioning, super_resolve
from limbeck.diffusion.training import Distilled, Regime, distill

DECODING = Regime(400, 64, 1e-3, turns=1, betas=(0.9, 0.999))


@dataclass(frozen=True)
class Decoding:
    """The loss of a decoder behind a model of one step, as parts of `distill`: mean |Dec(z0) - x| + perceptual.

    Args:
        denoiser: frozen, of one factor.
        factor: which.
        source: of pictures.
        conditioning: as in the model's training.
        batch: of an update.
        perceptual: a further distance of pictures, a mean.
    """

    denoiser: Denoiser = field(repr=False)
    factor: int
    source: Source = field(repr=False)
    conditioning: Conditioning = field(repr=False)
    batch: int
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = field(default=None, repr=False)

    def rollout(self, student: Student, scene: Scene, name: str, count: int, shape: Sequence[int]) -> Tensor:
        """See `Rollout`: the decoder's pictures; only the decoder has a gradient."""
        x = self.source.draw(scene.draws, count)[0].to(next(student.experts[0].parameters()))
        seed = scene.draws.generator(name).initial_seed()
        low = self.conditioning.down(x, self.factor)
        z = super_resolve(self.denoiser, low, self.factor, conditioning=self.conditioning, seed=seed)
        return student.experts[0](z)  # type: ignore[no-any-return]

    def __call__(self, student: Student, scene: Scene) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Also`."""
        made = self.rollout(student, scene, "z", self.batch, ())
        x = self.source.draw(scene.draws, self.batch)[0].to(made)
        logs = {"l1": (made - x).abs().mean()}
        if self.perceptual is not None:
            logs["perceptual"] = self.perceptual(made, x)
        return torch.stack(list(logs.values())).sum(), logs


def train_decoder(
    decoder: nn.Module,
    denoiser: nn.Module,
    source: Source,
    factor: int,
    *,
    conditioning: Conditioning | None = None,
    perceptual: Callable[[Tensor, Tensor], Tensor] | None = None,
    regime: Regime = DECODING,
    **how: Any,
) -> Distilled:
    """Fine-tune a decoder on what a model of one step gives it; nothing else moves.

    That the model takes one step is what makes it possible: pictures are made anew for every update.

    Args:
        decoder: latents to pictures, trained in place; its average is `student.experts[0]` of what is returned. Of a
            model in pixels it is any network from pictures to pictures.
        denoiser: see `Decoding`, as are source, factor, conditioning, perceptual.
        regime: how long, how fast.
        how: the rest of what `distill` takes; an `adversary` (clean pictures, alone) sharpens.

    Source: Noroozi et al. (2024), arXiv 2401.17258; weights of the losses are reconstructed.
    """
    also = Decoding(denoiser, factor, source, conditioning or Conditioning(), regime.batch, perceptual)
    student, own = Student([decoder], [[1.0]]), {"label": "decoder"} | how
    return distill(
        student, denoiser, source, regime=replace(regime, turns=1), push=None, also=also, rollout=also.rollout, **own
    )
