"""Attention that can be differentiated forwards: fused attention has a gradient, but no tangent.

The tangent is computed in blocks of keys, so that no N1 x N2 matrix is ever held. It is written in PyTorch; there is no
Triton kernel, so on a GPU it is slower than one, at the same memory.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import group_norm, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode


def attention_jvp(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tq: Tensor,
    tk: Tensor,
    tv: Tensor,
    *,
    scale: float | None = None,
    mask: Tensor | None = None,
    tmask: Tensor | None = None,
    causal: bool = False,
    chunk: int = 128,
) -> tuple[Tensor, Tensor]:
    """Return attention and its tangent, in blocks of keys.

        S = c q k^T + mask,  tS = c (tq k^T + q tk^T) + tmask,  P = exp(S - max S)
        n = P v,  l = sum P,  tn = P tv + (P tS) v,  tl = sum P tS;  o = n / l,  to = (tn - tl o) / l

    n, l, tn, tl are sums over keys: they are added up block by block, faded by exp(max - new max) when the maximum
    rises. They are float32 for half inputs, under autocast too. Six products of matrices where attention has two.

    Args:
        q: queries, [..., N1, d].
        k: keys, [..., N2, d].
        v: values, [..., N2, e].
        tq, tk, tv: their tangents.
        scale: c; 1 / sqrt(d) by default.
        mask: [..., N1, N2] or of a shape that broadcasts to it; bool, True where a key is seen, or added to the scores.
            A query that sees no key gets 0, and the tangent 0.
        tmask: tangent of a mask that is added.
        causal: query i sees keys 0 to i.
        chunk: keys a block; memory grows with N1 (chunk + e), not with N1 N2.

    Example:
        >>> q, k, v = torch.zeros(1, 2), torch.eye(2), torch.tensor([[0.0], [4.0]])
        >>> attention_jvp(q, k, v, torch.tensor([[1.0, 0.0]]), 0 * k, 0 * v, scale=1.0)  # towards the first key
        (tensor([[2.]]), tensor([[-1.]]))

    Source: Lu, Song, Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models (2024), arXiv 2410.11081,
        appendix; blocks: Dao et al., FlashAttention (2022), arXiv 2205.14135.
    """
    wide, low = torch.promote_types(q.dtype, torch.float32), -torch.inf
    rows, columns, scale = q.shape[-2], k.shape[-2], q.shape[-1] ** -0.5 if scale is None else scale
    masks = [one if one is None else one.expand(*one.shape[:-1], columns) for one in (mask, tmask)]
    with torch.autocast(q.device.type, enabled=False):
        q, tq, kind = scale * q.to(wide), scale * tq.to(wide), q.dtype
        top = q.new_full((), torch.finfo(wide).min)  # finite: a row that sees no key yet is not inf - inf
        n = tn = total = turn = q.new_zeros(())
        for begin in range(0, columns, chunk):
            part = slice(begin, begin + chunk)
            kj, tkj, vj, tvj = (one[..., part, :].to(wide) for one in (k, tk, v, tv))
            s, ts = q @ kj.mT, tq @ kj.mT + q @ tkj.mT
            m, tm = (one if one is None else one[..., part] for one in masks)
            if m is not None:
                s = s.masked_fill(~m, low) if m.dtype == torch.bool else s + m
            if tm is not None:
                ts = ts + tm
            if causal:
                keys = torch.arange(begin, begin + s.shape[-1], device=q.device)
                s = s.masked_fill(keys > torch.arange(rows, device=q.device)[:, None], low)
            above = torch.maximum(top, s.amax(-1, keepdim=True))
            p, fade, top = (s - above).exp(), (top - above).exp(), above
            h = p * ts
            n, tn = fade * n + p @ vj, fade * tn + p @ tvj + h @ vj
            total, turn = fade * total + p.sum(-1, keepdim=True), fade * turn + h.sum(-1, keepdim=True)
        total = total.masked_fill(total == 0, 1.0)
        o = n / total
        return o.to(kind), ((tn - turn * o) / total).to(kind)


class _Attention(torch.autograd.Function):
    """Fused attention, its own gradient, and the tangent above."""

    @staticmethod
    def forward(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float | None) -> Tensor:
        return scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.causal, ctx.scale = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.kind = output.dtype  # under autocast not that of the inputs

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        *primals, mask = ctx.saved_tensors
        how = {"scale": ctx.scale, "mask": mask, "tmask": tangents[3], "causal": ctx.causal}
        return attention_jvp(*primals, *tangents[:3], **how)[1].to(ctx.kind)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        mask = ctx.saved_tensors[3]

        def again(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = mask) -> Tensor:
            return _Attention.forward(q, k, v, mask, ctx.causal, ctx.scale)

        pull = torch.func.vjp(again, *ctx.saved_tensors[: 3 + ctx.needs_input_grad[3]])[1]
        return (*pull(*grads), None, None, None)[:6]


def attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, causal: bool = False, scale: float | None = None
) -> Tensor:
    """Return `torch.nn.functional.scaled_dot_product_attention`, which `torch.func.jvp` can go through here.

        o = softmax(c q k^T + mask) v

    Its gradient computes the scores anew and is that of PyTorch; the tangent is `attention_jvp`. A gradient through the
    tangent is possible, but keeps all blocks.

    Args:
        q, k, v, mask, causal, scale: see `attention_jvp`; a mask or causal, not both.

    Example:
        >>> q, k, v = torch.zeros(1, 1, 2), torch.eye(2)[None], torch.tensor([[[0.0], [4.0]]])
        >>> torch.func.jvp(lambda v: attention(q, k, v), (v,), (torch.ones_like(v),))
        (tensor([[[2.]]]), tensor([[[1.]]]))
    """
    return _Attention.apply(q, k, v, mask, causal, scale)  # type: ignore[no-any-return]


def _instead(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if dropout_p or enable_gqa:
        return scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    return attention(query, key, value, attn_mask, causal=is_causal, scale=scale)


def _grouped(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Its tangent fails (torch 2.13) on the layout that attention leaves behind."""
    return group_norm(input.contiguous(), *args, **kwargs)


INSTEAD: dict[Any, Callable[..., Any]] = {scaled_dot_product_attention: _instead, group_norm: _grouped}


class tangent_attention(TorchFunctionMode):  # noqa: N801 (read as a verb: with tangent_attention())
    """Within it, what calls PyTorch's `scaled_dot_product_attention` can be differentiated forwards.

    That is every model of diffusers, with any of its attention processors; nothing in a model is changed, and nothing
    is left to restore. Attention with dropout or grouped queries stays PyTorch's own, and so does
    `nn.MultiheadAttention`, which calls it out of sight. `tangent` works within it already.

    Example:
        >>> from limbeck.diffusion import Sizes
        >>> denoiser, x, sigma = Sizes(8, 1, levels=2).build([1, 8, 8]), torch.ones(1, 1, 8, 8), torch.ones(1)
        >>> with tangent_attention():
        ...     here, moved = torch.func.jvp(denoiser, (x, sigma), (x, sigma))
        >>> moved.shape
        torch.Size([1, 1, 8, 8])
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return INSTEAD.get(func, func)(*args, **(kwargs or {}))
