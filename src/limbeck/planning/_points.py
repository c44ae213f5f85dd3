"""From the runs of one method to the points that its curve is drawn through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from limbeck.errors import PlanningError, nearest
from limbeck.fitting.model import Array
from limbeck.fitting.picture import band_trace
from limbeck.laws import binned_frontier, pareto
from limbeck.planning.crossover import lower_envelope
from limbeck.runs import RunTable, read_runs
from limbeck.runs.quantities import quantity as words
from limbeck.runs.readers import refuse_mixture
from limbeck.runs.vocabulary import recognise

COLOURS = ("#2fa58c", "#8a55b5", "#3b82c4", "#e07b22", "#c43b6a", "#8a8f98")
ROW = "_row"
REUSE = ("tokens", "unique_tokens", "loss", "train_loss")
"""Columns that tell how often a training saw its data."""
DOMINATED = 0.3
"""Above this share of runs that cheaper ones beat, a frontier is suggested."""


@dataclass(frozen=True)
class Points:
    """Runs of one method, sorted by scale.

    Args:
        x, y: scale and loss, [n].
        column, quantity: what they are.
        log: whether y is a loss, which is compared by its logarithm, and not an error.
        notes: what was left out, and caveats, in words.
        reuse: tokens seen over unique tokens, and test minus training loss, of the largest run; None where not known.
        mistuned: loss that half a step of the sweep may cost.
    """

    x: Array
    y: Array
    column: str = "flops"
    quantity: str = "loss"
    log: bool = True
    notes: tuple[str, ...] = ()
    reuse: tuple[float, float] | None = None
    mistuned: float = 0.0

    def at(self, scales: Array) -> Array:
        """Return the geometric mean of the replicates at scales that were run, log-interpolated between them."""
        known, member = np.unique(self.x, return_inverse=True)
        means = np.bincount(member, np.log(self.y)) / np.bincount(member)
        return np.asarray(np.exp(np.interp(np.log(scales), np.log(known), means)))


def method_points(
    name: str, runs: Any, column: str = "flops", quantity: str | None = None, score: str | None = None,
    frontier: bool = False, sweep: Sequence[str] = (), skip_bad: bool = False,
) -> Points:  # fmt: skip
    """Read, choose and check the runs of one method.

    Args:
        name: of the method, for messages.
        runs: a table, a path or columns.
        column: the scale.
        quantity: what is compared, less is better: `loss`, or `error` where there is no loss.
        score: a column where more is better, from 0 to 1 or in percent, in place of `quantity`: 1 - score is compared.
        frontier: keep the best runs by compute only (`laws.binned_frontier`), for a dense grid of runs.
        sweep: columns that were tuned: the best setting at each scale is kept.
        skip_bad: leave rows out that lack a value.

    Raises:
        PlanningError: runs at fewer than three scales.
        RunsError: a column is missing, or a row is bad.
    """
    table = runs if isinstance(runs, RunTable) else read_runs(runs)
    quantity = quantity or ("error" if "error" in table.columns and "loss" not in table.columns else "loss")
    table = table.require(column, score or quantity, *sweep, skip_bad=skip_bad)
    x, y = table.column(column), table.column(score or quantity)
    notes: list[str] = []
    if score:
        y = 1 - y / (100.0 if y.max() > 1 else 1.0)
    reuse, mistuned, rows = None, 0.0, np.flatnonzero(y > 0)
    if len(rows) < len(y):
        notes.append(f"{name}: {len(y) - len(rows)} of {len(y)} rows left out: saturated, nothing is wrong there")
    if set(REUSE) <= set(table.columns):
        seen, unique, test, train = (table.column(c)[x.argmax()] for c in REUSE)
        reuse = float(seen / unique), float(test - train)
    if sweep:
        found = lower_envelope(x[rows], y[rows], {one: table.column(one)[rows] for one in sweep})
        notes += [f"{name}: {note}" for note in found.notes]
        rows, mistuned = rows[found.best], found.mistuned
    if frontier and len(rows):
        rows = rows[binned_frontier(x[rows], y[rows], smallest=x[rows].min() / 4096)]
    beaten = int(np.sum(~pareto(x[rows], y[rows])))
    if beaten > DOMINATED * len(rows) and len(np.unique(x[rows])) == len(rows):
        notes.append(f"{name}: cheaper runs beat {beaten} of {len(rows)}; --frontier keeps the best only")
    scales = np.unique(x[rows])
    if len(scales) < 3:
        line = f", all at {words(column, scales[0])} (a single iso-FLOP line)" if len(scales) == 1 else ""
        few = f"{name}: runs at {len(scales)} scale(s){line}; a curve needs 3, better 5. Add scales."
        raise PlanningError("\n".join([few, *notes]))
    rows = rows[np.argsort(x[rows], kind="stable")]
    what, log = (f"1 - {score}", False) if score else (quantity, quantity != "error")
    return Points(x[rows], y[rows], column, what, log, tuple(notes), reuse, mistuned)


def curve_traces(
    name: str, colour: str, x: Array, rows: Array, points: Points | None, level: float
) -> list[dict[str, Any]]:
    """Return one method as a picture: its runs as points, its curve [1 + draws, k] with a band, dashed beyond them."""
    low, high = np.quantile(rows[min(1, len(rows) - 1) :], ((1 - level) / 2, (1 + level) / 2), axis=0)
    end = x[-1] if points is None else points.x[-1]
    line = {"name": name, "legendgroup": name, "mode": "lines", "showlegend": points is None}
    traces = [band_trace(x, low, high, colour, name=name, legendgroup=name)]
    for part, dash in ((x <= end, "solid"), (x >= end, "dash")):
        traces.append(line | {"x": x[part], "y": rows[0, part], "line": {"color": colour, "dash": dash}})
        line["showlegend"] = False
    if points is not None:
        runs = {"x": points.x, "y": points.y, "mode": "markers", "marker": {"color": colour}, "showlegend": True}
        traces.append(line | runs)
    return traces


def split_methods(table: RunTable, by: Sequence[str], names: Sequence[str] | None = None) -> dict[str, RunTable]:
    """Return the runs of every method in a table that holds several.

    Args:
        table: read with `mix_setups=True`, where methods differ in a column of the set-up.
        by: columns whose values, joined by a blank, name a method.
        names: the methods to keep; all by default.

    Raises:
        PlanningError: an unknown column or method.
        RunsError: runs of one method differ in another column of the set-up.

    Example:
        >>> table = read_runs({"arm": ["a", "b"], "flops": [1e18, 1e18], "loss": [3.0, 3.1]})
        >>> {name: len(runs) for name, runs in split_methods(table, ["arm"]).items()}
        {'a': 1, 'b': 1}
    """
    columns = [name if name in table.columns else (recognise(name) or (name,))[0] for name in by]
    for name in columns:
        if name not in table.columns:
            known = f"{nearest(name, table.columns)} It has: {', '.join(table.columns)}."
            raise PlanningError(f'{table.source} has no column "{name}".{known}')
    parts = {}
    for key, rows in table.frame.with_columns(table.rows.alias(ROW)).group_by(columns, maintain_order=True):
        name = " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in key)
        refuse_mixture(rows.drop(columns, ROW), f"{table.source}, {name},")
        parts[name] = replace(table, frame=rows.drop(ROW), rows=rows[ROW])
    for name in names or ():
        if name not in parts:
            hint = f"{nearest(name, parts)} It has: {', '.join(parts)}."
            raise PlanningError(f'no method "{name}" in {table.source}.{hint}')
    return {name: parts[name] for name in names or parts}
