"""Sliders: learnt, turned, carried over."""

import warnings
from copy import deepcopy

import pytest
import torch

from limbeck.diffusion import (
    Exact,
    Mixture,
    Pretraining,
    Sizes,
    Student,
    euler,
    karras,
    one_network,
    retention,
    slider_rule,
    train_slider,
    train_teacher,
    transfer,
)
from limbeck.errors import ConfigError

LAW = Mixture([[0.5, 0.0], [-0.5, 0.0]], 0.2)
SOURCE = Exact(LAW, conditional=True)
X, SIGMA, COND = (
    torch.randn(64, 2, generator=torch.Generator().manual_seed(0)),
    torch.full((64,), 0.8),
    torch.arange(64) % 2,
)


@pytest.fixture(scope="module")
def learnt():
    """A teacher, and a slider that moves both classes up."""
    begin = Sizes(32, 1).build([2], 2, SOURCE.data_std, seed=0)
    teacher = train_teacher(begin, SOURCE, Pretraining(steps=200, batch=64), progress=False).denoiser
    up = Exact(Mixture([[0.5, 0.3], [-0.5, 0.3]], 0.2), conditional=True)
    before = deepcopy(teacher.state_dict())
    slider = train_slider(teacher, up, Pretraining(steps=200, batch=64, lr=5e-3), seed=1, progress=False)
    assert all(torch.equal(one, before[name]) for name, one in teacher.state_dict().items())
    return teacher, slider


def test_it_changes_the_trunk_alone_by_few_directions(learnt):
    _, slider = learnt
    assert sorted(slider.changes) == ["network.into.weight", "network.maps.0.weight", "network.out.weight"]
    change = slider.changes["network.maps.0.weight"]
    assert torch.linalg.matrix_rank(change, rtol=1e-4) == 4 and change.shape == (32, 32)


def test_it_does_what_it_learnt_and_the_other_way(learnt):
    teacher, slider = learnt
    heights = [
        float(euler(transfer(slider, teacher, s), X, karras(8), COND)[:, 1].mean()) for s in (-1.0, 0.0, 0.5, 1.0)
    ]
    assert heights == sorted(heights)
    assert heights[3] - heights[1] == pytest.approx(0.3, abs=0.1)


def test_nothing_at_0_and_the_opposite_at_first_order(learnt):
    teacher, slider = learnt
    plain = teacher(X, SIGMA, COND)
    assert torch.equal(transfer(slider, teacher, 0.0)(X, SIGMA, COND), plain)
    wide = deepcopy(teacher).double()
    there = [transfer(slider, wide, s)(X.double(), SIGMA.double(), COND) for s in (-1e-4, 0.0, 1e-4)]
    moved = there[2] - there[1]
    torch.testing.assert_close(there[0] - there[1], -moved, rtol=0.01, atol=1e-7)
    assert float(moved.abs().mean()) > 1e-6


def test_a_model_of_the_same_weights_is_edited_the_same(learnt):
    teacher, slider = learnt
    native = transfer(slider, teacher, 1.3)(X, SIGMA, COND)
    student = transfer(slider, one_network(teacher, [2.5, 0.8]), 1.3)
    assert torch.equal(student.experts[0](X, SIGMA, COND), native)
    both = transfer(slider, Student([deepcopy(teacher), deepcopy(teacher)], [[2.5], [0.8]]), 1.3)
    assert all(torch.equal(one(X, SIGMA, COND), native) for one in both.experts)
    assert not torch.equal(native, teacher(X, SIGMA, COND))


def test_a_model_of_another_network_is_refused_and_a_far_one_doubted(learnt):
    teacher, slider = learnt
    for sizes in (Sizes(16, 1), Sizes(32, 1, 0)):
        other = sizes.build([2] if sizes.width == 16 else [3], 2, 0.5)
        with pytest.raises(ConfigError, match=r"layers are not in the model, or of another shape .*into\.weight"):
            transfer(slider, other)
    with pytest.warns(UserWarning, match="of their norm away"):
        transfer(slider, Sizes(32, 1).build([2], 2, 0.5, seed=9))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transfer(slider, teacher)


def test_a_slider_between_two_classes_follows_the_rule(learnt):
    teacher, _ = learnt
    rule = slider_rule(teacher, more=0, less=1, eta=0.5)
    x0 = rule(X, SIGMA, COND)
    eps = [(X - teacher(X, SIGMA, cond)) / 0.8 for cond in (COND, 0 * COND, 0 * COND + 1)]
    torch.testing.assert_close((X - x0) / 0.8, eps[0] + 0.5 * (eps[1] - eps[2]), rtol=1e-5, atol=1e-5)
    slider = train_slider(teacher, SOURCE, Pretraining(steps=100, batch=64, lr=5e-3), target=rule, progress=False)
    right = [float(euler(transfer(slider, teacher, s), X, karras(8), COND)[:, 0].mean()) for s in (-1.0, 0.0, 1.0)]
    assert right[2] - right[1] > 0.1 and right[1] - right[0] > 0.1
    with pytest.raises(ConfigError, match="told classes"):
        rule(X, SIGMA)


def test_convolutions_are_learnt_too():
    pictures = Exact(Mixture([[0.0] * 64], 0.3))
    network = Sizes(8, 1, 1).build([1, 8, 8], 0, 0.3)

    class Square:
        shape, classes, data_std, describe = (1, 8, 8), 0, 0.3, pictures.describe

        def draw(self, draws, count):
            x, cond = pictures.draw(draws, count)
            return x.reshape(-1, 1, 8, 8), cond

    slider = train_slider(network, Square(), Pretraining(steps=3, batch=4), progress=False)
    assert slider.changes["network.model.conv_in.weight"].shape == (8, 1, 3, 3)
    assert not any("time" in name for name in slider.changes)
    assert any("to_q" in name for name in slider.changes)
    x = torch.randn(2, 1, 8, 8)
    assert torch.equal(transfer(slider, network, 0.0)(x, x.new_ones(2)), network(x, x.new_ones(2)))


def test_retention_is_the_share_of_the_effect():
    before, after = torch.zeros(3, 4), torch.ones(3, 4)
    assert retention(lambda x: x.mean(1), (before, 2 * after), (after, 2 * after)) == 50
    assert retention(lambda x: x.mean(1), (before, after), (before, -after)) == -100
