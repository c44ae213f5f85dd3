"""The compute-optimal frontier of the Chinchilla form, in closed form, and the compute of one token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from limbeck.fitting.model import Array


@dataclass(frozen=True)
class ComputeFrontier:
    """Where L = E + A/N^alpha + B/D^beta is least for C = 6 N D FLOP.

    With G = (alpha A / (beta B))^(1/(alpha+beta)) and `size_exponent` a = beta/(alpha+beta), `data_exponent` b =
    alpha/(alpha+beta): N* = G (C/6)^a, D* = (C/6)^b / G, and L* - E = (A G^-alpha + B G^beta) (C/6)^(-alpha
    beta/(alpha+beta)). Parameters may be arrays (one entry per bootstrap draw); results broadcast.

    Source: Training Compute-Optimal Large Language Models (Hoffmann et al., 2022, arXiv 2203.15556), eq. 4.

    Example:
        >>> frontier = ComputeFrontier(E=1.8, A=400.0, B=400.0, alpha=0.3, beta=0.3)
        >>> float(frontier.params(6e20)), float(frontier.tokens(6e20))
        (10000000000.0, 10000000000.0)
    """

    E: float | Array
    A: float | Array
    B: float | Array
    alpha: float | Array
    beta: float | Array

    @classmethod
    def of(cls, parameters: Mapping[str, ArrayLike]) -> ComputeFrontier:
        """Return the frontier of named parameters E, A, B, alpha and (unless the exponents are tied) beta."""
        p = {name: np.asarray(value, float) for name, value in parameters.items()}
        return cls(p["E"], p["A"], p["B"], p["alpha"], p.get("beta", p["alpha"]))

    @property
    def size_exponent(self) -> Array:
        """d ln N* / d ln C."""
        return np.asarray(self.beta / (self.alpha + self.beta))

    @property
    def data_exponent(self) -> Array:
        """d ln D* / d ln C."""
        return np.asarray(self.alpha / (self.alpha + self.beta))

    @property
    def G(self) -> Array:  # noqa: N802 - the paper's symbol
        """Coefficient of N*; (A/B)^(1/(2 alpha)) where both exponents are alpha."""
        ratio = np.log(self.alpha) + np.log(self.A) - np.log(self.beta) - np.log(self.B)
        return np.asarray(np.exp(ratio / (self.alpha + self.beta)))

    @property
    def _level(self) -> Array:
        return np.asarray(self.A * self.G**-self.alpha + self.B * self.G**self.beta)

    @property
    def _decay(self) -> Array:
        return np.asarray(self.alpha * self.size_exponent)

    def params(self, flops: ArrayLike) -> Array:
        """Return the optimal number of parameters for a budget in FLOP."""
        return np.asarray(self.G * (np.asarray(flops, float) / 6.0) ** self.size_exponent)

    def tokens(self, flops: ArrayLike) -> Array:
        """Return the optimal number of tokens for a budget in FLOP."""
        return np.asarray((np.asarray(flops, float) / 6.0) ** self.data_exponent / self.G)

    def reducible(self, flops: ArrayLike) -> Array:
        """Return L* - E for a budget in FLOP."""
        return np.asarray(self._level * (np.asarray(flops, float) / 6.0) ** -self._decay)

    def loss(self, flops: ArrayLike) -> Array:
        """Return L* for a budget in FLOP."""
        return np.asarray(self.E + self.reducible(flops))

    def flops_for(self, reducible: ArrayLike) -> Array:
        """Return the FLOP that reach a reducible loss when they are spent optimally."""
        return np.asarray(6.0 * (np.asarray(reducible, float) / self._level) ** (-1.0 / self._decay))

    def tokens_reaching(self, loss: ArrayLike, params: ArrayLike) -> Array:
        """Return the tokens with which a given size reaches a loss; infinite where no amount does."""
        left = np.asarray(loss, float) - self.E - self.A * np.asarray(params, float) ** -self.alpha
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(left > 0, (np.maximum(left, 0.0) / self.B) ** (-1.0 / self.beta), np.inf)

    def tokens_for(self, params: ArrayLike) -> Array:
        """Return the tokens for which a given number of parameters is optimal."""
        step = self.data_exponent / self.size_exponent
        return np.asarray(self.G ** -(1.0 + step) * np.asarray(params, float) ** step)


def forward_flops(
    params: ArrayLike, *, context: int = 4096, vocabulary: int = 32168, aspect_ratio: float = 128.0,
    width_factor: float = 12.0,
) -> Array:  # fmt: skip
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
