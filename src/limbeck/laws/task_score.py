"""A task's score, 0 to 100 points, against pre-training tokens: does it rise, and along which curve?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from limbeck.fitting import Loss, Parameter
from limbeck.fitting.model import Array
from limbeck.laws.law import SOURCES, Law
from limbeck.runs import RunTable

Verdict = Literal["aligned", "uncertain", "misaligned"]


@dataclass(frozen=True)
class Alignment:
    """What the order of the scores says.

    Args:
        verdict: whether the corpus helps the task.
        reasons: why, in words.
        rising: share of steps between neighbouring checkpoints that rise.
        rank_correlation: Spearman's rho of score and tokens.
        drop: largest fall from an earlier to a later checkpoint, in standard errors of a difference (noise √2); None
            where the noise is not known.
        benefit: last score minus that of a model without pre-training, points; None without such a model.
        coupling: Spearman's rho of score and falling cross-entropy; None without cross-entropies.
    """

    verdict: Verdict
    reasons: tuple[str, ...]
    rising: float
    rank_correlation: float
    drop: float | None
    benefit: float | None
    coupling: float | None

    def describe(self) -> str:
        """Return the verdict and its reasons."""
        return f"{self.verdict}: {'; '.join(self.reasons) or 'the score rises with pre-training'}"


def judge_alignment(
    tokens: ArrayLike, score: ArrayLike, *, noise: float | None = None, baseline: float | None = None,
    cross_entropy: ArrayLike | None = None,
) -> Alignment:  # fmt: skip
    """Return whether scores rise with pre-training: aligned, misaligned or uncertain.

    Misaligned: the largest drop exceeds 3 standard errors of a difference, or the last score is not above the baseline
    by 2 noise, or rho <= -0.5 over five checkpoints. Aligned: rho > 0.9 and the largest drop is below 2 (where the
    noise is not known, there is none). A falling cross-entropy is no evidence: it falls on misaligned tasks too.

    Args:
        tokens: distinct, increasing, [n].
        score: points, [n].
        noise: standard deviation of one score.
        baseline: score of the model without pre-training.
        cross_entropy: of the task, nats/token, [n].

    Source: Scaling Laws for Downstream Task Performance of Large Language Models (Isik et al., 2024, arXiv 2402.04177);
    the thresholds are ours.

    Example:
        >>> judge_alignment([1e9, 2e9, 4e9, 8e9], [20, 24, 15, 14], noise=1.0).reasons
        ('the score falls by 10 points, 7.1 standard errors of a difference',)
    """
    x, y = np.asarray(tokens, float), np.asarray(score, float)
    rho, fall = _spearman(x, y), float((np.maximum.accumulate(y) - y).max())
    drop = None if noise is None else fall / (noise * math.sqrt(2))
    against = []
    if drop is not None and drop > 3:
        against.append(f"the score falls by {fall:.3g} points, {drop:.2g} standard errors of a difference")
    if baseline is not None and y[-1] <= baseline + 2 * (noise or 0.0):
        against.append(f"pre-training does not help: {y[-1]:.3g} points at its end, {baseline:.3g} without it")
    if rho <= -0.5 and len(x) > 4:
        against.append(f"the score falls as pre-training grows (rank correlation {rho:.2f})")
    doubts = []
    if len(x) < 3:
        doubts.append(f"{len(x)} distinct token {'count' if len(x) == 1 else 'counts'}: three are needed")
    elif np.ptp(y) == 0:
        doubts.append("the score is the same everywhere: there is nothing to extrapolate")
    elif rho <= 0.9:
        doubts.append(f"the score does not rise steadily (rank correlation {rho:.2f})")
    if fall > 0 if drop is None else drop >= 2:
        doubts.append(f"a fall of {fall:.3g} points may be noise or not: measure more seeds")
    benefit = None if baseline is None else float(y[-1] - baseline)
    coupling = None if cross_entropy is None else _spearman(y, -np.asarray(cross_entropy, float))
    rising = float((np.diff(y) > 0).mean()) if len(y) > 1 else 0.0
    verdict: Verdict = "misaligned" if against else "uncertain" if doubts else "aligned"
    return Alignment(verdict, tuple(against or doubts), rising, rho, drop, benefit, coupling)


def by_tokens(tokens: ArrayLike, score: ArrayLike, noise: float | None = None) -> tuple[Array, Array, float | None]:
    """Return distinct token counts [k], the mean score at each [k] and the noise of one score.

    The noise, unless given, is that of repeated measurements, else of six or more scores about a parabola in ln tokens,
    else unknown (None).
    """
    every, points = np.asarray(tokens, float), np.asarray(score, float)
    x, group, count = np.unique(every, return_inverse=True, return_counts=True)
    y = np.bincount(group, points) / count
    if noise is None and len(every) > len(x):
        noise = float(np.sqrt(np.sum((points - y[group]) ** 2) / (len(every) - len(x))))
    elif noise is None and len(x) > 5:
        parabola = np.polynomial.Polynomial.fit(np.log(x), y, 2)
        noise = float(np.sqrt(np.sum((y - parabola(np.log(x))) ** 2) / (len(x) - 3)))
    return x, y, noise or None  # identical repeats say nothing about the noise


def _spearman(x: Array, y: Array) -> float:
    """Rank correlation; 0 where one side is constant."""
    from scipy.stats import rankdata  # here, so that a fit does not wait for it

    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def alignment_score(source: float, target: float, weights: tuple[float, float, float] = (0.7, 0.8, 1.0)) -> float:
    """Return how much of what a task needs is in a pre-training corpus: A = w1 P_src + w2 P_dst + w3 P_src P_dst.

    Args:
        source, target: share of the corpus in the task's source and target language (or skill), 0 to 1.
        weights: w1, w2 and w3; heuristic.

    Source: Scaling Laws for Downstream Task Performance of Large Language Models (Isik et al., 2024, arXiv 2402.04177);
    weights reconstructed.

    Example:
        >>> [alignment_score(*shares) for shares in ((0.5, 0.5), (1, 0), (0, 1), (0, 0))]
        [1.0, 0.7, 0.8, 0.0]
    """
    first, second, both = weights
    return first * source + second * target + both * source * target


ISIK = SOURCES["isik-2024"]

TOKENS = 1e9
"""Unit of D in the constants of the paper."""
LEVEL = Parameter("level", "score at the reference, points", log=True)
GAIN = Parameter("gain", "d ln score / d ln tokens at the reference", start=(0.01, 0.03, 0.1, 0.3, 1.0), log=True)
ADVICE = (
    "A score is not extrapolated from here. Try another corpus; its cross-entropy may fall all the same. --force "
    "predicts regardless (force=True; of a fit, replace(fit, forced=True))."
)


@dataclass(frozen=True)
class ScoreCurve(Law):
    """A score around its value at a reference; `level` and `gain` say how high and how steep the curve is there.

    Args:
        reference: tokens at which `level` and `gain` are taken; `laws.fit` puts it amid the data.
        alignment: verdict on the data and its reasons, by `laws.fit` unless given; misaligned scores are not
            extrapolated.
    """

    reference: float = TOKENS
    alignment: str | None = None

    columns = ("tokens",)
    target = "score"
    linear = ("level",)
    preferred_loss = Loss(delta=0.1, space="linear")

    def prepare(self, runs: RunTable, *, skip_bad: bool = False) -> tuple[Law, RunTable]:
        """Return the law with its reference at the geometric mean of the tokens and the verdict on its scores."""
        runs = runs.require(*self.columns, self.target, skip_bad=skip_bad)
        said, reference = self.alignment, float(np.exp(np.log(runs.column("tokens")).mean()))
        if said is None:
            tokens, score, noise = by_tokens(runs.column("tokens"), runs.column("score"))
            said = judge_alignment(tokens, score, noise=noise).describe()
        return replace(self, reference=reference, alignment=said), runs

    def remarks(self, columns: Mapping[str, Array]) -> list[str]:
        """Say so where the scores are not aligned with the tokens."""
        said = self.alignment or "aligned"
        return [] if said.startswith("aligned") else [self.refusal or f"{said}."]

    @property
    def refusal(self) -> str:
        """Why a misaligned score is not extrapolated."""
        return f"{self.alignment}. {ADVICE}" if (self.alignment or "").startswith("misaligned") else ""


@dataclass(frozen=True)
class TransferScore(ScoreCurve):
    """The log-law: score = (log A + alpha ln D)^beta, D in 1e9 pre-training tokens; 0 where the bracket is negative.

    Many triples (log A, alpha, beta) draw nearly the same curve, so it is fitted as level (1 + gain/beta ln(tokens /
    reference))^beta; see `constants` for the paper's. It has no ceiling. The score is measured after fine-tuning on a
    fixed number of tokens.

    Source: Scaling Laws for Downstream Task Performance of Large Language Models (Isik et al., 2024, arXiv 2402.04177).

    Example:
        >>> law = TransferScore()
        >>> p = law.of(logA=2.0, alpha=0.35, beta=2.2)
        >>> law(p, tokens=[1e9, 40e9]).round(2).tolist()
        [4.59, 13.75]
        >>> float(law.tokens_for(p, 13.745).round(-8)) / 1e9
        40.0
    """

    name = "transfer-score"
    source = ISIK
    equation = "level (1 + gain / beta ln(tokens / reference))^beta"
    parameters = (LEVEL, GAIN, Parameter("beta", "power of the logarithm", (0.3, 1.0, 4.0), 0.1, 8.0, log=True))

    def formula(self, p: Any, x: Any) -> Any:
        """Level (1 + gain/beta ln(tokens/reference))^beta."""
        bracket = 1.0 + p.gain / p.beta * np.log(x.tokens / self.reference)
        return p.level * np.maximum(bracket, 1e-300) ** p.beta

    def of(self, logA: float, alpha: float, beta: float) -> dict[str, float]:
        """Return the parameters from the paper's constants (natural logarithm, D in 1e9 tokens)."""
        bracket = logA + alpha * math.log(self.reference / TOKENS)
        return {"level": bracket**beta, "gain": beta * alpha / bracket, "beta": beta}

    def constants(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """Return the paper's constants log A, alpha and beta (natural logarithm, D in 1e9 tokens)."""
        level, gain, beta = (parameters[name] for name in self.parameter_names)
        bracket = level ** (1 / beta)
        alpha = bracket * gain / beta
        return {"logA": bracket - alpha * math.log(self.reference / TOKENS), "alpha": alpha, "beta": beta}

    def tokens_for(self, parameters: Mapping[str, float], score: ArrayLike) -> Array:
        """Return the tokens at which the curve reaches a score."""
        level, gain, beta = (parameters[name] for name in self.parameter_names)
        root = (np.asarray(score, float) / level) ** (1 / beta)
        return np.asarray(self.reference * np.exp(beta / gain * (root - 1)))


@dataclass(frozen=True)
class CeilingScore(ScoreCurve):
    """A score that saturates: ceiling - B / tokens^alpha, the usual form for accuracies.

    Fitted as level (1 + gain (1 - (tokens/reference)^-alpha) / alpha), which stays a curve as alpha goes to 0; the
    ceiling is level (1 + gain/alpha).

    Source: the rival of the log-law of Scaling Laws for Downstream Task Performance of Large Language Models (Isik et
    al., 2024, arXiv 2402.04177); the form is ours.

    Example:
        >>> CeilingScore()({"level": 40.0, "gain": 0.25, "alpha": 0.5}, tokens=[1e9, 1e30]).round(2).tolist()
        [40.0, 60.0]
    """

    name = "ceiling-score"
    source = ISIK
    equation = "level (1 + gain (1 - (tokens / reference)^-alpha) / alpha)"
    parameters = (LEVEL, GAIN, Parameter("alpha", "exponent", (0.05, 0.2, 0.6, 1.2), 1e-3, 5.0, log=True))

    def formula(self, p: Any, x: Any) -> Any:
        """Level (1 + gain (1 - (tokens/reference)^-alpha) / alpha)."""
        return p.level * (1.0 - p.gain / p.alpha * np.expm1(-p.alpha * np.log(x.tokens / self.reference)))
