"""Decoupled distillation: the identity with KL, its two parts, saturated logits, reference vectors."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from limbeck.distill import constant, dkd, forward_kl

DRAW = torch.Generator().manual_seed(0)
STUDENT, TEACHER = 2 * torch.randn(2, 6, 5, generator=DRAW, dtype=torch.float64)
CLASSES = torch.tensor([0, 4, 2, 1, 3, 3])
exact = torch.tensor([], dtype=torch.float64).new_tensor
true_class, others = partial(dkd, alpha=1.0, beta=0.0), partial(dkd, alpha=0.0, beta=1.0)


@pytest.mark.parity
def test_parity_decoupled(parity: Any, walk_sections: Any) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            target = torch.tensor(case["target"])
            for row in case["dkd"]:
                options = {"alpha": row["alpha"], "beta": row["beta"], "temperature": row["temperature"]}
                student = exact(case["student"]).requires_grad_()
                loss = dkd(student, exact(case["teacher"]), target, tau_squared=True, **options)
                loss.backward()
                assert loss.item() == pytest.approx(row["loss"], rel=1e-9, abs=1e-12)
                torch.testing.assert_close(student.grad, exact(row["grad_student"]), rtol=1e-9, atol=1e-9)

    walk_sections(parity("dkd"), {"cases": check}, ignore=["reference", "dtype"])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_parts_make_up_the_divergence(temperature: float) -> None:
    how: dict[str, Any] = {"temperature": temperature, "tau_squared": True, "reduction": "none"}
    rest = 1 - (TEACHER / temperature).softmax(-1).gather(-1, CLASSES[:, None])[:, 0]
    parts = [part(STUDENT, TEACHER, CLASSES, **how) for part in (true_class, others)]
    torch.testing.assert_close(parts[0] + rest * parts[1], forward_kl(STUDENT, TEACHER, **how), rtol=1e-12, atol=1e-13)


def test_each_part_moves_its_own_logits() -> None:
    student = STUDENT.clone().requires_grad_()
    (found,) = torch.autograd.grad(others(student, TEACHER, CLASSES), student)
    assert found.gather(-1, CLASSES[:, None]).abs().max() < 1e-16 and found.abs().max() > 0.01
    own = torch.zeros(6, 5, dtype=torch.bool).scatter(-1, CLASSES[:, None], True)
    shuffled = STUDENT.clone()
    shuffled[~own] = STUDENT[~own].view(6, 4).flip(-1).flatten()
    torch.testing.assert_close(true_class(shuffled, TEACHER, CLASSES), true_class(STUDENT, TEACHER, CLASSES))


def test_two_classes_have_no_others_and_permuted_classes_cost_the_same() -> None:
    assert others(STUDENT[:, :2], TEACHER[:, :2], CLASSES % 2).abs().item() < 1e-15
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = dkd(STUDENT[:, order], TEACHER[:, order], order.argsort()[CLASSES])
    torch.testing.assert_close(moved, dkd(STUDENT, TEACHER, CLASSES), rtol=1e-13, atol=0)


def test_saturated_logits_stay_finite_in_single_precision() -> None:
    teacher = 1e3 * torch.eye(5)[CLASSES]
    student = (-1e3 * torch.eye(5)[CLASSES]).requires_grad_()
    loss = dkd(student, teacher, CLASSES)
    loss.backward()
    assert loss.item() == pytest.approx(1e3, rel=0.01)
    assert student.grad.isfinite().all() and student.grad.abs().max() > 0


def test_the_published_warm_up_is_a_schedule() -> None:
    assert [constant(epoch - 1, warmup=20) for epoch in (1, 10, 20, 240)] == [0.05, 0.5, 1.0, 1.0]
