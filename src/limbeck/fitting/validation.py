"""How well a law predicted larger runs from smaller ones (`fitting.holdout` computes it)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from limbeck.fitting.model import Array
from limbeck.fitting.objective import Space
from limbeck.fitting.plain import plain


@dataclass(frozen=True)
class Score:
    """Errors on held-out points.

    Args:
        bias: mean residual (prediction minus observation, in the loss's residual space: log by default).
        rmse: root mean square residual.
        mape: mean absolute relative error of the prediction itself, |f − y| / |y|.
    """

    bias: float
    rmse: float
    mape: float

    @staticmethod
    def of(predicted: Array, observed: Array, space: Space) -> Score:
        """Return the errors of predictions in a residual space."""
        relative = predicted / observed - 1
        residuals = {"log": np.log1p(relative), "linear": predicted - observed, "relative": relative}[space]
        return Score(float(residuals.mean()), float(np.sqrt(np.mean(residuals**2))), float(np.mean(np.abs(relative))))


@dataclass(frozen=True)
class Cut:
    """One fit of the smaller runs and its errors on the larger ones.

    Args:
        fraction: share of the points asked for; runs of one size or of one cluster stay together.
        train, test: points on either side.
        extrapolation: size of the largest held-out run over the size of the largest fitted one.
        score: errors of the law.
        coverage: nominal level → share of the held-out points inside their prediction interval.
        parameters: of the fit to the smaller runs; how they drift with the cut shows what is weakly identified.
        baselines: errors of the forecasts that a law must beat, by name.
    """

    fraction: float
    train: int
    test: int
    extrapolation: float
    score: Score
    coverage: dict[float, float]
    parameters: dict[str, float]
    baselines: dict[str, Score]

    def summary(self) -> str:
        """Return one line for people."""
        share = self.test / (self.train + self.test)
        short = self.coverage[0.8] < 0.8 - 3 * math.sqrt(0.16 / self.test)
        narrow = ": too narrow, the law's form errs by more than the runs scatter" if short else ""
        return (
            f"held-out largest {share:.0%} (up to {self.extrapolation:.3g}× beyond): mean error {self.score.mape:.2%}, "
            f"80% band covers {self.coverage[0.8]:.0%}{narrow}"
        )


@dataclass(frozen=True)
class Validation:
    """Leave-largest-out errors of a law.

    Args:
        cuts: one per fraction that leaves enough runs on both sides.
        skipped: why other fractions were not possible.
        space: where residuals live: "log", "linear" or "relative".
    """

    cuts: tuple[Cut, ...]
    skipped: tuple[str, ...] = ()
    space: Space = "log"

    @property
    def error(self) -> float:
        """Mean held-out root mean square residual over the cuts: what laws are chosen by; infinite without a cut."""
        return float(np.mean([cut.score.rmse for cut in self.cuts])) if self.cuts else np.inf

    def baseline_errors(self) -> dict[str, float]:
        """Mean held-out root mean square residual of each baseline that exists at every cut."""
        first = self.cuts[0].baselines if self.cuts else {}
        everywhere = [name for name in first if all(name in cut.baselines for cut in self.cuts)]
        return {name: float(np.mean([cut.baselines[name].rmse for cut in self.cuts])) for name in everywhere}

    def summary(self) -> str:
        """Return one line a cut, and what was not possible."""
        lines = [cut.summary() for cut in self.cuts]
        best = min(self.baseline_errors().items(), key=lambda item: item[1], default=None)
        if best is not None and best[1] < self.error:
            lines.append(f"warning: {best[0]} predicts the held-out runs better than the law does")
        return "\n".join([*lines, *self.skipped])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers; the keys of `coverage` are written as text."""
        return {"error": self.error if self.cuts else None, **plain(asdict(self))}

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> Validation:
        """Rebuild from `to_dict()`."""
        cuts = []
        for cut in record["cuts"]:
            baselines = {name: Score(**score) for name, score in cut["baselines"].items()}
            coverage = {float(level): share for level, share in cut["coverage"].items()}
            cuts.append(Cut(**cut | {"score": Score(**cut["score"]), "coverage": coverage, "baselines": baselines}))
        return Validation(tuple(cuts), tuple(record["skipped"]), record["space"])
