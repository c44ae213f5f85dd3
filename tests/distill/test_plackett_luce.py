"""Plackett-Luce distillation: limits, closed-form gradient, cached and truncated rankings, reference vectors."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import Ranking, list_mle, pld, rank, ranking_loss
from limbeck.errors import ConfigError, TrainingError

DRAW = torch.Generator().manual_seed(0)
STUDENT, TEACHER = 2 * torch.randn(2, 6, 5, generator=DRAW, dtype=torch.float64)
CLASSES = torch.tensor([0, 4, 2, 1, 3, 3])
exact = torch.tensor([], dtype=torch.float64).new_tensor


def written_out(scores: torch.Tensor, order: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The definition, choice by choice."""
    listed = scores.gather(-1, order)
    rows = [weight[:, k] * (listed[:, k:].logsumexp(-1) - listed[:, k]) for k in range(order.shape[-1])]
    return torch.stack(rows).sum(0)


@pytest.mark.parity
def test_parity_rankings(parity: Any, walk_sections: Any) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            target = torch.tensor(case["target"])
            for row in case["pld"]:
                student = exact(case["student"]).requires_grad_()
                loss = partial(pld, student, exact(case["teacher"]), target, teacher_temperature=row["tau"])
                loss().backward()
                assert loss().item() == pytest.approx(row["loss"], rel=1e-10)
                torch.testing.assert_close(loss(reduction="none"), exact(row["per_sample"]), rtol=1e-10, atol=1e-12)
                torch.testing.assert_close(student.grad, exact(row["grad_student"]), rtol=1e-10, atol=1e-10)

    walk_sections(parity("pld"), {"cases": check}, ignore=["reference", "dtype", "definition"])


@pytest.mark.parametrize("weights", ["teacher", "uniform", "each", "position", "label"])
def test_value_and_gradient_are_those_of_the_definition(weights: Any) -> None:
    student = STUDENT.clone().requires_grad_()
    plain = written_out(student, *rank(TEACHER, CLASSES, weights=weights)).mean()
    ours = pld(student, TEACHER, CLASSES, weights=weights)
    torch.testing.assert_close(ours, plain, rtol=1e-13, atol=0)
    gradients = [torch.autograd.grad(one, student)[0] for one in (plain, ours)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-12, atol=1e-14)
    assert gradients[1].sum(-1).abs().max() < 1e-14


def test_one_argument_reaches_cross_entropy_and_list_mle() -> None:
    labels, lists = F.cross_entropy(STUDENT, CLASSES), list_mle(STUDENT, TEACHER, CLASSES)
    torch.testing.assert_close(pld(STUDENT, TEACHER, CLASSES, weights="label"), labels, rtol=1e-12, atol=0)
    torch.testing.assert_close(pld(STUDENT, TEACHER, CLASSES, weights="uniform"), lists / 5, rtol=1e-12, atol=0)
    hot = pld(STUDENT, TEACHER, CLASSES, teacher_temperature=1e6)
    torch.testing.assert_close(hot, lists / 5, rtol=1e-5, atol=0)
    right = TEACHER.argmax(-1)
    sure = pld(STUDENT, TEACHER, right, teacher_temperature=1e-3)
    torch.testing.assert_close(sure, F.cross_entropy(STUDENT, right), rtol=1e-6, atol=0)


def test_a_sure_teacher_that_errs_is_heard_without_the_label() -> None:
    wrong = (TEACHER.argmax(-1) + 1) % 5
    rest = STUDENT.scatter(-1, wrong[:, None], -math.inf)
    expected = F.cross_entropy(rest, TEACHER.argmax(-1))
    torch.testing.assert_close(pld(STUDENT, TEACHER, wrong, teacher_temperature=1e-3), expected, rtol=1e-6, atol=0)


def test_position_weights_fall_by_halves_and_do_not_overflow() -> None:
    weight = rank(torch.arange(4.0).double(), weights="position").weight
    torch.testing.assert_close(weight, exact([7, 3, 1, 0]) / 11)
    many = rank(torch.arange(3000.0).double(), weights="position").weight
    assert many.sum().item() == pytest.approx(1) and many[0].item() == pytest.approx(0.5)
    assert pld(torch.zeros(1), torch.zeros(1), torch.tensor(0), weights="position").item() == 0


def test_values_by_hand() -> None:
    two = pld(STUDENT[:, :2], TEACHER[:, :2], CLASSES % 2, reduction="none")
    own = TEACHER[:, :2].softmax(-1).gather(-1, CLASSES[:, None] % 2)[:, 0]
    torch.testing.assert_close(two, own * F.cross_entropy(STUDENT[:, :2], CLASSES % 2, reduction="none"))
    first, second = rank(TEACHER[0, :3], torch.tensor(1)).weight[:2].tolist()
    flat = pld(torch.zeros(3).double(), TEACHER[0, :3], torch.tensor(1)).item()
    assert flat == pytest.approx(first * math.log(3) + second * math.log(2), rel=1e-12)


def test_it_is_convex() -> None:
    other = STUDENT.flip(0)
    for share in (0.1, 0.5, 0.8):
        between = pld(share * STUDENT + (1 - share) * other, TEACHER, CLASSES, reduction="none")
        ends = [pld(one, TEACHER, CLASSES, reduction="none") for one in (STUDENT, other)]
        assert (between <= share * ends[0] + (1 - share) * ends[1] + 1e-12).all()
    order, weight = rank(TEACHER[:1], CLASSES[:1])
    hessian = torch.autograd.functional.hessian(lambda s: written_out(s[None], order, weight).sum(), STUDENT[0])
    assert torch.linalg.eigvalsh(hessian).min() > -1e-10


def test_permuted_classes_cost_the_same_and_the_minimum_lies_at_infinity() -> None:
    order = torch.tensor([3, 0, 4, 1, 2])
    moved = pld(STUDENT[:, order], TEACHER[:, order], order.argsort()[CLASSES])
    torch.testing.assert_close(moved, pld(STUDENT, TEACHER, CLASSES), rtol=1e-13, atol=0)
    ranks = rank(TEACHER, CLASSES).order.argsort(-1).double()
    values = [pld(-scale * ranks, TEACHER, CLASSES).item() for scale in (0, 1, 3, 10, 40)]
    assert values == sorted(values, reverse=True) and values[-1] < 1e-15


@pytest.mark.parametrize("scale", [1e2, 1e4])
def test_wide_logits_take_the_logarithmic_form(scale: float) -> None:
    student = (scale * STUDENT.float()).requires_grad_()
    loss = pld(student, scale * TEACHER.float(), CLASSES, teacher_temperature=scale)
    loss.backward()
    reference = (scale * STUDENT.float()).double().requires_grad_()
    order, weight = rank(scale * TEACHER.float(), CLASSES, teacher_temperature=scale)
    written_out(reference, order, weight).mean().backward()
    torch.testing.assert_close(student.grad.double(), reference.grad, rtol=1e-5, atol=1e-7)
    assert loss.isfinite()


def test_ties_go_to_the_lower_class_and_excluded_classes_leave_the_list() -> None:
    assert rank(torch.tensor([1.0, 2.0, 1.0, 2.0]), torch.tensor(2)).order.tolist() == [2, 1, 3, 0]
    assert torch.equal(rank(torch.zeros(3, 5000)).order, torch.arange(5000).expand(3, -1))
    student, teacher = (F.pad(one, (0, 2)) for one in (STUDENT, TEACHER))
    teacher[:, 5:] = -math.inf
    for loss in (pld, partial(pld, weights="uniform"), partial(pld, weights="position"), list_mle, partial(pld, top=3)):
        known = loss(STUDENT, TEACHER, CLASSES)
        torch.testing.assert_close(loss(student, teacher, CLASSES), known, rtol=1e-12, atol=0)
        none = torch.cat([STUDENT, torch.full((6, 2), -math.inf)], -1).requires_grad_()
        loss(none, teacher, CLASSES).backward()
        assert none.grad is not None and none.grad.isfinite().all() and none.grad[:, 5:].abs().max() == 0
    student[0, 1] = -math.inf  # excluded by the student alone: as forward KL, refused by the trainer
    assert pld(student, teacher, CLASSES).item() == math.inf


@pytest.mark.parametrize("top", [1, 3, 5])
def test_the_first_ranks_leave_out_exactly_the_later_choices(top: int) -> None:
    order, weight = rank(TEACHER, CLASSES)
    later = torch.where(torch.arange(5) < top, 0.0, weight)
    dropped = written_out(STUDENT, order, later).mean()
    assert dropped >= 0
    student = STUDENT.clone().requires_grad_()
    found = pld(student, TEACHER, CLASSES, top=top)
    torch.testing.assert_close(found + dropped, pld(STUDENT, TEACHER, CLASSES), rtol=1e-12, atol=0)
    assert torch.autograd.gradcheck(lambda s: pld(s, TEACHER, CLASSES, top=top), (student,))


def test_a_kept_ranking_gives_the_loss_without_a_sort(monkeypatch: pytest.MonkeyPatch) -> None:
    sorts: list[int] = []
    sort = torch.Tensor.sort
    monkeypatch.setattr(torch.Tensor, "sort", lambda self, **how: (sorts.append(1), sort(self, **how))[1])
    mask = torch.arange(6) != 2
    expected = pld(STUDENT, TEACHER, CLASSES, mask=mask, temperature=2.0, teacher_temperature=0.5)
    assert len(sorts) == 1
    kept = rank(TEACHER, CLASSES, teacher_temperature=1.0)
    assert len(sorts) == 2
    small = Ranking(kept.order.to(torch.int64), kept.weight.half())
    torch.testing.assert_close(ranking_loss(STUDENT, kept, mask=mask, temperature=2.0), expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(ranking_loss(STUDENT, small, mask=mask, temperature=2.0), expected, rtol=2e-3, atol=0)
    assert len(sorts) == 2


@pytest.mark.parametrize("weights", ["teacher", "uniform", "position"])
def test_rankings_of_half_precision_have_weights_of_single(weights: Any) -> None:
    coarse = TEACHER.bfloat16()
    assert rank(coarse, CLASSES, weights=weights).weight.dtype == torch.float32
    own, fine = (rank(one, CLASSES, weights=weights).weight.double() for one in (coarse, coarse.double()))
    torch.testing.assert_close(own, fine, rtol=1e-6, atol=1e-8)


def test_documents_may_be_listed_instead_of_classes() -> None:
    """A query with its positive document first, two others by score, a place of padding."""
    scores = torch.tensor([[0.3, 0.1, 0.9, -math.inf]], dtype=torch.float64)
    lists = Ranking(torch.tensor([[2, 0, 1, 3]]), exact([[0.7, 0.2, 0.1, 0.0]]))
    expected = 0.7 * (scores[0, :3].logsumexp(0) - 0.9) + 0.2 * (scores[0, :2].logsumexp(0) - 0.3)
    torch.testing.assert_close(ranking_loss(scores, lists), expected)


def test_the_teachers_own_order_and_mistakes() -> None:
    best = TEACHER.argmax(-1)
    torch.testing.assert_close(list_mle(STUDENT, TEACHER), list_mle(STUDENT, TEACHER, best))
    with pytest.raises(TrainingError, match="needs the true classes"):
        pld(STUDENT, TEACHER)
    with pytest.raises(ConfigError, match=r'one of teacher, uniform, each, position, label, got "linear"'):
        pld(STUDENT, TEACHER, CLASSES, weights="linear")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="teacher_temperature must be positive, got 0"):
        rank(TEACHER, teacher_temperature=0)
