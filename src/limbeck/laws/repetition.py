"""Loss where data are seen more than once: repeated tokens are worth less and less, and so are excess parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from limbeck.laws.law import Law
from limbeck.laws.loss import MUENNIGHOFF, Chinchilla


@dataclass(frozen=True)
class DataConstrained(Law):
    """Chinchilla's law in effective size and data: L = E + A/N'^alpha + B/D'^beta.

    D' = U (1 + R* (1 - exp(-R/R*))), with U = tokens/epochs unique tokens seen R = epochs - 1 times again, R* = R_D*;
    N' likewise from U_N = min(N, (D G)^(beta/alpha) G), the size that the tokens are worth, and R_N = N/U_N - 1, with G
    = (alpha A / (beta B))^(1/(alpha + beta)). One epoch of no fewer tokens than N is worth is Chinchilla's law. U_N is
    that of the authors' code; the paper takes the unique tokens U in place of D.

    Args:
        repeats, excess: R_D* and R_N*.

    Source: Scaling Data-Constrained Language Models (Muennighoff et al., 2023, arXiv 2305.16264).

    Example:
        >>> p = {"E": 1.9, "A": 520.0, "B": 1490.0, "alpha": 0.35, "beta": 0.35}
        >>> [float(DataConstrained()(p, params=1e9, tokens=1e11, epochs=e).round(3)) for e in (1, 4, 44)]
        [2.479, 2.484, 2.572]
    """

    repeats: float = 15.387756
    excess: float = 5.309743

    name = "data-constrained"
    source = MUENNIGHOFF
    columns = ("params", "tokens", "epochs")
    target = "loss"
    equation = "E + A / N'^alpha + B / D'^beta, N' and D' worth params and tokens after epochs"
    floor = "E"
    parameters = tuple(replace(one, start=one.start or (0.3, 1.0, 3.0)) for one in Chinchilla.parameters)

    def formula(self, p: Any, x: Any) -> Any:
        """Return E + A/N'^alpha + B/D'^beta."""
        unique = x.tokens / x.epochs
        balance = (p.alpha * p.A / (p.beta * p.B)) ** (1.0 / (p.alpha + p.beta))
        worth = np.minimum(x.params, (x.tokens * balance) ** (p.beta / p.alpha) * balance)
        size = worth * (1.0 - self.excess * np.expm1(-(x.params / worth - 1.0) / self.excess))
        data = unique * (1.0 - self.repeats * np.expm1(-(x.epochs - 1.0) / self.repeats))
        return p.E + p.A * size**-p.alpha + p.B * data**-p.beta

    def size(self, x: Any) -> Any:
        """Size times data: extrapolation is measured in compute."""
        return x.params * x.tokens
