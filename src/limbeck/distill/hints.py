"""Losses on features: values, where a map is bright, and how samples lie to each other.

Each is the mean that its docstring says, for one pair of features with samples first, [N, ...]; the weight that its
first code gives it depends on that mean. Sum the pairs. Features help between models of one family and can hurt
between others: compare with `forward_kl` on the logits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.distill.losses import precision
from limbeck.errors import TrainingError


def _both(student: Tensor, teacher: Tensor, view: Callable[[Tensor], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Both features as a loss sees them; values are compared one by one, what is drawn from them sample by sample."""
    if len(student) != len(teacher) or (view is None and student.shape != teacher.shape):
        shapes = f"{list(student.shape)} and {list(teacher.shape)}"
        raise TrainingError(
            f"features {shapes} do not fit: give both the same samples, and values one shape (adapters)."
        )
    ours, theirs = student.to(precision(student)), teacher.detach().to(precision(student))
    return (ours, theirs) if view is None else (view(ours), view(theirs))


def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of all values of features of one shape (`adapters` give it); weight 100.

    Example:
        >>> hint(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]))
        tensor(2.)

    Source: Adriana Romero et al., FitNets: Hints for Thin Deep Nets (2015), arXiv 1412.6550.
    """
    return F.mse_loss(*_both(student, teacher))


def attention_transfer(student: Tensor, teacher: Tensor, *, power: float = 2.0) -> Tensor:
    """Mean squared difference of where two maps are bright; weight 1000.

    `mean (A_s - A_t)^2`, `A = normalise(mean_c |F_c|^power)` over the places of each sample; the mean is over N H W

    Args:
        student, teacher: maps [N, C, H, W] of any channels; the larger is averaged to the size of the smaller.
        power: of the values.

    Example:
        >>> attention_transfer(torch.eye(2).view(1, 1, 2, 2), torch.ones(1, 3, 2, 2))
        tensor(0.1464)

    Source: Sergey Zagoruyko, Nikos Komodakis, Paying More Attention to Attention (2017), arXiv 1612.03928.
    """
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])

    def bright(features: Tensor) -> Tensor:
        return F.normalize(F.adaptive_avg_pool2d(features, size).abs().pow(power).mean(1).flatten(1))

    return F.mse_loss(*_both(student, teacher, bright))


def rkd(student: Tensor, teacher: Tensor, *, distance: float = 25.0, angle: float = 50.0) -> Tensor:
    """Distances between pairs and angles between triplets of samples; weight 1. Rotation, place and size are free.

    `distance mean h(d_s - d_t) + angle mean h(cos_s - cos_t)`, h the smooth absolute value; d over the mean of all
    positive distances, over N^2 pairs; cosines at i between j and k, over N^3 triplets, which is also the memory.

    Args:
        student, teacher: features [N, ...], of any sizes.
        distance: weight of the distances.
        angle: weight of the angles.

    Example:
        >>> rkd(torch.eye(3), torch.eye(3)[:, [1, 2, 0]])
        tensor(0.)

    Source: Wonpyo Park, Dongju Kim, Yan Lu, Minsu Cho, Relational Knowledge Distillation (2019), arXiv 1904.05068.
    """
    apart = _both(student, teacher, lambda one: one.flatten(1)[None] - one.flatten(1)[:, None])
    lengths = [torch.linalg.vector_norm(one, dim=-1) for one in apart]
    near = [one / (one.sum() / (one > 0).sum().clamp(min=1)).clamp(min=1e-12) for one in lengths]
    cosines = [(way := F.normalize(one, dim=-1)) @ way.mT for one in apart]
    return distance * F.smooth_l1_loss(near[0], near[1]) + angle * F.smooth_l1_loss(cosines[0], cosines[1])


def similarity_preserving(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the similarities between samples; weight 3000.

    `‖G_s - G_t‖^2 / N^2`, G the scalar products of flattened features, its rows normalised

    Example:
        >>> similarity_preserving(torch.eye(2), torch.ones(2, 3))
        tensor(0.2929)

    Source: Frederick Tung, Greg Mori, Similarity-Preserving Knowledge Distillation (2019), arXiv 1907.09682.
    """
    return F.mse_loss(*_both(student, teacher, lambda one: F.normalize(one.flatten(1) @ one.flatten(1).mT)))


def pkt(student: Tensor, teacher: Tensor, *, epsilon: float = 1e-7) -> Tensor:
    """Mean term of the KL divergence between the affinities of samples; weight 30 000.

    `mean p log((p + epsilon) / (q + epsilon))` over N^2, p and q `(1 + cosine) / 2` over the sum of its row

    Example:
        >>> pkt(torch.eye(2), torch.ones(2, 3))
        tensor(0.0294)

    Source: Nikolaos Passalis, Anastasios Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer
        (2018), arXiv 1803.10837.
    """

    def near(features: Tensor) -> Tensor:
        unit = F.normalize(features.flatten(1))
        return F.normalize(1 + unit @ unit.mT, p=1)

    q, p = _both(student, teacher, near)
    return (p * ((p + epsilon) / (q + epsilon)).log()).mean()


def pyramid(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of maps of one shape, and of their averages at 4 x 4, 2 x 2 and 1 x 1; weight 1.

    `sum_l w_l mean (F_s - F_t)_l^2 / sum_l w_l`, w = 1 at full size and half as much at every level that is smaller

    Example:
        >>> pyramid(torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))
        tensor(1.)

    Source: Pengguang Chen, Shu Liu, Hengshuang Zhao, Jiaya Jia, Distilling Knowledge via Knowledge Review (2021), arXiv
        2104.09044: the loss of its levels; `Review` joins the student's stages first.
    """
    full = _both(student, teacher)
    levels = [[F.adaptive_avg_pool2d(one, size) for one in full] for size in (4, 2, 1) if size < student.shape[-2]]
    terms = [F.mse_loss(ours, theirs) for ours, theirs in (full, *levels)]
    weights = 0.5 ** torch.arange(len(terms), dtype=terms[0].dtype, device=student.device)
    return weights @ torch.stack(terms) / weights.sum()


def contrastive(scores: Tensor, samples: int) -> Tensor:
    """Negative log-likelihood that the first score of each row is the true pair and the others noise.

    `-mean_n [log h(x_0) + sum_(k > 0) log(1 - h(x_k))]`, `h = x / (x + K / samples)`, 1e-7 added to the denominator

    Args:
        scores: exponentiated and normalised similarities [N, 1 + K].
        samples: size of the data set that the K others were drawn from.

    Example:
        >>> contrastive(torch.ones(1, 2), 1)
        tensor(1.3863)

    Source: Yonglong Tian, Dilip Krishnan, Phillip Isola, Contrastive Representation Distillation (2020), arXiv
        1910.10699: its loss; `Contrast` keeps the memories.
    """
    noise = (scores.shape[1] - 1) / samples
    chosen = torch.cat([scores[:, :1], torch.full_like(scores[:, 1:], noise)], dim=1)
    return -(chosen / (scores + noise + 1e-7)).log().sum(1).mean()
