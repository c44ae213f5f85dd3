"""Contrastive representation distillation: a sample's two features are told apart from those of many other samples.

The others are not in the batch: their features of earlier steps are kept in two memories, which are state. `Contrast`
is therefore a module: train it beside the student, in one player, and the checkpoint of that player holds all of it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from limbeck.distill.hints import contrastive
from limbeck.distill.losses import precision
from limbeck.errors import ConfigError, TrainingError


class Contrast(nn.Module):
    """Contrast a student's features with a teacher's memory, and the teacher's with the student's; weight 0.8.

    `L = contrastive(x_s) + contrastive(x_t)`, `x_s = exp(<z_s, M_t> / temperature) / Z_s`, z the normalised projections
    of the features, M the memories, and x_t the other way round

    Z is the mean of the first batch's exponentials times the number of samples, and stays. After a batch in training
    mode its rows of each memory become `normalise(momentum M + (1 - momentum) z)`. The K others of a sample are drawn
    with replacement, as a function of the seed and the step alone, so that a training that is resumed from a checkpoint
    draws the same. Each of several processes would keep memories of its own: use one.

    Args:
        student, teacher: sizes of their features.
        samples: size N of the data set.
        classes: the class of every sample [N]: others are of other classes. None: others are any other samples.
        negatives: K; by default 16 384, or N / 2 if that is less.
        width: of the projections.
        temperature: of the similarities.
        momentum: share of a memory that stays.
        seed: of the first memories and of the others.

    Raises:
        ConfigError: negatives that are not fewer than the samples; classes that do not leave others.

    Example:
        >>> contrast = Contrast(3, 5, samples=8)
        >>> loss = contrast(torch.ones(2, 3), torch.ones(2, 5), torch.tensor([0, 4]), step=0)
        >>> loss.shape, sum(one.numel() for one in contrast.parameters())
        (torch.Size([]), 1280)

    Source: Yonglong Tian, Dilip Krishnan, Phillip Isola, Contrastive Representation Distillation (2020), arXiv
        1910.10699.
    """

    banks: Tensor  # the student's memory and the teacher's, [2, N, width]
    constants: Tensor  # Z of both, 0 before the first batch
    order: Tensor  # samples by class
    first: Tensor  # where the class of a sample begins in the order, [N]
    size: Tensor  # samples of its class, [N]

    def __init__(
        self, student: int, teacher: int, samples: int, *, classes: Tensor | None = None, negatives: int | None = None,
        width: int = 128, temperature: float = 0.07, momentum: float = 0.5, seed: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.negatives = min(16_384, samples // 2) if negatives is None else negatives
        if not 0 < self.negatives < samples:
            raise ConfigError(f"negatives must be between 1 and {samples - 1}, one less than samples: {self.negatives}")
        if classes is not None and (classes.shape != (samples,) or (classes == classes[0]).all()):
            raise ConfigError(f"classes {list(classes.shape)} must be those of the {samples} samples, two at least.")
        self.temperature, self.momentum, self.seed = temperature, momentum, seed
        self.projections = nn.ModuleList(nn.Linear(one, width) for one in (student, teacher))
        uniform = torch.rand(2, samples, width, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("banks", (2 * uniform - 1) * (3 / width) ** 0.5)
        self.register_buffer("constants", torch.zeros(2))
        labels = torch.arange(samples) if classes is None else classes.cpu()
        _, own, size = labels.unique(return_inverse=True, return_counts=True)
        self.register_buffer("order", own.argsort(stable=True))
        self.register_buffer("first", (size.cumsum(0) - size)[own])
        self.register_buffer("size", size[own])

    def others(self, index: Tensor, step: int) -> Tensor:
        """The K other samples of each sample [N], at a step, [N, K]."""
        draw = torch.Generator().manual_seed(1_000_003 * self.seed + step)
        uniform = torch.rand(len(index), self.negatives, generator=draw, dtype=torch.float64).to(index.device)
        size, first = self.size[index, None], self.first[index, None]
        place = (uniform * (len(self.order) - size)).long()
        return self.order[place + size * (place >= first)]

    def forward(self, student: Tensor, teacher: Tensor, index: Tensor, step: int) -> Tensor:
        """The loss of a batch.

        Args:
            student, teacher: features [N, ...]; the teacher's are detached, its projection learns.
            index: which samples they are [N], all different.
            step: of the training.
        """
        samples = len(self.order)
        if not len(student) == len(teacher) == len(index.unique()) == len(index):
            raise TrainingError(f"give features of {len(index)} different samples, got {len(student)}, {len(teacher)}.")
        if not 0 <= index.min() <= index.max() < samples:
            raise TrainingError(f"samples must lie between 0 and {samples - 1}: count them over the whole data set.")
        features = (one.flatten(1).to(precision(one)) for one in (student, teacher.detach()))
        z = torch.stack([F.normalize(net(one)) for net, one in zip(self.projections, features, strict=True)])
        chosen = torch.cat([index[:, None], self.others(index, step)], 1)
        similar = (z @ self.banks.flip(0).mT).gather(-1, chosen.expand(2, -1, -1))
        scores = (similar / self.temperature).exp()
        constants = torch.where(self.constants > 0, self.constants, scores.detach().mean((1, 2)) * samples)
        if self.training:
            banks = self.banks.clone()  # the old ones wait for the gradient
            banks[:, index] = F.normalize(torch.lerp(z.detach(), banks[:, index], self.momentum), dim=-1)
            self.banks, self.constants = banks, constants
        return contrastive(scores[0] / constants[0], samples) + contrastive(scores[1] / constants[1], samples)
