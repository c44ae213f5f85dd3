"""How far a law may be trusted: what it predicted of larger runs, beside what they measured, by how far it reached.

Every group of runs (a family, a data set) is cut at several sizes; the law is fitted below each cut and has to predict
every run above it. Collected over groups, tables and laws this is the calibration of limbeck's own promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck import laws
from limbeck.errors import LimbeckError, PlanningError
from limbeck.fitting import Fit
from limbeck.fitting.baselines import LAST_VALUE, smaller
from limbeck.fitting.holdout import CUTS, validate
from limbeck.fitting.picture import chart
from limbeck.fitting.plain import Plain
from limbeck.runs import RunTable, read_runs

if TYPE_CHECKING:
    import plotly.graph_objects as go

VALUES = 3
"""Different values that every column must have below a cut: with fewer, its term cannot be told from the floor."""
BINS = (1.0, 2.0, 4.0, 8.0, 16.0, 64.0, np.inf)
"""Ends of the bins of the extrapolation factor."""


@dataclass(frozen=True)
class Held(Plain):
    """One cut of one group under one law.

    Args:
        group, law: which.
        extrapolation: size of the largest run that was predicted over that of the largest fitted.
        runs: how many were predicted.
        error: mean absolute relative error of the law; `baseline` of the last value carried forward.
        bias: mean of prediction over measurement, minus 1, on the scale of the law's residuals.
        coverage: by nominal level, share of the predicted runs inside their interval.
    """

    group: str
    law: str
    extrapolation: float
    runs: int
    error: float
    baseline: float
    bias: float
    coverage: Mapping[float, float]


@dataclass(frozen=True)
class Calibration(Plain):
    """Predictions beside measurements.

    Args:
        held: every cut of every group under every law.
        refused: what was not fitted, and why, by group and law.
    """

    held: Sequence[Held]
    refused: Mapping[str, str] = field(default_factory=dict)

    def __add__(self, other: Calibration) -> Calibration:
        return Calibration([*self.held, *other.held], {**self.refused, **other.refused})

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each bin of the extrapolation factor: cuts count alike, whatever their runs."""
        found = []
        for low, high in pairwise(BINS):
            inside = [one for one in self.held if low < one.extrapolation <= high]
            if inside:
                levels = inside[0].coverage
                covers = {level: float(np.mean([one.coverage[level] for one in inside])) for level in levels}
                of_law, of_last = (float(np.median([getattr(one, k) for one in inside])) for k in ("error", "baseline"))
                groups = len({one.group for one in inside})
                found.append({
                    "from": low, "to": high, "cuts": len(inside), "groups": groups, "error": of_law,
                    "baseline": of_last, "bias": float(np.median([one.bias for one in inside])), "coverage": covers,
                })  # fmt: skip
        return found

    def summary(self) -> str:
        """Return the table by how far beyond the data, and by law; what was refused last."""
        levels = list(self.held[0].coverage)
        heads = "".join(f"{f'{100 * level:.0f} %':>8}" for level in levels)
        lines = [f"{'beyond the data':17}{'cuts':>6}{'groups':>8}{'error':>9}{'last value':>12}{'bias':>9}{heads}"]
        for row in self.rows():
            reach = f"up to {row['to']:g}×" if np.isfinite(row["to"]) else f"more than {row['from']:g}×"
            covers = "".join(f"{100 * row['coverage'][level]:>6.0f} %" for level in levels)
            lines.append(
                f"{reach:17}{row['cuts']:>6}{row['groups']:>8}{100 * row['error']:>7.2f} %"
                f"{100 * row['baseline']:>10.2f} %{100 * row['bias']:>+7.2f} %{covers}"
            )
        lines += ["", "error, last value, bias: medians over cuts; under 50 %, ...: share of runs inside that interval"]
        for law in dict.fromkeys(one.law for one in self.held):
            own = [one for one in self.held if one.law == law]
            error, wins = np.median([one.error for one in own]), np.mean([one.error < one.baseline for one in own])
            lines.append(f"{law}: median error {100 * error:.2f} %, better than the last value in {100 * wins:.0f} %")
        lines += [f"refused {name}: {why}" for name, why in list(self.refused.items())[:8]]
        if len(self.refused) > 8:
            lines.append(f"and {len(self.refused) - 8} more were refused")
        return "\n".join(lines)

    def plot(self) -> go.Figure:
        """Return coverage against how far beyond the data, nominal levels dashed."""
        rows: list[dict[str, Any]] = self.rows()
        traces: list[dict[str, Any]] = []
        at = [float(np.sqrt(row["from"] * min(row["to"], 4 * row["from"]))) for row in rows]
        for level in self.held[0].coverage:
            measured = [100 * row["coverage"][level] for row in rows]
            name = f"{100 * level:.0f} %"
            traces += [
                {"x": at, "y": measured, "name": name, "mode": "lines+markers"},
                {"x": at, "y": [100 * level] * len(at), "mode": "lines", "line": {"dash": "dash", "color": "#98a2b3"},
                 "showlegend": False},
            ]  # fmt: skip
        title = "How often intervals hold what they should, by how far they reach"
        return chart(title, "times beyond the largest fitted run", "runs inside, %", traces, log="x")


def calibrate(
    runs: RunTable | Any, law: str, *, by: str | None = None, name: str = "", cuts: Sequence[float] = CUTS,
    seed: int = 0,
) -> Calibration:  # fmt: skip
    """Fit below every cut of every group, predict above it.

    Args:
        runs: a run table, or what `read_runs` reads.
        law: by name; see `limbeck.laws.names()`.
        by: column whose values are the groups, each with a law of its own; None is one group.
        name: put before the names of groups.
        cuts: shares of the runs, smallest first, that are fitted.
        seed: of the resamples.

    Raises:
        PlanningError: no group can be cut at all, with the first reasons.
        RunsError: the table has no such column.

    Example:
        >>> tokens = [1e8 * 2**k for k in range(12)]
        >>> loss = [1.8 + 900 * d**-0.33 * (1 + 0.003 * (-1) ** k) for k, d in enumerate(tokens)]
        >>> found = calibrate({"tokens": tokens, "loss": loss}, "power-floor:tokens")
        >>> max(one.error for one in found.held) < 0.01
        True
    """
    table = runs if isinstance(runs, RunTable) else read_runs(runs, mix_setups=True)
    held, refused = [], {}
    if by is not None and by not in table.columns:
        raise PlanningError(f"there is no column {by} to group by: the table has {', '.join(table.columns)}")
    groups = [None] if by is None else sorted(set(table.frame[by].to_list()), key=str)
    for group in groups:
        label = " ".join(str(one) for one in (name, group) if one not in (None, "")) or "all runs"
        try:
            part = table if group is None else read_runs(table, where={str(by): group}, mix_setups=True)
            fit = laws.fit(law, part, bootstrap=0, seed=seed)
            known = [cut for cut in cuts if _identified(fit, cut)]
            if not known:
                raise PlanningError(f"below every cut a column has fewer than {VALUES} values")
            found = validate(fit, known)
        except LimbeckError as error:
            refused[f"{label}, {law}"] = " ".join(str(error).split())[:160]
            continue
        if not found.cuts:
            refused[f"{label}, {law}"] = found.skipped[0]
        for cut in found.cuts:
            last = cut.baselines[LAST_VALUE].mape
            held.append(Held(
                label, law, cut.extrapolation, cut.test, cut.score.mape, last, cut.score.bias, cut.coverage
            ))  # fmt: skip
    if not held:
        first = "; ".join(f"{label}: {why}" for label, why in list(refused.items())[:3])
        raise PlanningError(f"nothing can be held out. {first}")
    return Calibration(held, refused)


def _identified(fit: Fit, cut: float) -> bool:
    """Whether the runs below a cut vary enough for every term of the law."""
    train = smaller(fit.sizes, fit.data.clusters, cut)
    return all(len(np.unique(column[train])) >= VALUES for column in fit.data.columns.values())
