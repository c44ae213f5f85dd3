"""Moving averages: the recursion, the decays, what a checkpoint holds."""

from functools import partial

import pytest
import torch
from torch import nn

from limbeck.diffusion import Average, half_life, power, ramped


def walk(average, network, values):
    for value in values:
        nn.init.constant_(network.weight, value)
        average.update()
    return average.module.weight.item()


def network(value=0.0):
    one = nn.Linear(1, 1, bias=False)
    nn.init.constant_(one.weight, value)
    return one


@pytest.mark.parametrize(
    "decay",
    [partial(ramped, decay=0.4), partial(half_life, images=40, batch=8, ramp=0.5), partial(power, sigma_rel=0.1)],
)
def test_the_average_is_the_recursion(decay):
    one, values = network(2.0), [1.0, -3.0, 0.5, 7.0, 7.0, 2.0, 0.0, -1.0, 4.0]
    expected = 2.0
    for update, value in enumerate(values):
        expected = decay(update) * expected + (1 - decay(update)) * value
    assert walk(Average(one, decay), one, values) == pytest.approx(expected, rel=1e-6)


def test_ramped():
    assert [ramped(update, decay=0.5) for update in (0, 1, 8, 100)] == [1 / 10, 2 / 11, 0.5, 0.5]


def test_half_life_of_the_published_settings():
    known = {256: 9.5367431640625e-07, 25600: 0.8705505632961241, 1000000: 0.9964573763862465}
    known |= {20000000: 0.9996451716100417}
    for images, beta in known.items():
        assert half_life(images / 256, images=500_000, batch=256) == pytest.approx(beta, rel=1e-12)
    assert half_life(0, images=500_000, batch=256) == 0.0


def test_half_of_the_old_weights_is_left_after_a_half_life():
    decay = partial(half_life, images=1000, batch=100, ramp=1e9)
    left = 1.0
    for update in range(1, 11):
        left *= decay(update)
    assert left == pytest.approx(0.5, rel=1e-12)


def test_power_has_the_published_exponent():
    """gamma = 16.97 at sigma_rel = 0.05."""
    beta = power(99, sigma_rel=0.05)
    assert beta == pytest.approx((1 - 1 / 100) ** 17.97, rel=1e-4)
    assert power(0, sigma_rel=0.05) == 0.0


def test_the_width_of_power_is_its_share_of_the_training():
    """Weights of the updates have the standard deviation sigma_rel times the training."""
    steps, sigma_rel = 4000, 0.1
    weights = torch.zeros(steps, dtype=torch.float64)
    for update in range(steps):
        beta = power(update, sigma_rel=sigma_rel)
        weights *= beta
        weights[update] = 1 - beta
    at = torch.arange(steps, dtype=torch.float64) / steps
    mean = (weights * at).sum()
    assert weights.sum().item() == pytest.approx(1.0, rel=1e-12)
    assert (weights * (at - mean) ** 2).sum().sqrt().item() == pytest.approx(sigma_rel, rel=2e-3)


def test_a_checkpoint_holds_everything():
    decay, values = partial(ramped, decay=0.9), [1.0, 2.0, 3.0, 4.0]
    whole, one = network(), network()
    expected = walk(Average(whole, decay), whole, values)
    first = Average(one, decay)
    walk(first, one, values[:2])
    again = Average(network(9.0), decay)
    again.load_state_dict(first.state_dict())
    again._source[0].weight.data.fill_(0)
    assert set(first.state_dict()) == {"updates", "module.weight"}
    assert walk(again, again._source[0], values[2:]) == expected


def test_the_average_is_quiet_copies_buffers_and_leaves_the_network_alone():
    one = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(one, lambda update: 0.5)
    average.train()
    one(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    average.update()
    assert torch.equal(average.module[1].running_mean, one[1].running_mean)
    assert average.module[1].num_batches_tracked.item() == 1
    assert not any(part.training for part in average.module.modules()) and one.training
    assert not any(weight.requires_grad for weight in average.parameters())
    assert all(weight.requires_grad for weight in one.parameters())
    assert len(list(average.parameters())) == 4


def test_frozen_weights_stay_the_same_bits():
    one = network(1 / 3)
    average = Average(one, lambda update: 0.9)
    for _ in range(50):
        average.update()
    assert torch.equal(average.module.weight, one.weight)
