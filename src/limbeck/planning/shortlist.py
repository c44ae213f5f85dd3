"""Which of a few teachers, judged by short distillations from each and extrapolated to the budget that counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from limbeck.errors import PlanningError
from limbeck.fitting import Fit, Interval
from limbeck.laws import StudentCurve
from limbeck.planning.estimate import Plan
from limbeck.runs.quantities import si


@dataclass(frozen=True)
class Candidate:
    """What one teacher would give.

    Args:
        name: the teacher.
        teacher_loss: its loss.
        short_tokens, short_loss: the longest short run from it.
        loss: the student's loss at the full budget, run-to-run noise included.
        extrapolation: full budget over the longest short run.
    """

    name: str
    teacher_loss: float
    short_tokens: float
    short_loss: float
    loss: Interval
    extrapolation: float


@dataclass(frozen=True)
class Shortlist(Plan):
    """The teachers in the order of what they would give.

    Args:
        tokens: the full budget.
        candidates: best first.
        alone: loss of training alone on as many tokens, where it is known.
        notes: caveats, in words.
    """

    tokens: float
    candidates: tuple[Candidate, ...]
    alone: float | None
    notes: tuple[str, ...]

    @property
    def best(self) -> Candidate:
        """The teacher to take."""
        return self.candidates[0]

    def _lines(self) -> list[str]:
        width, best = max(len(c.name) for c in self.candidates) + 2, self.best
        full = f"at {si(self.tokens)} ({best.loss.level:.0%})"
        lines = [f"{'':{width}}teacher loss   after {si(best.short_tokens)} tokens   {full}"]
        for c in self.candidates:
            band = f"{c.loss.value:.3f} ({c.loss.lower:.3f} – {c.loss.upper:.3f})"
            mark = "   ← take this one" if c is best else ""
            lines.append(f"{c.name:<{width}}{c.teacher_loss:>12.3f}   {c.short_loss:>14.3f}          {band}{mark}")
        if self.alone is not None:
            lines.append(f"{'alone':<{width}}{'–':>12}   {'':>14}          {self.alone:.3f}")
        return lines


def choose_by_short_runs(
    curves: Mapping[str, Fit], tokens: float, *, alone: float | None = None, level: float = 0.8
) -> Shortlist:
    """Extrapolate each teacher's student curve to the full budget and rank the teachers.

    The ranking of the short runs themselves often is the wrong one: a weak teacher is easier to follow at first.

    Args:
        curves: a fit of `student-curve` per teacher.
        tokens: the full budget.
        alone: loss of the student trained without a teacher on as many tokens, if known.
        level: coverage of the intervals.

    Raises:
        PlanningError: no teachers, or a fit of another law.
    """
    if not curves:
        raise PlanningError("no teachers to choose from: distil a short run from at least one.")
    candidates = []
    for name, fit in curves.items():
        if not isinstance(fit.model, StudentCurve):
            other = f"this is a fit of {fit.model.name}."
            raise PlanningError(f"{name}: short runs are judged by a fit of student-curve; {other}")
        p, seen = fit.predict(level, tokens=tokens), fit.data.columns["tokens"]
        short = float(seen.max()), float(fit.data.target[seen.argmax()])
        loss = Interval(float(p.mean[0]), float(p.lower[0]), float(p.upper[0]), level)
        candidates.append(Candidate(name, fit.model.teacher_loss, *short, loss, float(p.extrapolation[0])))
    candidates.sort(key=lambda c: c.loss.value)
    notes = []
    by_short = min(candidates, key=lambda c: c.short_loss)
    if by_short.name != candidates[0].name:
        notes.append(f"the short runs alone would have picked {by_short.name}")
    if len(candidates) > 1 and candidates[1].loss.lower < candidates[0].loss.value:
        notes.append(f"{candidates[1].name} is within the interval: the order of the first two is not certain")
    if alone is not None and candidates[0].loss.value >= alone:
        notes.append("no teacher is expected to beat training alone at this budget")
    return Shortlist(float(tokens), tuple(candidates), alone, tuple(notes))
