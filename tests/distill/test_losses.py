"""The registry of losses, and mistakes that every loss refuses."""

from __future__ import annotations

import inspect
import math

import pytest
import torch

from limbeck.distill import get_loss, loss_names, multi_level
from limbeck.errors import ConfigError, TrainingError

STUDENT, TEACHER = 2 * torch.randn(2, 16, 6, generator=torch.Generator().manual_seed(0))
CLASSES = torch.arange(16) % 6
every_loss = pytest.mark.parametrize("name", loss_names())


@every_loss
def test_every_loss_has_the_common_signature(name: str) -> None:
    entry = get_loss(name)
    parameters = list(inspect.signature(entry.function).parameters)
    assert parameters[:3] == ["student", "teacher", "target"]
    assert parameters[-1] == "how" or {"mask", "reduction"} <= set(parameters[3:])
    assert "Example:" in str(entry.function.__doc__)


def test_near_miss_is_suggested() -> None:
    with pytest.raises(ConfigError, match=r'unknown loss "foward_kl"\. Did you mean "forward_kl"'):
        get_loss("foward_kl")


@every_loss
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_refused_by_side_where_they_count(name: str, bad: float) -> None:
    loss, place = get_loss(name).function, torch.arange(16) == 3
    broken = torch.where(place[:, None] & (torch.arange(6) == 2), bad, STUDENT)
    for sides, words in (
        ((broken, TEACHER), "student"),
        ((STUDENT, broken), "teacher"),
        ((broken, broken), "student and teacher"),
    ):
        with pytest.raises(TrainingError, match=f"^{words} logits hold NaN or .inf"):
            loss(*sides, CLASSES)
        assert loss(*sides, CLASSES, mask=~place).isfinite()
    excluded = STUDENT.masked_fill(place[:, None], -math.inf)
    with pytest.raises(TrainingError, match="nothing but -inf"):
        loss(STUDENT, excluded, CLASSES)


@every_loss
def test_labels_and_shapes_that_do_not_fit_are_refused(name: str) -> None:
    loss = get_loss(name).function
    with pytest.raises(TrainingError, match=r"student logits \[16, 6\] and teacher logits \[16, 5\] differ in shape"):
        loss(STUDENT, TEACHER[:, :5], CLASSES)
    with pytest.raises(TrainingError, match=r"mask \[6\] must have the positions' shape \[16\]"):
        loss(STUDENT, TEACHER, CLASSES, mask=torch.ones(6))
    if name in ("cross_entropy", "dkd", "list_mle", "pld"):
        for wrong in (CLASSES + 1, CLASSES - 1):
            with pytest.raises(TrainingError, match="target classes must lie between 0 and 5"):
                loss(STUDENT, TEACHER, wrong)
        with pytest.raises(TrainingError, match=r"needs the true classes.*\[16\]"):
            loss(STUDENT, TEACHER, CLASSES[:3])


@every_loss
def test_half_precision_is_computed_in_single(name: str) -> None:
    loss, coarse, other = get_loss(name).function, STUDENT.half().requires_grad_(), TEACHER.half()
    value = loss(coarse, other, CLASSES)
    assert value.dtype == torch.float32 and value == loss(coarse.float(), other.float(), CLASSES)
    value.backward()
    assert coarse.grad is not None and coarse.grad.dtype == torch.float16 and coarse.grad.abs().max() > 0


@pytest.mark.filterwarnings("ignore:dist compares")
@every_loss
def test_a_batch_of_one_has_an_exact_value(name: str) -> None:
    """Of a loss over a batch too: one row has no correlation over samples, and its own scalar product alone."""
    one, other = STUDENT[:1].clone().requires_grad_(), TEACHER[:1]
    value = get_loss(name).function(one, other, CLASSES[:1])
    value.backward()
    assert value.isfinite() and value > 0 and one.grad is not None and one.grad.isfinite().all()
    p, q = other.softmax(-1)[0], one.detach().softmax(-1)[0]
    across = {"batch_similarity": (p @ p - q @ q) ** 2, "class_similarity": (p.outer(p) - q.outer(q)).norm() ** 2 / 6}
    across["dist"] = 2 - torch.corrcoef(torch.stack([p, q]))[0, 1]
    if name in across:
        torch.testing.assert_close(value.detach(), across[name])


def test_a_batch_of_one_in_two_views_counts_whole_and_a_broken_view_is_named() -> None:
    one, strong = (STUDENT[:1], TEACHER[:1]), (STUDENT[1:2], TEACHER[1:2])
    value = multi_level(*one, strong=strong, temperatures=[1.0])
    parts = [get_loss(name).function for name in ("forward_kl", "batch_similarity", "class_similarity")]
    rare = (p := TEACHER[0].softmax(-1)) <= p.quantile(0.5)
    q, p = STUDENT[0].softmax(-1)[rare], p[rare]
    expected = sum(part(*strong) for part in parts) + parts[0](*one) + parts[1](*one)
    torch.testing.assert_close(value, expected + (p.outer(p) - q.outer(q)).norm() ** 2 / 6)
    with pytest.raises(TrainingError, match=r"^teacher logits hold NaN"):
        multi_level(*one, strong=(strong[0], strong[1] * math.nan))
