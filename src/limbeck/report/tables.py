"""Results for a terminal: the answer first, no more digits than they deserve, plain text when piped.

Every function returns text. It holds colours only where standard output is a terminal; they are never the only carrier.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from limbeck.errors import PlanningError
from limbeck.fitting import Comparison, Fit, Prediction
from limbeck.planning import compute_optimal
from limbeck.report.content import Forecast
from limbeck.report.numbers import estimate, interval, percent, significant
from limbeck.report.words import FAR, holdout_words, identified_words, parameter_rows, reach, setting, times
from limbeck.runs import RunTable
from limbeck.runs.quantities import quantity, scientific, si

GOOD, WARNING, BAD, QUIET = "green", "yellow", "red", "dim"


def render(*parts: RenderableType, width: int | None = None) -> str:
    """Return rich renderables as text: styled on a terminal, plain elsewhere, at most 100 columns wide."""
    terminal = sys.stdout.isatty()
    columns = width or (min(shutil.get_terminal_size().columns, 100) if terminal else 80)
    console = Console(file=io.StringIO(), width=columns, force_terminal=terminal, highlight=False)
    console.print(Group(*parts))
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def fit_summary(fit: Fit, runs: RunTable | None = None, *, level: float = 0.8) -> str:
    """Return a fit: data, equation, parameters with intervals, what is not identified, the compute-optimal next step.

    Args:
        fit: the fit.
        runs: the table it was made from, for the first line.
        level: nominal coverage of the intervals.
    """
    equation = Text(f"{fit.model.target} = {fit.model.equation}", style="bold")
    table = _table("", "estimate>", f"{percent(level)} interval", "")
    for row in parameter_rows(fit, level):
        doubtful = row.interval == "not identified"
        between = Text(row.interval, style=WARNING if doubtful else "")
        table.add_row(f"  {row.name}", row.value, between, "; ".join(t for t in (row.meaning, row.note) if t))
    first = runs.summary() if runs is not None else f"{len(fit.data)} points"
    sentences = [Text(sentence) for sentence in (*identified_words(fit), *holdout_words(fit))]
    return render(first, "", equation, "", table, "", *sentences, *_compute_optimal(fit, level))


def _compute_optimal(fit: Fit, level: float) -> list[RenderableType]:
    """One line for laws of size and data, at a round budget somewhat beyond the largest run."""
    if set(fit.model.columns) != {"params", "tokens"}:
        return []
    largest = 6.0 * float(np.max(fit.data.columns["params"] * fit.data.columns["tokens"]))
    power = 10.0 ** np.floor(np.log10(largest))
    budget = next(step * power for step in (3.0, 10.0, 30.0) if step * power >= 1.5 * largest)
    try:
        plan = compute_optimal(fit, budget, level=level)
    except PlanningError as error:
        return [Text(f"No compute-optimal size to name: {error}", style=QUIET)]
    size, loss = plan.params.words("params", level), estimate(plan.loss.value, plan.loss.lower, plan.loss.upper, level)
    where = f"{size} on {si(plan.tokens.value)} tokens"
    text = f"compute-optimal at {scientific(budget)} FLOP: {where}, {fit.model.target} {loss}"
    return ["", Text(f"{text}, {reach(plan.extrapolation)}" if plan.extrapolation else text)]


def prediction(fit: Fit, predicted: Prediction, columns: Mapping[str, Any]) -> str:
    """Return predictions, one line a setting, each with its interval and how far it reaches."""
    shape, unit = predicted.mean.shape, fit.units.get(fit.model.target, "")
    settings = {name: np.broadcast_to(np.asarray(v, float), shape) for name, v in columns.items()}
    lines: list[RenderableType] = []
    ends = zip(predicted.mean, predicted.lower, predicted.upper, predicted.extrapolation, strict=True)
    for i, (mean, lower, upper, factor) in enumerate(ends):
        at = setting({name: float(v[i]) for name, v in settings.items()})
        value = estimate(float(mean), float(lower), float(upper), predicted.level, unit)
        lines.append(Text.assemble(f"{fit.model.target} ", (value, "bold"), f" at {at}"))
        lines.append(Text(f"  {reach(factor)}", style=WARNING if factor > FAR else QUIET))
    if predicted.outside and (predicted.extrapolation <= 1).all():
        lines.append(Text(f"  outside the range of {' and '.join(predicted.outside)}", style=WARNING))
    for name in predicted.outside:
        if len(set(fit.data.columns.get(name, ()))) == 1:
            only = f"all runs had {quantity(name, float(fit.data.columns[name][0]))}"
            lines.append(Text(f"  {only}: what others do is a guess, and the interval does not know it", style=WARNING))
    return render(*lines)


def comparison(compared: Comparison) -> str:
    """Return laws and simple rules by how well they predict the largest runs from the smaller ones, best first."""
    table = _table("", "held out>", "fitted>", "covers>", "weight>")
    rows = [(error, name, ("–", "–", "–"), QUIET) for name, error in compared.baselines.items()]
    for c in compared.candidates:
        covers = float(np.mean([cut.coverage[0.8] for cut in c.validation.cuts]))
        rows.append((c.validation.error, c.name, (percent(c.fitted_error), percent(covers), f"{c.weight:.2f}"), ""))
    for error, name, cells, style in sorted(rows, key=itemgetter(0)):
        table.add_row(name, percent(error), *cells, style=style)
    best = compared.candidates[0]
    reaches = times(max(cut.extrapolation for cut in best.validation.cuts))
    verdict = Text(f"{best.name} predicts the largest runs best (up to {reaches} beyond those it was fitted on).")
    if rule := compared.beaten_by:
        verdict = Text(f"No law here predicts the largest runs better than a simple rule ({rule[0]}).", style=BAD)
    note = "root mean square errors; held out: the largest runs; covers: share of them inside the 80 % band"
    left = [Text(f"{name} left out: {reason}", style=WARNING) for name, reason in compared.left_out.items()]
    return render(verdict, "", table, "", Text(note, style=QUIET), *left)


def outcomes(summary: Mapping[str, Any]) -> str:
    """Return the predictions of a `summary.json` beside what was measured."""
    forecasts = [Forecast.of(row) for row in summary["predictions"]]
    level = f"{percent(forecasts[0].level)} interval" if forecasts else ""
    table = _table("", "predicted>", level, "measured>", "error>", "")
    for f in forecasts:
        between = "" if f.lower is None or f.upper is None else interval(f.lower, f.upper)
        place = {True: ("inside", GOOD), False: ("outside", BAD), None: ("", "")}[f.inside]
        error = "" if f.relative_error is None else percent(f.relative_error, sign=True)
        measured = "–" if f.measured is None else f"{f.measured:#.4g}"
        table.add_row(f.name, significant(f.predicted, f.half_width), between, measured, error, Text(*place))
    alone = summary.get("baselines", {}).get("student", {}).get("trained alone")
    if alone is not None:
        table.add_row("student, alone", "", "", f"{alone:#.4g}", "", "", style=QUIET)
    return render(table)


def catalogue(laws: Sequence[Mapping[str, Any]]) -> str:
    """Return the laws that can be fitted, one a line: name and equation."""
    table = _table("law", "equation")
    for law in laws:
        table.add_row(str(law.get("law", law.get("name", ""))), str(law.get("equation", "")))
    return render(table)


def _table(*headers: str) -> Table:
    """A table without lines; a header that ends in > sets its column flush right."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style=QUIET)
    for header in headers:
        right = header.endswith(">")
        table.add_column(header.rstrip(">"), justify="right" if right else "left", no_wrap=right or not header)
    return table
