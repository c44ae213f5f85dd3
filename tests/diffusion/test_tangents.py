"""The derivative of a network along the ODE: four ways, and networks that cannot be differentiated forwards."""

import pytest
import torch
from diffusers import DiTTransformer2DModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from limbeck.diffusion import Diffusers, Sizes, check_tangent, tangent
from limbeck.diffusion import tangents as module
from limbeck.errors import ConfigError, TrainingError

F64 = torch.float64


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def place(shape=(4, 3), dtype=F64):
    t = torch.tensor([0.2, 0.7, 1.1, 1.5], dtype=F64)
    return normal(*shape, dtype=dtype), t, normal(*shape, seed=1, dtype=dtype), t.cos() * t.sin()


def wave(x, t):
    return torch.sin(x.flip(1) * t[:, None]) + x * torch.tanh(3 * t)[:, None]


def perceptron(shape=(3,), dtype=F64, **sizes):
    denoiser = Sizes(16, 2, clock="angle", **sizes).build(shape).to(dtype)
    for name, one in denoiser.named_parameters():  # random where it begins at 0
        if one.abs().max() == 0:
            nn.init.normal_(one, std=0.3, generator=torch.Generator().manual_seed(len(name)))
    return denoiser


def test_the_exact_tangent_is_the_slope_along_the_ode():
    x, t, slope, scale = place()
    here, moved = tangent(wave, x, t, slope, scale)
    h = 1e-5
    ahead, behind = (wave(x + e * slope, t + e) for e in (h, -h))
    torch.testing.assert_close(here, wave(x, t))
    torch.testing.assert_close(moved, scale[:, None] * (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-9)
    assert not moved.requires_grad


def test_central_differences_agree_with_the_exact_tangent():
    for field, (x, t, slope, scale) in ((wave, place()), (perceptron().velocity, place())):
        exact, finite = (tangent(field, x, t, slope, scale, mode)[1] for mode in ("exact", "finite"))
        assert (exact - finite).norm() < 1e-5 * exact.norm()  # the error of a step of 1e-3


@pytest.mark.parametrize("mode", ["semi", "discrete"])
def test_one_sided_tangents_are_off_by_half_a_step(mode, monkeypatch):
    """The cos(h) of the authors' code biases J by -(h / 2) scale F, beside the curvature's share."""
    x, t, slope, scale = place()
    exact = tangent(wave, x, t, slope, scale)[1]
    errors = []
    for h in (1e-3, 1e-4):
        monkeypatch.setattr(module, "H", h)
        errors.append(float((tangent(wave, x, t, slope, scale, mode)[1] - exact).norm()))
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.02)
    assert errors[1] < 1e-3


def test_the_bias_of_one_sided_tangents_is_that_of_the_cosine():
    """Where F is constant the difference is all bias: scale (cos h - 1) / sin h F."""
    x, t, slope, scale = place()
    constant = lambda x, t: 0 * x + 2.0  # noqa: E731
    expected = -(scale * 2.0 * 1e-4 / 2)[:, None].expand_as(x)
    for mode in ("semi", "discrete"):
        torch.testing.assert_close(tangent(constant, x, t, slope, scale, mode)[1], expected, rtol=1e-4, atol=0)


class Attending(nn.Module):
    """A network with fused attention between the rows of a picture."""

    def __init__(self, **how):
        super().__init__()
        torch.manual_seed(0)
        self.map, self.how = nn.Linear(4, 12), how

    def forward(self, x, t, cond=None):
        q, k, v = (self.map(x) + t[:, None, None].to(x.dtype)).chunk(3, 2)
        return nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None], **self.how)[:, 0]


def test_fused_attention_has_its_exact_tangent():
    net, (x, t, slope, scale) = Attending().double(), place((4, 5, 4))
    for mode, error in (("exact", 1e-12), ("semi", 1e-3)):
        with sdpa_kernel(SDPBackend.MATH):
            expected = torch.func.jvp(net, (x, t), (scale[:, None, None] * slope, scale))
        for mine, theirs in zip(tangent(net, x, t, slope, scale, mode), expected, strict=True):
            assert (mine - theirs).norm() < error * theirs.norm()


def test_fused_attention_out_of_reach_is_explained_and_can_be_had_otherwise():
    net, (x, t, slope, scale) = Attending(enable_gqa=True), place((4, 5, 4), torch.float32)
    for mode in ("exact", "semi"):
        with pytest.raises(ConfigError, match='mode="finite"') as caught:
            tangent(net, x, t, slope, scale, mode)
        assert "SDPBackend.MATH" in str(caught.value)
        assert "tangent_attention" in str(caught.value)
    finite = tangent(net, x, t, slope, scale, "finite")[1]
    with sdpa_kernel(SDPBackend.MATH):
        exact = tangent(net, x, t, slope, scale)[1]
        assert check_tangent(net, x, t, slope, scale) < 1e-2
    assert (exact - finite).norm() < 1e-2 * exact.norm()  # float32 differences


def test_networks_of_the_house_and_of_diffusers():
    torch.manual_seed(0)
    dit = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=1, out_channels=1, num_layers=1, sample_size=8,
        patch_size=2, num_embeds_ada_norm=1000, norm_num_groups=1,
    ).eval()  # fmt: skip
    unet = perceptron((1, 8, 8), torch.float32, levels=2)
    fields = [perceptron(dtype=torch.float32).velocity, unet.velocity, Diffusers(dit, 10.0, classes=10)]
    for field, shape in zip(fields, ((4, 3), (4, 1, 8, 8), (4, 1, 8, 8)), strict=True):
        error = check_tangent(lambda x, t, field=field: field(x, t.float()), *place(shape, torch.float32))
        assert error < 0.02


def test_a_network_that_answers_anew_at_every_call_is_refused():
    net = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5)).double()
    with pytest.raises(TrainingError, match="dropout"):
        check_tangent(lambda x, t: net(x) * t[:, None], *place())


def test_a_network_that_drops_its_tangent_is_refused():
    with pytest.raises(TrainingError, match="drops tangents"):
        check_tangent(lambda x, t: wave(x.detach(), t.detach()) + 0 * x, *place())
