"""Sums of one, permutations at low temperature, and temperatures over a training."""

from __future__ import annotations

import pytest
import torch

from limbeck.errors import ConfigError
from limbeck.recsys.sinkhorn import Temperature, rounded, row_residual, sinkhorn


def drawn(n: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_columns_sum_to_one_and_rows_nearly() -> None:
    weight = drawn(12)
    few, many = sinkhorn(weight), sinkhorn(weight, iterations=200)
    assert (few > 0).all() and (few.sum(0) - 1).abs().max() < 1e-12 and 1e-12 < row_residual(few) < 1e-3
    assert row_residual(many) < 1e-8 and (many - many.T).abs().max() < 1e-8
    assert (few - few.T).abs().max() < 1e-3


def test_the_symmetric_form_is_symmetric_to_the_last_bit_and_has_the_same_limit() -> None:
    weight = drawn(12)
    for temperature in (1.0, 0.3):
        found = sinkhorn(weight, temperature, 300, symmetric=True)
        assert torch.equal(found, found.T) and row_residual(found) < 1e-12
        torch.testing.assert_close(found, sinkhorn(weight, temperature, 3000), atol=1e-8, rtol=0)
    assert torch.equal(sinkhorn(weight, 0.05, 3, symmetric=True), sinkhorn(weight, 0.05, 3, symmetric=True).T)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_constant_changes_nothing_and_an_antisymmetric_part_neither(symmetric: bool) -> None:
    weight, other = drawn(6), drawn(6, seed=1)
    found = sinkhorn(weight, 0.5, symmetric=symmetric)
    torch.testing.assert_close(sinkhorn(weight + other - other.T, 0.5, symmetric=symmetric), found)
    moved = sinkhorn(weight + 3.7, 0.5, 60, symmetric=symmetric)
    torch.testing.assert_close(moved, sinkhorn(weight, 0.5, 60, symmetric=symmetric), atol=1e-9, rtol=0)


def test_cold_is_a_permutation_and_hot_a_mean() -> None:
    best = torch.eye(6, dtype=torch.float64)[[3, 4, 2, 0, 1, 5]]
    weight = best + drawn(6, scale=0.05)
    cold = sinkhorn(weight, 0.01, 50)
    torch.testing.assert_close(cold, best, atol=1e-12, rtol=0)
    assert torch.equal(rounded(cold), best)
    torch.testing.assert_close(sinkhorn(weight, 1e9), torch.full((6, 6), 1 / 6, dtype=torch.float64))
    half = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, 0.4], [0.0, 0.4, 0.6]])
    assert rounded(half) is None and torch.equal(rounded(half, above=0.5), torch.eye(3))
    assert rounded(sinkhorn(weight, 1.0)) is None and rounded(torch.tensor([[1.0, 0.0], [1.0, 0.0]])) is None


@pytest.mark.parametrize("symmetric", [False, True])
def test_gradients(symmetric: bool) -> None:
    weight = drawn(4).requires_grad_()
    assert torch.autograd.gradcheck(lambda w: sinkhorn(w, 0.3, 7, symmetric=symmetric), weight)


@pytest.mark.parametrize("symmetric", [False, True])
def test_no_temperature_overflows(symmetric: bool) -> None:
    weight = drawn(16, scale=5.0).clamp(-5, 5).float().requires_grad_()
    found = sinkhorn(weight, 0.01, symmetric=symmetric)
    (found * torch.arange(16.0)).sum().backward()
    assert found.isfinite().all() and weight.grad is not None and weight.grad.isfinite().all()


def test_every_matrix_of_a_batch_by_itself() -> None:
    weight = torch.stack([drawn(5, seed) for seed in range(3)])
    torch.testing.assert_close(sinkhorn(weight, 0.4)[1], sinkhorn(weight[1], 0.4), atol=0, rtol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [("linear", [1, 0.7625, 0.525, 0.05, 0.05]), ("cosine", [1, 0.8609, 0.525, 0.05, 0.05]), ("constant", [0.05] * 5)],
)
def test_temperatures_over_a_training(schedule: str, values: list[float]) -> None:
    temperature = Temperature(schedule=schedule, steps=200)
    assert [temperature.at(update) for update in (0, 50, 100, 200, 999)] == pytest.approx(values, abs=1e-4)
    assert Temperature(2.0, 0.1, schedule).at(0) == 0.1


def test_what_cannot_be() -> None:
    for weight, how in (
        (torch.ones(2, 3), {}),
        (torch.ones(2, 2), {"temperature": 0.0}),
        (torch.ones(2, 2), {"iterations": 0}),
    ):
        with pytest.raises(ConfigError, match="got"):
            sinkhorn(weight, **how)
    for how in ({"start": 0.0}, {"end": -1.0}, {"steps": -1}, {"schedule": "step"}):
        with pytest.raises(ConfigError, match="got"):
            Temperature(**how)
