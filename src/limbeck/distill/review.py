"""Knowledge review: the student's later stages help its earlier ones to look like the teacher's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from limbeck.distill.features import shapes
from limbeck.distill.hints import pyramid
from limbeck.errors import ConfigError, TrainingError


def _layer(channels: int, wanted: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(channels, wanted, kernel, padding=kernel // 2, bias=False)
    nn.init.kaiming_uniform_(convolution.weight, a=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(wanted))


class Fusion(nn.Module):
    """One stage joined with what the stages after it gave.

    `f = a_1 x + a_2 y`, x the stage's map through a 1 x 1 convolution, y what came from behind, enlarged by nearest
    neighbours, a the sigmoid of a 1 x 1 convolution of both; f through a 3 x 3 convolution is what the teacher sees.

    Args:
        channels: of the stage.
        width: inside.
        wanted: channels of the teacher's stage.
        last: no stage comes from behind.
    """

    def __init__(self, channels: int, width: int, wanted: int, *, last: bool) -> None:
        super().__init__()
        self.enter, self.leave = _layer(channels, width, 1), _layer(width, wanted, 3)
        self.attention = None if last else nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid())

    def forward(self, stage: Tensor, behind: Tensor | None, size: torch.Size) -> tuple[Tensor, Tensor]:
        """What the teacher sees and what the stage before gets, both of this size."""
        x = self.enter(stage)
        if self.attention is not None and behind is not None:
            y = F.interpolate(behind, x.shape[-2:])
            one, other = self.attention(torch.cat([x, y], 1)).split(1, 1)
            x = one * x + other * y
        x = x if x.shape[-2:] == size else F.interpolate(x, size)
        return self.leave(x), x


class Review(nn.Module):
    """Loss of a student's stages, each joined with the later ones, against the teacher's; weight 1.

    `L = sum_stages pyramid(fused_i, teacher_i)`, from the last stage to the first (`Fusion`)

    As published the weight grows over the first 20 epochs, `min(epoch / 20, 1)`: the caller's schedule, such as
    `constant(epoch - 1, warmup=20)` with epochs counted from 1. The blocks stand beside the student: train them with it
    and leave them out of what is saved.

    Args:
        student, teacher: channels of the paired stages, earliest first.
        width: channels inside; those of the student's last stage, at most 512, by default.

    Raises:
        ConfigError: stages that are not paired.

    Example:
        >>> review = Review([2, 4], [3, 5])
        >>> sizes = (8, 4)
        >>> ours, theirs = ([torch.ones(2, c, n, n) for c, n in zip(some, sizes)] for some in ((2, 4), (3, 5)))
        >>> [tuple(one.shape) for one in review.fused(ours, [one.shape[-2:] for one in theirs])]
        [(2, 3, 8, 8), (2, 5, 4, 4)]

    Source: Pengguang Chen, Shu Liu, Hengshuang Zhao, Jiaya Jia, Distilling Knowledge via Knowledge Review (2021), arXiv
        2104.09044; the blocks as in mdistiller.
    """

    def __init__(self, student: Sequence[int], teacher: Sequence[int], *, width: int | None = None) -> None:
        super().__init__()
        if len(student) != len(teacher) or not student:
            raise ConfigError(f"{len(student)} stages of the student and {len(teacher)} of the teacher: pair them all.")
        inside, last = width or min(512, student[-1]), len(student) - 1
        pairs = enumerate(zip(student, teacher, strict=True))
        self.blocks = nn.ModuleList(Fusion(ours, inside, theirs, last=i == last) for i, (ours, theirs) in pairs)

    @classmethod
    def between(
        cls, student: nn.Module, teacher: nn.Module, pairs: Mapping[str, str], *inputs: Any, width: int | None = None
    ) -> Review:
        """Blocks for pairs of module paths, earliest first, from one run of both models; see `adapters`."""
        ours, theirs = (shapes(one, paths, inputs) for one, paths in ((student, pairs), (teacher, pairs.values())))
        if flat := [list(one) for one in (*ours, *theirs) if len(one) != 4]:
            raise ConfigError(f"features {flat} are no maps [N, C, H, W]: pair modules that give maps.")
        return cls([one[1] for one in ours], [one[1] for one in theirs], width=width)

    def fused(self, student: Sequence[Tensor], sizes: Sequence[torch.Size]) -> list[Tensor]:
        """Maps that look like the teacher's, of these sizes, earliest first."""
        if not len(student) == len(sizes) == len(self.blocks):
            raise TrainingError(f"{len(self.blocks)} stages are reviewed, got {len(student)} and {len(sizes)}.")
        maps, behind = list[Tensor](), None
        for block, stage, size in zip(reversed(self.blocks), reversed(student), reversed(sizes), strict=True):
            seen, behind = block(stage, behind, size)
            maps.append(seen)
        return maps[::-1]

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """The loss of a batch, from both models' maps, earliest first."""
        maps = self.fused(student, [one.shape[-2:] for one in teacher])
        return torch.stack([pyramid(*pair) for pair in zip(maps, teacher, strict=True)]).sum()
