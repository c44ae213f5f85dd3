"""A task's score, 0 to 100 points, against pre-training tokens: the log-law of translation quality, and a ceiling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.fitting import Loss, Parameter
from limbeck.fitting.model import Array
from limbeck.laws.law import SOURCES, Law
from limbeck.laws.task_alignment import by_tokens, judge_alignment
from limbeck.runs import RunTable

ISIK = SOURCES["isik-2024"]

TOKENS = 1e9
"""Unit of D in the constants of the paper."""
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

    @staticmethod
    def _parameters(shape: Parameter) -> tuple[Parameter, ...]:
        return (
            Parameter("level", "score at the reference, points", log=True),
            Parameter("gain", "d ln score / d ln tokens at the reference", start=(0.01, 0.03, 0.1, 0.3, 1.0), log=True),
            shape,
        )


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
    parameters = ScoreCurve._parameters(
        Parameter("beta", "power of the logarithm", start=(0.3, 1.0, 4.0), lower=0.1, upper=8.0, log=True)
    )

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
    parameters = ScoreCurve._parameters(
        Parameter("alpha", "exponent", start=(0.05, 0.2, 0.6, 1.2), lower=1e-3, upper=5.0, log=True)
    )

    def formula(self, p: Any, x: Any) -> Any:
        """Level (1 + gain (1 - (tokens/reference)^-alpha) / alpha)."""
        return p.level * (1.0 - p.gain / p.alpha * np.expm1(-p.alpha * np.log(x.tokens / self.reference)))
