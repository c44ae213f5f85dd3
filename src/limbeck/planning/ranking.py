"""Many methods ranked at a scale beyond their runs, and how early on the ladder the order could have been known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import reduce
from itertools import cycle
from typing import Any

import numpy as np

from limbeck.errors import PlanningError
from limbeck.fitting.picture import chart
from limbeck.planning._forms import Mixture, fit_forms
from limbeck.planning._points import COLOURS, Points, curve_traces, method_points
from limbeck.planning.crossover import decision_accuracy
from limbeck.planning.estimate import Estimate, Plan
from limbeck.runs.quantities import number, quantity

KNOWN = 0.9
"""Probability with which an order counts as known."""


@dataclass(frozen=True)
class Ranking(Plan):
    """Methods in the order of their expected loss at a target.

    Args:
        names: best first.
        at, column, quantity: the target scale, and what is compared.
        loss: of the mean run of each method there.
        better: probability that method i is better than method j, [method, method].
        accuracy: common scale -> share of pairs that are in the target's order there.
        rung: smallest common scale whose order is the target's with probability 0.9, None where none is.
        notes: caveats, in words.
        curves, points: of each method, for the picture.
    """

    names: tuple[str, ...]
    at: float
    column: str
    quantity: str
    loss: tuple[Estimate, ...]
    better: tuple[tuple[float, ...], ...]
    accuracy: dict[float, Estimate]
    rung: float | None
    notes: tuple[str, ...]
    level: float = 0.8
    curves: tuple[Mixture, ...] = ()
    points: tuple[Points, ...] = ()

    def _lines(self) -> list[str]:
        wide = max(map(len, self.names)) + 2
        lines = [f"{self.names[0]} comes first of {len(self.names)} at {quantity(self.column, self.at)}"]
        for i, (name, loss) in enumerate(zip(self.names, self.loss, strict=True)):
            then = f"better than the next with P = {100 * self.better[i][i + 1]:.0f} %" if self.names[i + 1 :] else ""
            lines.append(f"{name:<{wide}}{self.quantity} {number(self.quantity, loss.value)}  {then}".rstrip())
        if self.accuracy:
            low, high = min(self.accuracy), max(self.accuracy)
            ends = (f"{100 * self.accuracy[x].value:.0f} % at {quantity(self.column, x)}" for x in (low, high))
            early = quantity(self.column, self.rung) if self.rung else "no scale that was run"
            lines.append(f"pairs already in this order: {' and '.join(ends)}; the whole order is known from {early}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words."""
        record = asdict(replace(self, curves=(), points=()))
        record["accuracy"] = [{"at": x, **e.to_dict()} for x, e in self.accuracy.items()]
        return {name: value for name, value in record.items() if name not in ("curves", "points")}

    def plot(self) -> Any:
        """Draw the runs and the curve of every method, dashed beyond its runs, in the order of the ranking."""
        ends = [x for p in self.points for x in (p.x[0], p.x[-1])]
        x, traces = np.geomspace(min(ends), max(*ends, self.at), 97), []
        for name, curve, points, colour in zip(self.names, self.curves, self.points, cycle(COLOURS)):
            traces += curve_traces(name, colour, x, curve(x)[0], points, self.level)
        title = f"{self.names[0]} comes first of {len(self.names)} at {quantity(self.column, self.at)}"
        return chart(title, self.column, self.quantity, traces, log="xy").add_vline(self.at, line_dash="dot")


def rank_methods(
    methods: Mapping[str, Any], at: float, *, bootstrap: int = 400, seed: int = 0, level: float = 0.8, **choose: Any
) -> Ranking:
    """Rank methods at a scale beyond their runs, by curves whose form is averaged over.

    Args:
        methods: names with their runs, as for `compare_methods`.
        at: target scale.
        bootstrap, seed, level, choose: as for `compare_methods`.

    Raises:
        PlanningError: fewer than two methods with runs at three scales; others are left out with a note.
        RunsError: a column is missing, or a row is bad.

    Source: Rethinking Conventional Wisdom in Machine Learning: From Generalization to Scaling (Xiao, 2024, arXiv
    2409.15156) asks the question; the apparatus is reconstructed.

    Example:
        >>> c = np.array([1e17, 1e18, 1e19, 1e20])
        >>> runs = {name: {"flops": c, "loss": a * c**-0.05} for name, a in {"a": 10, "b": 9, "c": 12}.items()}
        >>> rank_methods(runs, 1e21).names
        ('b', 'a', 'c')
    """
    found: dict[str, Points] = {}
    left: dict[str, str] = {}
    for name, runs in methods.items():
        try:
            found[name] = method_points(name, runs, **choose)
        except PlanningError as error:
            left[name] = str(error)
    if len(found) < 2:
        raise PlanningError("\n".join(["fewer than two methods can be ranked.", *left.values()]))
    fitted = (fit_forms([one], log=one.log, count=bootstrap, seed=seed + k) for k, one in enumerate(found.values()))
    curves = [Mixture(forms, bootstrap) for forms in fitted]
    rows = [curve(np.array([float(at)]))[0, :, 0] for curve in curves]
    values = np.array([row[: min(map(len, rows))] for row in rows])
    order = np.argsort(values[:, 0])
    names, points, values = [[*found][k] for k in order], [[*found.values()][k] for k in order], values[order]
    draws, common = values[:, 1:], reduce(np.intersect1d, [p.x for p in points])
    seen = np.array([p.at(common) for p in points])  # [methods, common scales]
    same = (np.argsort(draws, axis=0)[:, :, None] == np.argsort(seen, axis=0)[:, None]).all(0).mean(0)
    notes = [f"left out, runs at fewer than three scales: {', '.join(left)}"] if left else []
    loss, better = Estimate.each(level, *values), (draws[:, None] < draws[None]).mean(2).tolist()
    early = {float(x): decision_accuracy(y, values[:, 0], level=level) for x, y in zip(common, seen.T, strict=True)}
    known = next((float(x) for x, p in zip(common, same, strict=True) if p >= KNOWN), None)
    told = (*notes, *(note for p in points for note in p.notes))
    return Ranking(
        tuple(names), float(at), points[0].column, points[0].quantity, tuple(loss), tuple(map(tuple, better)), early,
        known, told, level, tuple(curves[k] for k in order), tuple(points),
    )  # fmt: skip
