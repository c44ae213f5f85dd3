"""What a set of losses says about the irreducible loss: often only an upper bound."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.laws.modalities import PowerPlusConstant


@dataclass(frozen=True)
class Irreducible:
    """The profile of L_inf in L = L_inf + (x0/x)^alpha.

    Args:
        law: the best curve.
        lower, upper: 95 % profile-likelihood interval of L_inf.
        identified: whether the interval excludes 0 and ends below the smallest loss.
        aicc_gain: by how much L_inf improves the corrected Akaike criterion over L_inf = 0 (positive: the data ask for
            it).
    """

    law: PowerPlusConstant
    lower: float
    upper: float
    identified: bool
    aicc_gain: float

    def summary(self) -> str:
        """Return the finding in words."""
        if self.identified:
            return f"irreducible loss {self.law.L_inf:.4g} (95 %: {self.lower:.4g} – {self.upper:.4g})"
        return (
            f"the irreducible loss is not identified: anything up to {self.upper:.4g} fits. "
            "Add larger runs, until the curve bends, or fix it."
        )


def irreducible(x: ArrayLike, loss: ArrayLike, *, points: int = 2000) -> Irreducible:
    """Return the profile of the irreducible loss over [0, min loss).

    At a fixed L_inf, ln(L - L_inf) is linear in ln x; its residuals are weighed so that they are residuals of ln L. The
    interval holds every L_inf with n ln(S/S_min) <= 3.84, S the sum of squares (unknown noise).

    Args:
        x, loss: scale and loss of each run, positive, [n], at least four distinct scales.
        points: resolution of the scan.

    Raises:
        FittingError: fewer than four distinct scales, or losses that are not positive.

    Source: Scaling Laws for Autoregressive Generative Modeling (Henighan et al., 2020, arXiv 2010.14701); the profile
    is ours.
    """
    scale, y = np.asarray(x, float), np.asarray(loss, float)
    if len(np.unique(scale)) < 4:
        raise FittingError(f"an irreducible loss needs at least four scales; given {len(np.unique(scale))}.")
    if not (y > 0).all():
        raise FittingError("the profile works on ln L: losses must be positive.")
    n, smallest = len(y), y.min()
    floors = smallest * np.concatenate([np.linspace(0, 0.99, points), 1 - np.geomspace(0.01, 1e-5, points // 4)[1:]])
    u, v = np.log(scale)[None], np.log(y - floors[:, None])
    w = ((y - floors[:, None]) / y) ** 2
    total = w.sum(1, keepdims=True)
    mean_u, mean_v = (w * u).sum(1, keepdims=True) / total, (w * v).sum(1, keepdims=True) / total
    slope = (w * (u - mean_u) * (v - mean_v)).sum(1, keepdims=True) / (w * (u - mean_u) ** 2).sum(1, keepdims=True)
    fitted = np.exp(mean_v + slope * (u - mean_u)) + floors[:, None]
    s: Array = ((np.log(fitted) - np.log(y)) ** 2).sum(1)
    best = int(s.argmin())
    inside = floors[n * np.log(s / s[best]) <= 3.84]
    alpha = -float(slope[best, 0])
    law = PowerPlusConstant(float(floors[best]), math.exp(float(mean_u[best, 0] + mean_v[best, 0] / alpha)), alpha)

    def aicc(rss: float, k: int) -> float:
        return n * math.log(max(rss / n, 1e-300)) + 2 * k + 2 * k * (k + 1) / max(n - k - 1, 0.5)

    lower, upper = float(inside.min()), float(inside.max())
    return Irreducible(
        law, lower, upper, lower > 0 and upper < 0.999 * smallest, aicc(float(s[0]), 3) - aicc(float(s[best]), 4)
    )
