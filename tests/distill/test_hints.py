"""Losses on features: invariants, closed forms, reference vectors."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.distill import attention_transfer, contrastive, hint, pkt, pyramid, rkd, similarity_preserving
from limbeck.errors import TrainingError

DRAW = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(2, 6, 4, generator=DRAW, dtype=torch.float64)
MAPS, OTHERS = torch.randn(2, 3, 4, 8, 8, generator=DRAW, dtype=torch.float64)
exact = torch.tensor([], dtype=torch.float64).new_tensor
VECTORS = {"hint": hint, "rkd": rkd, "similarity_preserving": similarity_preserving, "pkt": pkt}
LOSSES = VECTORS | {"attention_transfer": attention_transfer, "pyramid": pyramid}


def pair(name: str) -> tuple[Tensor, Tensor]:
    return (STUDENT, TEACHER) if name in VECTORS else (MAPS, OTHERS)


def _attention(section: dict[str, Any]) -> None:
    stages = zip(section["student"], section["teacher"], strict=True)
    found = [attention_transfer(exact(ours), exact(theirs), power=section["p"]).item() for ours, theirs in stages]
    assert found == pytest.approx(section["per_stage"], rel=1e-9)
    assert sum(found) == pytest.approx(section["total"], rel=1e-9)


def _relational(section: dict[str, Any]) -> None:
    student, teacher = exact(section["student"]).requires_grad_(), exact(section["teacher"])
    weights = {"distance": section["distance_weight"], "angle": section["angle_weight"]}
    loss = rkd(student, teacher, **weights)
    loss.backward()
    assert loss.item() == pytest.approx(section["loss"], rel=1e-9)
    assert rkd(student, teacher, distance=25.0, angle=0.0).item() == pytest.approx(section["distance_only"], rel=1e-9)
    assert rkd(student, teacher, distance=0.0, angle=50.0).item() == pytest.approx(section["angle_only"], rel=1e-9)
    torch.testing.assert_close(student.grad, exact(section["grad_student"]), rtol=1e-9, atol=1e-9)


def _review(section: dict[str, Any]) -> None:
    stages = zip(section["student"], section["teacher"], strict=True)
    total = sum(pyramid(exact(ours), exact(theirs)).item() for ours, theirs in stages)
    assert total == pytest.approx(section["loss"], rel=1e-9)


def _contrast(section: dict[str, Any]) -> None:
    found = contrastive(exact(section["scores"])[..., 0], section["num_data"]).item()
    assert found == pytest.approx(section["loss"], rel=1e-9)


@pytest.mark.parity
def test_parity_features(parity: Any, walk_sections: Any) -> None:
    checks = {"attention_transfer": _attention, "rkd": _relational, "reviewkd_hcl": _review, "crd_contrast": _contrast}
    walk_sections(parity("feature-kd"), checks, ignore=["reference", "dtype"])


@pytest.mark.parametrize("name", LOSSES)
def test_zero_at_the_teacher_with_a_checked_gradient_on_the_student_alone(name: str) -> None:
    loss, (student, teacher) = LOSSES[name], pair(name)
    assert loss(teacher, teacher).abs().item() < 1e-15 < loss(student, teacher).item()
    small, teacher = student[:3, :2].clone().requires_grad_(), teacher[:3, :2].clone().requires_grad_()
    loss(small, teacher).backward()
    assert teacher.grad is None
    assert torch.autograd.gradcheck(lambda one: loss(one, teacher), (small,))
    assert loss(student.bfloat16(), pair(name)[1]).dtype == torch.float32


@pytest.mark.parametrize("name", LOSSES)
def test_features_that_do_not_fit_are_named(name: str) -> None:
    student, teacher = pair(name)
    with pytest.raises(TrainingError, match=r"features .* do not fit: give both the same samples"):
        LOSSES[name](student[:2], teacher)
    if name in ("hint", "pyramid"):
        with pytest.raises(TrainingError, match=r"one shape \(adapters\)"):
            LOSSES[name](student[:, :1], teacher)


def test_attention_knows_no_channels_and_no_brightness() -> None:
    value = attention_transfer(MAPS, OTHERS)
    torch.testing.assert_close(attention_transfer(3 * MAPS[:, [2, 0, 3, 1]], 0.5 * OTHERS[:, :, :, :]), value)
    torch.testing.assert_close(attention_transfer(MAPS.repeat(1, 5, 1, 1), OTHERS), value)
    coarse = torch.nn.functional.avg_pool2d(OTHERS, 2)
    torch.testing.assert_close(attention_transfer(MAPS, coarse), attention_transfer(coarse, MAPS))
    assert attention_transfer(-MAPS, MAPS, power=3.0).item() == 0


@pytest.mark.parametrize("weights", [{"distance": 1.0, "angle": 0.0}, {"distance": 0.0, "angle": 1.0}])
def test_relations_know_no_rotation_place_or_size(weights: dict[str, float]) -> None:
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=DRAW, dtype=torch.float64)).Q
    value = rkd(STUDENT, TEACHER, **weights)
    torch.testing.assert_close(rkd(2 * STUDENT @ rotation + 3, TEACHER, **weights), value)
    torch.testing.assert_close(rkd(STUDENT, 0.1 * TEACHER @ rotation - 1, **weights), value)
    assert rkd(2 * TEACHER @ rotation + 3, TEACHER, **weights).item() < 1e-15


def test_relations_of_equal_samples_and_of_one_stay_finite() -> None:
    for rows in (1, 2, 6):
        student = torch.ones(rows, 4, requires_grad=True)
        loss = rkd(student, TEACHER[:rows])
        loss.backward()
        assert loss.isfinite() and student.grad is not None and student.grad.isfinite().all()


def test_similarities_are_rows_of_scalar_products() -> None:
    gram = [one @ one.T for one in (STUDENT, TEACHER)]
    rows = [one / one.norm(dim=1, keepdim=True) for one in gram]
    torch.testing.assert_close(similarity_preserving(STUDENT, TEACHER), (rows[0] - rows[1]).norm() ** 2 / 36)
    torch.testing.assert_close(similarity_preserving(2 * STUDENT, -TEACHER), similarity_preserving(STUDENT, TEACHER))


def test_affinities_are_a_divergence_between_rows() -> None:
    unit = [one / one.norm(dim=1, keepdim=True) for one in (STUDENT, TEACHER)]
    q, p = (((1 + one @ one.T) / 2) / ((1 + one @ one.T) / 2).sum(1, keepdim=True) for one in unit)
    divergence = (p * (p / q).log()).sum(1).mean() / 6
    torch.testing.assert_close(partial(pkt, epsilon=0.0)(STUDENT, TEACHER), divergence)
    torch.testing.assert_close(pkt(3 * STUDENT, TEACHER), divergence, rtol=1e-4, atol=0)


def test_a_constant_is_the_same_at_every_level_of_the_pyramid() -> None:
    for size in (1, 2, 3, 4, 7, 8):
        maps = OTHERS[:, :, :size, :size]
        assert pyramid(maps + 0.3, maps).item() == pytest.approx(0.09, rel=1e-12)
    noise = MAPS - MAPS.mean((2, 3), keepdim=True)  # only at full size and where averages see it
    full = noise.square().mean().item()
    assert full / 1.875 < pyramid(OTHERS + noise, OTHERS).item() < full


def test_equal_scores_have_a_closed_form_and_the_true_pair_helps() -> None:
    k, samples, x = 4, 20, 0.7
    noise = k / samples
    expected = -math.log(x / (x + noise)) - k * math.log(noise / (x + noise))
    scores = torch.full((3, 1 + k), x, dtype=torch.float64)
    assert contrastive(scores, samples).item() == pytest.approx(expected, rel=1e-6)
    better = scores.clone()
    better[:, 0] *= 2
    assert contrastive(better, samples) < contrastive(scores, samples)
