"""The quantiser and the divergence on the teacher's preferred tokens: closed forms, limits, reference vectors."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.distill import fake_quantise, forward_kl, reverse_kl, topk_kl
from limbeck.errors import ConfigError

exact = partial(torch.tensor, dtype=torch.float64)


def weights(seed: int = 0, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*(shape or (6, 16)), generator=generator, dtype=torch.float64)


@given(st.integers(2, 16), st.integers(0, 100))
@settings(deadline=None)
def test_error_is_half_a_step_and_the_grid_maps_to_itself(bits: int, seed: int) -> None:
    w = weights(seed)
    q = fake_quantise(w, bits)
    step = w.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((q - w).abs() <= step / 2 * (1 + 1e-12)).all()
    torch.testing.assert_close(fake_quantise(q, bits), q, rtol=1e-12, atol=1e-15)
    assert torch.equal(fake_quantise(-w, bits), -q)


def test_sixteen_bits_are_nearly_exact_and_zeros_stay() -> None:
    w = weights()
    torch.testing.assert_close(fake_quantise(w, 16), w, rtol=0, atol=float(w.abs().max()) / 2**15)
    assert torch.equal(fake_quantise(torch.zeros(2, 4), 4), torch.zeros(2, 4))


def test_groups_have_their_own_scale() -> None:
    w = weights()
    by_hand = torch.cat([fake_quantise(w[:, :8], 3), fake_quantise(w[:, 8:], 3)], -1)
    assert torch.equal(fake_quantise(w, 3, group=8), by_hand)
    assert (fake_quantise(w, 3, group=4) - w).abs().mean() < (fake_quantise(w, 3) - w).abs().mean()


def test_the_gradient_passes_straight_through() -> None:
    w = weights().requires_grad_()
    (fake_quantise(w, 2) * weights(1)).sum().backward()
    assert w.grad is not None and torch.equal(w.grad, weights(1))


@pytest.mark.parametrize(("bits", "group"), [(1, None), (4, 5)])
def test_grids_that_do_not_exist(bits: int, group: int | None) -> None:
    with pytest.raises(ConfigError, match=f"rows of 16 weights cannot have {bits} bits"):
        fake_quantise(weights(), bits, group)


def test_topk_limits_and_chain_rule() -> None:
    student, teacher = weights(0, 5, 12), weights(1, 5, 12)
    each: Any = partial(topk_kl, student, teacher, reduction="none")
    forward, reverse = (f(student, teacher, reduction="none") for f in (forward_kl, reverse_kl))
    torch.testing.assert_close(each(k=12), 2 * forward)
    torch.testing.assert_close(each(k=12, variant="reverse"), forward + reverse)
    for variant in ("forward", "reverse"):
        torch.testing.assert_close(each(k=1, variant=variant), forward)
        torch.testing.assert_close(each(k=4, variant=variant, weight=0.0), forward)
    assert torch.equal(each(), each(k=3))  # 22 % of 12, rounded up
    log_p, log_q = teacher.log_softmax(-1), student.log_softmax(-1)
    order = teacher.argsort(-1, descending=True)
    top, rest = order[:, :4], order[:, 4:]
    within = forward_kl(log_q.gather(-1, rest), log_p.gather(-1, rest), reduction="none")
    mass_p, mass_q = (log.exp().gather(-1, top).sum(-1) for log in (log_p, log_q))
    split = mass_p * (mass_p / mass_q).log() + (1 - mass_p) * ((1 - mass_p) / (1 - mass_q)).log()
    whole = split + mass_p * (each(k=4) - forward) + (1 - mass_p) * within
    torch.testing.assert_close(whole, forward, rtol=1e-12, atol=1e-12)
    with pytest.raises(ConfigError, match='variant must be "forward" or "reverse"'):
        topk_kl(student, teacher, variant="cakld")  # type: ignore[arg-type]


def test_ties_go_to_the_lowest_index() -> None:
    teacher, student = torch.zeros(1, 4), torch.tensor([[1.0, 0.0, 2.0, 3.0]])
    by_hand = forward_kl(student, teacher) + forward_kl(student[:, :2], teacher[:, :2])
    torch.testing.assert_close(topk_kl(student, teacher, k=2), by_hand)


@pytest.mark.parity
def test_reference_values(parity: Any, walk_sections: Any) -> None:
    data = parity("bit-level-scaling")
    teacher, student = exact(data["logits_teacher"]), exact(data["logits_student"])
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-10)

    def topk(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            k, each = case["k"], partial(topk_kl, student, teacher, k=case["k"], reduction="none")
            top = teacher.sort(dim=-1, descending=True, stable=True).indices[:, :k]
            assert top.tolist() == case["topk_index"]
            full = forward_kl(student, teacher, reduction="none")
            close(full, exact(case["full_forward_kl"]))
            close(each(), exact(case["variant_forward_topk"]))
            close(each(variant="reverse"), exact(case["variant_reverse_topk"]))
            close(each() - full, exact(case["topk_forward_kl"]))
            close(each(variant="reverse") - full, exact(case["topk_reverse_kl"]))
            mass_p, mass_q = (logits.softmax(-1).gather(-1, top).sum(-1) for logits in (teacher, student))
            close(mass_p, exact(case["teacher_topk_mass"]))
            if case["mass_kl"] is not None:
                split = torch.stack([mass_p, 1 - mass_p], -1).log(), torch.stack([mass_q, 1 - mass_q], -1).log()
                close(forward_kl(split[1], split[0], reduction="none"), exact(case["mass_kl"]))

    def quant(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            close(fake_quantise(exact(data["weights"]), case["bits"]), exact(case["per_row_dequantised"]))

    elsewhere = ("reference", "logits_teacher", "logits_student", "weights", "precision_law")
    walk_sections(data, {"topk": topk, "quant": quant}, ignore=elsewhere)
