"""Relations instead of values: probabilities that correlate, and similarities between samples and between classes.

These losses compare a whole batch: the positions that count, flattened, are its N rows. They change with the batch
size, accumulating gradients does not equal a larger batch, and processes compare each its own share. A batch of one is
the exact limit: its classes have no correlation, so that `dist` adds gamma without a gradient.
"""

from __future__ import annotations

import warnings
from typing import Unpack

import torch
from torch import Tensor

from limbeck.distill.losses import How, compare, register

FEW = 16  # rows below which correlations over the batch say little


def correlation(a: Tensor, b: Tensor, dim: int = -1, epsilon: float = 1e-8) -> Tensor:
    """Pearson's correlation of two tensors along a dimension; 0 without gradient where one is constant up to rounding.

    Example:
        >>> correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0, 6.0]))
        tensor(1.0000)
    """
    centred = [one - one.mean(dim, keepdim=True) for one in (a, b)]
    sizes = [torch.linalg.vector_norm(one, dim=dim) for one in (a, b)]
    norms = [torch.linalg.vector_norm(one, dim=dim) for one in centred]
    least = 8 * torch.finfo(a.dtype).eps
    varies = (norms[0] > least * sizes[0]) & (norms[1] > least * sizes[1])
    return torch.where(varies, (centred[0] * centred[1]).sum(dim) / (norms[0] * norms[1] + epsilon), 0.0)


def gram_gap(p: Tensor, q: Tensor) -> Tensor:
    """Squared difference of the rows of two matrices of scalar products, `‖(p p^T - q q^T)_n‖^2`, [N].

    Example:
        >>> gram_gap(torch.eye(2), torch.zeros(2, 2))
        tensor([1., 1.])
    """
    return (p @ p.mT - q @ q.mT).square().sum(-1)


@register()
def dist(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *,
    beta: float = 1.0, gamma: float = 1.0, **how: Unpack[How],
) -> Tensor:  # fmt: skip
    """Distillation from a stronger teacher: probabilities correlate within a sample, and over the batch within a class.

    `D = beta (1 - mean_n r(p_n, q_n)) + gamma (1 - mean_c r(p_c, q_c))`, r Pearson's correlation of rows and of columns

    Each part lies between 0 and 2. Fewer than 16 rows give a warning; with one row the second part is 1 and moves
    nothing. Every position gets all of the second part, so that the mean is D and the sum is N D. As published: a
    cross-entropy of weight 1 (`with_labels`) and beta = gamma = 2, at temperature 1 for ImageNet and 4 with
    `tau_squared=True` for CIFAR-100.

    Args:
        beta: weight of the part within samples.
        gamma: weight of the part within classes.

    Example:
        >>> dist(torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([[1.0, 0.0, 0.0]]), gamma=0.0)
        tensor(1.5000)

    Source: Tao Huang, Shan You, Fei Wang, Chen Qian, Chang Xu, Knowledge Distillation from A Stronger Teacher (2022),
        arXiv 2205.10536.
    """

    def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
        p, q = log_p.exp(), log_q.exp()
        if gamma and 0 < len(q) < FEW:
            warnings.warn(f"dist compares classes over a batch of {len(q)} only: give it {FEW} or more", stacklevel=2)
        return beta * (1 - correlation(p, q)) + gamma * (1 - correlation(p, q, dim=0)).mean()

    return compare(formula, student, teacher, **how)


@register()
def batch_similarity(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Similarities between the samples of a batch, of which each position has its row.

    `D = ‖P P^T - Q Q^T‖^2 / N`, P and Q the probabilities [N, C]

    Example:
        >>> batch_similarity(torch.zeros(2, 2), torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
        tensor(0.4995)

    Source: Ying Jin, Jiaqi Wang, Dahua Lin, Multi-Level Logit Distillation (CVPR 2023).
    """
    return compare(lambda log_p, log_q: gram_gap(log_p.exp(), log_q.exp()), student, teacher, **how)


@register()
def class_similarity(student: Tensor, teacher: Tensor, target: Tensor | None = None, **how: Unpack[How]) -> Tensor:
    """Similarities between the classes over a batch; every position gets all of it.

    `D = ‖P^T P - Q^T Q‖^2 / C`, P and Q the probabilities [N, C]; time and memory grow with C^2.

    Example:
        >>> class_similarity(torch.zeros(2, 2), torch.tensor([[9.0, 0.0], [0.0, 9.0]]))
        tensor(0.4995)

    Source: as for `batch_similarity`.
    """

    def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
        return gram_gap(log_p.exp().mT, log_q.exp().mT).mean().expand(len(log_q))

    return compare(formula, student, teacher, **how)
