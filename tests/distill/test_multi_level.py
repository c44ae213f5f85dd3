"""Samples, batch and classes at several temperatures, of two views."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from limbeck.distill import batch_similarity, class_similarity, forward_kl, multi_level, standardised
from limbeck.errors import TrainingError

DRAW = torch.Generator().manual_seed(0)
WEAK_S, WEAK_T, STRONG_S, STRONG_T = 2 * torch.randn(4, 8, 6, generator=DRAW, dtype=torch.float64)
exact = torch.tensor([], dtype=torch.float64).new_tensor
TEMPERATURES = (4.0, 2.0, 3.0, 5.0, 6.0)
STRONG = (STRONG_S, STRONG_T)


@pytest.mark.parity
def test_parity_the_three_levels(parity: Any, walk_sections: Any) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            pair = exact(case["student"]), exact(case["teacher"])
            for row in case["terms"]:
                tau = row["temperature"]
                samples = standardised("forward_kl") if row["logit_stand"] else forward_kl
                value = samples(*pair, temperature=tau, tau_squared=True).item()
                assert value == pytest.approx(row["kd"], rel=1e-10, abs=1e-12)
                for name, loss in (("bc", batch_similarity), ("cc", class_similarity)):
                    assert loss(*pair, temperature=tau).item() == pytest.approx(row[name], rel=1e-10, abs=1e-12)

    walk_sections(parity("mlkd"), {"cases": check}, ignore=["reference", "dtype"])


def test_the_published_form_is_the_sum_written_out() -> None:
    p = WEAK_T.softmax(-1)
    m = (p.amax(-1) <= p.amax(-1).quantile(0.5)).double().mean()
    m_classes = (p.sum(0) <= p.sum(0).quantile(0.5)).double().mean()
    total = torch.zeros(())
    for tau in TEMPERATURES:
        kl = partial(forward_kl, temperature=tau, tau_squared=True)
        total = total + m * kl(WEAK_S, WEAK_T) + m * batch_similarity(WEAK_S, WEAK_T, temperature=tau)
        total = total + m_classes * class_similarity(WEAK_S, WEAK_T, temperature=tau)
        total = total + (kl(WEAK_S, WEAK_T) if tau in (2.0, 6.0) else kl(STRONG_S, STRONG_T))
    torch.testing.assert_close(multi_level(WEAK_S, WEAK_T, strong=STRONG, published=True), total, rtol=1e-12, atol=0)


def test_the_intended_form_is_the_sum_over_unsure_samples_and_rare_classes() -> None:
    p = WEAK_T.softmax(-1)
    rows, classes = p.amax(-1) <= p.amax(-1).quantile(0.5), p.sum(0) <= p.sum(0).quantile(0.5)
    assert rows.sum() == 4 and classes.sum() == 3
    total = torch.zeros(())
    for tau in TEMPERATURES:
        kl = partial(forward_kl, temperature=tau, tau_squared=True)
        for loss in (batch_similarity, class_similarity):
            total = total + loss(*STRONG, temperature=tau)
        total = total + kl(*STRONG) + kl(WEAK_S[rows], WEAK_T[rows]) / 2
        p, q = (WEAK_T / tau).softmax(-1), (WEAK_S / tau).softmax(-1)
        total = total + (p[rows] @ p[rows].T - q[rows] @ q[rows].T).norm() ** 2 / 8
        p, q = p[:, classes], q[:, classes]
        total = total + (p.T @ p - q.T @ q).norm() ** 2 / 6
    torch.testing.assert_close(multi_level(WEAK_S, WEAK_T, strong=STRONG), total, rtol=1e-12, atol=0)


@pytest.mark.parametrize("published", [False, True])
def test_only_the_published_form_moves_samples_whose_teacher_is_sure(published: bool) -> None:
    """Beside the part of the classes, which is written out and taken off."""
    likely = WEAK_T.softmax(-1)
    sure = likely.amax(-1) > likely.amax(-1).quantile(0.5)
    rare = likely.sum(0) <= likely.sum(0).quantile(0.5)
    weak = WEAK_S.clone().requires_grad_()
    loss = multi_level(weak, WEAK_T, strong=STRONG, published=published)
    for tau in TEMPERATURES:
        p, q = (WEAK_T / tau).softmax(-1), (weak / tau).softmax(-1)
        if published:
            loss = loss - rare.double().mean() * (p.T @ p - q.T @ q).norm() ** 2 / 6
        else:
            loss = loss - (p[:, rare].T @ p[:, rare] - q[:, rare].T @ q[:, rare]).norm() ** 2 / 6
    (found,) = torch.autograd.grad(loss, weak)
    largest = found.abs().amax(-1)
    assert largest[~sure].min() > 1e-3
    assert largest[sure].min() > 1e-3 if published else largest[sure].max() < 1e-15


@pytest.mark.parametrize("published", [False, True])
def test_zero_at_the_teacher_masked_and_with_a_checked_gradient(published: bool) -> None:
    loss = partial(multi_level, published=published, temperatures=TEMPERATURES)
    assert loss(WEAK_T, WEAK_T, strong=(STRONG_T, STRONG_T)).item() == pytest.approx(0, abs=1e-12)
    mask = torch.arange(8) != 3
    cut = loss(WEAK_S[mask], WEAK_T[mask], strong=(STRONG_S[mask], STRONG_T[mask]))
    torch.testing.assert_close(loss(WEAK_S, WEAK_T, strong=STRONG, mask=mask), cut)
    assert loss(WEAK_S, WEAK_T, strong=STRONG, mask=mask & False).item() == 0
    small = (WEAK_S[:3, :4].clone().requires_grad_(), STRONG_S[:3, :4].clone().requires_grad_())

    def checked(weak: torch.Tensor, strong: torch.Tensor) -> torch.Tensor:
        return loss(weak, WEAK_T[:3, :4], strong=(strong, STRONG_T[:3, :4]))

    assert torch.autograd.gradcheck(checked, small)


def test_standardised_samples_leave_batch_and_classes_raw() -> None:
    plain = multi_level(WEAK_T, WEAK_T, strong=(STRONG_T, STRONG_T), instance=standardised("forward_kl"))
    scaled = multi_level(3 * WEAK_T, WEAK_T, strong=(STRONG_T, STRONG_T), instance=standardised("forward_kl"))
    assert plain.item() == pytest.approx(0, abs=1e-12) and scaled.item() > 0.01
    with pytest.raises(TrainingError, match=r"strong views \[\[8, 5\], \[8, 6\]\].*\[8, 6\]"):
        multi_level(WEAK_S, WEAK_T, strong=(STRONG_S[:, :5], STRONG_T))
