"""What the scale of an implied reward does, where everything can be written down."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.lm import Batch, OnPolicy, extrapolate

CLASSES, KL = 6, 2.0
SCALES = (0.0, 0.5, 1.0, 1.25, 2.0, 4.0)
DRAW = torch.Generator().manual_seed(0)
REFERENCE, TEACHER, STUDENT, REWARD = torch.randn(4, CLASSES, generator=DRAW, dtype=torch.float64)


def policy(logits: Tensor) -> Any:
    return lambda input_ids, **_: SimpleNamespace(logits=logits.expand(*input_ids.shape, -1))


def gradient(signal: OnPolicy, batch: Batch, logits: Tensor = STUDENT) -> Tensor:
    logits = logits.clone().requires_grad_()
    (found,) = torch.autograd.grad(signal.loss(policy(logits), batch)["loss"], logits)
    return found


def test_the_advantage_at_the_ends_of_the_scale() -> None:
    log_p, log_r = TEACHER.log_softmax(-1), REFERENCE.log_softmax(-1)
    torch.testing.assert_close(extrapolate(log_p, log_r, 0.0)[0], log_r, rtol=0, atol=0)
    for reference in (log_r, STUDENT.log_softmax(-1)):  # at 1 any reference cancels
        torch.testing.assert_close(extrapolate(log_p, reference, 1.0)[0], log_p, rtol=0, atol=1e-12)


@pytest.mark.parametrize("estimator", ["sampled", "full"])
def test_near_one_the_reference_hardly_moves_the_gradient(estimator: Any) -> None:
    batch = Batch.of(torch.tensor([[0, 3, 1, 5]]))
    plain = gradient(OnPolicy([policy(TEACHER)], estimator=estimator), batch)
    for reference in (REFERENCE, REWARD):
        near = OnPolicy([policy(TEACHER)], policy(reference), scale=1 + 1e-9, estimator=estimator)
        torch.testing.assert_close(gradient(near, batch), plain, rtol=0, atol=1e-7)


def test_a_reinforced_teacher_is_carried_on_along_its_reward() -> None:
    """The teacher is the optimum of reward − KL to the reference; at λ the student's is that of λ reward − KL."""
    teacher, batch, earned = REFERENCE + REWARD / KL, Batch.of(torch.tensor([[0, 1]])), []
    for scale in SCALES:
        optimum = (REFERENCE + scale * REWARD / KL).log_softmax(-1)
        signal = OnPolicy([policy(teacher)], policy(REFERENCE), scale=scale)
        assert gradient(signal, batch, optimum).abs().max() < 1e-12
        away = optimum + 0.1 * STUDENT
        assert gradient(signal, batch, away).abs().max() > 1e-3
        earned.append(float(optimum.exp() @ REWARD))
    assert earned == sorted(earned)
    assert earned[-1] > earned[2] + 0.1  # four times the reward earns more than the teacher does


def test_a_domain_is_deaf_to_the_other_teacher() -> None:
    tokens, reference = torch.tensor([[0, 3, 1], [2, 2, 4]]), policy(REFERENCE)
    batch = Batch.of(tokens, domain=torch.tensor([0, 1]))
    batch = batch._replace(weight=torch.tensor([1.0, 0.0]))  # only the first domain is heard
    for estimator in ("sampled", "full"):
        found = [
            gradient(OnPolicy([policy(TEACHER), policy(other)], reference, scale=1.25, estimator=estimator), batch)
            for other in (REWARD, -3 * REWARD)
        ]
        assert torch.equal(*found)
        assert found[0].abs().max() > 1e-3
