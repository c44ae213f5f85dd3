"""What stands around the mixing of tokens: a feed-forward part for every token, norms, two streams.

Source: Ha et al., UniMixer: A Unified Architecture for Scaling Laws in Recommendation Systems (2026), arXiv
2604.00590. Reconstructed: where norms stand inside SiameseNorm.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu


class PerToken(nn.Module):
    """An affine map of its own for every token.

    Args:
        tokens: T.
        inside, outside: widths.
        bias: without it the map is linear.
    """

    def __init__(self, tokens: int, inside: int, outside: int, bias: bool = True) -> None:
        super().__init__()
        bound = inside**-0.5
        self.weight = nn.Parameter(torch.empty(tokens, inside, outside).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(tokens, outside).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, inside] to [n, T, outside]."""
        y = torch.einsum("ntd,tdk->ntk", x, self.weight)
        return y if self.bias is None else y + self.bias


class FeedForward(nn.Module):
    """What every token does by itself: `W_d (silu(W_g x) * (W_u x))`, 3 T D H parameters; or `W_d gelu(W_u x + b) + c`.

    Args:
        tokens, width: T and D.
        hidden: H.
        gated: which of the two.

    Example:
        >>> sum(one.numel() for one in FeedForward(8, 16, 32).parameters())
        12288
    """

    def __init__(self, tokens: int, width: int, hidden: int, gated: bool = True) -> None:
        super().__init__()
        self.up = PerToken(tokens, width, hidden, bias=not gated)
        self.gate = PerToken(tokens, width, hidden, bias=False) if gated else None
        self.down = PerToken(tokens, hidden, width, bias=not gated)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        y = self.up(x)
        return self.down(gelu(y) if self.gate is None else silu(self.gate(x)) * y)  # type: ignore[no-any-return]


class Change(nn.Module):
    """What a block adds under SiameseNorm: `feed(norm(mix(x) + x))`.

    Args:
        mixing, norm, feed: modules of [n, T, D].
    """

    def __init__(self, mixing: nn.Module, norm: nn.Module, feed: nn.Module) -> None:
        super().__init__()
        self.mixing, self.norm, self.feed = mixing, norm, feed

    def mixed(self, x: Tensor) -> Tensor:
        """`norm(mix(x) + x)`, [n, T, D]."""
        return self.norm(self.mixing(x) + x)  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        return self.feed(self.mixed(x))  # type: ignore[no-any-return]


class PostNorm(Change):
    """One block: `S = norm(mix(x) + x)`, then `outer(feed(S) + S)`.

    Args:
        mixing, norm, feed, outer: modules of [n, T, D].
    """

    def __init__(self, mixing: nn.Module, norm: nn.Module, feed: nn.Module, outer: nn.Module) -> None:
        super().__init__(mixing, norm, feed)
        self.outer = outer

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        s = self.mixed(x)
        return self.outer(self.feed(s) + s)  # type: ignore[no-any-return]


class SiameseNorm(nn.Module):
    """Two coupled streams, one normalised after every block and one that only adds, both from x.

    `o = block(a + norm(b))`, `a <- norm(a + o)`, `b <- b + o`; after the last block `a + norm(b)`.

    Args:
        blocks: any modules of [n, T, D].
        norms: two for every block, before it and after it, and one for the end.

    Example:
        >>> zero = [nn.Linear(4, 4), nn.Linear(4, 4)]
        >>> for one in zero:
        ...     _ = one.requires_grad_(False).weight.zero_(), one.bias.zero_()
        >>> x = torch.randn(1, 3, 4)
        >>> norm = nn.RMSNorm(4)
        >>> torch.allclose(SiameseNorm(zero, [nn.RMSNorm(4) for _ in range(5)])(x), 2 * norm(x), atol=1e-5)
        True
    """

    def __init__(self, blocks: Sequence[nn.Module], norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks, self.norms = nn.ModuleList(blocks), nn.ModuleList(norms)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        a = b = x
        for k, block in enumerate(self.blocks):
            o = block(a + self.norms[2 * k](b))
            a, b = self.norms[2 * k + 1](a + o), b + o
        return a + self.norms[-1](b)  # type: ignore[no-any-return]
