"""Capabilities of public models: the principal components of their benchmarks, and what these say about a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting import Model, Parameter
from limbeck.fitting.model import Array
from limbeck.laws.trend import Trend


@dataclass(frozen=True)
class CapabilityScale:
    """Principal components of benchmark scores, S = (x - mean) V. Build it with `CapabilityScale.of`.

    Args:
        mean: of each benchmark, [b].
        components: rows of V^T, the widest first, [b, b].
        explained: share of the variance by component, [b].

    Source: Observational Scaling Laws and the Predictability of Language Model Performance (Ruan, Maddison,
    Hashimoto, 2024, arXiv 2405.10938).

    Example:
        >>> scale = CapabilityScale.of([[0.2, 0.1], [0.4, 0.3], [0.6, 0.5], [0.8, np.nan]])
        >>> scale.explained.round(6).tolist(), scale.measure([[0.8, np.nan]], 1).round(3).tolist()
        ([1.0, 0.0], [[0.424]])
    """

    mean: Array
    components: Array
    explained: Array

    @classmethod
    def of(cls, scores: ArrayLike) -> CapabilityScale:
        """Return the components; empty cells are those of the first component, repeated until nothing moves.

        Args:
            scores: fractions, NaN where a model was not measured, [models, b].

        Raises:
            FittingError: a benchmark that no model has, or fewer than three models.
        """
        known = np.asarray(scores, float)
        missing = np.isnan(known)
        if len(known) < 3 or missing.all(0).any():
            raise FittingError(
                f"components need three models and a score of every benchmark; given {len(known)} models, "
                f"{int(missing.all(0).sum())} empty benchmarks. Leave empty benchmarks out."
            )
        full = np.where(missing, np.nanmean(known, 0), known)
        for _ in range(1000):
            mean = full.mean(0)
            left, spread, components = np.linalg.svd(full - mean, full_matrices=False)
            filled = np.where(missing, mean + spread[0] * left[:, :1] * components[0], full)
            moved, full = np.abs(filled - full).max(), filled
            if moved < 1e-10:
                break
        sign = np.where(components.sum(1) < 0, -1.0, 1.0)[:, None]
        return cls(mean, sign * components, spread**2 / (spread**2).sum())

    def measure(self, scores: ArrayLike, skills: int = 3) -> Array:
        """Return S of models, [models, skills]; empty cells are those of the first component, by least squares."""
        known = np.asarray(scores, float) - self.mean
        have, first = ~np.isnan(known), self.components[0]
        level = (np.where(have, known, 0) @ first) / (have @ first**2)
        return np.asarray(np.where(have, known, level[:, None] * first) @ self.components[:skills].T)


def family_line(flops: ArrayLike, capability: ArrayLike) -> Trend:
    """Return a family's line S_1 = theta ln C + nu, as the power law exp(S_1) = e^nu C^theta.

    The compute at which the family would have a model's capability is `line.inverse(exp(S_1))`.

    Args:
        flops: of the family's models, [n].
        capability: their first component, [n].

    Raises:
        FittingError: fewer than two distinct computes.

    Source: Observational Scaling Laws and the Predictability of Language Model Performance (Ruan, Maddison,
    Hashimoto, 2024, arXiv 2405.10938).

    Example:
        >>> line = family_line([1e21, 1e22, 1e23], np.log([1e21, 1e22, 1e23]) * 0.1 - 5)
        >>> round(line.exponent, 6), f"{line.inverse(np.exp(0.1 * np.log(3e22) - 5)):.3g}"
        (0.1, '3e+22')
    """
    return Trend.through(flops, np.exp(np.asarray(capability, float)))


@dataclass(frozen=True)
class CapabilityScore(Model):
    """A task's score from capabilities: y = h sigmoid(w1 s1 + ... + wk sk + c), 0 <= h <= 1.

    Args:
        skills: k.

    Source: Observational Scaling Laws and the Predictability of Language Model Performance (Ruan, Maddison,
    Hashimoto, 2024, arXiv 2405.10938).

    Example:
        >>> float(CapabilityScore(1)({"h": 0.8, "w1": 2.0, "c": -1.0}, s1=0.5))
        0.4
    """

    name = "capability-score"
    target = "score"
    linear = ("h",)
    skills: int = 1

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """s1, ..., sk."""
        return tuple(f"s{k + 1}" for k in range(self.skills))

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """The ceiling h, the weights and c."""
        weights = (Parameter(f"w{k + 1}", "weight of a capability", (-1.0, 1.0)) for k in range(self.skills))
        ceiling = Parameter("h", "score of the best model", lower=0.0, upper=1.0)
        return (ceiling, *weights, Parameter("c", "offset", (-3.0, 0.0)))

    def formula(self, p: Any, x: Any) -> Any:
        """H sigmoid(w S + c)."""
        total = sum(getattr(p, f"w{k + 1}") * getattr(x, f"s{k + 1}") for k in range(self.skills))
        return p.h / (1 + np.exp(-(total + p.c)))

    def size(self, x: Any) -> Any:
        """The first capability is the logarithm of a compute."""
        return np.exp(x.s1)
