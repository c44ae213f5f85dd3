"""What a report says, as data: a study fills it, `write_report` renders it. Every part may be missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from limbeck import __version__
from limbeck.fitting import Fit
from limbeck.runs import RunTable


@dataclass(frozen=True)
class Forecast:
    """One number that was predicted, and what was measured.

    Args:
        name: what it is, in a few words.
        predicted, lower, upper: point and interval, in `unit`.
        measured: None where the run has not ended.
        level: nominal coverage of the interval.
        extrapolation: how many times larger than the largest run of the fit.
        columns: the setting, one value per column of the law: the planner starts there and the law is drawn up to it.
        unit: of all these numbers.
        written: when the prediction was written down, ISO 8601 with a time zone.
        sha256: of what was written down.
        baselines: what simpler rules would have said, by name.
        note: one sentence beside the numbers.
    """

    name: str
    predicted: float
    lower: float | None = None
    upper: float | None = None
    measured: float | None = None
    level: float = 0.8
    extrapolation: float | None = None
    columns: dict[str, float] = field(default_factory=dict)
    unit: str = ""
    written: str = ""
    sha256: str = ""
    baselines: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Forecast:
        """Return the forecast of a record such as `summary.json` holds; what a forecast does not have is left aside."""
        names = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in record.items() if name in names})

    @property
    def relative_error(self) -> float | None:
        """predicted / measured − 1."""
        return None if self.measured is None else self.predicted / self.measured - 1.0

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval; None without one."""
        return None if self.lower is None or self.upper is None else (self.upper - self.lower) / 2

    @property
    def inside(self) -> bool | None:
        """Whether the measurement lies in the interval; None without either."""
        if self.measured is None or self.lower is None or self.upper is None:
            return None
        return self.lower <= self.measured <= self.upper


@dataclass(frozen=True)
class StudentRow:
    """One student and one of its teachers.

    Args:
        teacher: its name; "none" for the student trained alone.
        teacher_loss: on the same held-out data.
        short: losses of the short runs that the prediction was made from, by their tokens (as people write them).
        predicted, lower, upper: loss at the full budget.
        measured: the same, None where it was not run.
        supervised: loss of the student trained alone on as many tokens.
        chosen: the planner's choice.
    """

    teacher: str
    teacher_loss: float | None = None
    short: dict[str, float] = field(default_factory=dict)
    predicted: float | None = None
    lower: float | None = None
    upper: float | None = None
    measured: float | None = None
    supervised: float | None = None
    chosen: bool = False


@dataclass(frozen=True)
class Sample:
    """One prompt and what each model wrote, by the model's name."""

    prompt: str
    texts: dict[str, str]


@dataclass(frozen=True)
class Marked:
    """A run that the law picture shows although the law was not fitted on it.

    Args:
        columns: its setting.
        value: what was measured.
        name: shown when hovering.
        reason: why it was left out ("not yet on the law", "held out").
        held_out: drawn as a test of the law, not in grey.
    """

    columns: dict[str, float]
    value: float
    name: str = ""
    reason: str = ""
    held_out: bool = False


@dataclass(frozen=True)
class ReportContent:
    """Everything a report can show.

    Args:
        title: of the browser tab; the question is the headline.
        question: what was asked.
        answer: in one sentence with the interval; written from the first prediction or the fit when empty.
        predictions: the numbers predicted and measured, most important first.
        fit: the law.
        against: column of the horizontal axis of the law picture.
        runs: name of the run of every point of the fit, shown when hovering.
        marked: runs outside the fit.
        students: one row per teacher.
        students_note: what the table of students shows, in a sentence or two.
        samples: texts side by side.
        sheet: pictures that generators made, a data URI.
        sheet_note: what was measured about them, in plain text.
        progress: how they became better, the JSON of a Plotly figure.
        ways: how samples go from noise to data in the plane, such a JSON each.
        facts: about the data and the run, by name, in words.
        notes: what must be said beside the answer: choices made on the same data, noise, limits.
        unique_tokens: tokens of text at hand; the planner warns beyond four passes over them.
        command: how to run this again.
        versions: by package.
        seeds: by what they seed.
        seconds: wall time of the whole.
        level: nominal coverage of bands and intervals.
        missing: a sentence for each part that could not be shown.
    """

    title: str = "limbeck report"
    question: str = ""
    answer: str = ""
    predictions: tuple[Forecast, ...] = ()
    fit: Fit | None = None
    against: str | None = None
    runs: tuple[str, ...] = ()
    marked: tuple[Marked, ...] = ()
    students: tuple[StudentRow, ...] = ()
    students_note: str = ""
    samples: tuple[Sample, ...] = ()
    sheet: str = ""
    sheet_note: str = ""
    progress: str = ""
    ways: tuple[str, ...] = ()
    facts: dict[str, str | float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unique_tokens: float | None = None
    command: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    seeds: dict[str, Any] = field(default_factory=dict)
    seconds: float | None = None
    level: float = 0.8
    missing: tuple[str, ...] = ()

    @classmethod
    def of_fit(cls, fit: Fit, runs: RunTable | None = None, *, command: str = "", level: float = 0.8) -> ReportContent:
        """Return what a fit alone can say.

        Args:
            fit: the fit.
            runs: the table it was made from, for the names of the runs.
            command: how to make it again.
            level: nominal coverage of bands and intervals.
        """
        facts: dict[str, Any] = {"runs": runs.summary(), "table": runs.source} if runs is not None else {}
        versions = {"limbeck": __version__, "numpy": np.__version__}
        return cls(
            f"limbeck fit: {fit.model.name}", fit=fit, runs=run_names(fit, runs), facts=facts, command=command,
            versions=versions, level=level,
        )  # fmt: skip


def run_names(fit: Fit | None, table: RunTable | None) -> tuple[str, ...]:
    """Return the name of the run of every point of a fit, by its values; empty where the table has none."""
    if fit is None or table is None or not {"run", *fit.model.columns, fit.model.target} <= set(table.columns):
        return ()
    names = [*fit.model.columns, fit.model.target]
    rows = np.stack([table.column(name) for name in names], 1)
    known = {row.tobytes(): str(run) for row, run in zip(rows, table.frame["run"], strict=True)}
    points = np.stack([*fit.data.columns.values(), fit.data.target], 1)
    return tuple(known.get(point.tobytes(), "") for point in points)
