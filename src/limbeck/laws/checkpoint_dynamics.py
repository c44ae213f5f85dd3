"""What the checkpoints of a training say about a task: is its score worth tracking, and when does it speak?

The paper compares curves by eye; the statistics here are reconstructed, chosen so that its claims can be measured.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.fitting.plain import Plain
from limbeck.laws.law import SOURCES, TABLES

YANG_2024 = SOURCES["yang-2024"]
WINDOW = 5
"""Checkpoints that one smoothed score averages."""
GRID = np.geomspace(0.02, 1.0, 40)
"""Fractions of a training at which curves are compared."""
FEWEST = 10
"""Checkpoints below which a curve says nothing."""
MULTIPLE_CHOICE: dict[str, tuple[int, int]] = {task: (k, n) for task, (k, n) in TABLES["multiple-choice"].items()}
"""Options and validation items of public benchmarks: the chance level, and how finely a score can be told from it."""


@dataclass(frozen=True)
class ScoreCurve:
    """Scores of one task along one training. Build it with `ScoreCurve.of`.

    Args:
        tokens: training tokens of each checkpoint, rising, [n].
        score: the task's score there, [n].
    """

    tokens: Array
    score: Array

    @classmethod
    def of(cls, tokens: ArrayLike, score: ArrayLike) -> ScoreCurve:
        """Return the curve without its missing scores.

        Raises:
            FittingError: no score is there, or tokens do not rise from checkpoint to checkpoint.

        Example:
            >>> ScoreCurve.of([1e9, 2e9, 4e9], [0.3, float("nan"), 0.4]).fraction.tolist()
            [0.25, 1.0]
        """
        kept = np.isfinite(np.asarray(score, float))
        if not kept.any():
            raise FittingError("a curve needs scores; all of these are missing.")
        t, y = (np.asarray(one, float)[kept] for one in (tokens, score))
        back = np.flatnonzero(np.diff(t) <= 0)
        if len(back):
            raise FittingError(
                f"checkpoints are reversed: tokens go from {t[back[0]]:g} to {t[back[0] + 1]:g} at checkpoint "
                f"{back[0] + 2}. Sort each run by tokens; a step column must rise with them."
            )
        return cls(t, y)

    def __len__(self) -> int:
        """Return the number of checkpoints."""
        return len(self.score)

    @property
    def fraction(self) -> Array:
        """Share of the training done at each checkpoint, u = D / D_end, [n]."""
        return np.asarray(self.tokens / self.tokens[-1])

    @property
    def smooth(self) -> Array:
        """Mean over each checkpoint and the (up to four) before it, [n]."""
        return smooth(self.score)

    def at(self, fraction: float | Array) -> Array:
        """Smoothed score at fractions of the training, linear between checkpoints."""
        return np.asarray(np.interp(fraction, self.fraction, self.smooth))


def smooth(score: ArrayLike, window: int = WINDOW) -> Array:
    """Return trailing means over `window` checkpoints, fewer at the start, [n].

    Example:
        >>> smooth([1.0, 3.0, 5.0, 7.0], 2)
        array([1., 2., 4., 6.])
    """
    total = np.cumsum(np.asarray(score, float))
    count = np.minimum(np.arange(1, len(total) + 1), window)
    return np.asarray((total - np.concatenate([np.zeros(window), total])[: len(total)]) / count)


@dataclass(frozen=True)
class Similarity:
    """How alike the curves of several trainings are, on `GRID`.

    Args:
        rank: Spearman correlation of each pair of smoothed curves, [r, r]; near 1 for any two that rise.
        shape: Pearson correlation of their increments, [r, r]: whether they rise at the same moments.
        monotonicity: Spearman correlation of each curve with time, [r].
    """

    rank: Array
    shape: Array
    monotonicity: Array

    @property
    def median(self) -> float:
        """Median rank correlation over pairs."""
        return _over_pairs(self.rank)

    @property
    def median_shape(self) -> float:
        """Median correlation of increments over pairs."""
        return _over_pairs(self.shape)


def similarity(curves: Sequence[ScoreCurve]) -> Similarity:
    """Compare the curves of one task between trainings; a curve that does not move correlates with nothing.

    Raises:
        FittingError: fewer than two curves.

    Source: The Fine Line: Navigating Large Language Model Pretraining with Down-streaming Capability Analysis (Yang et
    al., 2024, arXiv 2404.01204); the measures are reconstructed.

    Example:
        >>> rising = ScoreCurve.of(range(1, 41), np.sqrt(range(1, 41)))
        >>> falling = ScoreCurve.of(rising.tokens, -rising.score)
        >>> round(similarity([rising, rising]).median, 6), round(similarity([rising, falling]).median, 6)
        (1.0, -1.0)
    """
    from scipy.stats import rankdata

    if len(curves) < 2:
        raise FittingError("similarity compares trainings: give the curves of two or more.")
    on = np.array([curve.at(GRID) for curve in curves])
    ranks = rankdata(np.vstack([on, GRID]), axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rank, shape = (np.nan_to_num(np.atleast_2d(np.corrcoef(x))) for x in (ranks, np.diff(on)))
    return Similarity(rank[:-1, :-1], shape, rank[-1, :-1])


def _over_pairs(matrix: Array) -> float:
    return float(np.median(matrix[np.triu_indices(len(matrix), 1)]))


@dataclass(frozen=True)
class SignalToNoise:
    """What a training adds to a score, against its scatter.

    Args:
        noise: standard deviation about a straight line over the last 30 % of checkpoints.
        gain: mean of the last five scores minus mean of the first five.
    """

    noise: float
    gain: float

    @property
    def ratio(self) -> float:
        """Gain over noise; 0 where nothing is gained."""
        return self.gain / self.noise if self.noise else math.inf * self.gain if self.gain else 0.0


def signal_to_noise(score: ArrayLike) -> SignalToNoise:
    """Return gain and noise of a curve, [n] scores, n >= 3.

    Example:
        >>> round(signal_to_noise([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.82, 0.88]).gain, 6)
        0.5
    """
    y = np.asarray(score, float)
    late, x = y[int(0.7 * len(y)) :], np.arange(len(y) - int(0.7 * len(y)))
    noise = float(np.std(late - np.polyval(np.polyfit(x, late, 1), x)))
    return SignalToNoise(noise, float(y[-WINDOW:].mean() - y[:WINDOW].mean()))


def alive(curve: ScoreCurve, options: int, items: int) -> float | None:
    """Return the fraction of the training at which a score first leaves chance, or None.

    Chance is c = 1/options; the smoothed score must exceed c + 2 sqrt(c (1 - c) / items).

    Args:
        curve: the scores.
        options: answers to choose from.
        items: questions.
    """
    chance = 1 / options
    above = curve.smooth > chance + 2 * math.sqrt(chance * (1 - chance) / items)
    return float(curve.fraction[above.argmax()]) if above.any() else None


def ranking_reliability(curves: Sequence[ScoreCurve], fraction: float) -> float:
    """Return Kendall's tau-b between the ranking of trainings at a fraction of their checkpoints and at their end.

    The early score is the mean of the three checkpoints that end at floor(fraction · n), the final one of the last
    three. (tau + 1)/2 is the share of pairs that an early decision gets right.
    """
    from scipy.stats import kendalltau

    ends = [max(math.floor(fraction * len(curve)), 1) for curve in curves]
    early = [curve.score[max(end - 3, 0) : end].mean() for curve, end in zip(curves, ends, strict=True)]
    return float(np.nan_to_num(kendalltau(early, [curve.score[-3:].mean() for curve in curves]).statistic))


def safe_fraction(curves: Sequence[ScoreCurve], least: float = 0.8) -> float | None:
    """Return the earliest fraction (5 % to 90 %) from which on the ranking's tau stays at or above `least`, or None."""
    fractions = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    poor = [f for f in fractions if ranking_reliability(curves, f) < least]
    return next((f for f in fractions if not poor or f > poor[-1]), None)


def lead(first: ScoreCurve, second: ScoreCurve, longest: int = 10) -> tuple[int, float]:
    """Return the lag at which one task's increments foretell another's best, and their correlation there.

    Args:
        first, second: curves of two tasks.
        longest: largest lag in steps of `GRID` (10 % each); a positive lag says that `first` moves first.
    """
    a, b = np.diff(first.at(GRID)), np.diff(second.at(GRID))
    found = [(lag, float(np.corrcoef(a[: len(a) - lag], b[lag:])[0, 1])) for lag in range(longest + 1)]
    return max(found, key=lambda one: one[1])


def stretch(small: ScoreCurve, begun: ScoreCurve, tokens: float, share: float = 0.3) -> tuple[float, float]:
    """Forecast a training's final score from another's curve: y(D) = y_small(s · D), s fitted on its first part.

    Args:
        small: a finished training.
        begun: the training to forecast.
        tokens: its full length.
        share: part of that length that is looked at.

    Returns:
        s and the forecast; NaN where s · tokens lies beyond the end of the small training.
    """
    seen = begun.tokens <= share * tokens
    d, y = begun.tokens[seen], begun.score[seen]  # a trailing mean would lag
    scales = np.geomspace(small.tokens[0] / d[-1], small.tokens[-1] / d[-1], 2000)
    errors = ((np.interp(scales[:, None] * d, small.tokens, small.score) - y) ** 2).sum(1)
    s = float(scales[errors.argmin()])
    return s, float(np.interp(s * tokens, small.tokens, small.smooth, right=math.nan))


def departure(references: Sequence[ScoreCurve], curve: ScoreCurve, limit: float = 4.0) -> tuple[Array, int | None]:
    """Return how far a training departs from reference trainings, and the checkpoint of the alarm.

    z = (S - median) / (1.4826 MAD) over the references at the same fraction of the training, after all curves are
    moved to 0 at 5 % of it. The alarm is at the third checkpoint in a row with abs(z) > limit.

    Args:
        references: trainings that went well; ten or more make the MAD trustworthy.
        curve: the training to watch; its last checkpoint is taken as its end.
        limit: of abs(z).
    """
    u = curve.fraction
    others = np.array([one.at(u) - one.at(0.05) for one in references])
    centre, mad = _spread(others.T)
    z = (curve.at(u) - curve.at(0.05) - centre) / np.maximum(1.4826 * mad, 1e-12)
    beyond = (np.abs(z) > limit) & (u > 0.05)
    runs = sliding_window_view(beyond, 3).all(1) if len(beyond) >= 3 else np.zeros(0, bool)
    return z, int(runs.argmax()) + 2 if runs.any() else None


def loss_spikes(loss: ArrayLike, window: int = 20) -> NDArray[np.int_]:
    """Return the checkpoints whose loss lies 6 MAD above the median of the `window` before them.

    Example:
        >>> loss_spikes([3.0, 3.1] * 10 + [9.0, 3.0])
        array([20])
    """
    y = np.asarray(loss, float)
    middle, mad = _spread(sliding_window_view(y, window)[:-1])
    return np.flatnonzero(y[window:] > middle + 6 * mad) + window


def _spread(rows: Array) -> tuple[Array, Array]:
    """Median of each row and the median distance from it."""
    middle = np.median(rows, axis=1)
    return middle, np.median(np.abs(rows - middle[:, None]), axis=1)


@dataclass(frozen=True)
class TaskDynamics(Plain):
    """Whether a task's score is worth tracking.

    Args:
        verdict: "track" (SNR >= 10 and similarity >= 0.9), "late" (at chance for the first 30 %), "noise" (neither),
            "saturated" (nothing left to gain) or "insufficient" (fewer than ten checkpoints, or one training).
        snr: gain over noise of the reference training.
        noise: scatter of one checkpoint's score.
        similarity, shape: medians over pairs of trainings (see `Similarity`).
        alive: fraction of the reference training at which the score leaves chance; None: never, or chance unknown.
        safe: fraction of the trainings from which on they rank as they do at the end (tau >= 0.8), or None.
    """

    verdict: str
    snr: float = math.nan
    noise: float = math.nan
    similarity: float = math.nan
    shape: float = math.nan
    alive: float | None = None
    safe: float | None = None

    @property
    def advice(self) -> str:
        """One line."""
        seen = f"gain {self.snr:.3g} times the noise, curves agree to {self.similarity:.2f}"
        safe = "never ranks runs safely" if self.safe is None else f"ranks runs from {self.safe:.0%} on"
        return {
            "track": f"track it: {safe}",
            "late": "late: at chance for the first 30 % of the training",
            "noise": f"noise: {seen}",
            "saturated": "saturated: nothing left to gain",
            "insufficient": "too few checkpoints or trainings to tell",
        }[self.verdict]


def task_dynamics(
    longest: Sequence[ScoreCurve], every: Sequence[ScoreCurve] = (), chance: tuple[int, int] | None = None
) -> TaskDynamics:
    """Judge one task by its curves.

    Args:
        longest: the longest training of every size, smallest size first; the last one is the reference.
        every: all trainings, for the ranking; `longest` where there are none.
        chance: options and items of a multiple-choice task (see `MULTIPLE_CHOICE`).

    Source: The Fine Line: Navigating Large Language Model Pretraining with Down-streaming Capability Analysis (Yang et
    al., 2024, arXiv 2404.01204); the thresholds are reconstructed.
    """
    reference = longest[-1]
    if reference.score[-WINDOW:].mean() > 0.99:
        return TaskDynamics("saturated")
    if len(longest) < 2 or min(map(len, longest)) < FEWEST:
        return TaskDynamics("insufficient")
    alike, signal = similarity(longest), signal_to_noise(reference.score)
    left = None if chance is None else alive(reference, *chance)
    late = "late" if chance and (left is None or left > 0.3) else "noise"
    verdict = "track" if signal.ratio >= 10 and alike.median >= 0.9 else late
    seen = signal.ratio, signal.noise, alike.median, alike.median_shape
    return TaskDynamics(verdict, *seen, left, safe_fraction(every or longest))
