"""Mixing tokens: every way is a choice of two factors, a global one between blocks and a local one inside each.

| family | global factor, [N, N] | local factor, [B, B] |
|---|---|---|
| `Attention` | softmax(x Q (x K)^T / sqrt(D)), of the sample | V, one for all tokens |
| `Permutation` (RankMixer) | a fixed permutation | none |
| `FactorisationMachine` (Wukong) | x x^T, of the sample | none: a learned Y in place of the values |
| `UniMixing` | Sinkhorn of a learned matrix | Sinkhorn of one learned matrix a block |
| `UniMixingLite` | the same, of low rank | the same, of shared bases |
| `Fixed` | any constant | any constant |

Source: Ha et al., UniMixer: A Unified Architecture for Scaling Laws in Recommendation Systems (2026), arXiv
2604.00590. Reconstructed: what the matrices start from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.recsys.sinkhorn import rounded, sinkhorn

SPREAD = 0.02
"""Standard deviation of what the matrices start from."""


def mix(x: Tensor, weights: Tensor, local: Tensor | None = None) -> Tensor:
    """`z_m = sum_n G[m, n] (x_n W_n)`: L B + L^2 / B products for a sample of L = N B numbers.

    The same as one matrix of L x L numbers, whose blocks are `G[m, n] W_n`, and which is never made.

    Args:
        x: [..., T, D], read as [..., N, B] with T D = N B.
        weights: G, [N, N] or one a sample, [..., N, N].
        local: W, [N, B, B], or [B, B] for all blocks; none leaves them.

    Returns:
        [..., T, D]

    Raises:
        ConfigError: N blocks do not fit the sample.

    Example:
        >>> mix(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([[3., 4.],
                [1., 2.]])
    """
    length, blocks = x.shape[-2] * x.shape[-1], weights.shape[-1]
    if length % blocks:
        raise ConfigError(f"{length} numbers a sample cannot be cut into {blocks} blocks")
    values = x.reshape(*x.shape[:-2], blocks, length // blocks)
    if local is not None:
        values = values @ local if local.ndim == 2 else torch.einsum("...nb,nbc->...nc", values, local)
    mixed: Tensor = weights @ values
    return mixed.reshape(x.shape)


def token_mix(x: Tensor, heads: int) -> Tensor:
    """RankMixer: every token is cut into heads, and a new token is one head of all tokens.

    Args:
        x: [..., T, D].
        heads: H, a divisor of D.

    Returns:
        the numbers of [..., H, T D / H], cut as [..., T, D] again; twice with H = T changes nothing.

    Raises:
        ConfigError: H does not divide D.

    Example:
        >>> token_mix(torch.tensor([[1, 2], [3, 4]]), heads=2)
        tensor([[1, 3],
                [2, 4]])

    Source: Zhu et al., RankMixer: Scaling Up Ranking Models in Industrial Recommenders (2025), arXiv 2507.15551.
    """
    if heads < 1 or x.shape[-1] % heads:
        raise ConfigError(f"tokens of width {x.shape[-1]} cannot be cut into {heads} heads: take a divisor")
    cut: Tensor = x.unflatten(-1, (heads, -1))
    return cut.transpose(-3, -2).reshape(x.shape)


def permutation(tokens: int, width: int, heads: int, block: int) -> Tensor:
    """The matrix of `token_mix` between blocks, [N, N].

    Raises:
        ConfigError: blocks that heads cut through: their width must divide D / H.

    Example:
        >>> permutation(2, 2, heads=2, block=1)[1]
        tensor([0., 0., 1., 0.])
    """
    if (width // max(heads, 1)) % block:
        raise ConfigError(
            f"blocks of {block} are cut by heads of {width}/{heads} numbers: mixing can stand for the permutation of "
            f"tokens only if the block divides {width // max(heads, 1)}"
        )
    moved = token_mix(torch.arange(tokens * width).reshape(tokens, width), heads).reshape(-1, block)[:, 0] // block
    return nn.functional.one_hot(moved).float()


class Permutation(nn.Module):
    """The mixing of RankMixer, which has no parameters."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        return token_mix(x, self.heads)


class Attention(nn.Module):
    """Self-attention of one head between tokens, `softmax(x Q (x K)^T / sqrt(D)) x V`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Parameter(torch.randn(width, width) / width**0.5) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        scores = (x @ self.query) @ (x @ self.key).mT / x.shape[-1] ** 0.5
        return mix(x, scores.softmax(-1), self.value)


class FactorisationMachine(nn.Module):
    """Products of all pairs of tokens, `x x^T Y`; their sum off the diagonal is twice that of a factorisation machine.

    Args:
        tokens, width: of the sample; Y is [T, D].

    Source: Zhang et al., Wukong: Towards a Scaling Law for Large-Scale Recommendation (2024), arXiv 2403.02545.
    """

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.projection = nn.Parameter(torch.randn(tokens, width) / width)

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        return mix(self.projection.expand_as(x), x @ x.mT)


class Fixed(nn.Module):
    """Constant factors: what a learned mixing is once the training is over.

    Args:
        blocks: N.
        width: B.
    """

    weights: Tensor
    local: Tensor

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.register_buffer("weights", torch.eye(blocks))
        self.register_buffer("local", torch.eye(width).repeat(blocks, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        return mix(x, self.weights, self.local)


class UniMixing(nn.Module):
    """Mixing by learned matrices whose rows and columns sum to one: N^2 + N B^2 parameters.

    Args:
        blocks: N.
        width: B; N + B is least at B = sqrt(N B).
        start: where the global factor starts, [N, N], plus a little noise; the local ones then start at the identity.
            None is noise alone, with which every block begins as the mean of all.
        constrained: whether `sinkhorn` is applied; without it the factors are any matrices.
        iterations, symmetric: see `sinkhorn`.

    Raises:
        ConfigError: a start that is not symmetric, which no constrained factor can be.

    Example:
        >>> mixing = UniMixing(4, 2, start=torch.eye(4))
        >>> mixing.temperature = 0.05
        >>> x = torch.randn(1, 2, 4)
        >>> torch.allclose(mixing(x), x, atol=1e-5)
        True
    """

    def __init__(
        self, blocks: int, width: int, *, start: Tensor | None = None, constrained: bool = True, iterations: int = 5,
        symmetric: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        if constrained and start is not None and not torch.equal(start, start.mT):
            raise ConfigError(
                "mixing under Sinkhorn is symmetric, this permutation is not: take as many heads as tokens"
            )
        self.blocks, self.width, self.temperature = blocks, width, 1.0
        self.constrained, self.iterations, self.symmetric = constrained, iterations, symmetric
        self._draw(start)

    def _draw(self, start: Tensor | None) -> None:
        self.between = nn.Parameter(SPREAD * torch.randn(self.blocks, self.blocks))
        self.inside = nn.Parameter(SPREAD * torch.randn(self.blocks, self.width, self.width))
        if start is not None:
            self.between.data += start
            self.inside.data += torch.eye(self.width)

    def raw(self) -> tuple[Tensor, Tensor]:
        """The factors before Sinkhorn, [N, N] and [N, B, B]."""
        return self.between, self.inside

    def factors(self) -> tuple[Tensor, Tensor]:
        """The factors at the present temperature, [N, N] and [N, B, B]."""
        if not self.constrained:
            return self.raw()
        weights, local = (
            sinkhorn(one, self.temperature, self.iterations, symmetric=self.symmetric) for one in self.raw()
        )
        return weights, local

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, T, D] to [n, T, D]."""
        return mix(x, *self.factors())

    @torch.no_grad()
    def fixed(self, round_above: float | None = None) -> Fixed:
        """The same as constants.

        Args:
            round_above: make a permutation of the global factor if it nearly is one, see `rounded`.
        """
        found = Fixed(self.blocks, self.width)
        weights, local = self.factors()
        whole = None if round_above is None else rounded(weights, round_above)
        found.weights.copy_(weights if whole is None else whole)
        found.local.copy_(local)
        return found


class UniMixingLite(UniMixing):
    """The same with a global factor of low rank and local ones of shared bases: 2 N r + b B^2 + N b parameters.

    `W_G = A B`, `W_n = sum_l omega[n, l] Z_l`, and Sinkhorn of both, whose rank is full again.

    Args:
        blocks, width: N and B.
        rank: r, 128 in the paper.
        bases: b, 4 in the paper.
        softmax: of omega, as in a re-implementation; the paper has none.
        constrained, iterations, symmetric: as in `UniMixing`.
    """

    def __init__(
        self, blocks: int, width: int, *, rank: int = 4, bases: int = 4, softmax: bool = False,
        constrained: bool = True, iterations: int = 5, symmetric: bool = False,
    ) -> None:  # fmt: skip
        self.rank, self.bases, self.softmax = rank, bases, softmax
        super().__init__(blocks, width, constrained=constrained, iterations=iterations, symmetric=symmetric)

    def _draw(self, start: Tensor | None) -> None:
        spread = (SPREAD / self.rank**0.5) ** 0.5  # so that products are spread as widely as in the full form
        self.left = nn.Parameter(spread * torch.randn(self.blocks, self.rank))
        self.right = nn.Parameter(spread * torch.randn(self.rank, self.blocks))
        self.basis = nn.Parameter(SPREAD * torch.randn(self.bases, self.width, self.width))
        self.omega = nn.Parameter(torch.randn(self.blocks, self.bases) / self.bases**0.5)

    def raw(self) -> tuple[Tensor, Tensor]:
        """The factors before Sinkhorn, [N, N] and [N, B, B]."""
        omega = self.omega.softmax(-1) if self.softmax else self.omega
        return self.left @ self.right, torch.einsum("nl,lbc->nbc", omega, self.basis)
