"""Candidate curves of two methods, fitted together and averaged by how well each form describes the runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from limbeck.fitting import Fit, Loss, Model, Parameter, aicc
from limbeck.fitting import fit as fit_model
from limbeck.fitting.model import Array
from limbeck.fitting.resampling import Method
from limbeck.laws import ShiftedPower
from limbeck.laws.loss import exponent
from limbeck.planning._points import Points
from limbeck.planning.allocation import best_params
from limbeck.planning.crossover import LogRatio
from limbeck.planning.estimate import Ensemble, Source

FORMS: dict[str, dict[str, float]] = {
    "power": {"E": 0.0, "x0": 0.0},
    "power with floor": {"x0": 0.0},
    "late power": {"E": 0.0},
    "late power with floor": {},
}
"""One curve per method: `shifted-power` with these parameters held."""
SHARED = "powers with one floor"
ONE_FLOOR = ("power", "late power", SHARED)
"""Forms in which the methods end at the same floor."""
NEGLIGIBLE = 0.01
"""Forms of less weight are left out."""
FARTHEST = 100.0
"""Most that a draw is stretched, so that one degree of freedom does not overflow."""

Rows = Callable[[Array], Array]
"""A curve by rows: takes scales [k], returns [1 + draws, k], the estimate first."""


@dataclass(frozen=True)
class Form:
    """One form of the curves and its share of the average."""

    name: str
    weight: float
    curves: Callable[[Array], tuple[Array, ...]]
    fits: tuple[Fit, ...] = ()


@dataclass(frozen=True)
class Mixture:
    """The curves of one or two methods under all forms, each form with draws in proportion to its weight."""

    forms: tuple[Form, ...]
    count: int

    def __call__(self, x: Array) -> Array:
        """Return the curves at scales [k] by rows, the average first: [methods, 1 + draws, k]."""
        each = [_matched(*form.curves(x)) for form in self.forms]
        share = np.cumsum([0.0, *(form.weight for form in self.forms)])
        counts = np.diff(np.round(share / share[-1] * self.count).astype(int))
        mean = sum(form.weight * curve[:, :1] for form, curve in zip(self.forms, each, strict=True))
        return np.concatenate([mean, *(c[:, 1 : 1 + n] for c, n in zip(each, counts, strict=True))], 1)


def _matched(*curves: Array) -> Array:
    """The curves with the same number of draws; one without any is repeated."""
    n = min((len(rows) for rows in curves if len(rows) > 1), default=1)
    return np.stack([np.broadcast_to(rows[:n], (n, rows.shape[1])) for rows in curves])


class SharedFloor(Model):
    """Two power laws with one floor; `second` (0 or 1) says whose level and exponent."""

    name = "shared-floor"
    columns = ("x", "second")
    target = "y"
    linear = ("E", "A", "B")
    parameters = (
        Parameter("E", log=True),
        Parameter("A", log=True, dimension={"x": "alpha"}),
        Parameter("B", log=True, dimension={"x": "beta"}),
        exponent("alpha", "exponent of the first"),
        exponent("beta", "exponent of the second"),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """E + A x^-alpha, or E + B x^-beta."""
        return p.E + (1 - x.second) * p.A * x.x**-p.alpha + x.second * p.B * x.x**-p.beta


def source_rows(source: Source, column: str, seed: int = 0, freedom: float = math.inf) -> Rows:
    """Return the curve of a source in one column; a law of size and data goes along its compute-optimal frontier.

    With finite degrees of freedom, deviations of the draws are stretched by sqrt(freedom / chi^2), so that few runs
    give Student's t rather than the normal.
    """
    if column == "flops" and set(source.model.columns) == {"params", "tokens"}:
        joint = Ensemble.of(source, "params", "tokens")
        return partial(_along_frontier, joint)
    single = Ensemble.of(source, column)
    log = isinstance(source, Fit) and source.loss.space == "log"
    return lambda x: stretched(single.loss(**{column: x}), freedom, log, seed)


def _along_frontier(joint: Ensemble, flops: Array) -> Array:
    params = best_params(joint, flops)
    return joint.loss(params=params, tokens=flops / (6 * params))


def stretched(rows: Array, freedom: float, log: bool, seed: int) -> Array:
    """Stretch the draws of a small design about the estimate in the first row."""
    if math.isinf(freedom):
        return rows
    factor = np.sqrt(freedom / np.random.default_rng([seed, 4]).chisquare(freedom, (len(rows), 1)))
    factor = np.minimum(factor, FARTHEST)
    factor[0] = 0.0
    return rows[:1] * (rows / rows[:1]) ** factor if log else rows[:1] + factor * (rows - rows[:1])


def fit_forms(methods: Sequence[Points], *, log: bool, count: int, seed: int) -> tuple[Form, ...]:
    """Fit every form that the runs of one or two methods can carry; weigh by exp(-AICc/2) of all residuals together.

    At common scales both methods are resampled alike, and the form without floors takes its draws from the line through
    the paired ratios.
    """
    loss = Loss(delta=math.inf, space="log" if log else "linear")
    n, distinct = sum(len(p.x) for p in methods), min(len(np.unique(p.x)) for p in methods)
    paired = len(methods) == 2 and np.array_equal(methods[0].x, methods[1].x)
    trials: dict[str, tuple[int, tuple[Fit, ...]]] = {}
    for name, held in FORMS.items():
        size = 4 - len(held)
        if name == "power" or (distinct > size and n > len(methods) * size + 2):
            each = [_alone(p, loss, seed + i * (not paired), held, count) for i, p in enumerate(methods)]
            trials[name] = len(methods) * size, tuple(each)
    if len(methods) == 2 and n > 7:
        trials[SHARED] = 5, (_together(methods, loss, seed, count),)
    score = {name: aicc(2 * sum(f.objective for f in fits), n, size) for name, (size, fits) in trials.items()}
    best = min(score.values())
    weights = {name: 1.0 if s == best else math.exp((best - s) / 2) for name, s in score.items()}
    kept = {name: weight for name, weight in weights.items() if weight > NEGLIGIBLE * sum(weights.values())}
    found = []
    for name, weight in kept.items():
        share, fits = weight / sum(kept.values()), trials[name][1]
        if name == SHARED:
            found.append(Form(name, share, partial(_shared, fits[0], log), fits))
            continue
        rows = [source_rows(f, "x", f.seed, max(f.degrees_of_freedom, 1)) for f in fits]
        if name == "power" and log and len(methods) == 2:
            common = np.intersect1d(methods[0].x, methods[1].x)
            if len(common) > 2:
                ratio = LogRatio.through(np.log(common), np.log(np.divide(*(p.at(common) for p in methods))))
                rows[0] = partial(_by_ratio, ratio, rows[1], seed)
        found.append(Form(name, share, partial(side_by_side, rows), fits))
    return tuple(found)


def side_by_side(curves: Sequence[Rows], x: Array) -> tuple[Array, ...]:
    """Return every curve at scales [k], by rows."""
    return tuple(rows(x) for rows in curves)


def _by_ratio(ratio: LogRatio, second: Rows, seed: int, x: Array) -> Array:
    """The first curve from the second and the line through their paired ratios."""
    rows = second(x)
    return rows * np.exp(ratio.rows(np.log(x), len(rows) - 1, seed))


def _alone(points: Points, loss: Loss, seed: int, held: dict[str, float], count: int) -> Fit:
    method: Method = "pairs" if len(np.unique(points.x)) > 5 - len(held) else "residual"
    law, columns = ShiftedPower("x", "y"), {"x": points.x}
    return fit_model(law, columns, points.y, loss=loss, fixed=held, bootstrap=count, seed=seed, method=method)


def _together(methods: Sequence[Points], loss: Loss, seed: int, count: int) -> Fit:
    x, y = (np.concatenate([getattr(p, name) for p in methods]) for name in ("x", "y"))
    columns = {"x": x, "second": np.repeat([0.0, 1.0], [len(p.x) for p in methods])}
    return fit_model(SharedFloor(), columns, y, loss=loss, bootstrap=count, seed=seed, method="residual")


def _shared(fit: Fit, log: bool, x: Array) -> tuple[Array, ...]:
    rows = Ensemble.of(fit, "x", "second")
    each = (rows.loss(x=x, second=which) for which in (0.0, 1.0))
    return tuple(stretched(rows, max(fit.degrees_of_freedom, 1), log, fit.seed) for rows in each)
