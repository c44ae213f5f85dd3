"""Attention forwards: blocks against the plain formula, limits, masks, precisions, memory, models of diffusers."""

import pytest
import torch
from diffusers import DiTTransformer2DModel, UNet2DModel
from torch.nn.functional import scaled_dot_product_attention
from torch.profiler import ProfilerActivity, profile

from limbeck.diffusion import attention, attention_jvp, check_tangent, tangent_attention

F64 = torch.float64
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def normal(*shape, seed=0, dtype=F64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def six(rows=5, columns=7, width=4, out=3, dtype=F64):
    shapes = [(2, 3, rows, width), (2, 3, columns, width), (2, 3, columns, out)]
    return [normal(*shape, seed=seed, dtype=dtype) for seed, shape in enumerate(shapes * 2)]


def naive(q, k, v, mask=0.0, scale=None):
    return ((q @ k.mT) * (q.shape[-1] ** -0.5 if scale is None else scale) + mask).softmax(-1) @ v


def naive_jvp(tensors, **how):
    return torch.func.jvp(lambda q, k, v: naive(q, k, v, **how), tuple(tensors[:3]), tuple(tensors[3:]))


def peak(call):
    """Most bytes that a call holds at once, by the allocator's own record."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    sizes = torch.tensor([one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())])
    return int(sizes.cumsum(0).max())


@pytest.mark.parametrize("chunk", [1, 3, 5, 7, 128])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_blocks_of_any_size_give_the_derivative_of_plain_attention(chunk, scale):
    tensors = six()
    o, to = attention_jvp(*tensors, scale=scale, chunk=chunk)
    expected, moved = naive_jvp(tensors, scale=scale)
    torch.testing.assert_close(o, expected, **EXACT)
    torch.testing.assert_close(to, moved, **EXACT)
    assert moved.abs().max() > 0.1


def test_the_reference(parity):
    case = parity("rcm")["attention_jvp"]
    tensors = [torch.tensor(case[name], dtype=F64) for name in ("q", "k", "v", "tq", "tk", "tv")]
    for chunk in (2, 128):
        for mine, name in zip(attention_jvp(*tensors, scale=case["scale"], chunk=chunk), ("o", "to"), strict=True):
            torch.testing.assert_close(mine, torch.tensor(case[name], dtype=F64), rtol=1e-9, atol=1e-12)


def test_adding_a_constant_to_the_scores_of_a_query_changes_nothing():
    tensors, shift = six(), 100 * normal(5, 1, seed=9).expand(5, 7)
    for shifted, plain in zip(attention_jvp(*tensors, mask=shift, chunk=3), attention_jvp(*tensors), strict=True):
        torch.testing.assert_close(shifted, plain, rtol=1e-11, atol=1e-11)
    assert attention_jvp(*tensors, tmask=shift)[1].allclose(attention_jvp(*tensors)[1])  # neither does its tangent


def test_scores_that_rise_by_thousands_from_block_to_block():
    q, k, v, tq, tk, tv = six(out=4)
    k = k * torch.tensor([1e-3, 1.0, 1e2, -1e3, 1e4, 1.0, 1e3], dtype=F64)[:, None]
    for mine, theirs in zip(attention_jvp(q, k, v, tq, tk, tv, chunk=1), naive_jvp((q, k, v, tq, tk, tv)), strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, theirs, **EXACT)


def test_limits():
    q, k, v, tq, tk, tv = six()
    still = [0 * one for one in (q, k, v)]
    probabilities = (q @ k.mT / 2).softmax(-1)
    torch.testing.assert_close(attention_jvp(q, k, v, *still[:2], tv)[1], probabilities @ tv, **EXACT)
    o, to = attention_jvp(q, k, v, *still[:2], v)
    torch.testing.assert_close(to, o, **EXACT)
    same = k[..., :1, :].expand_as(k)  # all keys are one: every query sees the mean
    torch.testing.assert_close(attention_jvp(q, same, v, tq, still[1], tv)[1], tv.mean(-2, True).expand_as(to), **EXACT)
    first, second = attention_jvp(q, k, v, tq, tk, tv)[1], attention_jvp(q, k, v, tq.flip(0), 2 * tk, -tv)[1]
    both = attention_jvp(q, k, v, 3 * tq - tq.flip(0), tk, 4 * tv)[1]
    torch.testing.assert_close(both, 3 * first - second, **EXACT)


@pytest.mark.parametrize("chunk", [2, 7])
def test_masks(chunk):
    tensors = six()
    hidden = torch.zeros(5, 7, dtype=F64).masked_fill(torch.arange(7) > torch.arange(5)[:, None], -torch.inf)
    near = torch.zeros(5, 7, dtype=F64).masked_fill(torch.arange(7) < torch.arange(5)[:, None] - 1, -torch.inf)
    padded = torch.ones(2, 1, 1, 7, dtype=torch.bool)
    padded[1, ..., :3] = False  # a whole block of keys that one row never sees comes first
    cases = [
        ({"causal": True}, hidden),
        ({"mask": hidden == 0}, hidden),
        ({"mask": hidden}, hidden),
        ({"mask": padded}, torch.where(padded, 0.0, -torch.inf)),
        ({"mask": near == 0, "causal": True}, hidden + near),
        ({"mask": normal(3, 1, 1, seed=8)}, normal(3, 1, 1, seed=8)),
    ]
    for how, added in cases:
        for mine, theirs in zip(
            attention_jvp(*tensors, chunk=chunk, **how), naive_jvp(tensors, mask=added), strict=True
        ):
            torch.testing.assert_close(mine, theirs, **EXACT)


@pytest.mark.parametrize("chunk", [2, 7])
def test_a_query_that_sees_no_key_gets_zero(chunk):
    tensors, seen = six(), torch.ones(5, 7, dtype=torch.bool)
    seen[2] = False
    plain = attention_jvp(*tensors)
    for mask in (seen, torch.where(seen, 0.0, -torch.inf)):
        for mine, theirs in zip(attention_jvp(*tensors, mask=mask, chunk=chunk), plain, strict=True):
            assert (mine[..., 2, :] == 0).all()
            torch.testing.assert_close(mine[..., [0, 1, 3, 4], :], theirs[..., [0, 1, 3, 4], :], **EXACT)


def test_a_mask_that_moves():
    tensors, mask, tmask = six(), normal(5, 7, seed=6), normal(5, 7, seed=7)
    expected = torch.func.jvp(naive, (*tensors[:3], mask), (*tensors[3:], tmask))[1]
    torch.testing.assert_close(attention_jvp(*tensors, mask=mask, tmask=tmask, chunk=3)[1], expected, **EXACT)
    through = torch.func.jvp(attention, (*tensors[:3], mask), (*tensors[3:], tmask))[1]
    torch.testing.assert_close(through, expected, **EXACT)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float16, 1e-2), (torch.bfloat16, 1e-2)])
def test_half_inputs_are_summed_in_float32(dtype, error):
    tensors = six(8, 2048, dtype=dtype)
    exact = attention_jvp(*(one.double() for one in tensors))
    for mine, theirs in zip(attention_jvp(*tensors), exact, strict=True):
        assert mine.dtype == dtype
        assert (mine.double() - theirs).norm() < error * theirs.norm()
        torch.testing.assert_close(mine, theirs.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-6)  # one rounding


def test_autocast_does_not_reach_the_tangent():
    tensors = six(dtype=torch.float32)
    plain = attention_jvp(*tensors)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(map(torch.equal, attention_jvp(*tensors), plain))
        o, to = torch.func.jvp(attention, tuple(tensors[:3]), tuple(tensors[3:]))
        q = tensors[0].clone().requires_grad_()
        loss = attention(q, *tensors[1:3]).square().sum()
    assert o.dtype == to.dtype == torch.bfloat16
    assert torch.equal(to, plain[1].bfloat16())
    (slope,) = torch.autograd.grad(loss, q)  # outside, as trainings do
    (exact,) = torch.autograd.grad(naive(q, *tensors[1:3]).square().sum(), q)
    assert slope.dtype == torch.float32
    assert (slope - exact).norm() < 0.03 * exact.norm()


def test_memory_grows_with_the_keys_not_with_their_square():
    mine, plain = [], []
    for count in (256, 512, 1024):
        tensors = [normal(1, count, 16, seed=seed, dtype=torch.float32) for seed in range(6)]
        mine.append(peak(lambda tensors=tensors: attention_jvp(*tensors, chunk=64)))
        plain.append(peak(lambda tensors=tensors: naive_jvp(tensors)))
    assert mine[1] / mine[0] == pytest.approx(2, rel=0.01)
    assert mine[2] / mine[1] == pytest.approx(2, rel=0.01)
    assert plain[2] / plain[1] > 3.4
    assert plain[2] > 8 * mine[2]


@pytest.mark.parametrize("kind", ["none", "bool", "added", "causal"])
def test_value_and_gradient_are_those_of_pytorch(kind):
    tensors = [one.requires_grad_() for one in six()[:3]]
    mask = {"bool": normal(5, 7) > -1.0, "added": normal(5, 7).requires_grad_()}.get(kind)
    learned = tensors + ([mask] if kind == "added" else [])
    weight, causal = normal(2, 3, 5, 3, seed=5), kind == "causal"
    mine = attention(*tensors, mask, causal=causal, scale=0.7)
    theirs = scaled_dot_product_attention(*tensors, mask, is_causal=causal, scale=0.7)
    assert torch.equal(mine, theirs)
    slopes = (torch.autograd.grad((one * weight).sum(), learned) for one in (mine, theirs))
    for one, other in zip(*slopes, strict=True):
        assert other.abs().max() > 1e-3
        torch.testing.assert_close(one, other, **EXACT)


def test_jvp_and_grad_go_through_it():
    tensors = six()
    expected, moved = naive_jvp(tensors, scale=0.7)
    o, to = torch.func.jvp(lambda *qkv: attention(*qkv, scale=0.7), tuple(tensors[:3]), tuple(tensors[3:]))
    torch.testing.assert_close(o, expected, **EXACT)
    torch.testing.assert_close(to, moved, **EXACT)


def test_only_the_queries_move_and_a_gradient_through_the_tangent():
    q, k, v, tq, *_ = six()

    def square(f, k):
        return torch.func.jvp(lambda q: f(q, k, v), (q,), (tq,))[1].square().sum()

    torch.testing.assert_close(square(attention, k), square(naive, k), **EXACT)
    slopes = [torch.func.grad(lambda k, f=f: square(f, k))(k) for f in (attention, naive)]
    torch.testing.assert_close(*slopes, **EXACT)
    assert slopes[0].abs().max() > 1e-2


def unet():
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, block_out_channels=(16, 32), layers_per_block=1,
        norm_num_groups=8, attention_head_dim=8, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip


def dit():
    torch.manual_seed(0)
    return DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=1, out_channels=1, num_layers=2, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10, norm_num_groups=1,
    )  # fmt: skip


@pytest.mark.parametrize("made", [unet, dit])
def test_models_of_diffusers_within_it_and_not_after_it(made):
    model, label = made().eval().double(), torch.tensor([1, 2])
    how = {} if made is unet else {"class_labels": label}
    field = lambda x, t: model(x, 100 * t, **how).sample  # noqa: E731
    x, t = normal(2, 1, 8, 8), torch.tensor([0.2, 0.9], dtype=F64)
    slope, ticking, still = normal(2, 1, 8, 8, seed=1), torch.ones_like(t), torch.zeros_like(t)
    with torch.no_grad():
        plain, h = field(x, t), 1e-5
        ahead, behind = (field(x + e * slope, t) for e in (h, -h))
        with tangent_attention():
            here, moved = torch.func.jvp(field, (x, t), (slope, still))
        torch.testing.assert_close(here, plain)
        torch.testing.assert_close(moved, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)
        with pytest.raises((NotImplementedError, RuntimeError)):
            torch.func.jvp(field, (x, t), (slope, ticking))
    # `tangent` is within it by itself; the embedding of times is float32 in diffusers
    assert check_tangent(field, x, t, slope, ticking) < 1e-2


def test_a_training_within_it_gets_the_same_gradients():
    model, x, t = unet(), normal(2, 1, 8, 8, dtype=torch.float32), torch.tensor([20.0, 90.0])
    slopes = []
    for within in (False, True):
        model.zero_grad()
        if within:
            with tangent_attention():
                model(x, t).sample.square().mean().backward()
        else:
            model(x, t).sample.square().mean().backward()
        slopes.append([one.grad.clone() for one in model.parameters()])
    for one, other in zip(*slopes, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_dropout_and_grouped_queries_are_left_alone():
    q, k, v = (one[:, :how] for one, how in zip(six()[:3], (2, 1, 1), strict=True))
    with tangent_attention():
        grouped = scaled_dot_product_attention(q, k, v, enable_gqa=True)
        torch.manual_seed(0)
        dropped = scaled_dot_product_attention(q, q, q, dropout_p=0.5)
    assert torch.equal(grouped, scaled_dot_product_attention(q, k, v, enable_gqa=True))
    torch.manual_seed(0)
    assert torch.equal(dropped, scaled_dot_product_attention(q, q, q, dropout_p=0.5))
    assert (dropped - scaled_dot_product_attention(q, q, q)).abs().max() > 0.1
