import math

import pytest
import torch

from limbeck.atoms.switches import exponential_switch, quintic_switch, silut

T = torch.float64


@pytest.mark.parametrize("threshold", [3.0, 5.0, 10.0])
def test_silut_joins_in_value_and_slope_and_is_bounded(threshold: float) -> None:
    eps = 1e-7
    x = torch.tensor([threshold - eps, threshold, threshold + eps], dtype=T, requires_grad=True)
    y = silut(x, threshold)
    (slope,) = torch.autograd.grad(y.sum(), x)
    q = 1 / (1 + math.exp(-threshold))
    assert y[1].item() == pytest.approx(threshold * q, abs=1e-14)  # B
    assert torch.allclose(y, y[1].expand(3), atol=3e-7)
    assert torch.allclose(slope, torch.full((3,), q + threshold * q * (1 - q), dtype=T), atol=1e-6)
    far = silut(torch.tensor([1e3, 1e9], dtype=T), threshold)
    assert torch.equal(far, torch.full((2,), threshold * q + 1, dtype=T))


def test_silut_with_a_far_threshold_is_silu() -> None:
    x = torch.linspace(-20, 20, 401, dtype=T)
    assert torch.equal(silut(x, 1e6), x * x.sigmoid())


def test_its_derivatives_are_right_on_both_sides() -> None:
    x = torch.tensor([-4.0, -0.5, 0.0, 1.0, 2.9, 3.1, 3.5], dtype=T, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: silut(z, 3.0), x)
    assert torch.autograd.gradgradcheck(lambda z: silut(z, 3.0), x)
    below = x.detach()[:4].requires_grad_()  # the closed forms without the branch beyond the threshold
    assert torch.autograd.gradgradcheck(lambda z: silut(z, 3.0), below)


def test_switches_at_their_ends() -> None:
    r = torch.tensor([0.0, 5.3, 6.0, 7.0], dtype=T)
    found = exponential_switch(r, 5.3, 6.0)
    expected = [math.exp(-math.exp(-20)), math.exp(-1), 8.03433365918262e-07, 8.03433365918262e-07]
    assert torch.allclose(found, torch.tensor(expected, dtype=T), rtol=1e-12, atol=0)
    ends = torch.tensor([5.3, 6.0], dtype=T, requires_grad=True)
    one = quintic_switch(ends, 5.3, 6.0)
    (slope,) = torch.autograd.grad(one.sum(), ends, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), ends)
    assert one.tolist() == [1.0, pytest.approx(0.0, abs=1e-15)]
    assert torch.allclose(slope, torch.zeros(2, dtype=T), atol=1e-12)
    assert torch.allclose(bend, torch.zeros(2, dtype=T), atol=1e-9)
