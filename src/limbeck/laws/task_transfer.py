"""Does more pre-training on a corpus help a task? A verdict from the scores of a few checkpoints, then a forecast."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError, MisalignedError
from limbeck.fitting import Fit, Prediction, Prior
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.fitting.plain import plain
from limbeck.laws.law import fit
from limbeck.laws.task_score import Alignment, CeilingScore, TransferScore, by_tokens, judge_alignment

CURVES: dict[str, Any] = {
    "log-law": {"law": TransferScore()},
    "ceiling": {"law": CeilingScore()},
    "linear in log tokens": {"law": TransferScore(), "fixed": {"beta": 1.0}},
}
"""The curves through the scores: the paper's law and its two rivals."""


@dataclass(frozen=True)
class TransferReport:
    """What the checkpoints of one corpus say about a task. Build it with `transfer_curve`.

    Args:
        tokens: distinct token counts, increasing, [n].
        score: mean score at each, points, [n].
        noise: standard deviation of one score, None where it is not known.
        alignment: the verdict with its evidence.
        fits: the curves of `CURVES` through the scores; empty with fewer than three token counts or one score.
        cross_entropy: power law of the task's cross-entropy, None without four values.
        notes: what limits the answer, in words.
    """

    tokens: Array
    score: Array
    noise: float | None
    alignment: Alignment
    fits: Mapping[str, Fit]
    cross_entropy: Fit | None
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Aligned, uncertain or misaligned."""
        return self.alignment.verdict

    @property
    def held_out(self) -> dict[str, float]:
        """Root mean square error of each curve on the largest checkpoints, fitted without them, points."""
        found = {name: one.holdout for name, one in self.fits.items()}
        return {name: held.error for name, held in found.items() if held is not None and held.cuts}

    @property
    def saturates(self) -> bool:
        """Whether every held-out score lies below the log-law of the smaller checkpoints."""
        held = self.fits["log-law"].holdout if self.fits else None
        if held is None or not held.cuts:
            return False
        late = slice(held.cuts[0].train, None)
        predicted = self.fits["log-law"].model(held.cuts[0].parameters, tokens=self.tokens[late])
        return bool((self.score[late] < predicted).all())

    def predict(self, tokens: ArrayLike, level: float = 0.8, *, force: bool = False) -> Prediction:
        """Predict the score after more pre-training by the log-law, within 0 to 100 points.

        Args:
            tokens: pre-training tokens.
            level: nominal coverage of the interval.
            force: predict a misaligned task all the same.

        Raises:
            MisalignedError: more of this corpus does not help the task.
            FittingError: fewer than three token counts, or one score everywhere.
        """
        predicted = replace(self._log_law(force), forced=force).predict(level, tokens=tokens)
        if not ((predicted.mean > 1e-9) & (predicted.mean < 100)).all():
            warnings.warn("the log-law leaves 0 to 100 points there: cut off, do not believe it", stacklevel=2)
        low, mean, high = (np.clip(end, 0, 100) for end in (predicted.lower, predicted.mean, predicted.upper))
        return replace(predicted, lower=low, mean=mean, upper=high)

    def tokens_for(self, score: float, *, force: bool = False) -> float:
        """Return the pre-training tokens at which the log-law reaches a score; refuses what `predict` refuses."""
        fitted = self._log_law(force)
        return float(fitted.model.tokens_for(fitted.parameters, score))  # type: ignore[attr-defined]

    def _log_law(self, force: bool) -> Fit:
        """The log-law, unless there is none or the task is misaligned."""
        if not self.fits:
            raise FittingError(f"no curve was drawn: {'; '.join(self.alignment.reasons)}.")
        law = self.fits["log-law"]
        if law.model.refusal and not force:
            raise MisalignedError(law.model.refusal)
        return law

    def summary(self) -> str:
        """Return the verdict, the evidence and the curves in words."""
        a = self.alignment
        facts = [f"{a.rising:.0%} of steps rise", f"rank correlation {a.rank_correlation:.2f}"]
        facts += [] if a.drop is None else [f"largest drop {a.drop:.2g} standard errors"]
        facts += [] if a.benefit is None else [f"{a.benefit:+.3g} points over no pre-training"]
        facts += [] if a.coupling is None else [f"rank correlation with falling cross-entropy {a.coupling:.2f}"]
        lines = [a.describe(), " · ".join(facts)]
        lines += [f"  {name:22}held-out error {error:.2g} points" for name, error in self.held_out.items()]
        lines += ["the largest scores fall short of the log-law of the smaller ones"] * self.saturates
        return "\n".join([*lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        held, entropy = self.held_out, self.cross_entropy
        curves = {k: {"parameters": one.parameters, "held_out": held.get(k)} for k, one in self.fits.items()}
        same = {name: getattr(self, name) for name in ("tokens", "score", "noise", "saturates", "notes")}
        more = {"curves": curves, "cross_entropy": None if entropy is None else entropy.parameters}
        return dict(plain({**asdict(self.alignment), **same, **more}))

    def plot(self) -> Any:
        """Draw the scores with the log-law and its band, or alone where no curve was drawn."""
        if self.fits:
            return self.fits["log-law"].plot()
        scores = {"mode": "markers", "x": self.tokens, "y": self.score, "name": "score"}
        return chart(f"{self.alignment.verdict}: no curve", "tokens", "score", [scores], log="x")


def transfer_curve(
    tokens: ArrayLike, score: ArrayLike, *, cross_entropy: ArrayLike | None = None, baseline: float | None = None,
    noise: float | None = None, bootstrap: int = 200, seed: int = 0,
) -> TransferReport:  # fmt: skip
    """Judge a corpus by the scores of its checkpoints, each fine-tuned alike, and fit curves through them.

    With five token counts or fewer, beta has the prior ln beta ~ N(0, 1).

    Args:
        tokens: pre-training tokens, [n]; equal ones are averaged.
        score: points, 0 to 100, [n]; the same metric, beam and length penalty everywhere.
        cross_entropy: of the task, nats/token, [n].
        baseline: score of fine-tuning alone.
        noise: standard deviation of one score; by default that of repeated measurements, else of six or more scores
            about a parabola in ln tokens.
        bootstrap: resamples of the residuals.
        seed: of the resamples.

    Raises:
        FittingError: a score is not between 0 and 100, or a token count is not positive.

    Source: Scaling Laws for Downstream Task Performance of Large Language Models (Isik et al., 2024, arXiv 2402.04177);
    fit and verdict reconstructed.

    Example:
        >>> report = transfer_curve([1e9, 3e9, 1e10, 4e10, 2e11], [20.1, 22.6, 25.5, 28.6, 31.9], noise=0.3)
        >>> report.verdict, report.predict(1e12).mean.round().tolist()
        ('aligned', [35.0])
    """
    every, points = np.atleast_1d(np.asarray(tokens, float)), np.atleast_1d(np.asarray(score, float))
    if not ((points >= 0) & (points <= 100) & (every > 0)).all():
        raise FittingError(
            f"scores are points from 0 to 100 at a positive number of tokens; given {points.min():g} to "
            f"{points.max():g} at {every.min():g} to {every.max():g}. A model without pre-training is the baseline."
        )
    if noise is not None and not noise > 0:
        raise FittingError(f"the noise of a score is a standard deviation above 0, in points; given {noise:g}.")
    x, y, noise = by_tokens(every, points, noise)
    entropy = None if cross_entropy is None else by_tokens(every, cross_entropy, 0.0)[1]
    verdict = judge_alignment(x, y, noise=noise, baseline=baseline, cross_entropy=entropy)
    notes = [
        (noise is None, "the noise of a score is not known: repeat a checkpoint with other seeds, or give it"),
        (baseline is None, "no score without pre-training: whether pre-training helps at all was not checked"),
        (y.max() <= 1, "no score above 1 point: multiply fractions by 100"),
        (y.max() >= 99, "scores at the ceiling: differences there say little"),
    ]
    fits, spread = {}, noise or CURVES["log-law"]["law"].preferred_loss.delta
    for name, how in CURVES.items() if len(x) > 2 and np.ptp(y) > 0 else ():
        prior = {"beta": Prior(1.0, 1.0)} if len(x) < 6 and name == "log-law" else None
        fits[name] = fit(
            replace(how["law"], alignment=verdict.describe()), {"tokens": x, "score": y}, fixed=how.get("fixed"),
            priors=prior, prior_noise=spread, bootstrap=bootstrap, method="residual", seed=seed,
            holdout=min(0.4, 1 - 4 / len(x)) if len(x) > 4 else None,
        )  # fmt: skip
    falling = None
    if entropy is not None and len(x) > 3:
        falling = fit("power-floor:tokens", {"tokens": x, "loss": entropy}, bootstrap=bootstrap, seed=seed)
    return TransferReport(x, y, noise, verdict, fits, falling, tuple(text for holds, text in notes if holds))


def rank_corpora(
    reports: Mapping[str, TransferReport], tokens: float | Mapping[str, float], level: float = 0.8
) -> dict[str, Prediction | str]:
    """Return corpora by predicted score, best first, those that are refused last with the reason.

    Args:
        reports: one per corpus, measured with the same fine-tuning.
        tokens: pre-training tokens of all, or what the same budget buys of each.
        level: nominal coverage.
    """
    ranked: dict[str, Prediction] = {}
    refused: dict[str, str] = {}
    for name, report in reports.items():
        try:
            ranked[name] = report.predict(tokens[name] if isinstance(tokens, Mapping) else tokens, level)
        except FittingError as reason:
            refused[name] = str(reason)
    return dict(sorted(ranked.items(), key=lambda item: -float(item[1].mean[0]))) | refused
