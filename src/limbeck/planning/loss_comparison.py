"""Losses compared over seeds: paired differences to a baseline, what is visible, and no order within noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import numpy as np
import polars as pl
from scipy.special import stdtrit

from limbeck.errors import PlanningError, nearest
from limbeck.fitting import Paired, holm, paired
from limbeck.fitting.picture import chart
from limbeck.planning._points import COLOURS
from limbeck.planning.estimate import Plan
from limbeck.runs import RunTable, read_runs

SETTING = ("setting", "dataset", "regime", "teacher", "student")
"""Columns that together name a setting, as far as the table has them."""
METRICS = {
    "accuracy": ("accuracy_percent", "accuracy"), "nll": ("test_nll_nats", "nll", "loss"),
    "ece": ("ece", "calibration_error"), "nll_fitted": ("nll_at_temperature", "loss_at_temperature"),
    "agreement": ("teacher_agreement_percent", "agreement"),
    "seconds": ("seconds",), "extra_params": ("extra_params",),
}  # fmt: skip
"""What is averaged, and the columns that may hold it."""
ALPHA = 0.05
"""Level of the verdicts, after Holm's correction."""
FEWEST = 3
"""Seeds that a verdict needs: two equal differences may be chance."""
COLLAPSED = 0.25
"""Share of the way from chance to the best method's median below which a run counts as diverged."""
Scores = Mapping[float, float]
"""Accuracy by seed."""
DIVERGED, UNSEEN = "diverged", "not visible at this size"


@dataclass(frozen=True)
class MethodResult:
    """One method in one setting.

    Args:
        method: its name.
        seeds: runs that count.
        means: of accuracy (percent), nll (nats), ece, nll_fitted (nll at a fitted temperature), agreement (percent),
            seconds, extra_params (trained and left behind), as far as the table has them.
        difference: accuracy minus the baseline's on the same seeds, in points; None for the baseline.
        holm: p-value of the difference, corrected for the number of methods; None where no verdict is given.
        visible_from: difference that would be visible whatever the other methods do: t(1 - 0.025 / m) standard errors.
        verdict: better, worse, not visible at this size, diverged, too few seeds, or baseline.
        diverged: runs left out of the means and differences, in words.
    """

    method: str
    seeds: int
    means: dict[str, float]
    difference: Paired | None
    holm: float | None
    visible_from: float | None
    verdict: str
    diverged: tuple[str, ...] = ()


@dataclass(frozen=True)
class SettingResult:
    """All methods in one setting.

    Args:
        setting: data, labels, networks.
        baseline: as it is called here.
        results: in the order of the mean accuracy, diverged methods last.
        groups: methods that cannot be told from the best of their group, the best group first.
        visible_from: of the median method, in points.
        seeds: of the baseline.
    """

    setting: str
    baseline: str
    results: tuple[MethodResult, ...]
    groups: tuple[tuple[str, ...], ...]
    visible_from: float | None
    seeds: int

    def lines(self) -> Iterator[str]:
        """Yield the setting as text."""
        wide = max(len(r.method) for r in self.results)
        more = [name for name in self.results[0].means if name != "accuracy"]
        group = {name: k for k, names in enumerate(self.groups, 1) for name in names}
        yield f"{self.setting} (seeds: {self.seeds})"
        heads = "".join(f"{name.replace('extra_', '+ ').replace('_', ' '):>11}" for name in more)
        yield f"{'':{wide}}  group  accuracy{f'minus {self.baseline}':>16}{'p (Holm)':>10}{heads}"
        for r in self.results:
            d, numbers = r.difference, "".join(f"{r.means[name]:>11.4g}" for name in more)
            gap, p = f"{d.mean:+.2f} ± {d.error:.2f}" if d else "", "" if r.holm is None else f"{r.holm:.2g}"
            alone = f" (alone: p {d.p:.2g})" if d and r.verdict == UNSEEN and d.p < ALPHA else ""
            words = "; ".join([r.verdict + alone, *r.diverged])
            start = f"{r.method:{wide}}  {group.get(r.method, '-'):>5}{r.means['accuracy']:>10.2f}"
            yield f"{start}{gap:>16}{p:>10}{numbers}  {words}"
        if self.visible_from is not None:
            yield f"{self.seeds} seeds show differences from about {self.visible_from:.2g} points (median method)"


@dataclass(frozen=True)
class LossComparison(Plan):
    """Losses compared in every setting.

    Args:
        settings: in the order of the table.
        notes: what was left out, and caveats, in words.
    """

    settings: tuple[SettingResult, ...]
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        return [line for one in self.settings for line in (*one.lines(), "")]

    def plot(self) -> Any:
        """Draw the paired differences with their intervals, a colour for every setting."""
        traces, verdicts = [], [r.verdict for one in self.settings for r in one.results]
        for one, colour in zip(self.settings, cycle(COLOURS)):
            found = {r.method: r.difference for r in one.results if r.difference}
            halves, means = [d.upper - d.mean for d in found.values()], [d.mean for d in found.values()]
            marks = {"mode": "markers", "marker": {"color": colour}, "error_y": {"array": halves}}
            traces.append({"x": [*found], "y": means, "name": one.setting, **marks})
        base = self.settings[0].baseline
        title = f"Against {base}: {', '.join(f'{verdicts.count(v)} {v}' for v in ('better', 'worse', UNSEEN))}"
        y = f"accuracy minus {base}, points (paired, 95 % before Holm)"
        return chart(title, "", y, traces, scattermode="group").add_hline(0, line_dash="dot")


def compare_losses(runs: Any, baseline: str = "CE") -> LossComparison:
    """Compare losses over seeds, in every setting for itself.

    `d_s = accuracy_s(method) - accuracy_s(baseline)` on the same seed s; Student's t on d, Holm over the methods of a
    setting. Groups: the best mean and whatever is not visibly below it (paired, Holm), then again for the rest. The
    best is chosen from the same data, so that a group may still be too small, never a proof of equality.

    A run diverged if its accuracy is not finite, less than half of its method's median, or less than a quarter of the
    way from chance (0 without a column `classes`) to the best method's median. It leaves means and differences, and its
    method gets the verdict `diverged` in place of a rank.

    Args:
        runs: what `read_runs` reads, a row per run: `method`, `seed` (the same seed means the same split, teacher,
            initialisation and batch order), `accuracy_percent`; also `dataset` and `regime` (or `setting`), `nll` or
            `test_nll_nats`, `ece`, `teacher_agreement_percent`, `seconds`, `extra_params`, `classes`.
        baseline: the method to beat.

    Raises:
        PlanningError: columns are missing, a run is there twice, or no setting has the baseline.
        RunsError: no seeds.

    Example:
        >>> rows = [{"method": m, "seed": s, "accuracy_percent": 90 + s + (m == "KD") * (5 + s / 9)}
        ...         for m in ("CE", "KD") for s in range(5)]
        >>> one = compare_losses(rows).settings[0]
        >>> [(r.method, r.verdict) for r in one.results], round(one.results[0].difference.mean, 2)
        ([('KD', 'better'), ('CE', 'baseline')], 5.22)
    """
    table = read_runs(runs, mix_setups=True).require("seed")
    told = "group: what cannot be told from the best of its group (paired, Holm)"
    settings, notes = [], [told, *(f"dropped {bad.row}: {bad.column} {bad.reason}" for bad in table.dropped)]
    every: list[str] = []
    for (name,), rows in _results(table).group_by("setting", maintain_order=True):
        methods = rows["method"].unique(maintain_order=True).to_list()
        base = next((one for one in methods if one.casefold() == baseline.casefold()), None)
        every += methods
        if base is None:
            notes.append(f"{name}: no method {baseline}, not compared")
        else:
            settings.append(_compare(str(name), rows, methods, base))
    if not settings:
        known = f"{nearest(baseline, every)} There are: {', '.join(dict.fromkeys(every))}."
        raise PlanningError(f'{table.source} has no method "{baseline}" to compare with.{known}')
    for one in settings:
        nll = {r.method: r.means.get("nll", math.nan) for r in one.results}
        ahead = [r.method for r in one.results if r.difference and r.difference.mean > 0]
        if spoilt := [name for name in ahead if nll[name] > 1.1 * nll[one.baseline]]:
            above = f"{', '.join(spoilt)}: more accurate than {one.baseline}, NLL more than 10 % above it"
            notes.append(f"{one.setting}: {above}. Fit a temperature before the probabilities are used.")
    return LossComparison(tuple(settings), tuple(notes))


def _results(table: RunTable) -> pl.DataFrame:
    """Setting, method, seed and the metrics, under one name each."""
    frame = table.frame
    found = {name: next((c for c in columns if c in frame.columns), None) for name, columns in METRICS.items()}
    if missing := [c for c in ("method", "accuracy") if not found.get(c, c in frame.columns)]:
        columns = f"It has: {', '.join(frame.columns)}. Name it with mapping (--map theirs=ours)."
        raise PlanningError(f"{table.source} has no column {' and no column '.join(missing)}. {columns}")
    named = [pl.col(c).cast(pl.String) for c in SETTING if c in frame.columns] or [pl.lit(table.source)]
    chance = (100 / pl.col("classes") if "classes" in frame.columns else pl.lit(0.0)).alias("chance")
    numbers = [pl.col(c).cast(pl.Float64, strict=False).fill_nan(None).alias(name) for name, c in found.items() if c]
    key = pl.concat_str(named, separator=", ", ignore_nulls=True).alias("setting")
    rows = frame.select(key, pl.col("method").cast(pl.String).fill_null("no name"), "seed", chance, *numbers)
    if rows.select((pl.col("accuracy") <= 1).all()).item():  # fractions
        rows = rows.with_columns(pl.col("accuracy") * 100)
    if len(twice := rows.filter(rows.select("setting", "method", "seed").is_duplicated())):
        setting, method, seed = twice.row(0)[:3]
        raise PlanningError(f"{table.source} has {method}, seed {seed:g}, {setting} more than once. Keep one run.")
    return rows


def _compare(setting: str, rows: pl.DataFrame, methods: list[str], base: str) -> SettingResult:
    accuracy, chance = pl.col("accuracy"), pl.col("chance")
    middle = accuracy.median().over("method")
    floor = pl.max_horizontal(middle / 2, chance + COLLAPSED * (middle.max() - chance))
    rows = rows.with_columns((accuracy >= floor).fill_null(False).alias("kept"))
    its = {name: rows.filter(pl.col("method") == name) for name in methods}
    lost = {name: one.filter(~pl.col("kept")).select("seed", "accuracy").rows() for name, one in its.items()}
    kept = {name: one.filter("kept") for name, one in its.items()}
    scores = {name: dict(one.select("seed", "accuracy").rows()) for name, one in kept.items()}
    found = {name: _difference(scores[name], scores[base]) for name in methods if name != base}
    tested = {name: d for name, d in found.items() if d and d.pairs >= FEWEST and not lost[name]}
    corrected = dict(zip(tested, holm([d.p for d in tested.values()]).tolist(), strict=True))
    steps = {name: float(stdtrit(d.pairs - 1, 1 - ALPHA / 2 / len(tested))) * d.error for name, d in tested.items()}
    results = []
    for name in methods:
        verdict = "baseline" if name == base else DIVERGED if lost[name] else "too few seeds"
        if name in tested:
            verdict = UNSEEN if corrected[name] >= ALPHA else "better" if tested[name].mean > 0 else "worse"
        words = tuple(f"seed {seed:g} ({'NaN' if x is None else f'{x:.4g} %'})" for seed, x in lost[name])
        means = kept[name].select(one for one in METRICS if one in rows.columns).mean().fill_null(math.nan)
        one = found.get(name), corrected.get(name), steps.get(name), verdict, words
        results.append(MethodResult(name, len(kept[name]), means.row(0, named=True), *one))
    results.sort(key=lambda r: (bool(r.diverged), -np.nan_to_num(r.means["accuracy"])))
    groups = tuple(_groups({r.method: scores[r.method] for r in results if not r.diverged and r.seeds}))
    typical = float(np.median(list(steps.values()))) if steps else None
    return SettingResult(setting, base, tuple(results), groups, typical, len(kept[base]))


def _difference(one: Scores, other: Scores) -> Paired | None:
    gaps = [value - other[seed] for seed, value in one.items() if seed in other]
    return paired(gaps) if len(gaps) > 1 else None


def _groups(kept: Mapping[str, Scores]) -> Iterator[tuple[str, ...]]:
    """Methods, best first, cut where the next one is visibly below the best of its group."""
    left = dict(kept)
    while left:
        best, *others = left
        gaps = [_difference(left[best], left[name]) for name in others]
        p = holm([d.p if d and d.pairs >= FEWEST else 1.0 for d in gaps])
        group = (best, *(name for name, value in zip(others, p, strict=True) if value >= ALPHA))
        yield group
        left = {name: row for name, row in left.items() if name not in group}
