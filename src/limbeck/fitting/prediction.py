"""Predictions with the run-to-run noise in them, and how far they reach beyond the data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting.model import Array


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Args:
        value: point estimate.
        lower, upper: ends of the interval.
        level: its nominal coverage, 0 to 1.
    """

    value: float
    lower: float
    upper: float
    level: float

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Prediction:
    """What a run at each of n settings will give.

    Args:
        mean: point prediction, [n].
        lower, upper: interval for one new run (parameter spread and run-to-run noise), [n].
        level: its nominal coverage, 0 to 1.
        extrapolation: how many times larger than the largest run of the data (below 1: inside), [n].
        outside: columns whose value lies outside the data's range at any setting.
    """

    mean: Array
    lower: Array
    upper: Array
    level: float
    extrapolation: Array
    outside: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return one line a setting: the interval and how far it reaches."""
        lines = []
        for m, low, high, factor in zip(self.mean, self.lower, self.upper, self.extrapolation, strict=True):
            reach = "inside the data" if factor <= 1.0 else f"{factor:.3g}× beyond the largest run"
            lines.append(f"{m:.4g}  ({self.level:.0%}: {low:.4g} – {high:.4g})  {reach}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "mean": self.mean.tolist(),
            "lower": self.lower.tolist(),
            "upper": self.upper.tolist(),
            "level": self.level,
            "extrapolation": self.extrapolation.tolist(),
            "outside": list(self.outside),
        }


def percentile_interval(draws: ArrayLike, level: float) -> tuple[Array, Array]:
    """Return the central interval of draws along their first axis.

    Raises:
        FittingError: the level is not between 0 and 1.
    """
    check_level(level)
    low, high = np.nanquantile(np.asarray(draws, float), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(low), np.asarray(high)


def check_level(level: float) -> None:
    """Raise a `FittingError` unless 0 < level < 1."""
    if not 0.0 < level < 1.0:
        raise FittingError(f"level must lie between 0 and 1 (0.8 for an 80 % interval); got {level:g}.")
