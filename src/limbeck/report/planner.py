"""What the page needs to predict by itself: the law as JavaScript, some of its draws, a run's noise, the sliders."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from limbeck.fitting import Fit
from limbeck.fitting.model import Array
from limbeck.fitting.prediction import percentile_interval
from limbeck.report.content import ReportContent
from limbeck.report.javascript import law_function, size_function
from limbeck.report.words import is_count, next_run
from limbeck.runs import COLUMNS

DRAWS, NOISE = 200, 25
"""Draws and noise quantiles that a page holds."""


@dataclass(frozen=True)
class Planner:
    """A planner for a page.

    Args:
        law, size: JavaScript functions `(p, x) => value` and `(x) => size`.
        data: plain numbers for the page's script.
        split: whether sliders for budget, size and tokens per parameter replace those of `params` and `tokens`.
    """

    law: str
    size: str
    data: dict[str, Any]
    split: bool


def planner(content: ReportContent, fit: Fit) -> Planner:
    """Return the planner of a fit. It starts at the first prediction's setting, else at a run 10× the largest."""
    model, columns = fit.model, fit.data.columns
    starts = [f.columns for f in content.predictions if set(f.columns) == set(model.columns)]
    start = starts[0] if starts else next_run(fit)
    split = {"params", "tokens"} <= set(model.columns)
    chosen = representative(fit)
    data = {
        "target": model.target, "unit": fit.units.get(model.target, ""), "level": content.level,
        "space": fit.loss.space, "parameters": fit.parameters, "split": split, "unique": content.unique_tokens,
        "draws": [{k: float(f"{v[i]:.9g}") for k, v in fit.draws.items()} for i in chosen],
        "noise": [float(f"{q:.6g}") for q in np.quantile(fit.noise, (np.arange(NOISE) + 0.5) / NOISE)],
        "stretch": stretch(fit, content.level),
        "largest": float(fit.sizes.max()),
        "columns": [_slider(name, columns[name], start[name]) for name in model.columns],
    }  # fmt: skip
    return Planner(law_function(model), size_function(model), data, split)


def representative(fit: Fit) -> list[int]:
    """Return at most `DRAWS` draws, evenly spaced in the order of what they predict for a larger run."""
    if not fit.draws:
        return []
    order = np.argsort(fit.values(**next_run(fit))[:, 0])
    count = min(DRAWS, len(order))
    return [int(order[int((k + 0.5) * len(order) / count)]) for k in range(count)]


def stretch(fit: Fit, level: float) -> float:
    """Return the factor by which `Fit.predict` widens the percentiles of simulated runs (small designs need it)."""
    if not fit.draws:
        return 1.0
    at = next_run(fit)
    low, high = percentile_interval(fit.simulate(**at)[:, 0], level)
    p = replace(fit, forced=True).predict(level, **at)
    lower, upper = float(p.lower[0]), float(p.upper[0])
    if fit.loss.space == "log":
        return float(np.log(upper / lower) / np.log(high / low))
    return float((upper - lower) / (high - low))


def _slider(name: str, values: Array, start: float) -> dict[str, Any]:
    count = is_count(name)
    low, high = float(values.min()), float(values.max())
    span = (low / 10, max(high, start) * 100) if count else (low - 0.25 * (high - low), high + 0.25 * (high - low))
    unit = COLUMNS[name].unit if name in COLUMNS else ""
    return {"name": name, "unit": unit, "low": span[0], "high": span[1], "start": start, "log": count}
