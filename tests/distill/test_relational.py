"""Correlations and similarities over a batch."""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import pytest
import torch

from limbeck.distill import batch_similarity, class_similarity, dist
from limbeck.distill.relational import correlation

DRAW = torch.Generator().manual_seed(0)
STUDENT, TEACHER = 2 * torch.randn(2, 20, 5, generator=DRAW, dtype=torch.float64)
exact = torch.tensor([], dtype=torch.float64).new_tensor
within, across = partial(dist, beta=1.0, gamma=0.0), partial(dist, beta=0.0, gamma=1.0)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:dist compares")
def test_parity_correlations(parity: Any, walk_sections: Any) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            for row in case["dist"]:
                options = {"beta": row["beta"], "gamma": row["gamma"], "temperature": row["tau"]}
                student = exact(case["student"]).requires_grad_()
                loss = dist(student, exact(case["teacher"]), tau_squared=True, **options)
                loss.backward()
                assert loss.item() == pytest.approx(row["loss"], rel=1e-9, abs=1e-12)
                torch.testing.assert_close(student.grad, exact(row["grad_student"]), rtol=1e-9, atol=1e-9)

    walk_sections(parity("dist"), {"cases": check}, ignore=["reference", "dtype"])


def test_parts_add_up_and_shifted_rows_cost_nothing() -> None:
    both = dist(STUDENT, TEACHER, beta=0.3, gamma=0.7)
    torch.testing.assert_close(both, 0.3 * within(STUDENT, TEACHER) + 0.7 * across(STUDENT, TEACHER))
    assert dist(TEACHER + STUDENT[:, :1], TEACHER).item() == pytest.approx(0, abs=1e-6)


def test_correlation_knows_no_size_and_has_two_sides() -> None:
    p, q = STUDENT.softmax(-1), TEACHER.softmax(-1)
    for dim in (0, 1):
        torch.testing.assert_close(correlation(p, 3 * q + 2, dim), correlation(p, q, dim), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(correlation(p.T, q.T, 1 - dim), correlation(p, q, dim))
        torch.testing.assert_close(correlation(p, -p, dim), correlation(p, p, dim) * -1)
    opposite = torch.stack([TEACHER[:, 0], -TEACHER[:, 0]], -1)
    assert within(-opposite, opposite).item() == pytest.approx(2, abs=1e-5)


def test_the_batch_may_be_doubled_or_reordered_with_its_classes() -> None:
    value, rows, classes = dist(STUDENT, TEACHER), torch.randperm(20, generator=DRAW), torch.randperm(5, generator=DRAW)
    torch.testing.assert_close(dist(STUDENT.repeat(2, 1), TEACHER.repeat(2, 1)), value, rtol=1e-6, atol=0)
    torch.testing.assert_close(dist(STUDENT[rows][:, classes], TEACHER[rows][:, classes]), value)


def test_a_small_batch_is_named_and_a_single_row_moves_only_itself() -> None:
    with pytest.warns(UserWarning, match="batch of 1 only: give it 16"):
        loss = across(student := STUDENT[:1].clone().requires_grad_(), TEACHER[:1])
    loss.backward()
    assert loss.item() == 1 and student.grad.abs().max() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dist(STUDENT, TEACHER)
        within(STUDENT[:1], TEACHER[:1])


def test_constant_probabilities_do_not_explode() -> None:
    student = torch.zeros(20, 5, requires_grad=True)
    loss = dist(student, TEACHER.float())
    loss.backward()
    assert loss.item() == 2 and student.grad.abs().max() == 0


def test_similarities_of_samples_and_of_classes_mirror_each_other() -> None:
    rows, classes = torch.randperm(20, generator=DRAW), torch.randperm(5, generator=DRAW)
    each = partial(batch_similarity, reduction="none")
    torch.testing.assert_close(each(STUDENT[:, classes], TEACHER[:, classes]), each(STUDENT, TEACHER))
    torch.testing.assert_close(each(STUDENT[rows], TEACHER[rows]), each(STUDENT, TEACHER)[rows])
    value = class_similarity(STUDENT, TEACHER)
    torch.testing.assert_close(class_similarity(STUDENT[rows][:, classes], TEACHER[rows][:, classes]), value)
    p, q = TEACHER.softmax(-1), STUDENT.softmax(-1)
    torch.testing.assert_close(batch_similarity(STUDENT, TEACHER), (p @ p.T - q @ q.T).norm() ** 2 / 20)
    torch.testing.assert_close(value, (p.T @ p - q.T @ q).norm() ** 2 / 5)


@pytest.mark.parametrize("loss", [dist, batch_similarity, class_similarity])
def test_every_position_carries_its_share_of_the_batch(loss: Any) -> None:
    mask = torch.arange(20) < 17
    values = loss(STUDENT, TEACHER, mask=mask, reduction="none")
    mean = loss(STUDENT[mask], TEACHER[mask])
    torch.testing.assert_close(values.sum() / 17, mean)
    torch.testing.assert_close(loss(STUDENT, TEACHER, mask=mask, reduction="sum"), 17 * mean)
