"""Generalisation and fidelity of outputs: did the student get better, and does it answer like its teacher?

The two can part: a student may gain without copying, or copy the teacher's errors. Metrics come from paired outputs
on the same prompts, intervals from a bootstrap over whole clusters (prompts, or students that share a baseline), and
several tests at once are corrected by Holm's rule. `evaluate` lets models answer and compares them so.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from limbeck.errors import ConfigError
from limbeck.fitting import Interval
from limbeck.fitting.model import Array
from limbeck.fitting.plain import Plain

RESAMPLES = 2000
SPLIT = ("both right", "only the student", "only the teacher", "wrong alike", "wrong in two ways")


def clustered_mean(
    values: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return a mean with the interval of a bootstrap over whole clusters; every value its own cluster by default."""
    y = np.asarray(values, float)
    place = np.arange(len(y)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    sums, counts = np.bincount(place, y), np.bincount(place)
    chances, rng = np.full(len(sums), 1 / len(sums)), np.random.default_rng(seed)
    drawn = rng.multinomial(len(sums), chances, RESAMPLES)
    return Interval.of(drawn @ sums / (drawn @ counts), float(y.mean()), level)


@dataclass(frozen=True)
class Trend(Plain):
    """A rank correlation.

    Args:
        rho: Spearman's, with an interval that resamples whole clusters.
        p: of a permutation of the rows, which takes them for independent.
    """

    rho: Interval
    p: float


def trend(
    x: ArrayLike, y: ArrayLike, clusters: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0
) -> Trend:
    """Return how y goes with x over runs, for instance gains with the student's size, clustered by student."""
    a, b, rng = np.asarray(x, float), np.asarray(y, float), np.random.default_rng(seed)
    place = np.arange(len(a)) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    groups = int(place.max()) + 1
    drawn = rng.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES)[:, place].astype(float)
    rho, draws = _rank_correlation(a, b, np.ones((1, len(a))))[0], _rank_correlation(a, b, drawn)
    orders = rng.permuted(np.tile(np.arange(len(a)), (RESAMPLES, 1)), axis=1)
    u, v = (np.sign(one - one[:, None]).sum(0) for one in (a, b))
    chance = u[orders] @ v / np.sqrt((u @ u) * (v @ v))
    p = (1 + np.count_nonzero(np.abs(chance) >= abs(rho) - 1e-12)) / (1 + RESAMPLES)
    return Trend(Interval.of(draws[np.isfinite(draws)], float(rho), level), float(p))


def _rank_correlation(x: Array, y: Array, weights: Array) -> Array:
    """Spearman's correlation where every point counts several times, [B]; weights [B, n]."""
    u, v = (weights @ np.sign(one - one[:, None]) for one in (x, y))  # twice the mid-ranks, about their mean
    with np.errstate(invalid="ignore"):
        return np.asarray((weights * u * v).sum(1) / np.sqrt((weights * u**2).sum(1) * (weights * v**2).sum(1)))


@dataclass(frozen=True)
class Gain(Plain):
    """What one model has over another on the same prompts.

    Args:
        before, after: shares of right answers.
        gain: their difference, paired.
        headroom: the gain as a share of what was wrong before; None where nothing was.
        p: of McNemar's exact test.
    """

    before: float
    after: float
    gain: Interval
    headroom: float | None
    p: float


def paired_gain(before: ArrayLike, after: ArrayLike, *, level: float = 0.95, seed: int = 0) -> Gain:
    """Compare which answers were right before and after, prompt by prompt."""
    a, b = np.asarray(before, bool), np.asarray(after, bool)
    won, lost = int((b & ~a).sum()), int((a & ~b).sum())
    p = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    gain = clustered_mean(b.astype(float) - a, level=level, seed=seed)
    return Gain(float(a.mean()), float(b.mean()), gain, gain.value / (1 - a.mean()) if not a.all() else None, p)


@dataclass(frozen=True)
class Agreement(Plain):
    """Whether two models answer alike.

    Args:
        same: share of equal answers, right or wrong.
        kappa: Cohen's, which takes off what chance gives.
        split: shares of the five cases of `SPLIT`.
        copied: share of the teacher's errors that the student repeats; None where it makes none.
    """

    same: Interval
    kappa: float
    split: Mapping[str, float]
    copied: float | None


def agreement(
    student: Sequence[str], teacher: Sequence[str], truth: Sequence[str], *, level: float = 0.95, seed: int = 0
) -> Agreement:
    """Compare answers to the same prompts, in the same order.

    Example:
        >>> found = agreement(["1", "2", "3", "4"], ["1", "2", "4", "4"], ["1", "1", "3", "5"])
        >>> found.same.value, found.copied, found.split["wrong alike"]
        (0.75, 0.6666666666666666, 0.5)
    """
    if not len(student) == len(teacher) == len(truth) > 0:
        raise ConfigError(f"answers must be paired: {len(student)}, {len(teacher)} and {len(truth)} were given")
    s, t, right = (np.array(one, dtype=object) for one in (student, teacher, truth))
    same, mine, theirs = s == t, s == right, t == right
    cases = (mine & theirs, mine & ~theirs, theirs & ~mine, ~mine & ~theirs & same, ~mine & ~theirs & ~same)
    a, b = Counter(student), Counter(teacher)
    chance = sum(a[answer] * b[answer] for answer in a) / len(s) ** 2
    kappa = (float(same.mean()) - chance) / (1 - chance) if chance < 1 else 1.0
    split = {name: float(case.mean()) for name, case in zip(SPLIT, cases, strict=True)}
    copied = float(same[~theirs].mean()) if not theirs.all() else None
    return Agreement(clustered_mean(same, level=level, seed=seed), kappa, split, copied)


def bleu(candidates: Sequence[str], references: Sequence[str]) -> float:
    """Corpus BLEU-4 of texts against one reference each, 0 to 100, on words and signs in lower case.

    `100 exp(min(0, 1 - r/c)) (p_1 p_2 p_3 p_4)^(1/4)`, clipped precisions, one added to both counts from pairs on

    Example:
        >>> bleu(["a cat sat here"], ["a cat sat here"]), bleu(["a cat"], ["the dog"])
        (100.0, 0.0)
    """
    texts = [[re.findall(r"\w+|[^\w\s]", text.lower()) for text in side] for side in (candidates, references)]
    lengths, total = [sum(map(len, side)) for side in texts], 0.0
    for n in range(1, 5):
        hits = count = int(n > 1)
        for mine, theirs in zip(*texts, strict=True):
            grams = [Counter(zip(*(words[k:] for k in range(n)), strict=False)) for words in (mine, theirs)]
            hits, count = hits + (grams[0] & grams[1]).total(), count + grams[0].total()
        if not hits:
            return 0.0
        total += log(hits / count) / 4
    return 100 * exp(total + min(0.0, 1 - lengths[1] / lengths[0]))
