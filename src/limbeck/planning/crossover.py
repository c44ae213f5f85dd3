"""Where two curves cross, who is better there, and what one more pair of runs would tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import stdtr

from limbeck.errors import PlanningError
from limbeck.fitting.model import Array
from limbeck.planning.estimate import Estimate


def crossings(gap: Callable[[Array], Array], low: float, high: float, *, points: int = 1025) -> tuple[float, ...]:
    """Return all x between low and high where a gap between two curves changes its sign.

    Sign changes on a grid in ln x, each refined by Brent's method.

    Args:
        gap: D(x), takes and returns [k].
        low, high: ends of the range, positive.
        points: of the grid.

    Source: Rethinking Conventional Wisdom in Machine Learning: From Generalization to Scaling (Xiao, 2024, arXiv
    2409.15156) asks the question; the apparatus is reconstructed.

    Example:
        >>> at = crossings(lambda c: 10 * c**-0.1 - 20 * c**-0.15, 1.0, 1e9)
        >>> [round(c) for c in at]  # 2^20
        [1048576]
    """
    u = np.linspace(np.log(low), np.log(high), points)
    sign = np.sign(gap(np.exp(u)))
    u, sign = u[sign != 0], sign[sign != 0]
    between = lambda v: float(gap(np.exp([v]))[0])  # noqa: E731
    places = np.flatnonzero(sign[:-1] != sign[1:])
    return tuple(float(np.exp(brentq(between, u[i], u[i + 1], xtol=1e-14, rtol=1e-15))) for i in places)


@dataclass(frozen=True)
class LogRatio:
    """The line ln(L_A / L_B) = u + v ln C through paired runs: exact where both curves are powers without a floor.

    Pairs of one seed and one data order share their noise, which the ratio removes. One further pair at C follows
    Student's t: n - 2 degrees of freedom, mean u + v ln C, variance s^2 (1 + 1/n + (ln C - centre)^2 / spread).

    Args:
        slope, intercept: v and u.
        centre, spread: mean of ln C and sum of squares around it.
        noise: s, standard deviation of one ratio.
        pairs: n.

    Source: Rethinking Conventional Wisdom in Machine Learning: From Generalization to Scaling (Xiao, 2024, arXiv
    2409.15156) asks the question; the apparatus is reconstructed.

    Example:
        >>> line = LogRatio.through([1, 2, 3, 4, 5], [-0.05, -0.03, -0.012, 0.004, 0.021])
        >>> round(line.slope, 4), round(float(line.mean(7.0)), 3)
        (0.0176, 0.057)
    """

    slope: float
    intercept: float
    centre: float
    spread: float
    noise: float
    pairs: int

    @classmethod
    def through(cls, log_scale: ArrayLike, log_ratio: ArrayLike) -> LogRatio:
        """Return the least-squares line.

        Raises:
            PlanningError: fewer than three distinct scales.
        """
        x, y = np.asarray(log_scale, float), np.asarray(log_ratio, float)
        if len(np.unique(x)) < 3:
            raise PlanningError(f"a line through ratios needs pairs at 3 scales; given {len(np.unique(x))}.")
        slope, intercept = np.polyfit(x - x.mean(), y, 1)
        left = y - intercept - slope * (x - x.mean())
        noise = float(np.sqrt((left**2).sum() / (len(x) - 2)))
        spread = float(((x - x.mean()) ** 2).sum())
        return cls(float(slope), float(intercept - slope * x.mean()), float(x.mean()), spread, noise, len(x))

    def mean(self, log_scale: ArrayLike) -> Array:
        """Return u + v ln C."""
        return np.asarray(self.intercept + self.slope * np.asarray(log_scale, float))

    def sd(self, log_scale: ArrayLike) -> Array:
        """Return the standard deviation of one further pair at ln C."""
        far = (np.asarray(log_scale, float) - self.centre) ** 2
        return np.asarray(self.noise * np.sqrt(1 + 1 / self.pairs + far / self.spread))

    def first_better(self, log_scale: ArrayLike) -> Array:
        """Return P(L_A < L_B) for one further pair at ln C."""
        return np.asarray(stdtr(self.pairs - 2, -self.mean(log_scale) / self.sd(log_scale)))

    def rows(self, log_scale: ArrayLike, count: int, seed: int) -> Array:
        """Return the line and `count` others that the pairs leave possible, at ln C [k]: [1 + count, k]."""
        rng, freedom = np.random.default_rng([seed, 5]), self.pairs - 2
        scale = self.noise * np.sqrt(freedom / rng.chisquare(freedom, (1 + count, 1)))
        level, tilt = rng.standard_normal((2, 1 + count, 1))
        scale[0] = 0.0
        off = (np.asarray(log_scale, float) - self.centre) / self.spread**0.5
        return np.asarray(self.mean(log_scale) + scale * (level / self.pairs**0.5 + tilt * off))


def value_of_rung(now: ArrayLike, then: ArrayLike, noise: float, *, observations: int = 100, seed: int = 0) -> float:
    """Return by how much one more pair of runs lowers the expected regret of the better choice (knowledge gradient).

    Each simulated observation of the gap reweighs the draws by its normal likelihood; then the choice is made again.

    Args:
        now: draws of the gap B - A at the scale of the new pair, [B].
        then: the same draws at the target, [B].
        noise: standard deviation of one observed gap.
        observations: simulated.
        seed: of the simulation.

    Source: Rethinking Conventional Wisdom in Machine Learning: From Generalization to Scaling (Xiao, 2024, arXiv
    2409.15156) asks the question; the apparatus is reconstructed.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> gap = rng.normal(0.0, 1.0, 1000)
        >>> value_of_rung(gap, gap, 0.01) > value_of_rung(gap, gap, 1.0) > value_of_rung(gap, gap, 100.0)
        True
    """
    rung, target = np.asarray(now, float), np.asarray(then, float)
    rng = np.random.default_rng(seed)
    seen = rng.choice(rung, observations)[:, None] + noise * rng.standard_normal((observations, 1))
    distance = 0.5 * ((seen - rung) / max(noise, 1e-300)) ** 2
    weight = np.exp(distance.min(1, keepdims=True) - distance)
    regrets = np.stack([np.maximum(0.0, -target), np.maximum(0.0, target)])  # of A, of B = (A over B, B over A)
    after = (weight @ regrets.T / weight.sum(1, keepdims=True)).min(1).mean()
    return float(max(regrets.mean(1).min() - after, 0.0))


def decision_accuracy(small: ArrayLike, large: ArrayLike, *, level: float = 0.8, bootstrap: int = 1000) -> Estimate:
    """Return the share of pairs of methods whose order at a small scale is that at a large one.

    It is (Kendall's tau + 1) / 2 without ties. The interval resamples methods.

    Args:
        small, large: loss of each method at both scales, [methods].
        level: nominal coverage.
        bootstrap: number of resamples.

    Raises:
        PlanningError: fewer than two methods.

    Source: Rethinking Conventional Wisdom in Machine Learning: From Generalization to Scaling (Xiao, 2024, arXiv
    2409.15156) asks the question; the share is that of DataDecide (Magnusson et al., 2025, arXiv 2504.11393).

    Example:
        >>> decision_accuracy([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]).value.__round__(3)
        0.667
    """
    s, t = np.asarray(small, float), np.asarray(large, float)
    if len(s) < 2:
        raise PlanningError(f"an order needs two or more methods; given {len(s)}.")
    i, j = np.array(list(combinations(range(len(s)), 2))).T
    right = np.sign(s[i] - s[j]) == np.sign(t[i] - t[j])
    often = np.random.default_rng(0).multinomial(len(s), np.full(len(s), 1 / len(s)), bootstrap)
    weight = often[:, i] * often[:, j]
    some = weight.any(1)
    rows = np.concatenate([[right.mean()], weight[some] @ right / weight[some].sum(1)])
    return Estimate.of(rows, level)


def regime(repetition: float, gap: float, noise: float) -> Literal["scaling", "generalisation"]:
    """Return whether a training lives in the scaling regime: data seen at most once and no gap beyond the noise.

    Args:
        repetition: tokens seen over unique tokens.
        gap: test loss minus training loss.
        noise: standard deviation of one evaluation.

    Source: Rethinking Conventional Wisdom in Machine Learning: From Generalization to Scaling (Xiao, 2024, arXiv
    2409.15156); the rule is reconstructed.

    Example:
        >>> regime(1.0, 0.001, 0.002), regime(4.0, 0.001, 0.002)
        ('scaling', 'generalisation')
    """
    return "scaling" if repetition <= 1 and abs(gap) < 2 * noise else "generalisation"


@dataclass(frozen=True)
class Sweep:
    """The best setting of a sweep at every scale.

    Args:
        best: rows of the best settings, [n].
        notes: settings at the border of the sweep, and what a grid of learning rates may have missed, in words.
        mistuned: largest loss that half a grid step in one swept column may cost, 0 where it is not known.
    """

    best: NDArray[np.bool_]
    notes: tuple[str, ...]
    mistuned: float


def lower_envelope(scale: ArrayLike, loss: ArrayLike, swept: Mapping[str, ArrayLike]) -> Sweep:
    """Return the best setting at each scale, seeds averaged.

    Where the loss is k/2 (ln lr - best)^2 near its optimum, a grid of step h costs k h^2 / 8 at most: an eighth of the
    second difference.

    Args:
        scale, loss: of every row, [n].
        swept: columns that were tuned, [n] each.

    Source: Rethinking Conventional Wisdom in Machine Learning: From Generalization to Scaling (Xiao, 2024, arXiv
    2409.15156) warns of it; the bound is reconstructed.

    Example:
        >>> found = lower_envelope([1, 1, 1], [2.1, 2.0, 2.2], {"lr": [1e-4, 1e-3, 1e-2]})
        >>> found.best.tolist(), round(found.mistuned, 4)
        ([False, True, False], 0.0375)
    """
    x, y = np.asarray(scale, float), np.asarray(loss, float)
    table = np.stack([np.asarray(column, float) for column in swept.values()], 1)
    keep, notes, mistuned = np.zeros(len(x), bool), [], 0.0
    for one in np.unique(x):
        rows = np.flatnonzero(x == one)
        settings, member = np.unique(table[rows], axis=0, return_inverse=True)
        means = np.bincount(member.reshape(-1), y[rows]) / np.bincount(member.reshape(-1))
        best = int(means.argmin())
        keep[rows[member.reshape(-1) == best]] = True
        for name, tried in zip(swept, settings.T, strict=True):
            if len(np.unique(tried)) > 1 and tried[best] in (tried.min(), tried.max()):
                notes.append(f"best {name} {tried[best]:g} at {one:.3g} lies at the border of its sweep")
        if len(swept) == 1 and 0 < best < len(means) - 1:
            mistuned = max(mistuned, float(means[best - 1] - 2 * means[best] + means[best + 1]) / 8)
    return Sweep(keep, tuple(notes), mistuned)
