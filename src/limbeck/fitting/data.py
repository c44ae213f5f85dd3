"""The points of a fit: columns, observations, weights, and which run each point belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError
from limbeck.fitting.model import Array, Model


@dataclass(frozen=True)
class Data:
    """The points of a fit. Build it with `Data.of`, which checks them.

    Args:
        columns: arrays [n] by name.
        target: observations [n].
        weights: non-negative, [n].
        clusters: which run each point belongs to, [n], numbered from 0.
    """

    columns: Mapping[str, Array]
    target: Array
    weights: Array
    clusters: NDArray[np.int_]

    @staticmethod
    def of(
        model: Model, columns: Mapping[str, ArrayLike], target: ArrayLike, weights: ArrayLike | None = None,
        clusters: ArrayLike | None = None,
    ) -> Data:  # fmt: skip
        """Bind a model's columns and observations; each point is its own run where no clusters are given.

        Raises:
            FittingError: a column is missing, unknown or not finite, or a weight is negative.
        """
        model.check_names("column", columns, model.columns)
        y = np.atleast_1d(np.asarray(target, float))
        x = {name: np.broadcast_to(np.asarray(columns[name], float), y.shape).copy() for name in model.columns}
        for name, values in {**x, model.target: y}.items():
            if not np.isfinite(values).all():
                bad = int(np.flatnonzero(~np.isfinite(values))[0])
                raise FittingError(f"{name} is not finite at point {bad} ({values[bad]}): remove such points first.")
        w = np.ones(len(y)) if weights is None else np.broadcast_to(np.asarray(weights, float), y.shape)
        if not (w >= 0).all():
            raise FittingError(f"weights must be zero or positive; the smallest is {w.min():g}.")
        return Data(x, y, w, np.arange(len(y)) if clusters is None else numbered(clusters))

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.target)

    @property
    def design(self) -> Array:
        """The columns side by side, [n, columns]."""
        return np.stack(list(self.columns.values()), 1)

    @property
    def runs(self) -> int:
        """Number of independent runs."""
        return int(self.clusters.max()) + 1

    def subset(self, mask: NDArray[np.bool_]) -> Data:
        """Return the points where mask [n] is true."""
        columns = {name: value[mask] for name, value in self.columns.items()}
        return Data(columns, self.target[mask], self.weights[mask], numbered(self.clusters[mask]))

    def joined(self, columns: Mapping[str, Array], target: Array, weight: float) -> Data:
        """Return the points with further ones of one weight, each a run of its own."""
        more = Data(columns, target, np.full(len(target), weight), self.runs + np.arange(len(target)))
        both = {name: np.append(values, columns[name]) for name, values in self.columns.items()}
        return Data(both, *(np.append(getattr(self, n), getattr(more, n)) for n in ("target", "weights", "clusters")))

    def inside(self, name: str, values: Array) -> NDArray[np.bool_]:
        """Return which values of a column lie in its range."""
        low, high = self.columns[name].min(), self.columns[name].max()
        return np.asarray((values >= low - 1e-9 * abs(low)) & (values <= high + 1e-9 * abs(high)))


def numbered(values: ArrayLike) -> NDArray[np.int_]:
    """Return which distinct value (or row) each one is, numbered from 0, [n]."""
    array = np.asarray(values)
    return np.unique(array, return_inverse=True, axis=0 if array.ndim > 1 else None)[1].reshape(-1)
