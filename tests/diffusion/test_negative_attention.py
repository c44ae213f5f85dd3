"""Negative prompts in cross-attention: on one layer, and on a small U-Net of diffusers."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from limbeck.diffusion.denoisers import guided, spread
from limbeck.diffusion.negative_attention import Normalised, negative
from limbeck.errors import ConfigError

ALPHA = 0.7


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def layer() -> Any:
    """An attention whose output projection is the identity: what it says is Z."""
    torch.manual_seed(0)
    made = Attention(16, 12, heads=2, dim_head=8)
    nn.init.eye_(made.to_out[0].weight)
    nn.init.zeros_(made.to_out[0].bias)
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def unet() -> Any:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8, block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=12, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=8,
    ).requires_grad_(False)  # fmt: skip


X, PLUS, MINUS = drawn(2, 5, 16), drawn(2, 3, 12, seed=1), drawn(2, 4, 12, seed=2)


def test_difference_of_two_attentions(layer: Any) -> None:
    with negative(layer, MINUS, ALPHA):
        found = layer(X, PLUS)
    torch.testing.assert_close(found, layer(X, PLUS) - ALPHA * layer(X, MINUS))


def test_one_negative_for_all_pictures(layer: Any) -> None:
    with negative(layer, MINUS[:1], ALPHA):
        found = layer(X, PLUS)
    torch.testing.assert_close(found, layer(X, PLUS) - ALPHA * layer(X, MINUS[:1].expand(2, -1, -1)))


def test_prompt_minus_itself(layer: Any) -> None:
    with negative(layer, PLUS, ALPHA):
        torch.testing.assert_close(layer(X, PLUS), (1 - ALPHA) * self_free(layer, PLUS))


def self_free(layer: Any, prompt: Tensor) -> Tensor:
    """Z+ by hand: softmax(Q K^T / sqrt(d)) V."""
    q, k, v = (one.unflatten(-1, (2, 8)).transpose(1, 2) for one in
               (X @ layer.to_q.weight.T, prompt @ layer.to_k.weight.T, prompt @ layer.to_v.weight.T))  # fmt: skip
    return ((q @ k.mT / 8**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)


def test_linear_in_the_strength(layer: Any) -> None:
    def at(alpha: float) -> Tensor:
        with negative(layer, MINUS, alpha):
            return layer(X, PLUS)

    torch.testing.assert_close(at(0.5), (at(0.0) + at(1.0)) / 2)
    assert (at(1.0) - at(0.0)).abs().max() > 0.1


@pytest.mark.parametrize("alpha", [0.0, ALPHA])
def test_order_and_padding_of_the_negative(layer: Any, alpha: float) -> None:
    padded = torch.cat([MINUS[:, [2, 0, 3, 1]], 100 * drawn(2, 2, 12, seed=5)], 1)
    mask = torch.tensor([[True] * 4 + [False] * 2]).expand(2, -1)
    with negative(layer, MINUS, alpha):
        expected = layer(X, PLUS)
    with negative(layer, padded, alpha, mask):
        torch.testing.assert_close(layer(X, PLUS), expected)
    with negative(layer, padded, alpha):
        assert torch.allclose(layer(X, PLUS), expected) is (alpha == 0)


def test_padding_of_the_prompt_is_left_to_the_model(layer: Any) -> None:
    mask = torch.tensor([[True, True, False]]).expand(2, -1)
    bias = torch.where(mask, 0.0, -10000.0)[:, None].repeat_interleave(2, 0)
    with negative(layer, MINUS, ALPHA):
        found = layer(X, PLUS, attention_mask=bias)
    torch.testing.assert_close(found, layer(X, PLUS[:, :2]) - ALPHA * layer(X, MINUS))


def test_strength_zero_is_the_model_bit_for_bit_and_free(unet: Any) -> None:
    x, t = drawn(2, 4, 8, 8), torch.tensor([10, 500])
    plain, cost = unet(x, t, PLUS).sample, flops(lambda: unet(x, t, PLUS))
    with negative(unet, MINUS, 0.0):
        assert torch.equal(unet(x, t, PLUS).sample, plain)
        assert flops(lambda: unet(x, t, PLUS)) == cost
    with negative(unet, MINUS, ALPHA):
        assert (unet(x, t, PLUS).sample - plain).abs().max() > 1e-4
    assert torch.equal(unet(x, t, PLUS).sample, plain)  # nothing is left behind


def test_cost(unet: Any) -> None:
    x, t = drawn(2, 4, 8, 8), torch.tensor([10, 500])
    plain = flops(lambda: unet(x, t, PLUS))
    with negative(unet, MINUS, ALPHA):
        ours = flops(lambda: unet(x, t, PLUS)) / plain - 1
    doubled = flops(lambda: [unet(x, t, PLUS), unet(x, t, MINUS)]) / plain - 1
    assert 0 < ours < 0.05
    assert doubled == pytest.approx(1.0, abs=0.01)


def flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def test_hooks_go_after_an_error(layer: Any) -> None:
    plain = layer(X, PLUS)
    with pytest.raises(ZeroDivisionError), negative(layer, MINUS, ALPHA):
        _ = 1 / 0
    assert torch.equal(layer(X, PLUS), plain)


@pytest.mark.parametrize(("phi", "norm"), [(0.5, None), (50.0, 2.0)])
def test_normalised_is_bounded(layer: Any, phi: float, norm: float | None) -> None:
    plus, minus = layer(X, PLUS), layer(X, MINUS)
    with negative(layer, MINUS, phi, combine=Normalised(tau=2.0, blend=1.0)):
        found = layer(X, PLUS)
    far = plus + phi * (plus - minus)
    growth = found.abs().sum(-1) / plus.abs().sum(-1)
    if norm is not None:
        torch.testing.assert_close(growth, torch.full_like(growth, norm))
    allowed = (2 * plus.abs().sum(-1) / far.abs().sum(-1)).clamp(max=1)
    torch.testing.assert_close(found, far * allowed[..., None])
    with negative(layer, MINUS, phi, combine=Normalised(tau=2.0, blend=0.25)):
        torch.testing.assert_close(layer(X, PLUS), 0.25 * found + 0.75 * plus)


def test_normalised_with_nothing_there() -> None:
    assert Normalised()(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), 3.0).tolist() == [[[0.0, 0.0]]]


def test_guidance_of_finished_pictures_is_a_blend_of_two() -> None:
    """Why a generator of one step needs this: guided outputs are an affine mixture of two pictures."""
    model = guided(lambda x, sigma, cond: spread(torch.where(cond == 9, -1.0, 2.0), x) * x, 2.5, null=9)
    x = drawn(3, 4)
    torch.testing.assert_close(model(x, torch.ones(3), torch.zeros(3, dtype=torch.long)), -1.5 * -x + 2.5 * 2 * x)


def test_no_cross_attention() -> None:
    enter = partial(negative, nn.Linear(2, 2), MINUS, 1.0)
    with pytest.raises(ConfigError, match="Linear has no cross-attention"), enter():
        pass
