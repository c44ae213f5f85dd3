"""Means and covariances of a whole family of embeddings, gathered batch by batch: rows are never kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.errors import LimbeckError
from limbeck.fitting.model import Array

ROWS_AT_ONCE = 8192


def check_family(family: Sequence[Any], widths: Sequence[int] = ()) -> list[Any]:
    """Return matrices of the same rows by models of growing size, as they were given (arrays, or files in memory).

    Args:
        family: one matrix a model, [T, d_l], the smallest first.
        widths: the d_l of a family whose first models these should be.

    Raises:
        LimbeckError: no matrix, other rows or widths, widths that do not grow, values that are not finite.
    """
    found = [one if isinstance(one, np.ndarray) else np.asarray(one) for one in family]
    shapes = [one.shape for one in found]
    if not found or any(one.ndim != 2 or not one.size or one.dtype.kind not in "fiub" for one in found):
        raise LimbeckError(f"a family is one matrix of numbers [rows, width] a model; given {shapes or 'none'}.")
    rows, given = ([shape[axis] for shape in shapes] for axis in (0, 1))
    if len({*rows}) > 1:
        raise LimbeckError(f"all models must have embedded the same rows; the matrices have {rows}.")
    if sorted({*given}) != given:
        raise LimbeckError(f"widths must grow from model to model, given {given}: order them, drop equal ones.")
    if widths and given != [*widths][: len(given)]:
        raise LimbeckError(f"matrices of widths {given} do not fit a family of {[*widths]}.")
    for one in found:
        if not np.isfinite(one.sum(dtype=float)):
            row = np.flatnonzero(~np.isfinite(one).all(1))[0]
            message = f"the matrix of width {one.shape[1]} has a value that is not finite in row {row} (from 0)"
            raise LimbeckError(f"{message}: leave such rows out of every matrix.")
    return found


class Moments:
    """Joint mean and scatter of all models' coordinates, in float64.

    A batch of m rows is merged into n by `M += M_batch + δδᵀ nm/(n + m)`, `δ = mean_batch - mean`, which loses nothing
    where means are large. Memory is (Σ d_l)², whatever the number of rows.

    Example:
        >>> moments = Moments()
        >>> for rows in (np.eye(3), 2 * np.eye(3)):
        ...     moments.update([rows[:, :1], rows])
        >>> moments.rows, moments.widths, moments.covariance[0, 0].round(3).item()
        (6, [1, 3], 0.7)
    """

    def __init__(self) -> None:
        self.rows, self.widths, self.mean, self.scatter = 0, list[int](), np.zeros(()), np.zeros(())

    def update(self, family: Sequence[Any]) -> None:
        """Take in a batch: one matrix a model, [T, d_l]; a long one in pieces.

        Raises:
            LimbeckError: matrices that do not fit each other or the batches before; nothing of the batch is kept.
        """
        family = check_family(family, self.widths)
        if len(family) < len(self.widths):
            raise LimbeckError(f"a batch of {len(family)} models after batches of {len(self.widths)}.")
        self.widths = [one.shape[1] for one in family]
        for begin in range(0, len(family[0]), ROWS_AT_ONCE):
            batch = np.hstack([np.asarray(one[begin : begin + ROWS_AT_ONCE], float) for one in family])
            mean, total = batch.mean(0), self.rows + len(batch)
            batch -= mean
            step, scatter = mean - self.mean, batch.T @ batch
            scatter += np.outer(step, step * (self.rows * len(batch) / total))
            scatter += self.scatter
            self.rows, self.mean, self.scatter = total, self.mean + step * (len(batch) / total), scatter

    @property
    def covariance(self) -> Array:
        """Of all coordinates, [Σ d_l, Σ d_l], with T - 1 in the denominator."""
        return self.scatter / (self.rows - 1)
