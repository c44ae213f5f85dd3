"""What stands beside a student in training and compares features; nothing of it is saved with the student."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from limbeck.distill import (
    Contrast,
    Review,
    adapters,
    attention_transfer,
    hint,
    pkt,
    pyramid,
    rkd,
    similarity_preserving,
)
from limbeck.distill.features import shapes
from limbeck.errors import ConfigError

PAIRWISE: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    one.__name__: one for one in (hint, attention_transfer, rkd, similarity_preserving, pkt, pyramid)
}
SAME_SHAPE = ("hint", "pyramid")
"""Losses that compare values one by one, so that the student's pass through an adapter."""
KINDS = (*PAIRWISE, "contrast", "review")


class Pairs(nn.Module):
    """A loss on each pair of features, the student's behind an adapter where there are adapters."""

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor], adapters: nn.ModuleList | None) -> None:
        super().__init__()
        self.loss, self.adapters = loss, adapters

    def forward(self, ours: Sequence[Tensor], theirs: Sequence[Tensor], index: Tensor, step: int) -> Tensor:
        """Sum over the pairs."""
        seen = ours if self.adapters is None else [net(x) for net, x in zip(self.adapters, ours, strict=True)]
        return torch.stack([self.loss(a, b) for a, b in zip(seen, theirs, strict=True)]).sum()


class Contrasts(nn.Module):
    """`Contrast` of each pair, with memories of the whole data."""

    def __init__(self, contrasts: Sequence[Contrast]) -> None:
        super().__init__()
        self.contrasts = nn.ModuleList(contrasts)

    def forward(self, ours: Sequence[Tensor], theirs: Sequence[Tensor], index: Tensor, step: int) -> Tensor:
        """Sum over the pairs."""
        pairs = zip(self.contrasts, ours, theirs, strict=True)
        return torch.stack([contrast(a, b, index, step) for contrast, a, b in pairs]).sum()


class Reviewed(nn.Module):
    """`Review` of all pairs, earliest first."""

    def __init__(self, review: Review) -> None:
        super().__init__()
        self.review = review

    def forward(self, ours: Sequence[Tensor], theirs: Sequence[Tensor], index: Tensor, step: int) -> Tensor:
        """The loss of all stages."""
        loss: Tensor = self.review(ours, theirs)
        return loss


def beside(
    kind: str, pairs: Mapping[str, str], student: nn.Module, teacher: nn.Module, inputs: Tensor, labels: Tensor,
    seed: int,
) -> nn.Module:  # fmt: skip
    """Return what compares features of a student's modules with those of a teacher's.

    Args:
        kind: one of `KINDS`.
        pairs: the teacher's path of each of the student's, earliest first.
        student, teacher: the networks; both run once on two inputs.
        inputs, labels: of the whole data [N, ...], [N]; labels of -1 are a class of their own.
        seed: of fresh weights and memories.

    Raises:
        ConfigError: modules that are not there, or do not fit.
    """
    some, paths = inputs[:2], (list(pairs), list(pairs.values()))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if kind == "review":
            return Reviewed(Review.between(student, teacher, pairs, some))
        if kind == "contrast":
            sizes = [shapes(one, names, (some,)) for one, names in zip((student, teacher), paths, strict=True)]
            widths = [[one[1:].numel() for one in side] for side in sizes]
            classes = labels if labels.unique().numel() > 1 else None
            return Contrasts(
                [Contrast(a, b, len(inputs), classes=classes, seed=seed) for a, b in zip(*widths, strict=True)]
            )
        if kind in SAME_SHAPE:
            return Pairs(PAIRWISE[kind], adapters(student, teacher, pairs, some))
    known = [shapes(one, names, (some,)) for one, names in zip((student, teacher), paths, strict=True)]
    flat = [list(one) for side in known for one in side if kind == "attention_transfer" and len(one) != 4]
    if flat:
        raise ConfigError(f"attention_transfer compares maps [N, C, H, W], got {flat[0]}: pair modules that give maps")
    return Pairs(PAIRWISE[kind], None)
