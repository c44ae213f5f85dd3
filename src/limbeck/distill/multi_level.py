"""Multi-level logit distillation: samples, batch and classes, at several temperatures, of two views of every sample."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor

from limbeck.distill.divergences import forward_kl
from limbeck.distill.losses import How, Loss, compare_logits
from limbeck.distill.relational import gram_gap
from limbeck.errors import TrainingError


def multi_level(
    student: Tensor, teacher: Tensor, target: Tensor | None = None, *, strong: tuple[Tensor, Tensor],
    temperatures: Sequence[float] = (4.0, 2.0, 3.0, 5.0, 6.0), instance: Loss = forward_kl, published: bool = False,
    **how: Unpack[How],
) -> Tensor:  # fmt: skip
    """Multi-level logit distillation of a weakly and a strongly augmented view, in nats and squared probabilities.

    `D = sum_T T^2 mean_n KL(p_n‖q_n) + ‖P P^T - Q Q^T‖^2 / N + ‖P^T P - Q^T Q‖^2 / C`, summed over both views

    In the weak view the first two parts see only the samples whose teacher is no surer than the median, the third only
    the classes whose summed probability is at most the median. As published: 0.9 D and a cross-entropy of weight 0.1 on
    both views.

    Args:
        student, teacher: logits [..., C] of the weakly augmented samples.
        strong: the student's and the teacher's logits of the same samples, strongly augmented, both alike.
        temperatures: of the softmaxes that are compared.
        instance: the part that compares samples; for logit standardisation `standardised("forward_kl")`.
        published: what the released code computes: the medians choose nothing but scale the weak view by the shares of
            samples and classes below them; of the strong view only the first part counts, and it is that of the weak
            view at the second and fifth temperature.
        how: see `How`; the batch is the positions that count, and every position gets all of the third part.

    Raises:
        TrainingError: views that differ in shape.

    Example:
        >>> weak, strong = torch.eye(3), 2 * torch.eye(3)
        >>> multi_level(weak, strong, strong=(strong, strong), temperatures=[1.0])
        tensor(0.1468)

    Source: Ying Jin, Jiaqi Wang, Dahua Lin, Multi-Level Logit Distillation (CVPR 2023); the masks are reconstructed.
    """
    if any(view.shape != student.shape for view in strong):
        shapes = [list(view.shape) for view in strong]
        raise TrainingError(f"strong views {shapes} must have the weak view's shape {list(student.shape)}.")

    def formula(theirs: Tensor, ours: Tensor) -> Tensor:
        total = ours.sum(-1) * 0
        if not len(ours):
            return total
        (weak_s, strong_s), (weak_t, strong_t) = ours.chunk(2, -1), theirs.chunk(2, -1)
        likely = weak_t.softmax(-1)
        rows, classes = ((one <= one.quantile(0.5)).to(ours.dtype) for one in (likely.amax(-1), likely.sum(0)))
        views = (weak_s, weak_t, rows, classes), (strong_s, strong_t, rows * 0 + 1, classes * 0 + 1)
        for place, temperature in enumerate(temperatures):
            samples = partial(instance, temperature=temperature, tau_squared=True, reduction="none")
            if published:
                p, q = ((one / temperature).softmax(-1) for one in (weak_t, weak_s))
                s, t = views[place not in (1, 4)][:2]
                total = total + samples(s, t) + rows.mean() * (samples(weak_s, weak_t) + gram_gap(p, q))
                total = total + classes.mean() * gram_gap(p.mT, q.mT).mean()
                continue
            for s, t, r, c in views:
                p, q = ((one / temperature).softmax(-1) for one in (t, s))
                total = total + r * samples(s, t) + gram_gap(p * r[:, None], q * r[:, None])
                total = total + gram_gap((p * c).mT, (q * c).mT).mean()
        return total

    joined = (torch.cat([one, other], -1) for one, other in zip((student, teacher), strong, strict=True))
    return compare_logits(formula, *joined, **how)
