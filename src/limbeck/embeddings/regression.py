"""Linear maps from a smaller model's embedding to a larger one's, from covariances alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.linalg import eigh

from limbeck.errors import ConfigError
from limbeck.fitting.model import Array

Regression = Literal["linear", "ridge", "pcr"]
ENOUGH = 0.95


@dataclass(frozen=True)
class Map:
    """A fitted regression of centred embeddings: `y = x B`.

    Args:
        coefficients: B, [d_s, d_l].
        eigenvalues: of the covariance of x, largest first, [d_s].
        kept: principal components of x that are used.
        noise, threshold: level of the noise, and the variance above which a component counts; NaN but for pcr.
    """

    coefficients: Array
    eigenvalues: Array
    kept: int
    noise: float
    threshold: float


def edge(rows: int, width: int) -> float:
    """Largest eigenvalue of the covariance of pure noise of variance 1: `(1 + sqrt(d/T))^2`.

    Example:
        >>> round(edge(100, 10), 5)
        1.73246
    """
    return float((1 + np.sqrt(width / rows)) ** 2)


def noise_level(eigenvalues: Array, rows: int) -> float:
    """Variance of the noise: the median of the eigenvalues that, over their mean, lie below the edge of pure noise.

    Where none does, the median of the smallest quarter.

    Args:
        eigenvalues: of a covariance, largest first, [d].
        rows: it was estimated from.

    Example:
        >>> noise_level(np.array([9.0, 1.0, 0.9, 0.8]), 100)
        0.9
    """
    width = len(eigenvalues)
    low = eigenvalues[eigenvalues < edge(rows, width) * eigenvalues.mean()]
    return float(np.median(low if len(low) else eigenvalues[-max(1, width // 4) :]))


def regress(sxx: Array, sxy: Array, rows: int, kind: Regression = "pcr", penalty: float = 1.0) -> Map:
    """Regress y on x by the eigenvalues of the covariance of x: `B = V f(e) Vᵀ S_xy`.

    linear: `f = 1/e`, 0 for directions without variance (the shortest solution). ridge: `f = 1/(e + penalty/(T - 1))`.
    pcr: `f = 1/e` for the q components with `e > noise (1 + sqrt(d/T))^2`, the edge of the Marchenko-Pastur law; where
    there is none, for as many as hold 95 % of the variance.

    Args:
        sxx, sxy: covariances with T - 1 in the denominator, [d_s, d_s] and [d_s, d_l].
        rows: T.
        kind: one of the three.
        penalty: of ridge, on the sum of squares over the rows.

    Raises:
        ConfigError: another kind, or a negative penalty.

    Example:
        >>> regress(np.diag([2.0, 1.0]), np.array([[4.0], [3.0]]), 100, "linear").coefficients.ravel().tolist()
        [2.0, 3.0]

    Source: Reverse Distillation: Consistently Scaling Protein Language Model Representations (Catrina, Bepler,
    Sledzieski, Singh, 2026, arXiv 2603.07710); the rule for pcr is that of the authors' code.
    """
    if kind not in get_args(Regression) or not penalty >= 0:
        raise ConfigError(
            f"regression {kind!r}, penalty {penalty!r}: linear, pcr, or ridge with a penalty of 0 or more."
        )
    values, vectors = eigh(sxx)
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    kept, noise, threshold = int(np.sum(values > values[0] * len(values) * 1e-15)), np.nan, np.nan
    if kind == "pcr":
        noise = noise_level(values, rows)
        threshold = noise * edge(rows, len(values))
        enough = int(np.searchsorted(np.cumsum(values) / (values.sum() or 1.0), ENOUGH)) + 1
        kept = min(int(np.sum(values > threshold)) or enough, kept)
    penalised = values[:kept] + (penalty / (rows - 1) if kind == "ridge" else 0.0)
    used = vectors[:, :kept]
    return Map(used @ ((used.T @ sxy) / penalised[:, None]), values, kept, noise, threshold)
