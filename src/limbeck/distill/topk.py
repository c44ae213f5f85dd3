"""Losses on the tokens that the teacher prefers."""

from __future__ import annotations

import math
from typing import Literal, Unpack

import torch  # noqa: F401  (the example)
from torch import Tensor

from limbeck.distill.divergences import forward_value, reverse_value
from limbeck.distill.losses import How, compare, register
from limbeck.errors import ConfigError


@register()
def topk_kl(
    student: Tensor,
    teacher: Tensor,
    target: Tensor | None = None,
    *,
    k: int | None = None,
    variant: Literal["forward", "reverse"] = "forward",
    weight: float = 1.0,
    **how: Unpack[How],
) -> Tensor:
    """Forward KL and a divergence on the k tokens that the teacher prefers, which top-k sampling sees, in nats.

    `D = KL(p‖q) + weight KL(p_K‖q_K)`, or `+ weight KL(q_K‖p_K)` for the reverse variant; p_K and q_K are p and q on
    those tokens, renormalised. With k = 1 the second term is 0, with k = V it is the divergence of all tokens.

    Args:
        k: number of tokens; 22 % of the vocabulary by default, as in top-k sampling of 900 among 4096.
        variant: direction of the second term.
        weight: of the second term.

    Example:
        >>> topk_kl(torch.zeros(3), torch.tensor([3.0, 1.0, 1.0]).log(), k=2)
        tensor(0.2792)

    Source: Ding, Cao, Cao, Chen, Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative
        Models (2025), arXiv 2501.06218; both variants are reconstructed from its abstract, neither is its formula.
    """
    if variant not in ("forward", "reverse"):
        raise ConfigError(f'variant must be "forward" or "reverse", got "{variant}".')
    divergence = forward_value if variant == "forward" else reverse_value

    def formula(log_p: Tensor, log_q: Tensor) -> Tensor:
        size = k or math.ceil(0.22 * log_p.shape[-1])
        top = log_p.sort(dim=-1, descending=True, stable=True).indices[..., :size]
        inner = divergence(*(log.gather(-1, top).log_softmax(-1) for log in (log_p, log_q)))
        return forward_value(log_p, log_q) + weight * inner

    return compare(formula, student, teacher, **how)
