"""Students of several steps: what their networks see, what they hand on, and where gradients go."""

import pytest
import torch
from torch import Tensor, nn

from limbeck.diffusion.students import Student, generate, noise_for, one_network
from limbeck.errors import ConfigError


class Shrink(nn.Module):
    """x0 = w x; keeps what it was asked."""

    def __init__(self, w: float) -> None:
        super().__init__()
        self.w, self.seen = nn.Parameter(torch.tensor(w)), []

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        self.seen.append((x, sigma, cond))
        return self.w * x


def test_one_step_asks_once_at_its_level() -> None:
    student = Student([network := Shrink(0.3)], [[2.5]])
    noise, cond = noise_for(student, [4], 5, seed=0), torch.arange(5)
    torch.testing.assert_close(student(noise, cond), 0.3 * 2.5 * noise[:, 0])
    ((x, sigma, told),) = network.seen
    assert student.steps == 1 and (sigma == 2.5).all() and told is cond
    torch.testing.assert_close(x, 2.5 * noise[:, 0])


def test_steps_with_fresh_noise_and_steps_of_the_ode() -> None:
    z = torch.tensor([[[1.0], [10.0], [100.0]]])
    by_hand = 0.5 * (0.5 * (0.5 * 4 * 1 + 2 * 10) + 1 * 100)
    assert Student([Shrink(0.5)], [[4.0, 2.0, 1.0]])(z).item() == by_hand
    # without: x0 + 2/4 (x - x0), x = 4 -> 3, then x0 + 1/2 (x - x0) = 2.25, then half of it
    assert Student([Shrink(0.5)], [[4.0, 2.0, 1.0]], renoise=False)(z).item() == 1.125


def test_simulated_inputs_have_the_variance_of_pictures_and_noise() -> None:
    """Var x_j = Var x0 + sigma_j^2; 4 standard errors of a variance of n draws are 4 sqrt(2/n)."""
    n, levels = 40_000, [3.0, 1.0, 0.4]
    for exit_step in range(3):
        student = Student([network := Shrink(0.2)], [levels])
        student.roll(noise_for(student, [1], n, seed=exit_step), None, 0, exit_step)
        variance = levels[0] ** 2
        for (x, sigma, _), level in zip(network.seen, levels, strict=False):
            assert sigma.unique().tolist() == [pytest.approx(level)]
            assert x.var().item() == pytest.approx(variance, rel=4 * (2 / n) ** 0.5)
            variance = 0.2**2 * variance + levels[min(len(levels) - 1, levels.index(level) + 1)] ** 2
        assert len(network.seen) == exit_step + 1


@pytest.mark.parametrize("renoise", [True, False])
def test_only_the_last_call_has_a_gradient(renoise: bool) -> None:
    student = Student([network := Shrink(0.5)], [[4.0, 2.0, 1.0]], renoise)
    z = noise_for(student, [2], 3, seed=1)
    for exit_step in range(3):
        network.seen.clear()
        x = student.roll(z, None, 0, exit_step)
        assert not any(x.requires_grad for x, _, _ in network.seen)
        (slope,) = torch.autograd.grad(x.sum(), network.w)
        torch.testing.assert_close(slope, network.seen[-1][0].sum())


def test_the_memory_for_gradients_does_not_grow_with_the_steps_before() -> None:
    def kept(exit_step: int) -> int:
        student = Student([nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))], [[4.0, 3.0, 2.0, 1.0]])
        student.experts[0].forward = lambda x, sigma, cond: nn.Sequential.forward(student.experts[0], x)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda one: sizes.append(one.numel()) or one, lambda one: one):
            student.roll(noise_for(student, [8], 16, seed=0), None, 0, exit_step)
        return sum(sizes)

    assert kept(3) == kept(0) > 0


def test_a_phase_hands_on_pictures_at_the_level_of_the_next() -> None:
    student = Student([first := Shrink(0.5), second := Shrink(0.0)], [[4.0, 2.0], [1.0]], renoise=False)
    z = torch.ones(1, 3, 1)
    assert [student.anchor(phase) for phase in (0, 1)] == [1.0, 0.0]
    assert student.roll(z, None, 0, 0).item() == 0.5 * 4 + 1 / 4 * 2  # its first step ends there too
    assert student.roll(z, None, 0, 1).item() == 0.5 * 3 + 1 / 2 * 1.5
    assert student.roll(z, None, 1, 0).item() == 0 and second.seen[-1][0].item() == 2.25
    student.roll(z, None, 1, 0).sum().backward()
    assert first.w.grad is None and second.w.grad.item() == 2.25


@pytest.mark.parametrize("levels", [[[1.0, 1.0]], [[1.0, 2.0]], [[1.0], [2.0]], [[1.0, 0.0]], [[]], [[2.0], [1.0]]])
def test_levels_must_fall_one_list_an_expert(levels) -> None:
    count = 1 if levels == [[2.0], [1.0]] else len(levels)
    with pytest.raises(ConfigError, match="must fall and be positive"):
        Student([Shrink(1.0)] * count, levels)


def test_noise_is_a_function_of_the_seed_and_chunks_change_nothing() -> None:
    student = one_network(teacher := Shrink(0.5), [2.0, 1.0])
    assert student.experts[0].w is not teacher.w
    noise = noise_for(student, [2], 7, seed=3)
    assert noise.shape == (7, 2, 2) and torch.equal(noise, noise_for(student, [2], 7, seed=3))
    made = generate(student, noise, torch.arange(7), chunk=3)
    assert torch.equal(made, student(noise)) and not made.requires_grad
