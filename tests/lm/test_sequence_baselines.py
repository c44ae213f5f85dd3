"""What may be taken off a return, and what teaches nothing, where the gradient of sequences is known."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from limbeck.distill import reverse_kl
from limbeck.lm import future_returns, sequence_kl

TOKENS, LENGTH, COUNT = 5, 4, 4000
DRAW = torch.Generator().manual_seed(3)
STUDENT, TEACHER = torch.randn(2, TOKENS, TOKENS, generator=DRAW, dtype=torch.float64)
LOG_Q, LOG_P = STUDENT.log_softmax(-1), TEACHER.log_softmax(-1)
MASK = torch.ones(COUNT, LENGTH, dtype=torch.bool)


def written() -> tuple[Tensor, Tensor]:
    """States and tokens of sequences that begin at token 0, [COUNT, LENGTH]."""
    states = torch.zeros(COUNT, LENGTH + 1, dtype=torch.int64)
    for t in range(LENGTH):
        states[:, t + 1] = LOG_Q.exp()[states[:, t]].multinomial(1, generator=DRAW)[:, 0]
    return states[:, :-1], states[:, 1:]


OTHER, (STATES, CHOSEN) = written(), written()


def estimates(estimator: Any, **options: Any) -> Tensor:
    """The gradient from each sequence, [COUNT, TOKENS²]."""

    def value(logits: Tensor) -> Tensor:
        log_q = logits.log_softmax(-1)[STATES]
        return sequence_kl(log_q, LOG_P[STATES], CHOSEN, MASK, estimator=estimator, **options).sum(1)

    return torch.func.jacfwd(value)(STUDENT).flatten(1)


def exact() -> Tensor:
    """The gradient of KL(student‖teacher) over sequences, by summing over states."""

    def divergence(logits: Tensor) -> Tensor:
        move = logits.softmax(-1)
        visits = torch.stack([torch.linalg.matrix_power(move, t)[0] for t in range(LENGTH)]).sum(0)
        return visits @ reverse_kl(logits, TEACHER, reduction="none")

    return torch.func.grad(divergence)(STUDENT).flatten()


@pytest.mark.parametrize("estimator", ["reinforce", "to_go", "minillm"])
def test_a_baseline_leaves_the_mean_and_takes_variance(estimator: Any) -> None:
    reward = (LOG_Q - LOG_P)[OTHER]
    returns = future_returns(reward, MASK)
    usual = {"reinforce": returns[:, :1], "to_go": returns, "minillm": returns - reward}[estimator].mean(0)
    plain, less = estimates(estimator), estimates(estimator, baseline=usual)
    error = less.std(0) / COUNT**0.5
    assert ((less.mean(0) - exact()).abs() < 4.5 * error + 1e-12).all()
    assert less.var(0).sum() < 0.9 * plain.var(0).sum()


def test_k1_as_a_loss_has_a_mean_of_zero() -> None:
    with pytest.warns(UserWarning, match="mean zero"):
        found = estimates("k1")
    assert (found.mean(0).abs() < 4.5 * found.std(0) / COUNT**0.5 + 1e-12).all()
    assert found.var(0).sum() > 0.1


def test_discounts_lead_from_the_semi_gradient_to_the_gradient() -> None:
    off = [(estimates("sampled", discount=gamma).mean(0) - exact()).norm().item() for gamma in (0.0, 0.5, 1.0)]
    assert off[0] > 1.5 * off[1] > 1.5 * off[2]
    torch.testing.assert_close(estimates("sampled", discount=1.0), estimates("to_go"))


@pytest.mark.parametrize("estimator", ["reinforce", "to_go", "minillm", "sampled", "k2", "k3", "full"])
def test_what_comes_after_the_end_is_not_seen(estimator: Any) -> None:
    ended = torch.tensor([[True, True, False, False]])
    log_q, log_p = LOG_Q[STATES[:1]].requires_grad_(), LOG_P[STATES[:1]]
    value = partial(sequence_kl, estimator=estimator)
    whole = value(log_q, log_p, CHOSEN[:1], ended)
    cut = value(log_q[:, :2], log_p[:, :2], CHOSEN[:1, :2], ended[:, :2])
    torch.testing.assert_close(whole[:, :2], cut)
    assert not whole[:, 2:].any()
    (found,) = torch.autograd.grad(whole.sum(), log_q)
    assert not found[:, 2:].any() and found[:, :2].any()
