"""Where the next unit of money goes, when what counts is data that the training never saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from limbeck.errors import PlanningError
from limbeck.fitting import Interval
from limbeck.fitting.picture import chart, points_trace
from limbeck.laws.time_series import SplitLaw, slope_difference, slope_ratio, split_law
from limbeck.planning._points import COLOURS
from limbeck.planning.estimate import Plan
from limbeck.runs import read_runs


@dataclass(frozen=True)
class SplitRow:
    """One split along one scale.

    Args:
        scale, split: names of the columns.
        law: of the split.
        ratio: its alpha over that of the first split, from the same runs; None for the first split itself.
        verdict: `scales alike`, `specialises` (flatter than the first split), `steeper` or `undecided`.
        x, loss: the runs behind it.
    """

    scale: str
    split: str
    law: SplitLaw
    ratio: Interval | None = None
    verdict: str = ""
    x: tuple[float, ...] = ()
    loss: tuple[float, ...] = ()


@dataclass(frozen=True)
class SplitPlan(Plan):
    """How each split scales, and which scale to pay for.

    Args:
        rows: one per scale and split.
        advice: for each split, the scale whose doubling lowers its loss most; None where they cannot be told apart.
        level: nominal coverage of the intervals.
        notes: what limits the answer, in words.
    """

    rows: tuple[SplitRow, ...]
    advice: dict[str, str | None]
    level: float
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        width = max(len(row.split) for row in self.rows) + 2
        band = f"({100 * self.level:.0f} %)"
        lines = [f"{'':10}{'':{width}}{f'alpha {band}':<18}{'10× buys':>9}   against {self.rows[0].split} {band}"]
        for row in self.rows:
            alpha, r, gain = row.law.interval(self.level), row.ratio, 100 * row.law.gain(10)
            ratio = f"{r.value:.2f}× ({r.lower:.2f} – {r.upper:.2f}): {row.verdict}" if r else ""
            steep = f"{alpha.value:.4f} ± {alpha.upper - alpha.value:.4f}"
            lines.append(f"{row.scale:10}{row.split:{width}}{steep:<18}{gain:>7.1f} %   {ratio}".rstrip())
        for split, scale in self.advice.items():
            lines.append(f"{split}: {f'double the {scale}' if scale else 'the scales cannot be told apart'}")
        return lines

    def plot(self) -> Any:
        """Draw the runs and the law of every split along every scale."""
        splits, scales = (list(dict.fromkeys(getattr(row, name) for row in self.rows)) for name in ("split", "scale"))
        traces: list[dict[str, Any]] = []
        for row in self.rows:
            colour = COLOURS[splits.index(row.split) % len(COLOURS)]
            x = np.array([min(row.x), max(row.x)])
            dash = ("solid", "dash", "dot")[scales.index(row.scale) % 3]
            law = {"x": x, "y": row.law.trend.value(x), "mode": "lines", "name": f"{row.split}, {row.scale}"}
            traces += [law | {"line": {"color": colour, "dash": dash}}, points_trace(row.x, row.loss, colour, [])]
            traces[-1] |= {"showlegend": False, "hovertemplate": None}
        found = [f"{split} {row.verdict}" for split in splits[1:] for row in self.rows if row.split == split][:4]
        title = f"Against {splits[0]}: {', '.join(dict.fromkeys(found))}" if found else f"Loss of {splits[0]}"
        return chart(title, ", ".join(scales), "loss", traces, log="xy")

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words."""
        more = ({"alpha": row.law.interval(self.level).to_dict(), "log10_x0": row.law.log10_x0} for row in self.rows)
        return super().to_dict() | {"rows": [asdict(row) | one for row, one in zip(self.rows, more, strict=True)]}


def compare_splits(
    runs: Any, splits: Sequence[str], *, scales: Sequence[str] = ("params", "samples"), level: float = 0.8
) -> SplitPlan:
    """Fit L = (x0/x)^alpha to every split along every scale, and say which splits scale alike and what to pay for.

    Along one scale only the runs count in which the other scales have their largest value, as in the source. Doubling
    the size or the data costs the same, twice the compute, so the steeper one is the better buy. Where sizes and data
    vary together, fit `kaplan` to each split instead.

    Args:
        runs: what `read_runs` reads: one row per run, with a column per scale and per split.
        splits: columns of losses, that of the training sources (in distribution) first. Cells may be empty.
        scales: columns to compare; those that the table lacks are passed over.
        level: nominal coverage.

    Raises:
        PlanningError: no scale has three values among the runs that count.
        FittingError: a loss at or below zero.

    Source: Towards Neural Scaling Laws for Time Series Foundation Models (Yao et al., 2024, arXiv 2410.12360).

    Example:
        >>> runs = {"params": [1e6, 1e7, 1e8, 1e9], "id": [2.0, 1.7, 1.4, 1.2], "ood": [3.0, 2.9, 2.75, 2.65]}
        >>> plan = compare_splits(runs, ["id", "ood"])
        >>> [(row.split, row.verdict) for row in plan.rows], plan.advice
        ([('id', ''), ('ood', 'specialises')], {'id': 'params', 'ood': 'params'})
    """
    table = read_runs(runs)
    present = [name for name in scales if name in table.columns]
    table = table.require(*(present or scales))
    sizes, losses = ({name: table.column(name) for name in names} for names in (present, splits))
    rows, notes = [], []
    for name in present:
        others = [sizes[o] == sizes[o].max() for o in present if o != name]
        kept = np.all(others, axis=0) if others else np.ones(len(table), bool)
        x = sizes[name][kept]
        for split in splits:
            reference, loss = losses[splits[0]][kept], losses[split][kept]
            if len(np.unique(x[np.isfinite(loss) & np.isfinite(reference)])) < 3:
                notes.append(f"{name}, {split}: fewer than three runs that differ in {name} alone")
                continue
            if np.nanmax(loss) == np.nanmin(loss):
                notes.append(f"{name}, {split}: the same loss everywhere, nothing to extrapolate")
                continue
            alone = split == splits[0] or np.nanmax(reference) == np.nanmin(reference)
            ratio = None if alone else slope_ratio(x, reference, loss, level=level)
            said = "" if ratio is None else verdict(ratio)
            rows.append(SplitRow(name, split, split_law(x, loss), ratio, said, tuple(x.tolist()), tuple(loss.tolist())))
    if not rows:
        needed = f"three or more runs are needed along a scale ({', '.join(scales)}), the others at their largest value"
        raise PlanningError("\n".join([f"no law to compare in {table.source}: {needed}.", *notes]))
    advice = {split: _steepest([row for row in rows if row.split == split], level) for split in splits}
    return SplitPlan(tuple(rows), advice, level, tuple(notes))


def verdict(ratio: Interval) -> str:
    """Return what the interval of alpha_other / alpha_reference says.

    Example:
        >>> [verdict(Interval(v, v - 0.3, v + 0.3, 0.8)) for v in (0.4, 0.9, 1.5)]
        ['specialises', 'scales alike', 'steeper']
    """
    if ratio.upper < 1:
        return "specialises"
    if ratio.lower > 1:
        return "steeper"
    return "undecided" if ratio.lower < 0 else "scales alike"


def _steepest(rows: list[SplitRow], level: float) -> str | None:
    """The scale with the largest alpha, if its lead over the next one is clear."""
    if not rows:
        return None
    first, *others = sorted(rows, key=lambda row: -row.law.alpha)
    clear = all(slope_difference(first.law, other.law, level=level).lower > 0 for other in others)
    return first.scale if clear else None
