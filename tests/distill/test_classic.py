"""Classic distillation: KL at a temperature, labels, logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import cross_entropy, forward_kl, hard_label, squared_logits, with_labels
from limbeck.errors import TrainingError

DRAW = torch.Generator().manual_seed(0)
STUDENT, TEACHER = 2 * torch.randn(2, 6, 5, generator=DRAW, dtype=torch.float64)
CLASSES = torch.tensor([0, 4, 2, 1, 3, 3])
exact = torch.tensor([], dtype=torch.float64).new_tensor


@pytest.mark.parity
def test_parity_kl_at_a_temperature(parity: Any, walk_sections: Any) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            for row in case["kd"]:
                student, tau = exact(case["student"]).requires_grad_(), row["temperature"]
                loss = forward_kl(student, exact(case["teacher"]), temperature=tau, tau_squared=True)
                loss.backward()
                assert loss.item() == pytest.approx(row["loss"], rel=1e-10, abs=1e-12)
                assert loss.item() == pytest.approx(row["loss_repdistiller"], rel=1e-10, abs=1e-12)
                torch.testing.assert_close(student.grad, exact(row["grad_student"]), rtol=1e-10, atol=1e-12)

    walk_sections(parity("kd-hinton"), {"cases": check}, ignore=["reference", "dtype"])


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_gradient_is_the_difference_of_probabilities(temperature: float) -> None:
    student = STUDENT.clone().requires_grad_()
    forward_kl(student, TEACHER, temperature=temperature, tau_squared=True).backward()
    closed = temperature * ((STUDENT / temperature).softmax(-1) - (TEACHER / temperature).softmax(-1)) / 6
    torch.testing.assert_close(student.grad, closed, rtol=0, atol=1e-14)


def test_high_temperature_matches_logits_with_an_error_that_falls_as_its_inverse() -> None:
    errors = []
    for temperature in (1e2, 1e3):
        value = forward_kl(STUDENT, TEACHER, temperature=temperature, tau_squared=True).item()
        errors.append(abs(value / squared_logits(STUDENT, TEACHER).item() - 1))
    assert errors[1] < 1e-2 and errors[0] / errors[1] == pytest.approx(10, rel=0.1)


def test_kl_and_the_teachers_entropy_are_the_soft_cross_entropy() -> None:
    p = TEACHER.softmax(-1)
    entropy = -(p * p.log()).sum(-1).mean()
    torch.testing.assert_close(forward_kl(STUDENT, TEACHER) + entropy, F.cross_entropy(STUDENT, p))


def test_mean_is_over_samples_and_sum_over_classes() -> None:
    value = forward_kl(STUDENT, TEACHER, temperature=2.0)
    twice = forward_kl(STUDENT.repeat(2, 1), TEACHER.repeat(2, 1), temperature=2.0)
    more = forward_kl(*(F.pad(one, (0, 1), value=-1e9) for one in (STUDENT, TEACHER)), temperature=2.0)
    torch.testing.assert_close(twice, value)
    torch.testing.assert_close(more, value)
    assert forward_kl(torch.tensor([1e4, -1e4]), torch.tensor([-1e4, 1e4])).item() == pytest.approx(2e4)


def test_labels_true_smoothed_and_of_the_teacher() -> None:
    torch.testing.assert_close(cross_entropy(STUDENT, TEACHER, CLASSES), F.cross_entropy(STUDENT, CLASSES))
    smooth = torch.full((6, 5), 0.02).double().scatter(-1, CLASSES[:, None], 0.92)
    torch.testing.assert_close(
        cross_entropy(STUDENT, TEACHER, CLASSES, smoothing=0.1), F.cross_entropy(STUDENT, smooth)
    )
    limit = forward_kl(STUDENT, TEACHER * 1e3, temperature=1.0)  # a teacher without doubt
    torch.testing.assert_close(hard_label(STUDENT, TEACHER), limit)


def test_labels_join_a_loss_at_temperature_one_and_share_its_mask() -> None:
    only = with_labels("forward_kl", 1.0, 0.0, smoothing=0.2)(STUDENT, TEACHER, CLASSES)
    torch.testing.assert_close(only, F.cross_entropy(STUDENT, CLASSES, label_smoothing=0.2))
    mask = torch.arange(6) % 2 == 0
    holes = CLASSES.where(mask, -100)
    loss = with_labels("forward_kl", 0.1, 0.9)
    for reduction in ("mean", "sum", "none"):
        shared: dict[str, Any] = {"mask": mask, "reduction": reduction}
        found = loss(STUDENT, TEACHER, holes, temperature=4.0, tau_squared=True, **shared)
        labels = cross_entropy(STUDENT, TEACHER, holes, **shared)
        soft = forward_kl(STUDENT, TEACHER, temperature=4.0, tau_squared=True, **shared)
        torch.testing.assert_close(found, 0.1 * labels + 0.9 * soft)
    ours = F.cross_entropy(STUDENT[mask], CLASSES[mask])
    torch.testing.assert_close(cross_entropy(STUDENT, TEACHER, holes, mask=mask), ours)


def test_classes_that_are_missing_or_do_not_exist_are_named() -> None:
    with pytest.raises(TrainingError, match=r"needs the true classes.*\[6\]"):
        cross_entropy(STUDENT, TEACHER)
    with pytest.raises(TrainingError, match="between 0 and 4: mask positions"):
        cross_entropy(STUDENT, TEACHER, CLASSES - 100)
