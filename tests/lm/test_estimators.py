"""Estimators on Markov chains, where sequences can be summed exactly."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limbeck.distill.divergences import reverse_value
from limbeck.errors import ConfigError
from limbeck.lm.estimators import future_returns, sequence_kl

TOKENS, LENGTH = 5, 4


def chain(seed: int) -> Tensor:
    """Logits of the next token after each token; token 0 also starts."""
    return torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


TEACHER = chain(1).log_softmax(-1)


def exact(logits: Tensor, semi: bool = False) -> Tensor:
    """Divergence of sequences by summing over states; with `semi` the prefixes are held fixed."""
    log_q = logits.log_softmax(-1)
    state, total = torch.eye(TOKENS, dtype=torch.float64)[0], torch.zeros((), dtype=torch.float64)
    for _ in range(LENGTH):
        total = total + (state.detach() if semi else state) @ reverse_value(TEACHER, log_q)
        state = state @ log_q.exp()
    return total


def written(logits: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Sequences of the student [count, LENGTH], and the states they were written from."""
    draw, states, tokens = torch.Generator().manual_seed(seed), [torch.zeros(count, dtype=torch.int64)], []
    for _ in range(LENGTH):
        tokens.append(torch.multinomial(logits[states[-1]].softmax(-1), 1, generator=draw)[:, 0])
        states.append(tokens[-1])
    return torch.stack(tokens, 1), torch.stack(states[:-1], 1)


def estimates(name: str, count: int = 4000, **options: float) -> Tensor:
    """One gradient per sequence [count, TOKENS²]."""
    logits = chain(0)
    tokens, states = written(logits, count, seed=2)

    def value(each: Tensor, index: Tensor) -> Tensor:
        log_q = each.log_softmax(-1)[states[index]]
        return sequence_kl(
            log_q[None], TEACHER[states[index]][None], tokens[index][None], torch.ones(1, LENGTH, dtype=torch.bool),
            estimator=name, **options,  # type: ignore[arg-type]
        ).sum()  # fmt: skip

    rows = [torch.func.grad(value)(logits, torch.tensor(i)) for i in range(count)]
    return torch.stack(rows).flatten(1)


def gradient(**kind: bool) -> Tensor:
    logits = chain(0).requires_grad_()
    (found,) = torch.autograd.grad(exact(logits, **kind), logits)
    return found.flatten()


@pytest.fixture(scope="module")
def found() -> dict[str, Tensor]:
    return {name: estimates(name, 1500) for name in ("reinforce", "to_go", "minillm", "sampled", "k2", "k3", "full")}


@pytest.mark.parametrize("name", ["reinforce", "to_go", "minillm"])
def test_the_mean_is_the_gradient_of_the_sequence_divergence(found: dict[str, Tensor], name: str) -> None:
    error = found[name].std(0) / 1500**0.5
    assert ((found[name].mean(0) - gradient()).abs() < 4.5 * error + 1e-12).all()
    assert ((found[name].mean(0) - gradient(semi=True)).abs() > 4.5 * error).any()


@pytest.mark.parametrize("name", ["sampled", "k2", "full"])
def test_the_mean_is_the_semi_gradient(found: dict[str, Tensor], name: str) -> None:
    error = found[name].std(0) / 1500**0.5
    assert ((found[name].mean(0) - gradient(semi=True)).abs() < 4.5 * error + 1e-12).all()


def test_k3_estimates_the_forward_divergence(found: dict[str, Tensor]) -> None:
    """On the student's own prefixes; the semi-gradient of KL(p‖q)."""
    logits = chain(0)
    _, states = written(logits, 1500, seed=2)
    visits = torch.bincount(states.flatten(), minlength=TOKENS) / 1500
    rows = visits[:, None] * (logits.softmax(-1) - TEACHER.exp())
    error = found["k3"].std(0) / 1500**0.5
    assert ((found["k3"].mean(0) - rows.flatten()).abs() < 4.5 * error + 1e-12).all()


def test_variance_falls_with_what_is_done_exactly(found: dict[str, Tensor]) -> None:
    total = {name: rows.var(0).sum().item() for name, rows in found.items()}
    assert total["full"] < total["sampled"] < total["minillm"] < total["to_go"] < total["reinforce"]
    assert total["k2"] == pytest.approx(total["sampled"])  # the same estimator


def test_returns_and_their_limits() -> None:
    reward = torch.tensor([[1.0, 2.0, 4.0, 9.0]])
    mask = torch.tensor([[True, True, True, False]])
    assert future_returns(reward, mask).tolist() == [[7, 6, 4, 0]]
    assert future_returns(reward, mask, discount=0.0).tolist() == [[1, 2, 4, 0]]
    assert future_returns(reward, mask, normalise=True).tolist() == [[pytest.approx(7 / 3), 3, 4, 0]]


def test_what_cannot_work() -> None:
    zeros = torch.zeros(1, 2, 3).log_softmax(-1)
    arguments = (zeros, zeros, torch.zeros(1, 2, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool))
    with pytest.raises(ConfigError, match='unknown estimator "k4"'):
        sequence_kl(*arguments, estimator="k4")  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="gradient of mean zero"):
        sequence_kl(*arguments, estimator="k1")


@pytest.mark.parity
def test_parity_future_returns(parity, walk_sections) -> None:
    def advantage(section) -> None:
        for case in section["cases"]:
            mine, theirs = (torch.tensor(case[f"{side}_logp"], dtype=torch.float64) for side in ("student", "teacher"))
            mask = torch.tensor(case["mask"]).bool()
            discount, normalise = case["gamma"], case["length_normalization"]
            got = future_returns(theirs - mine, mask, discount=discount, normalise=normalise)
            if 0 < discount < 1 and not normalise:  # the reference carries a factor discount^t
                got = got * discount ** torch.arange(got.shape[1])
            expected = torch.tensor(case["advantage"], dtype=torch.float64)
            tolerance = 3e-4 if normalise else 1e-5  # the reference adds 1e-4 to lengths
            torch.testing.assert_close(got, expected, rtol=tolerance, atol=1e-5)

    known = ("dtype_note", "generalized_jsd", "generalized_jsd_extreme")
    walk_sections(parity("on-policy-distillation-survey"), {"minillm_advantage": advantage}, ignore=known)
