"""Which regime is a curve in? Its exponent is 1 where the variance about its limit rules, its own where it does not."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError, RunsError
from limbeck.fitting import SQUARED, aicc, fit, profile
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.fitting.plain import Plain
from limbeck.laws import PowerFloor
from limbeck.runs import RunTable
from limbeck.runs.quantities import quantity

PEAK = 0.3  # |ln(n / other)| that is never fitted
ONE, NARROW = (0.9, 1.1), (0.5, 2.0)  # exponents that count as 1, and ends of an interval that says so
LEAST = 6  # distinct sizes of a curve: three parameters, the noise, and two to judge by


@dataclass(frozen=True)
class Regime:
    """What one curve, on one side of the interpolation peak, says.

    Args:
        label: "variance-limited", "resolution-limited", "plateau", "interpolation peak" or "undetermined".
        exponent: alpha of L = L_inf + c n^-alpha; None where nothing was fitted.
        lower, upper: its profile interval; None where the curve does not bound it.
        limit: L_inf, fitted or given.
        gain: AICc with alpha = 1 minus AICc with alpha free; above 2 the curve wants its own exponent.
        points: how many were fitted.
        span: smallest and largest n that were fitted.
        note: the reason, and what to do where the answer is open.
        name: of the curve.
    """

    label: str
    exponent: float | None
    lower: float | None
    upper: float | None
    limit: float | None
    gain: float | None
    points: int
    span: tuple[float, float]
    note: str
    name: str = ""

    def words(self) -> str:
        """Return exponent, interval and regime as one line."""
        if self.exponent is None:
            return f"{'–':>5} {'':15} {self.label}"
        low, high = ("…" if end is None else f"{end:.2f}" for end in (self.lower, self.upper))
        return f"{self.exponent:>5.2f} {f'({low} – {high})':15} {self.label}"


def classify_regime(
    n: ArrayLike, loss: ArrayLike, *, other: float | None = None, limit: float | None = None, level: float = 0.95,
    name: str = "",
) -> tuple[Regime, ...]:  # fmt: skip
    """Return the regime of a curve on each side of its interpolation peak.

    L = L_inf + c n^-alpha is fitted with alpha free and with alpha = 1. Where the interval of alpha
    lies in 0.5 to 2 and reaches 0.9 to 1.1, the curve is variance-limited: every smooth limit is approached so. Where
    it lies below 0.9 and its exponent gains more than 2 in AICc, it is resolution-limited. Where a constant is as good
    as a line, it is a plateau.

    Args:
        n: samples, or width or features (the square root of a parameter count), [k].
        loss: at each, [k]; several rows of one n are seeds.
        other: the resource that is fixed, in the same units. Points within |ln(n/other)| < 0.3 are left out and nothing
            is fitted across them; the next order of the random-feature surface is taken out of the others: n - other
            takes the place of n above, L (1 - n/other) that of L below.
        limit: the loss at n = infinity, measured on the same examples; fitted if it is not given.
        level: of the interval.
        name: of the curve.

    Raises:
        FittingError: values that are not positive, or a limit that a loss falls below.

    Source: Explaining Neural Scaling Laws (Bahri, Dyer, Kaplan, Lee, Sharma, 2021, arXiv 2102.06701); the classifier is
    ours.

    Example:
        >>> n = np.geomspace(10, 1e4, 9)
        >>> classify_regime(n, 0.2 + 3 / n)[0].label, classify_regime(n, 0.2 + 3 / n**0.4)[0].label
        ('variance-limited', 'resolution-limited')
    """
    x, y = np.asarray(n, float), np.asarray(loss, float)
    if x.shape != y.shape or not ((x > 0) & (y > 0) & np.isfinite(x * y)).all():
        raise FittingError(f"a curve needs positive n and loss of one length; given {x.shape} and {y.shape}.")
    if limit is not None and not 0 <= limit < y.min():
        raise FittingError(f"the limit {limit:g} must lie below every loss; the smallest is {y.min():g}.")
    above, near = x > (other or 0), np.zeros(len(x), bool)
    if other:
        near = np.abs(np.log(x / other)) < PEAK
        y = np.where(above, y, y * (1 - x / other))
    found = []
    for side in (~above & ~near, above & ~near):
        if len(np.unique(x[side])) >= LEAST:
            beyond = bool(other) and bool(above[side].all())
            end = limit if beyond or not other else None  # below the peak the limit is not ahead
            found.append(_classify(x[side], y[side], other if other and beyond else 0.0, end, level, name))
    if found:
        return tuple(found)
    label = "interpolation peak" if near.all() else "undetermined"
    note = f"{len(np.unique(x[~near]))} sizes" + (" away from the peak" if other else "")
    span = (float(x.min()), float(x.max()))
    return (Regime(label, None, None, None, limit, None, 0, span, f"{note}: {LEAST} on one side are needed", name),)


def _classify(x: Array, y: Array, shift: float, limit: float | None, level: float, name: str) -> Regime:
    known = {} if limit is None else {"E": limit}
    free, one = (
        fit(PowerFloor("samples"), {"samples": x - shift}, y, loss=SQUARED, fixed={**known, **held}, bootstrap=0)
        for held in ({}, {"alpha": 1.0})
    )
    count = 3 - len(known)
    scores = [aicc(2 * free.objective, len(x), count), aicc(2 * one.objective, len(x), count - 1)]
    log_x, log_y = np.log(x - shift), np.log(y)
    rest = [log_y - np.polyval(np.polyfit(log_x, log_y, degree), log_x) for degree in (0, 1)]
    constant, line = (aicc(float(np.sum(r**2)), len(x), degree + 1) for degree, r in enumerate(rest))
    alpha, gain, end = free.parameters["alpha"], scores[1] - scores[0], free.parameters["E"]
    exact = free.objective < 1e-20 * len(x)
    lower, upper = (alpha, alpha) if exact else profile(free, "alpha", robust=False).interval(level)
    low, high = (0.0 if lower is None else lower), (math.inf if upper is None else upper)
    if constant <= min(*scores, line):
        label, note = "plateau", "a constant fits as well: more of this resource does not help at these sizes"
    elif NARROW[0] <= low <= ONE[1] and ONE[0] <= high <= NARROW[1]:
        label = "variance-limited"
        note = "the exponent 1 is that of every curve near its limit: do not extrapolate it beyond the other resource"
    elif high < ONE[0] and gain > 2:
        label, note = "resolution-limited", "the exponent belongs to the data and the model"
    elif low > ONE[1] and gain > 2:
        label, note = "undetermined", "steeper than 1: the limit is too high, or the points are too near the peak"
    else:
        label, note = "undetermined", "the exponent is not known well enough: add sizes, further out, or give the limit"
    return Regime(label, alpha, lower, upper, end, gain, len(x), (float(x.min()), float(x.max())), note, name)


@dataclass(frozen=True)
class Regimes(Plain):
    """The curves of a table.

    Args:
        curves: one for each value of the fixed resource.
        short: how many curves had fewer than six sizes.
        level: of the intervals.
    """

    curves: tuple[Regime, ...]
    short: int
    level: float

    def summary(self) -> str:
        """Return one line a curve and what they say together, as plain text."""
        width = max(len(curve.name) for curve in self.curves)
        labels = [curve.label for curve in self.curves]
        answer = ", ".join(f"{labels.count(label)} {label}" for label in dict.fromkeys(labels))
        left = f"; curves of fewer than {LEAST} sizes, left out: {self.short}" if self.short else ""
        lines = [answer + left, "", f"{'curve':{width}}  points  exponent ({self.level:.0%})        regime"]
        lines += [f"{curve.name:{width}}  {curve.points:>6}  {curve.words()}" for curve in self.curves]
        notes = {curve.label: curve.note for curve in self.curves}
        return "\n".join([*lines, "", *(f"{label}: {note}." for label, note in notes.items())])

    def plot(self) -> Any:
        """Draw the exponent of each curve with its interval, beside the 1 of the variance-limited ones."""
        traces = []
        for label in dict.fromkeys(curve.label for curve in self.curves):
            fitted = [c for c in self.curves if c.label == label and c.exponent is not None]
            alpha = np.array([c.exponent for c in fitted], float)
            low, high = (np.array([getattr(c, end) for c in fitted], float) for end in ("lower", "upper"))
            bars = {"array": np.nan_to_num(high - alpha), "arrayminus": np.nan_to_num(alpha - low), "symmetric": False}
            names = [c.name for c in fitted]
            traces.append({"x": alpha, "y": names, "name": label, "mode": "markers", "error_x": bars})
        resolved = sum(curve.label == "resolution-limited" for curve in self.curves)
        title = f"{resolved} of {len(self.curves)} curves fall with an exponent of their own"
        return chart(title, "exponent", "", traces).add_vline(1.0, line_dash="dot")


def regimes(runs: RunTable, *, target: str = "loss", peak: bool = False, level: float = 0.95) -> Regimes:
    """Classify every curve of a table: the loss against data at each size, and against size at each amount of data.

    Args:
        runs: with `params`, `tokens` or `samples`, and the target; the last checkpoint of each size and amount counts
            like any other row.
        target: the column that falls.
        peak: fit nothing across params = data, where unregularised models that interpolate have a peak.
        level: of the intervals.

    Raises:
        RunsError: a column is missing, or no curve has six sizes.
    """
    data = next((name for name in ("tokens", "samples") if name in runs.columns), "tokens")
    table = runs.require("params", data, target)
    columns, loss = {name: table.column(name) for name in ("params", data)}, table.column(target)
    curves, short = [], 0
    for fixed, varied in (("params", data), (data, "params")):
        for value in np.unique(columns[fixed]):
            rows = columns[fixed] == value
            n = columns[varied][rows]
            if len(np.unique(n)) < LEAST:
                short += 1
                continue
            name = f"{varied} at {quantity(fixed, float(value), 3)}"
            other = float(value) if peak else None
            for curve in classify_regime(n, loss[rows], other=other, level=level, name=name):
                halved = varied == "params" and curve.lower and curve.upper and curve.lower <= 0.5 <= curve.upper
                note = f"{curve.note}; in parameters the exponent 1 of width reads 0.5" if halved else curve.note
                curves.append(replace(curve, note=note))
    if not curves:
        raise RunsError(
            f"{runs.source}: none of {short} curves has {LEAST} sizes. A curve is one column of params and {data} that "
            "grows while the other stays the same."
        )
    return Regimes(tuple(curves), short, level)
