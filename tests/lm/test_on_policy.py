"""Reward extrapolation: its target, its limits, its fixed points and its reference."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError, TrainingError
from limbeck.lm import tiny_llama
from limbeck.lm.on_policy import OnPolicy, extrapolate
from limbeck.lm.slots import Batch


class Policy(nn.Module):
    """One distribution of six tokens, whatever was read."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, input_ids: Tensor, use_cache: bool = False, attention_mask: Tensor | None = None) -> Any:
        class Output:
            logits = self.logits.expand(*input_ids.shape, -1)

        return Output()


def random_policy(seed: int) -> Policy:
    return Policy(torch.randn(6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


DOMAINS = ("math", "code")
BATCH = Batch.of(torch.tensor([[0, 3, 1, 5]]))


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 1.5])
def test_the_optimum_is_the_geometric_mixture(scale: float) -> None:
    teacher, reference, student = random_policy(1), random_policy(2), random_policy(3)
    signal = OnPolicy([teacher], reference, scale=scale)
    optimiser = torch.optim.LBFGS(
        student.parameters(), max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = signal.loss(student, BATCH)["loss"]
        loss.backward()
        return loss

    optimiser.step(closure)
    log_p, log_r = teacher.logits.log_softmax(-1), reference.logits.log_softmax(-1)
    expected = (scale * log_p + (1 - scale) * log_r).softmax(-1)
    torch.testing.assert_close(student.logits.softmax(-1), expected, rtol=0, atol=1e-6)


def test_scale_one_never_runs_the_reference() -> None:
    class Never(nn.Module):
        def forward(self, **_: Any) -> Any:
            raise AssertionError("the reference was run")

    teacher, student = random_policy(1), random_policy(3)
    alone = OnPolicy([teacher]).loss(student, BATCH)
    beside = OnPolicy([teacher], Never()).loss(student, BATCH)
    assert torch.equal(alone["loss"], beside["loss"])


def test_a_teacher_that_is_the_reference_leaves_the_scale_without_effect() -> None:
    teacher, student = random_policy(1), random_policy(3)
    values = {
        scale: OnPolicy([teacher], teacher, scale=scale).loss(student, BATCH)["loss"] for scale in (0.0, 1.0, 1.7)
    }
    assert values[0.0].item() == pytest.approx(values[1.0].item()) == pytest.approx(values[1.7].item())


def test_sampled_gradients_agree_with_the_exact_one() -> None:
    teacher, reference, student = random_policy(1), random_policy(2), random_policy(3)

    def gradient(signal: OnPolicy, batch: Batch) -> Tensor:
        (found,) = torch.autograd.grad(signal.loss(student, batch)["loss"], student.logits)
        return found

    exact = gradient(OnPolicy([teacher], reference, scale=1.25), BATCH)
    draw = torch.multinomial(student.logits.softmax(-1).detach(), 40_000, replacement=True)
    signal = OnPolicy([teacher], reference, scale=1.25, estimator="sampled")
    log_q = student.logits.log_softmax(-1).detach()
    target, _ = extrapolate(teacher.logits.log_softmax(-1), reference.logits.log_softmax(-1), 1.25)
    each = (log_q - target.detach())[:, None] * (torch.eye(6).double() - log_q.exp())
    error = (each[draw].std(0) / 40_000**0.5).detach()
    found = gradient(signal, Batch.of(torch.cat([torch.zeros(40_000, 1).long(), draw[:, None]], 1)))
    assert ((found - exact).abs() < 4.5 * error).all()


def test_bounded_log_ratios_are_counted() -> None:
    target, bounded = extrapolate(torch.tensor([-1.0, -30.0]), torch.tensor([-2.0, -3.0]), 2.0, max_log_ratio=10.0)
    assert target.tolist() == [0.0, -23.0] and bounded.tolist() == [False, True]


def test_every_row_has_the_teacher_of_its_domain() -> None:
    teachers = [random_policy(1), random_policy(2)]
    student = random_policy(3)
    batch = Batch.of(torch.tensor([[0, 3, 1], [2, 2, 4]]), domain=torch.tensor([1, 0]))
    rows = [batch.rows(torch.tensor([k])) for k in range(2)]
    both = OnPolicy(teachers).loss(student, batch)["loss"]
    apart = [OnPolicy([teachers[1 - k]]).loss(student, row)["loss"] for k, row in enumerate(rows)]
    assert both.item() == pytest.approx(sum(one.item() for one in apart) / 2)
    with pytest.raises(TrainingError, match="domain 2, there are 2 teachers"):
        OnPolicy(teachers).loss(student, batch._replace(domain=torch.tensor([2, 0])))


def test_what_cannot_work() -> None:
    with pytest.raises(ConfigError, match="at least one teacher"):
        OnPolicy([])
    with pytest.raises(ConfigError, match=r"scale 1\.25 needs a reference"):
        OnPolicy([random_policy(1)], scale=1.25)


def test_real_models_and_what_is_watched() -> None:
    student, teacher = tiny_llama(16, seed=0), tiny_llama(24, seed=1)
    batch = Batch.of(torch.arange(24).reshape(2, 12), torch.arange(24).reshape(2, 12) % 12 > 5)
    parts = OnPolicy([teacher], tiny_llama(16, seed=0), scale=1.25).loss(student, batch)
    assert parts["weight"] == 12 and parts["teacher_kl"] > 0
    assert parts["reference_kl"].item() == pytest.approx(0, abs=1e-6) and 0 <= parts["agreement"] <= 1
    parts["loss"].backward()
    assert all(weight.grad is None for weight in teacher.parameters())


@pytest.mark.parity
def test_parity_advantage(parity: Any, walk_sections: Any) -> None:
    exact = lambda rows: torch.tensor(rows, dtype=torch.float64)  # noqa: E731

    def advantage(section: dict[str, Any]) -> None:
        for case in section["cases"]:
            student, teacher = exact(case["student_logp"]), exact(case["teacher_logp"])
            target = teacher.clone()
            if case["has_reference"] and case["multi_teacher"]:
                second, reference = exact(case["second_teacher_logp"]), exact(case["reference_logp"])
                for k, domain in enumerate(case["domain"]):
                    if domain in DOMAINS:  # unknown domains fall back to the first teacher without extrapolation
                        chosen = (teacher, second)[DOMAINS.index(domain)][k]
                        target[k] = extrapolate(chosen, reference[k], case["lam"])[0]
            elif case["has_reference"]:
                target = extrapolate(teacher, exact(case["reference_logp"]), case["lam"])[0]
            torch.testing.assert_close(target - student, exact(case["advantage"]), rtol=1e-10, atol=1e-10)

    walk_sections(parity("g-opd"), {"advantage": advantage}, ignore=("dtype_note",))
