"""Does a ranking of the examples pay? Errors after pruning against random subsets of the same size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.fitting.plain import plain
from limbeck.laws.trend import Trend


@dataclass(frozen=True)
class PruningGain:
    """What pruning gives over random subsets, for each number of kept examples.

    Args:
        kept: numbers of kept examples, ascending, [k].
        fraction: the best fraction, in the mean over all seeds, [k].
        gain: error of the random subset minus error at the best fraction of the other seeds, paired by seed, mean [k].
        standard_error: of the gain, [k].
        trends: power law of the error in the kept examples at each fraction that has two numbers of them or more.
    """

    kept: Array
    fraction: Array
    gain: Array
    standard_error: Array
    trends: dict[float, Trend]

    @property
    def beats_random(self) -> tuple[bool, ...]:
        """Whether the gain is more than two standard errors, for each number of kept examples."""
        return tuple((self.gain > 2 * self.standard_error).tolist())

    def summary(self) -> str:
        """Return one line for each number of kept examples."""
        rows = zip(self.kept, self.fraction, self.gain, self.standard_error, self.beats_random, strict=True)
        said = {True: "better than random", False: "not better than random beyond the noise"}
        return "\n".join(f"{k:g} kept, best {f:.0%}: {g:+.4f} ± {e:.4f}, {said[b]}" for k, f, g, e, b in rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        same = {name: getattr(self, name) for name in ("kept", "fraction", "gain", "standard_error", "beats_random")}
        return dict(plain({**same, "exponents": {share: trend.exponent for share, trend in self.trends.items()}}))


def pruning_gain(kept: ArrayLike, fraction: ArrayLike, error: ArrayLike, random_error: ArrayLike) -> PruningGain:
    """Return what the lower envelope over fractions gains, with the fraction of a seed chosen on the other seeds.

    Args:
        kept: kept examples of each cell, [n].
        fraction: kept share of the pool in each cell, [n].
        error: test error after pruning by the ranking, [n, seeds].
        random_error: after keeping as many examples at random, with the same seeds, [n, seeds].

    Raises:
        FittingError: fewer than two seeds, or shapes that do not fit.

    Source: Beyond neural scaling laws: beating power law scaling via data pruning (Sorscher et al., 2022, arXiv
    2206.14486); the paired check is ours.

    Example:
        >>> found = pruning_gain([90, 90], [0.3, 0.9], [[0.1, 0.2], [0.3, 0.3]], [[0.3, 0.3], [0.3, 0.3]])
        >>> found.fraction.tolist(), found.gain.round(2).tolist(), found.beats_random
        ([0.3], [0.15], (True,))
    """
    count, share = np.asarray(kept, float), np.asarray(fraction, float)
    measured, baseline = np.asarray(error, float), np.asarray(random_error, float)
    if measured.ndim != 2 or measured.shape[1] < 2 or measured.shape != baseline.shape or len(measured) != len(count):
        raise FittingError(
            f"errors of {len(count)} cells must be tables [cells, seeds] of two seeds or more, one for the ranking and "
            f"one for random subsets; given {measured.shape} and {baseline.shape}."
        )
    others = (measured.sum(1, keepdims=True) - measured) / (measured.shape[1] - 1)
    sizes, seeds, rows = np.unique(count), np.arange(measured.shape[1]), []
    for size in sizes:
        cell = np.flatnonzero(count == size)
        gains = (baseline[cell] - measured[cell])[others[cell].argmin(0), seeds]
        rows.append((share[cell[measured[cell].mean(1).argmin()]], gains.mean(), gains.std(ddof=1) / len(seeds) ** 0.5))
    lines = {float(one): (count[share == one], measured[share == one].mean(1)) for one in np.unique(share)}
    trends = {one: Trend.through(*line) for one, line in lines.items() if len(np.unique(line[0])) > 1}
    best, gain, standard_error = np.array(rows).T
    return PruningGain(sizes, best, gain, standard_error, trends)
