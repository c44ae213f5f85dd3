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
        model: Model,
        columns: Mapping[str, ArrayLike],
        target: ArrayLike,
        weights: ArrayLike | None = None,
        clusters: ArrayLike | None = None,
    ) -> Data:
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
        groups = np.arange(len(y)) if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1]
        return Data(x, y, w, np.asarray(groups, int).reshape(-1))

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
        groups = np.unique(self.clusters[mask], return_inverse=True)[1].reshape(-1)
        return Data(columns, self.target[mask], self.weights[mask], groups)
