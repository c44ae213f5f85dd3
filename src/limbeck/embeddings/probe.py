"""A ridge regression with one penalty a block of coordinates: more of a nested vector is never worse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import RidgeCV

from limbeck.errors import LimbeckError
from limbeck.fitting.model import Array

PENALTIES = (*np.geomspace(1e-4, 1e3, 8).tolist(), np.inf)
SWEEPS = 2


class BlockRidge(RegressorMixin, BaseEstimator):
    """Linear probe on nested vectors.

    `min |y - b - Σ_l R_l w_l|² + Σ_l λ_l |w_l|²`

    The penalties are chosen by the error on examples left out one at a time, block by block: a new block starts at
    λ = infinity, which leaves it out, so this error (`errors_`, one a block) never rises with a longer vector.

    Args:
        widths: of the nested vectors, growing; blocks lie between them. By default one block.
        penalties: to choose from, as multiples of n times the mean variance of the first block's coordinates.

    Raises:
        LimbeckError: widths that do not grow up to the number of coordinates.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> r = rng.standard_normal((40, 30))
        >>> probe = BlockRidge([2, 30]).fit(r, r[:, 0])
        >>> float(probe.penalties_[1]), bool(probe.errors_[1] <= probe.errors_[0])
        (inf, True)
    """

    def __init__(self, widths: Sequence[int] | None = None, penalties: Sequence[float] = PENALTIES) -> None:
        self.widths, self.penalties = widths, penalties

    def fit(self, r: Any, y: Any) -> Self:
        """Fit to vectors [n, d] and targets [n] or [n, outputs]."""
        r = np.asarray(r, float)
        ends = [r.shape[1]] if self.widths is None else list(self.widths)
        if sorted({0, *ends}) != [0, *ends] or ends[-1] != r.shape[1]:
            raise LimbeckError(f"widths {ends} of vectors of width {r.shape[1]}: expected growing ones up to that.")
        sizes, unit = np.diff([0, *ends]), len(r) * float(r[:, : ends[0]].var(0).mean()) or 1.0

        def ridge(penalties: Array) -> tuple[Any, Array]:
            """Scaled coordinates have the penalty 1."""
            scales = np.repeat((unit * penalties) ** -0.5, sizes)
            return RidgeCV([1.0]).fit(r * scales, y), scales

        self.penalties_, self.errors_ = np.full(len(ends), np.inf), list[float]()
        best = -ridge(self.penalties_)[0].best_score_
        for level in range(len(ends)):
            for block in SWEEPS * [*range(level, -1, -1)]:
                if np.isinf(self.penalties_[level]) and block < level:
                    break  # the new block is left out, and the others are chosen
                for penalty in self.penalties:
                    tried = np.where(np.arange(len(ends)) == block, penalty, self.penalties_)
                    if (error := -ridge(tried)[0].best_score_) < best:
                        best, self.penalties_ = error, tried
            self.errors_.append(float(best))
        self.ridge_, self.scales_ = ridge(self.penalties_)
        return self

    def predict(self, r: Any) -> Array:
        """Return what the vectors [n, d] say, [n] or [n, outputs]."""
        return np.asarray(self.ridge_.predict(np.asarray(r, float) * self.scales_))
