"""What a forward pass costs: 2N per token, plus attention and the embedding."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from limbeck.fitting.model import Array


def forward_flops(
    params: ArrayLike,
    *,
    context: int = 4096,
    vocabulary: int = 32168,
    aspect_ratio: float = 128.0,
    width_factor: float = 12.0,
) -> Array:
    """Return the FLOP of one token's forward pass through a decoder of fixed aspect ratio.

    F(N) = 2N (1 + s1 context N^(-1/3) + s2 vocabulary N^(-2/3)), s1 = (1/(rho omega^2))^(1/3), s2 = (rho/omega)^(1/3),
    where N = n_layers^3 rho^2 omega counts non-embedding parameters. A backward pass costs 2 F.

    Args:
        params: non-embedding parameters N.
        context: tokens of context.
        vocabulary: size of the vocabulary.
        aspect_ratio: rho = d_model / n_layers.
        width_factor: omega = 2 + 2/g + n_ffn rho_ffn (g query heads per key head; 12 for a gated network of ratio 8/3).

    Source: Distillation Scaling Laws (Busbridge et al., 2025, arXiv 2502.08606), appendix H.

    Example:
        >>> float((forward_flops(0.1028e9) / 1e9).round(2))
        0.34
    """
    n = np.asarray(params, float)
    attention = (1.0 / (aspect_ratio * width_factor**2)) ** (1.0 / 3.0) * context
    embedding = (aspect_ratio / width_factor) ** (1.0 / 3.0) * vocabulary
    return np.asarray(2.0 * n * (1.0 + attention * n ** (-1.0 / 3.0) + embedding * n ** (-2.0 / 3.0)))
