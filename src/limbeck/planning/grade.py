"""Which click network teaches and which is served: the best of all grades, and the best within a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from limbeck.errors import PlanningError
from limbeck.fitting.picture import chart
from limbeck.planning.estimate import Plan, positive
from limbeck.runs import read_runs

NEEDED = ("grade", "latency_ms", "error")


@dataclass(frozen=True)
class Grade:
    """What one grade gave.

    Args:
        name: of the grade.
        auc: mean over its runs; `spread` the standard error of that mean, None for one run.
        latency_ms: of a request, milliseconds.
        params: without tables; 0 if the table does not say.
        runs: how many.
    """

    name: str
    auc: float
    spread: float | None
    latency_ms: float
    params: float
    runs: int


@dataclass(frozen=True)
class GradePlan(Plan):
    """Teacher and student among measured grades.

    Args:
        latency_ms: the budget of a request.
        teacher: the most accurate grade.
        student: the most accurate grade within the budget.
        grades: all, by latency.
        notes: caveats, in words.
    """

    latency_ms: float
    teacher: Grade
    student: Grade
    grades: tuple[Grade, ...]
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        lines = [f"{'grade':<16}{'ms':>8}{'params':>12}    AUC"]
        for one in self.grades:
            roles = {"teacher": self.teacher, f"student, within {self.latency_ms:g} ms": self.student}
            mark = ", ".join(role for role, chosen in roles.items() if chosen is one)
            spread = "" if one.spread is None else f" ± {one.spread:.4f}"
            row = f"{one.name:<16}{one.latency_ms:>8.1f}{one.params:>12,.0f}    {one.auc:.4f}{spread}"
            lines.append(row + (f"   ← {mark}" if mark else ""))
        return [*lines, ""]

    def plot(self) -> Any:
        """Draw the AUC of every grade against its latency."""
        names, spread = [one.name for one in self.grades], [one.spread or 0 for one in self.grades]
        points = {"x": [one.latency_ms for one in self.grades], "y": [one.auc for one in self.grades], "text": names}
        look = {"mode": "markers+text", "textposition": "top center", "error_y": {"array": spread}}
        title = f"{self.student.name} within {self.latency_ms:g} ms, {self.teacher.name} teaches"
        return chart(title, "time of a request, ms", "AUC", [points | look], log="x", showlegend=False)


def plan_grade(runs: Any, latency_ms: float) -> GradePlan:
    """Choose the grade that teaches and the grade that is served from measured runs.

    Args:
        runs: what `read_runs` takes, with columns grade, latency_ms, error (1 - AUC), and perhaps events and params;
            of each run its last row counts, of each grade its runs on the most events.
        latency_ms: most milliseconds of a request.

    Raises:
        PlanningError: columns are missing; no grade is fast enough.

    Example:
        >>> rows = {"grade": ["A", "B"], "latency_ms": [2.0, 9.0], "error": [0.20, 0.19]}
        >>> plan = plan_grade(rows, 5)
        >>> plan.teacher.name, plan.student.name
        ('B', 'A')
    """
    positive(latency=latency_ms)
    table = read_runs(runs, mix_setups=True)
    if missing := [one for one in NEEDED if one not in table.columns]:
        raise PlanningError(
            f"{table.source} lacks {', '.join(missing)}: a ladder of click networks writes them (recipes/recsys)"
        )
    frame = table.frame.filter(pl.col("error").is_not_null())
    given = [name for name in ("step", "run") if name in frame.columns]
    if len(given) == 2:
        frame = frame.sort("step").group_by("run", maintain_order=True).last()
    if "events" in frame.columns:
        frame = frame.filter(pl.col("events") == pl.col("events").max().over("grade"))
    size = pl.col("params").first() if "params" in frame.columns else pl.lit(0.0)
    means = frame.group_by("grade").agg(
        auc=1 - pl.col("error").mean(), spread=pl.col("error").std() / pl.len().sqrt(),
        latency_ms=pl.col("latency_ms").median(), params=size, runs=pl.len(),
    ).sort("latency_ms")  # fmt: skip
    grades = [Grade(name=row.pop("grade"), **row) for row in means.to_dicts()]
    fast = [one for one in grades if one.latency_ms <= latency_ms]
    if not fast:
        least = grades[0]
        raise PlanningError(
            f"no grade answers within {latency_ms:g} ms: the fastest, {least.name}, takes {least.latency_ms:.1f} ms. "
            "Allow more, or train smaller or sparser grades"
        )
    teacher, student = (max(some, key=lambda one: one.auc) for some in (grades, fast))
    notes = ["Times are those of the machine that trained: measure again where it is served."]
    if teacher is student:
        notes.insert(0, f"{teacher.name} is the best of all and fast enough: nothing is to be distilled.")
    else:
        gap, spreads = teacher.auc - student.auc, (teacher.spread, student.spread)
        noise = sum(one**2 for one in spreads if one is not None) ** 0.5 if None not in spreads else None
        sure = " (one run each: not known how sure)" if noise is None else f" ± {noise:.4f}"
        notes.insert(0, f"To be won by distillation: {gap:.4f}{sure} of AUC between teacher and student.")
    return GradePlan(latency_ms, teacher, student, tuple(grades), tuple(notes))
