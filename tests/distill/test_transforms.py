"""Transforms of logits that wrap any loss."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812

from limbeck.distill import (
    bucketed,
    dkd,
    forward_kl,
    loss_names,
    pld,
    softened,
    standardise,
    standardised,
    topk_kl,
    with_labels,
)
from limbeck.errors import ConfigError, TrainingError

DRAW = torch.Generator().manual_seed(0)
STUDENT, TEACHER = 2 * torch.randn(2, 20, 6, generator=DRAW, dtype=torch.float64)
CLASSES = torch.arange(20) % 6
exact = torch.tensor([], dtype=torch.float64).new_tensor
WRAPPERS = {"standardised": standardised, "softened": partial(softened, student=2.0, teacher=3.0)}
WRAPPERS["bucketed"] = partial(bucketed, k=3)


def gradient(loss: Any, student: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
    student = student.clone().requires_grad_()
    loss(student, *arguments, **options).backward()
    assert student.grad is not None
    return student.grad


@pytest.mark.parity
def test_parity_standardised(parity: Any, walk_sections: Any) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            student, teacher, target = exact(case["student"]), exact(case["teacher"]), torch.tensor(case["target"])
            for side, logits in (("student", student), ("teacher", teacher)):
                torch.testing.assert_close(standardise(logits), exact(case[f"zscore_{side}"]), rtol=1e-9, atol=1e-9)
            for row in case["kd"] + case["dkd"]:
                loss = partial(dkd, alpha=row["alpha"], beta=row["beta"]) if "alpha" in row else forward_kl
                loss = standardised(loss) if row["logit_stand"] else loss
                how: dict[str, Any] = {"temperature": row["temperature"], "tau_squared": True}
                assert loss(student, teacher, target, **how).item() == pytest.approx(row["loss"], rel=1e-9, abs=1e-12)
                found = gradient(loss, student, teacher, target, **how)
                torch.testing.assert_close(found, exact(row["grad_student"]), rtol=1e-9, atol=1e-9)

    walk_sections(parity("logit-standardization"), {"cases": check}, ignore=["reference", "dtype", "note"])


@pytest.mark.filterwarnings("ignore:dist compares")
@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("name", loss_names())
def test_every_loss_can_be_wrapped(name: str, wrapper: str) -> None:
    """Masked positions stay without effect, half precision is computed in single, the teacher gets no gradient."""
    loss = WRAPPERS[wrapper](name)
    mask = torch.arange(20) % 3 != 0
    cut = loss(STUDENT[mask], TEACHER[mask], CLASSES[mask], temperature=2.0)
    student, teacher = STUDENT.clone(), TEACHER.clone().requires_grad_()
    student[~mask] = math.nan
    torch.testing.assert_close(loss(student, teacher, CLASSES, mask=mask, temperature=2.0), cut, rtol=1e-12, atol=0)
    found = gradient(loss, student, teacher, CLASSES, mask=mask, temperature=2.0)
    assert teacher.grad is None and found[~mask].abs().max() == 0 and found[mask].isfinite().all()
    assert found[mask].abs().max() > 0
    assert loss(STUDENT.bfloat16(), TEACHER.bfloat16(), CLASSES).dtype == torch.float32


def test_temperatures_of_each_side() -> None:
    own = softened("pld", teacher=3.0)(STUDENT, TEACHER, CLASSES)
    torch.testing.assert_close(own, pld(STUDENT, TEACHER, CLASSES, teacher_temperature=3.0))
    with pytest.raises(ConfigError, match=r"positive, got 1\.0 and 0"):
        softened("pld", teacher=0)


@pytest.mark.parametrize("ddof", [0, 1])
def test_standardised_rows_have_the_moments_and_the_bound(ddof: int) -> None:
    z = standardise(STUDENT, ddof=ddof)
    assert z.mean(-1).abs().max() < 1e-12
    torch.testing.assert_close(z.std(-1, correction=0), torch.full((20,), math.sqrt((6 - ddof) / 6)).double())
    torch.testing.assert_close(standardise(STUDENT), math.sqrt(5 / 6) * standardise(STUDENT, ddof=0))
    hot = standardise(torch.eye(6).double(), ddof=ddof).max().item()
    assert hot == pytest.approx(math.sqrt(5) if ddof == 0 else 5 / math.sqrt(6), rel=1e-6) and z.max() <= hot
    torch.testing.assert_close(standardise(-3 * STUDENT + 5), -standardise(STUDENT), rtol=1e-6, atol=1e-6)


def test_size_and_place_of_logits_are_free() -> None:
    loss = partial(standardised("forward_kl"), temperature=2.0, tau_squared=True)
    value = loss(STUDENT, TEACHER)
    torch.testing.assert_close(loss(3 * STUDENT + 1, 0.2 * TEACHER - 4), value, rtol=1e-6, atol=0)
    assert loss(3 * TEACHER + 1, TEACHER).item() == pytest.approx(0, abs=1e-12)
    assert gradient(loss, 3 * TEACHER + 1, TEACHER).abs().max() < 1e-7
    found = gradient(standardised("forward_kl", epsilon=0.0), STUDENT, TEACHER, temperature=2.0)
    assert found.sum(-1).abs().max() < 1e-12
    assert (found * (STUDENT - STUDENT.mean(-1, keepdim=True))).sum(-1).abs().max() < 1e-12
    wrong, right, teacher = exact([2.0, 3.0, 0.0]), exact([9.0, 4.0, 1.0]), exact([3.0, 2.0, 0.0])
    assert forward_kl(wrong, teacher) < forward_kl(right, teacher)
    assert loss(wrong, teacher) > loss(right, teacher)


def test_half_precision_is_standardised_in_single() -> None:
    coarse = STUDENT.bfloat16()
    assert standardise(coarse).dtype == torch.float32
    torch.testing.assert_close(standardise(coarse), standardise(coarse.float()), rtol=0, atol=0)


def test_the_two_deviations_differ_by_a_temperature() -> None:
    ours = standardised("forward_kl")(STUDENT, TEACHER, temperature=2.0)
    other = standardised("forward_kl", ddof=0)(STUDENT, TEACHER, temperature=2.0 * math.sqrt(6 / 5))
    torch.testing.assert_close(ours, other, rtol=1e-6, atol=0)


def test_descent_leaves_the_size_of_logits_alone() -> None:
    """The gradient is orthogonal to the centred logits, so their squared norm grows by second-order terms alone."""
    student, loss, second = STUDENT.clone(), standardised("forward_kl", epsilon=0.0), 0.0
    start = (student - student.mean(-1, keepdim=True)).square().sum().item()
    for _ in range(30):
        step = 5.0 * gradient(loss, student, TEACHER, temperature=2.0)
        second += step.square().sum().item()
        student = student - step
    end = (student - student.mean(-1, keepdim=True)).square().sum().item()
    assert end - start == pytest.approx(second, rel=1e-6) and 0 < second < start


def test_rows_without_a_pattern_and_classes_that_do_not_exist() -> None:
    assert gradient(standardised("forward_kl"), torch.ones(2, 4).double(), TEACHER[:2, :4]).abs().max() == 0
    hidden = F.pad(STUDENT, (0, 2), value=-math.inf)
    torch.testing.assert_close(standardise(hidden)[:, :6], standardise(STUDENT))
    assert (standardise(hidden)[:, 6:] == -math.inf).all()
    gone = gradient(standardised("forward_kl"), hidden, F.pad(TEACHER, (0, 2), value=-math.inf))
    torch.testing.assert_close(gone[:, :6], gradient(standardised("forward_kl"), STUDENT, TEACHER))
    with pytest.raises(TrainingError, match="2 classes have nothing but their order"):
        standardised("forward_kl")(STUDENT[:, :2], TEACHER[:, :2])


def test_wrapped_losses_are_those_written_by_hand() -> None:
    z, v = standardise(STUDENT), standardise(TEACHER)
    for loss in (dkd, topk_kl, partial(topk_kl, k=2, variant="reverse")):
        by_hand = loss(z / 2, v / 2, CLASSES)
        torch.testing.assert_close(standardised(loss)(STUDENT, TEACHER, CLASSES, temperature=2.0), by_hand)
    twice = with_labels(standardised(bucketed("forward_kl", 3)), 0.1, 9.0)(STUDENT, TEACHER, CLASSES)
    torch.testing.assert_close(
        twice, 0.1 * F.cross_entropy(STUDENT, CLASSES) + 9 * bucketed("forward_kl", 3)(z, v, CLASSES)
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_bucket_holds_the_mass_of_all_others(temperature: float) -> None:
    p, q = ((one / temperature).softmax(-1) for one in (TEACHER, STUDENT))
    kept = TEACHER.topk(2).indices
    heads = [torch.cat([(near := one.gather(-1, kept)), 1 - near.sum(-1, keepdim=True)], -1) for one in (p, q)]
    by_hand = (heads[0] * (heads[0] / heads[1]).log()).sum(-1).mean()
    found = bucketed("forward_kl", 2)(STUDENT, TEACHER, temperature=temperature)
    torch.testing.assert_close(found, by_hand, rtol=1e-12, atol=0)
    assert found < forward_kl(STUDENT, TEACHER, temperature=temperature)
    whole = bucketed("forward_kl", 6)(STUDENT, TEACHER, temperature=temperature)
    torch.testing.assert_close(whole, forward_kl(STUDENT, TEACHER, temperature=temperature))


def test_true_classes_follow_into_the_bucket() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0]] * 4).double()
    rest = F.cross_entropy(logits, torch.arange(4), reduction="none")
    found = bucketed("cross_entropy", 2)(logits, logits, torch.arange(4), reduction="none")
    torch.testing.assert_close(found[:2], rest[:2])
    tail = -logits[0].softmax(-1)[2:].sum().log()
    torch.testing.assert_close(found[2:], tail.expand(2))
    with pytest.raises(ConfigError, match="k must be at least 1, got 0"):
        bucketed("forward_kl", 0)
