"""Losses that choose between the directions of the KL divergence."""

from __future__ import annotations

import math

import pytest
import torch

from limbeck.distill import entropy_aware_kl, forward_kl, get_loss, reverse_kl, todi

DRAW = torch.Generator().manual_seed(0)
STUDENT, TEACHER = (torch.randn(5, 7, generator=DRAW, dtype=torch.float64) for _ in range(2))
NAMES = ["adaptive_kl", "entropy_aware_kl", "todi"]


@pytest.mark.parametrize("name", NAMES)
def test_zero_at_the_teacher_between_the_directions_and_unmoved_by_a_shift(name: str) -> None:
    loss = get_loss(name).function
    student = STUDENT.clone().requires_grad_()
    assert loss(TEACHER, TEACHER).item() == pytest.approx(0, abs=1e-12)
    each = loss(student, TEACHER, reduction="none")
    if name != "todi":
        ends = torch.stack([one(STUDENT, TEACHER, reduction="none") for one in (forward_kl, reverse_kl)])
        assert ((each >= ends.amin(0)) & (each <= ends.amax(0))).all()
    torch.testing.assert_close(loss(student + 3, TEACHER - 2, reduction="none"), each)
    each.sum().backward()
    assert student.grad is not None and student.grad.sum(-1).abs().max() < 1e-12
    lost = TEACHER.clone()
    lost[:, 0] = -torch.inf
    hidden = STUDENT.clone()
    hidden[:, 0] = -torch.inf
    assert loss(hidden, lost).isfinite()


def test_todi_by_hand() -> None:
    p, q = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
    expected = sum(
        a / (a + b) * a * math.log(a / b) + b / (a + b) * b * math.log(b / a)
        for a, b in zip(p.tolist(), q.tolist(), strict=True)
    )
    assert todi(q.log(), p.log()).item() == pytest.approx(expected, rel=1e-6)


def test_todi_moves_the_student_as_if_its_switch_were_given() -> None:
    student = STUDENT.clone().requires_grad_()
    (found,) = torch.autograd.grad(todi(student, TEACHER, reduction="sum"), student)
    share = (TEACHER.log_softmax(-1) - STUDENT.log_softmax(-1)).sigmoid()

    def given(logits: torch.Tensor) -> torch.Tensor:
        log_p, log_q = TEACHER.log_softmax(-1), logits.log_softmax(-1)
        return (share * log_p.exp() * (log_p - log_q) + (1 - share) * log_q.exp() * (log_q - log_p)).sum()

    step = 1e-5
    for place in ((0, 0), (2, 3), (4, 6)):
        bump = torch.zeros_like(STUDENT)
        bump[place] = step
        slope = (given(STUDENT + bump) - given(STUDENT - bump)) / (2 * step)
        assert found[place].item() == pytest.approx(slope.item(), abs=1e-8)


def test_a_sure_teacher_is_followed_and_an_unsure_one_covered() -> None:
    sure, unsure = torch.tensor([0.0, -30.0, -30.0]), torch.zeros(3)
    student = torch.tensor([1.0, 0.0, 0.0])
    assert entropy_aware_kl(student, sure).item() == pytest.approx(reverse_kl(student, sure).item(), rel=1e-4)
    assert entropy_aware_kl(student, unsure).item() == pytest.approx(forward_kl(student, unsure).item(), rel=1e-6)
