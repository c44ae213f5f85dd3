"""Distil or train alone, and from which of one's teachers."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import PlanningError
from limbeck.fitting.model import Array
from limbeck.fitting.prediction import check_level
from limbeck.laws import DISTILLATION_2025, Published, Supervised, forward_flops, optimal_student, optimal_teacher
from limbeck.planning._search import last_crossing
from limbeck.planning.costs import SMALLEST, Forward, charges
from limbeck.planning.estimate import Ensemble, Estimate, Plan, Source, distillation_law, outlook, positive
from limbeck.runs import read_runs
from limbeck.runs.quantities import quantity, scientific, si

ALONE = "train alone"


@dataclass(frozen=True)
class Teacher:
    """A model that one could distil from.

    Args:
        name: for people.
        params: non-embedding parameters.
        loss: its loss on the data that the student is judged on, nats/token.
        tokens: tokens it was (or would be) trained on; only scenarios that charge its pretraining ask.
    """

    name: str
    params: float
    loss: float
    tokens: float | None = None


def read_teachers(source: Any) -> list[Teacher]:
    """Read the teachers at hand from a table: `params` and `loss`, and if possible `name` and `tokens`.

    Args:
        source: whatever `read_runs` reads: a CSV, Parquet or JSONL file, a data frame, columns by name.

    Raises:
        RunsError: the table cannot be read, or lacks a column.

    Example:
        >>> read_teachers({"name": ["7b"], "params": [7e9], "loss": [1.94]})
        [Teacher(name='7b', params=7000000000.0, loss=1.94, tokens=None)]
    """
    table = read_runs(source, mix_setups=True).require("params", "loss")
    size, loss = table.column("params"), table.column("loss")
    known = table.frame["run"].to_list() if "run" in table.columns else [si(n) for n in size]
    tokens = table.column("tokens").tolist() if "tokens" in table.columns else [None] * len(table)
    return [Teacher(str(k), float(n), float(x), d) for k, n, x, d in zip(known, size, loss, tokens, strict=True)]


@dataclass(frozen=True)
class Option:
    """One way to the student.

    Args:
        name: the teacher's name, or `train alone`.
        teacher_loss, teacher_params: of the teacher, None for training alone.
        tokens: the student's tokens.
        loss: of the student, run-to-run noise included.
        flops: all that is charged.
        relative_cost: flops divided by those of training alone on the planned tokens (or the planned budget).
        gain: loss of training alone with the same compute, minus loss: positive where distilling pays.
        break_even: compute beyond which training alone is better, None if there is no such point.
        notes: caveats, in words.
    """

    name: str
    teacher_loss: float | None
    teacher_params: float | None
    tokens: float
    loss: Estimate
    flops: float
    relative_cost: float
    gain: float = 0.0
    break_even: Estimate | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TeacherPlan(Plan):
    """What each teacher would give, and what to do.

    Args:
        student_params: N_S.
        scenario: who pays for the teacher.
        options: training alone first, then the feasible teachers in the order given.
        best: name of the option with the least loss.
        best_per_flop: name of the option that gains most over training alone with the same compute.
        infeasible: teachers that the budget cannot pay, each with the reason.
        level: nominal coverage of the intervals.
        notes: the verdict, reach and caveats, in words.
    """

    student_params: float
    scenario: str
    options: tuple[Option, ...]
    best: str
    best_per_flop: str
    infeasible: tuple[str, ...]
    level: float
    notes: tuple[str, ...]

    def summary(self) -> str:
        """Return the plan as plain text, one line an option."""
        return "\n".join([*self._lines(), *_wrapped(self.notes)])

    def _lines(self) -> list[str]:
        width = max(len(o.name) for o in self.options) + 2
        band = f"student loss ({self.level:.0%})".replace("%", " %")
        lines = [f"{'':{width + 2}}teacher loss   {band:<20}  cost vs training alone"]
        for o in self.options:
            teacher = "–" if o.teacher_loss is None else f"{o.teacher_loss:.4g}"
            marks = [m for m, name in (("best", self.best), ("best per FLOP", self.best_per_flop)) if name == o.name]
            words = "← " + ", ".join(marks) if marks else ""
            loss, cost = o.loss.plus_minus(), f"{o.relative_cost:.2g}×"
            lines.append(f"  {o.name:<{width}}{teacher:>12}   {loss:<20}  {cost:<6} {words}".rstrip())
        remarks = [f"{o.name}: {'; '.join(o.notes)}." for o in self.options if o.notes]
        return [*lines, *_wrapped([*remarks, *self.infeasible])]


def _wrapped(texts: Sequence[str]) -> list[str]:
    wrap = partial(textwrap.wrap, width=80, subsequent_indent="  ", break_on_hyphens=False)
    return [line for text in texts for line in wrap(text)]


def choose_teacher(
    student_params: float, teachers: Sequence[Teacher], *, tokens: float | None = None, flops: float | None = None,
    scenario: str = "inference", law: Source = DISTILLATION_2025, supervised: Source | None = None, level: float = 0.8,
    forward: Forward = forward_flops,
) -> TeacherPlan:  # fmt: skip
    """Compare training alone with distilling from each of the teachers at hand.

    Args:
        student_params: non-embedding parameters of the student.
        teachers: the teachers at hand.
        tokens: the student's tokens, the same for every option; or
        flops: one budget that every option spends, teacher costs included.
        scenario: who pays for the teacher, one of `SCENARIOS`.
        law: a fit of `distillation`, or published constants.
        supervised: what training alone gives: a fit in params and tokens. The law frozen inside `law` by default.
        level: nominal coverage.
        forward: FLOP of a forward pass per token.

    Raises:
        PlanningError: both or neither of tokens and flops; or no teacher that can be: its loss lies above the
            irreducible one, and its tokens are known where the scenario charges its pretraining.

    Source: Distillation Scaling Laws (Busbridge et al., 2025, arXiv 2502.08606).

    Example:
        >>> plan = choose_teacher(1e9, [Teacher("7b", 7e9, 1.94), Teacher("70b", 7e10, 1.5)], tokens=2e11)
        >>> plan.best
        '7b'
    """
    check_level(level)
    positive(student_parameters=student_params, tokens=tokens, FLOP=flops)
    if (tokens is None) == (flops is None):
        raise PlanningError("give the student's tokens or a budget in FLOP, one of the two.")
    case = _Case.of(student_params, scenario, law, supervised, level, forward)
    if not teachers:
        raise PlanningError("no teachers given: name at least one with its parameters and its loss.")
    infeasible = [why for teacher in teachers if (why := case.why_not(teacher))]
    if len(infeasible) == len(teachers):
        raise PlanningError("\n".join(infeasible))
    budget = flops if flops is not None else float(tokens or 0.0) * case.rate
    alone = case.option(None, budget / case.rate, budget)
    options = []
    for teacher in (one for one in teachers if not case.why_not(one)):
        d = tokens if tokens is not None else (budget - case.once(teacher)) / case.rate_with(teacher)
        if d < SMALLEST:
            once = scientific(case.once(teacher))
            infeasible.append(f"{teacher.name}: infeasible, its pretraining alone costs {once} FLOP")
        else:
            options.append(case.option(teacher, d, budget))
    options = [_with_notes(o, options, alone.loss.value) for o in options]
    chosen = min(options, key=lambda o: o.loss.value, default=alone)
    ways = (alone, *options)
    best, per_flop = min(ways, key=lambda o: o.loss.value), max(ways, key=lambda o: o.gain)
    notes = (_verdict(chosen, level), *_gap_note(student_params), *case.reach(chosen))
    asked = float(student_params), scenario
    return TeacherPlan(*asked, ways, best.name, per_flop.name, tuple(infeasible), level, notes)


@dataclass(frozen=True)
class _Case:
    """One student under one law and one scenario."""

    params: float
    logits: int
    pretraining: int
    scenario: str
    law: Source
    supervised: Source
    rows: Ensemble
    level: float
    forward: Forward

    @classmethod
    def of(
        cls, params: float, scenario: str, law: Source, supervised: Source | None, level: float, forward: Forward
    ) -> _Case:
        model = distillation_law(law)
        if supervised is None:
            error = law.relative_error if isinstance(law, Published) else 0.0
            frozen = asdict(model.supervised), Supervised.source, "frozen in the law"
            supervised = Published(Supervised(), *frozen, relative_error=error)
        rows = Ensemble.of(law, "params", "tokens", "teacher_loss")
        return cls(params, *charges(scenario), scenario, law, supervised, rows, level, forward)

    def why_not(self, teacher: Teacher) -> str:
        """Why a teacher cannot be; nothing where it can."""
        floor = distillation_law(self.law).supervised.E
        if self.pretraining and teacher.tokens is None:
            return f'{teacher.name}: scenario "{self.scenario}" charges its pretraining, but its tokens are not given.'
        low = f"{teacher.name}: a teacher loss of {teacher.loss:g} is at or below the irreducible loss {floor:g} of the"
        advice = "supervised law. Give it in nats/token on the student's data, or refit the law there."
        return "" if teacher.loss > floor else f"{low} {advice}"

    @property
    def rate(self) -> float:
        """FLOP per token of training alone."""
        return 3.0 * float(self.forward(self.params))

    def rate_with(self, teacher: Teacher) -> float:
        """FLOP per student token of distilling."""
        return self.rate + self.logits * float(self.forward(teacher.params))

    def once(self, teacher: Teacher) -> float:
        """FLOP of the teacher's pretraining, as far as it is charged."""
        return 3.0 * self.pretraining * float(self.forward(teacher.params)) * (teacher.tokens or 0.0)

    def alone(self, flops: ArrayLike) -> Array:
        """Loss of training alone with a budget."""
        return self.supervised.value(params=self.params, tokens=np.asarray(flops, float) / self.rate)

    def option(self, teacher: Teacher | None, tokens: float, budget: float) -> Option:
        """What one teacher gives on so many student tokens."""
        if teacher is None:
            at = outlook(self.supervised, self.level, params=self.params, tokens=tokens)
            return Option(ALONE, None, None, tokens, at.loss, budget, 1.0)
        at = outlook(self.law, self.level, params=self.params, tokens=tokens, teacher_loss=teacher.loss)
        spent = self.rate_with(teacher) * tokens + self.once(teacher)
        crossing = self.break_even(teacher)
        until = None if np.isnan(crossing[0]) else Estimate.of(crossing, self.level)
        gain, given = float(self.alone(spent)) - at.loss.value, (teacher.name, teacher.loss, teacher.params, tokens)
        return Option(*given, at.loss, spent, spent / budget, gain, until)

    def break_even(self, teacher: Teacher) -> Array:
        """Compute [rows] beyond which training alone is better: the last crossing on a log grid. NaN without one."""
        rate, once = self.rate_with(teacher), self.once(teacher)
        log_flops = np.linspace(np.log(once + rate * SMALLEST), np.log(once + rate * 1e15), 481)
        budget = np.exp(log_flops)
        tokens = np.maximum((budget - once) / rate, SMALLEST)
        gap = self.rows.loss(params=self.params, tokens=tokens, teacher_loss=teacher.loss) - self.alone(budget)
        rises = (gap[:, :-1] < 0) & (gap[:, 1:] >= 0)
        return np.exp(last_crossing(log_flops, gap, rises))

    def reach(self, chosen: Option) -> tuple[str, ...]:
        """How far the chosen prediction reaches."""
        columns = {"params": self.params, "tokens": chosen.tokens}
        if chosen.teacher_loss is None:
            return (outlook(self.supervised, self.level, **columns).note,)
        at = outlook(self.law, self.level, **columns, teacher_loss=chosen.teacher_loss)
        return (f"{chosen.name}: {at.note}" if at.extrapolation is not None else at.note,)


def _with_notes(option: Option, options: Sequence[Option], alone: float) -> Option:
    """The option with what one should know about its teacher."""
    notes = []
    own = float(option.teacher_loss or 0.0)
    weaker = [o for o in options if float(o.teacher_loss or 0.0) > own and o.loss.value <= option.loss.value]
    if weaker:
        notes.append(f"no better than {min(weaker, key=lambda o: o.loss.value).name}: capacity gap")
    if option.loss.value > alone:
        notes.append("worse than training alone")
    if own >= alone:
        notes.append("teacher no better than the student alone: outside what this law can represent")
    return replace(option, notes=tuple(notes))


def _verdict(chosen: Option, level: float) -> str:
    if chosen.name == ALONE:
        return "The budget pays for no teacher: train alone."
    if chosen.break_even is not None:
        return (
            f"Distilling from {chosen.name} pays up to {chosen.break_even.words('flops', level)} for this student; "
            f"beyond it, train alone (this plan spends {scientific(chosen.flops)})."
        )
    if chosen.gain > 0:
        return f"Distilling from {chosen.name} pays at every budget up to 1e15 tokens."
    return f"Training alone is better than {chosen.name} with the same compute, at every budget."


def _gap_note(student_params: float) -> tuple[str, ...]:
    """The law of capacity gap beside the law used, where it reaches."""
    if not 30e6 <= student_params <= optimal_student(7e9):
        return ()
    size = quantity("params", optimal_teacher(student_params))
    return (f"Law of capacity gap, for students pruned from the teacher: best teacher near {size}.",)
