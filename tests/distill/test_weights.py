"""Weights by pass rate and by token, against closed forms and the reference vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom

from limbeck.distill import (
    adaptive_kl,
    beta_kernel,
    effective_size,
    efficiency,
    forward_kl,
    generalized_jsd,
    gradient_signal,
    pass_window,
    reverse_kl,
    reward_weights,
    scaled,
    token_importance,
)
from limbeck.errors import ConfigError


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (2.0, 1.0), (0.5, 3.0)])
def test_the_kernel_peaks_where_its_exponents_say(alpha: float, beta: float) -> None:
    p = np.linspace(0, 1, 4001)
    w, top = beta_kernel(p, alpha=alpha, beta=beta), alpha / (alpha + beta)
    assert w[0] == 0 and w[-1] == 0
    assert p[w.argmax()] == pytest.approx(top, abs=5e-4)
    assert w.max() == pytest.approx(alpha**alpha * beta**beta / (alpha + beta) ** (alpha + beta), rel=1e-5)
    np.testing.assert_allclose(beta_kernel(1 - p, alpha=beta, beta=alpha), w, atol=1e-15)


def test_the_kernel_refuses_what_is_no_rate() -> None:
    for rates, alpha in (([1.2], 1.0), ([float("nan")], 1.0), ([0.5], 0.0)):
        with pytest.raises(ConfigError, match="between 0 and 1"):
            beta_kernel(rates, alpha=alpha)


def test_the_window_and_the_scales() -> None:
    assert pass_window([0.0, 0.2, 0.5, 0.8, 0.9]).tolist() == [0, 1, 1, 1, 0]
    w = beta_kernel([0.1, 0.5, 0.7, 1.0])
    assert scaled(w).mean() == pytest.approx(1) and scaled(w, "sum").sum() == pytest.approx(1)
    assert scaled(w, "none").tolist() == w.tolist()
    assert scaled([0.3, 0.3, 0.3]).tolist() == [1, 1, 1] and scaled([0.0, 0.0]).tolist() == [0, 0]
    assert effective_size([2.0] * 7) == pytest.approx(7) and effective_size([0.0]) == 0


def test_weights_lose_little_efficiency() -> None:
    rng = np.random.default_rng(0)
    p, deltas, losses = rng.beta(2, 3, 400), np.array([0.01, 0.03, 0.1, 0.3]), []
    w, measure = beta_kernel(p), rng.dirichlet(np.ones(400))
    assert efficiency(w, 3 * w, measure) == pytest.approx(1)
    shape = rng.uniform(-1, 1, 400)
    for delta in deltas:
        losses.append(1 - efficiency(w, w * np.exp(delta * shape), measure))
        for _ in range(50):
            off = np.exp(delta * rng.choice([-1, 1], 400))
            assert efficiency(w, w * off, measure) >= 1 / np.cosh(delta) ** 2 - 1e-12
    slope = np.polyfit(np.log(deltas), np.log(losses), 1)[0]
    assert slope == pytest.approx(2, abs=0.1)


def test_the_signal_of_gradients_has_no_bias() -> None:
    rng = np.random.default_rng(1)
    found = np.array([gradient_signal(rng.normal([0.3, -0.4], 1.0, (6, 2))) for _ in range(4000)])
    # s.e. of the means: signal 0.0089 (sd 0.56), noise 0.014 (sd 0.89)
    np.testing.assert_allclose(found.mean(0), [0.25, 2.0], atol=0.06)


def test_head_and_tail_share_the_two_directions() -> None:
    p, q = torch.tensor([0.4, 0.35, 0.25]), torch.tensor([0.2, 0.4, 0.4])
    g = (p - q).abs()
    share = g[0] / g.sum()  # 0.4 is within the head, 0.75 no longer
    expected = share * forward_kl(q.log(), p.log()) + (1 - share) * reverse_kl(q.log(), p.log())
    assert adaptive_kl(q.log(), p.log()).item() == pytest.approx(expected.item(), abs=1e-7)


def test_expected_spread_of_binomial_counts() -> None:
    k, passes = 8, np.arange(9)
    for p in (0.0, 0.1, 0.5, 0.9):
        expected = (binom.pmf(passes, k, p) * beta_kernel(passes / k)).sum()
        assert k / (k - 1) * expected == pytest.approx(p * (1 - p), abs=1e-12)


@pytest.mark.parity
def test_the_reference_losses_and_weights(parity: Any, walk_sections: Any) -> None:
    def check(section: dict[str, Any]) -> None:
        for case in section["cases"]:
            student, teacher = (torch.tensor(case[f"{who}_logits"]) for who in ("student", "teacher"))
            for name, loss in (("reverse_kl", reverse_kl), ("forward_kl", forward_kl)):
                own = student.clone().requires_grad_()
                value = loss(own, teacher)
                value.backward()
                assert value.item() == pytest.approx(case[name], abs=1e-5)
                torch.testing.assert_close(own.grad, torch.tensor(case[f"{name}_grad"]), atol=1e-5, rtol=0)
            for beta in (0.2, 0.5, 0.9):
                assert generalized_jsd(student, teacher, beta=beta).item() == pytest.approx(
                    case[f"jsd_{beta}"], abs=1e-5
                )
            one = {"atol": 1e-5, "rtol": 0}
            tensors = {name: torch.tensor(case[name]) for name in case if name.startswith(("norm", "teacher_"))}
            torch.testing.assert_close(token_importance(student, teacher, gamma=0), tensors["norm_entropy"], **one)
            torch.testing.assert_close(token_importance(student, teacher, alpha=0), tensors["norm_jsd"], **one)
            top = token_importance(student, teacher, alpha=0, k=3)
            torch.testing.assert_close(top, tensors["norm_jsd_top3"], **one)
            theirs = token_importance(teacher, student, gamma=0)
            torch.testing.assert_close(theirs, tensors["teacher_norm_entropy"], **one)
            chosen = teacher.softmax(-1).gather(-1, torch.tensor(case["target_ids"])[:, None])[:, 0]
            torch.testing.assert_close(chosen, tensors["teacher_prob_of_target"], **one)
            for temperature, expected in case["reward_weights"].items():
                np.testing.assert_allclose(reward_weights(case["rewards"], float(temperature)), expected, atol=1e-5)

    walk_sections(parity("paced"), {"opd_losses": check}, ignore=["dtype_note"])
