"""Overlaps of the rows of a matrix: how far many directions in few dimensions get into each other's way.

Unit rows w_i = W_i / |W_i| have overlaps o_ij = w_i · w_j. Random directions in m dimensions have a mean o² of 1/m; no
n of them can have less than (n - m)/(m (n - 1)).
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FittingError
from limbeck.fitting.model import Array

BINS = np.linspace(0, 4, 41)
"""Edges of the histogram of √m |o|."""


class Rows(Protocol):
    """A matrix that gives some of its rows: an array, or one that stays on the disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def __getitem__(self, rows: NDArray[np.int_], /) -> Array:
        """Return the rows of these numbers."""


@dataclass(frozen=True)
class Overlaps:
    """Lengths and overlaps of n rows in m dimensions, rows of length zero left out.

    Args:
        rows, width: n and m.
        zero: rows of length zero.
        mean_square: mean of o² over all pairs.
        mean, std, largest: mean, standard deviation and maximum of |o| over the pairs that were looked at.
        pairs: how many those are.
        norm_mean, norm_std, norm_min, norm_max: of the lengths of the rows.
        represented: share of rows longer than half the mean length.
        density: of √m |o| over `BINS`, among the pairs that were looked at.
    """

    rows: int
    width: int
    zero: int
    mean_square: float
    mean: float
    std: float
    largest: float
    pairs: int
    norm_mean: float
    norm_std: float
    norm_min: float
    norm_max: float
    represented: float
    density: tuple[float, ...]

    @property
    def relative(self) -> float:
        """m times the mean square overlap: 1 for random directions."""
        return self.width * self.mean_square


def welch_bound(n: int, m: int) -> float:
    """Return the least possible largest overlap of n unit vectors in m dimensions, √((n - m)/(m (n - 1))); 0 if n <= m.

    Its square bounds the mean of o² from below. Equiangular tight frames attain both.

    Source: Lower bounds on the maximum cross correlation of signals (Welch, 1974, IEEE Trans. Inf. Theory 20).

    Example:
        >>> round(welch_bound(4, 3), 6), welch_bound(3, 3)
        (0.333333, 0.0)
    """
    return math.sqrt(max(n - m, 0) / (m * (n - 1)))


def overlaps(
    matrix: Rows, *, block: int = 2048, sample: int | None = None, centre: bool = False, seed: int = 0
) -> Overlaps:
    """Measure lengths and overlaps of the rows of a matrix, block by block.

    The mean square needs the m × m Gram matrix only: Σ_ij o_ij² = |Σ_i w_i w_iᵀ|². The pairs are gone through for |o|.

    Args:
        matrix: [n, m], an array or what gives rows as one. Single precision unless its rows are double;
            sums are in double precision either way.
        block: rows at a time; memory is 2 block m + block² numbers.
        sample: look at the pairs among this many random rows instead of all.
        centre: subtract the mean row first. A common mean inflates every overlap.
        seed: of the sample.

    Raises:
        FittingError: fewer than two rows of finite length above zero.

    Example:
        >>> found = overlaps(np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]))
        >>> round(found.mean, 6), round(found.largest, 6), found.norm_max
        (0.333333, 1.0, 3.0)
    """
    n, m = matrix.shape
    everything = _parts(np.arange(n), block)
    mean = sum(matrix[rows].sum(0, dtype=float) for rows in everything) / n if centre else np.zeros(m)

    def centred(rows: NDArray[np.int_]) -> Array:
        found = matrix[rows]
        return np.asarray(found - mean.astype(found.dtype))

    norms = np.concatenate([np.linalg.norm(centred(rows), axis=1) for rows in everything])
    kept = np.flatnonzero(norms > 0)
    if not np.isfinite(norms).all() or len(kept) < 2:
        raise FittingError(
            f"overlaps need finite numbers and two rows that are not zero; of {n} rows "
            f"{int((~np.isfinite(norms)).sum())} are not finite and {len(kept)} longer than zero."
        )
    chosen = kept
    if sample is not None and sample < len(kept):
        chosen = np.sort(np.random.default_rng(seed).choice(kept, sample, replace=False))

    def unit(rows: NDArray[np.int_]) -> Array:
        return np.asarray(centred(rows) / norms[rows, None])

    gram = np.zeros((m, m))
    for w in map(unit, _parts(kept, block)):
        gram += w.T @ w
    total, largest, counts = 0.0, 0.0, np.zeros(len(BINS) - 1)
    parts = _parts(chosen, block)
    for i, rows in enumerate(parts):
        first = unit(rows)
        for j in range(i, len(parts)):
            o = np.abs(first @ (unit(parts[j]).T if j > i else first.T))
            o = o.ravel() if j > i else o[~np.tri(len(o), dtype=bool)]
            total += float(o.sum(dtype=float))
            largest = max(largest, float(o.max(initial=0.0)))
            counts += np.histogram(o * math.sqrt(m), BINS)[0]
    k, pairs = len(kept), len(chosen) * (len(chosen) - 1) // 2
    mean_square, average = max(float((gram**2).sum()) - k, 0.0) / (k * (k - 1)), total / pairs
    lengths = norms[kept].astype(float)
    spread = math.sqrt(max(mean_square - average**2, 0.0))
    return Overlaps(
        rows=k, width=m, zero=n - k, mean_square=mean_square, mean=average, std=spread, largest=largest, pairs=pairs,
        norm_mean=float(lengths.mean()), norm_std=float(lengths.std(ddof=1)), norm_min=float(lengths.min()),
        norm_max=float(lengths.max()), represented=float((lengths > lengths.mean() / 2).mean()),
        density=tuple((counts / pairs / np.diff(BINS)).tolist()),
    )  # fmt: skip


def _parts(rows: NDArray[np.int_], block: int) -> list[NDArray[np.int_]]:
    return np.split(rows, range(block, len(rows), block))
