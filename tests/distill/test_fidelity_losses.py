"""Losses as a released code of distillation takes them, from the public ones; and what their parameters mean.

That code averages over the tokens of a sequence, then over sequences, prompt and all; and its Jensen-Shannon mixture
weighs the student by beta where it weighs KL(teacher‖mixture) by beta too, which is a sum of two skew divergences.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.distill import forward_kl, generalized_jsd, reverse_kl, skew_forward_kl, skew_reverse_kl


def by_sequence(values: Tensor, mask: Tensor) -> Tensor:
    return ((values * mask).sum(1) / mask.sum(1)).mean()


def crossed_jsd(student: Tensor, teacher: Tensor, beta: float, **how: Any) -> Tensor:
    forward = skew_forward_kl(student, teacher, skew=1 - beta, **how)
    return beta * forward + (1 - beta) * skew_reverse_kl(student, teacher, skew=beta, **how)


@pytest.mark.parity
def test_the_released_losses_are_ours(parity: Any, walk_sections: Any) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            shape, tau = case["shape"], case["temperature"]
            teacher = torch.tensor(case["teacher_logits"], dtype=torch.float64).reshape(shape)
            mask, counted = torch.tensor(case["pad_mask"]), torch.tensor(case["labels"]) != -100
            how: dict[str, Any] = {"temperature": tau, "tau_squared": True, "reduction": "none"}
            ours = {
                "forward_kl": lambda s, t, m=mask, how=how: by_sequence(forward_kl(s, t, **how), m),
                "reverse_kl": lambda s, t, m=mask, how=how: by_sequence(reverse_kl(s, t, **how), m),
                "jsd_beta0.5": partial(crossed_jsd, beta=0.5, temperature=tau, mask=counted),
                "jsd_beta0.2": partial(crossed_jsd, beta=0.2, temperature=tau, mask=counted),
            }
            assert ours.keys() == case["losses"].keys()
            for name, expected in case["losses"].items():
                student = torch.tensor(case["student_logits"], dtype=torch.float64).reshape(shape).requires_grad_()
                value = ours[name](student, teacher)
                value.backward()
                # theirs adds 1e-9 to probabilities, and is in float32 for the mixtures
                assert value.item() == pytest.approx(expected["value"], rel=2e-6), name
                gradient = torch.tensor(expected["grad_student"], dtype=torch.float64).reshape(shape)
                torch.testing.assert_close(student.grad, gradient, atol=2e-6, rtol=1e-5)

    ignored = ["source", "recipe", "statistics_value_pvalue"]
    walk_sections(parity("generalization-fidelity"), {"losses": check}, ignore=ignored)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 9, generator=generator, dtype=torch.float64)
    return student, teacher


def test_a_student_that_is_the_teacher_costs_nothing(pair: tuple[Tensor, Tensor]) -> None:
    s, _ = pair
    for loss in (forward_kl, reverse_kl, generalized_jsd, partial(crossed_jsd, beta=0.2)):
        assert abs(loss(s, s).item()) < 1e-9 * 9


def test_the_mixture_swaps_with_its_weight(pair: tuple[Tensor, Tensor]) -> None:
    for beta in (0.1, 0.5, 0.8):
        swapped = generalized_jsd(*pair[::-1], beta=1 - beta)
        torch.testing.assert_close(generalized_jsd(*pair, beta=beta), swapped, rtol=1e-12, atol=0)
    torch.testing.assert_close(crossed_jsd(*pair, 0.5), generalized_jsd(*pair, beta=0.5), rtol=1e-12, atol=0)
    assert abs(crossed_jsd(*pair, 0.2) / generalized_jsd(*pair, beta=0.2) - 1) > 0.1


def test_four_limits(pair: tuple[Tensor, Tensor]) -> None:
    small, forward, reverse = 1e-4, forward_kl(*pair).item(), reverse_kl(*pair).item()
    assert generalized_jsd(*pair, beta=small).item() / small == pytest.approx(forward, rel=0.01)
    assert generalized_jsd(*pair, beta=1 - small).item() / small == pytest.approx(reverse, rel=0.01)
    assert crossed_jsd(*pair, small).item() == pytest.approx(reverse, rel=0.01)
    assert crossed_jsd(*pair, 1 - small).item() == pytest.approx(forward, rel=0.01)


def test_the_squared_temperature_keeps_the_gradient(pair: tuple[Tensor, Tensor]) -> None:
    norms = []
    for tau in (2.0, 4.0, 8.0):
        student = (0.1 * pair[0]).requires_grad_()
        forward_kl(student, 0.1 * pair[1], temperature=tau, tau_squared=True).backward()
        norms.append(student.grad.norm().item())
    assert max(norms) / min(norms) < 1.05


def test_masked_tokens_have_no_gradient(pair: tuple[Tensor, Tensor]) -> None:
    mask = torch.tensor([True, False, True, False, True])
    for loss in (forward_kl, reverse_kl, generalized_jsd, partial(crossed_jsd, beta=0.2)):
        student = pair[0].clone().requires_grad_()
        loss(student, pair[1], mask=mask).backward()
        assert student.grad[~mask].abs().max() == 0 and student.grad[mask].abs().min() > 0
