"""Which learning-rate schedule, by what each would end at, and what the annealing law must not be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from limbeck.errors import PlanningError
from limbeck.fitting import Fit
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.laws import Annealing, Schedule
from limbeck.planning.estimate import Estimate, Plan
from limbeck.runs.quantities import si

FORM_ERROR = 0.0044
"""Relative error of the law at the end of schedules that it was not fitted to, one standard deviation.

Root mean square over 21 measured curves (25 M to 400 M parameters, seven schedules each; fits of two others). Residuals
of the fitted curves know nothing of it: 80 % bands without it hold 2 of these 21 ends, with it 19.
"""

POINTS = 200
"""Points of a predicted curve that are kept."""


@dataclass(frozen=True)
class ScheduleOption:
    """What one schedule would give.

    Args:
        name: for people.
        steps: how many.
        loss: at the end, with the noise of a run and the error of the law; None where the law does not hold.
        extrapolation: sum of its rates over that of the longest fitted curve.
        at, curve: predicted loss along the way, [k] each.
        outside: why the law does not hold, or nothing.
    """

    name: str
    steps: int
    loss: Estimate | None
    extrapolation: float
    at: Array
    curve: Array
    outside: str

    @property
    def value(self) -> float:
        """Predicted loss at the end, also where the law does not hold."""
        return float(self.curve[-1])


@dataclass(frozen=True)
class SchedulePlan(Plan):
    """Schedules in the order of what they would end at.

    Args:
        options: best first, then those outside the law's validity.
        best: name of the best; None where the schedules are not of one length or the law holds for none.
        level: nominal coverage.
        notes: reach and caveats, in words.
    """

    options: tuple[ScheduleOption, ...]
    best: str | None
    level: float
    notes: tuple[str, ...]

    def _lines(self) -> list[str]:
        width = max(len(o.name) for o in self.options) + 2
        lines = [f"{'':{width}}final loss   {100 * self.level:.0f} % interval"]
        for o in self.options:
            loss = o.loss
            words = f"{loss.value:10.3f}   {loss.lower:.3f} – {loss.upper:.3f}" if loss else o.outside
            lines.append(f"{o.name:<{width}}{words}{'   ← best' if o.name == self.best else ''}")
        return lines

    def plot(self) -> Any:
        """Draw the predicted loss curves."""
        title = f"{self.best} ends lowest" if self.best else "Predicted loss under each schedule"
        lines = [{"x": one.at, "y": one.curve, "name": one.name, "mode": "lines"} for one in self.options]
        return chart(title, "step", "loss", lines)


@dataclass(frozen=True)
class Decay(Plan, Estimate):
    """The share of the steps that the final decay of a plateau should take, with its interval.

    Args:
        steps, shape: what was asked.
        shares, losses: predicted final loss of every share, [k] each.
        level: nominal coverage.
        notes: caveats, in words.
    """

    steps: int = 0
    shape: str = ""
    shares: tuple[float, ...] = ()
    losses: tuple[float, ...] = ()
    level: float = 0.8
    notes: tuple[str, ...] = ()

    def _lines(self) -> list[str]:
        first = f"decay ({self.shape}) over the last {self._percent()} of {si(self.steps)} steps"
        saved = max(self.losses) - min(self.losses)
        return [first, f"loss {min(self.losses):.4g} at the end; the worst share costs {saved:.2g} more"]

    def _percent(self) -> str:
        band = "" if self.lower is None else f" ({self.level:.0%}: {self.lower:.0%} – {self.upper:.0%})"
        return f"{self.value:.0%}{band}".replace("%", " %")

    def plot(self) -> Any:
        """Draw the final loss of every share."""
        line = {"x": 100 * np.array(self.shares), "y": self.losses, "mode": "lines", "name": self.shape}
        figure = chart(f"Best to decay over the last {self._percent()}", "share of the steps, %", "final loss", [line])
        return figure.add_vline(100 * self.value, line_dash="dot")


def compare_schedules(
    fit: Fit, schedules: Mapping[str, ArrayLike], *, level: float = 0.8, **columns: float
) -> SchedulePlan:
    """Predict the whole loss curve of schedules that were never run, and rank them by where they end.

    A schedule with another peak rate than the fitted curves, or with a tail at rate zero, gets no number: the law's
    prediction falls with either, whatever a training would do.

    Args:
        fit: of `annealing` or `annealing-size`.
        schedules: rates of every step by name, [steps] each.
        level: nominal coverage.
        columns: further columns of the law, `params=1e9` for `annealing-size`.

    Raises:
        PlanningError: a fit of another law, or of curves that never anneal.

    Source: Scaling Law with Learning Rate Annealing (Tissue, Wang, Wang, 2024, arXiv 2408.11029).
    """
    law = _law(fit)
    options = [_option(fit, law, name, np.asarray(rates, float), level, columns) for name, rates in schedules.items()]
    inside = sorted((o for o in options if not o.outside), key=lambda o: o.value)
    notes = [f"includes the law's own error on new schedules, {100 * FORM_ERROR:.1f} % (one s.d.)"]
    one_length = len({o.steps for o in inside}) == 1
    if inside and not one_length:
        notes.append("the schedules differ in length: a longer one ends lower, so none is called best")
    if (reach := max((o.extrapolation for o in inside), default=0.0)) > 1.01:
        notes.append(f"{reach:.2g}× beyond the longest fitted curve (sum of rates)")
    close = sum(o.value < inside[0].value * (1 + FORM_ERROR) for o in inside)
    if one_length and close > 1:
        notes.append(f"the first {close} lie within that error of each other: the law does not tell them apart")
    outside = (o for o in options if o.outside)
    return SchedulePlan((*inside, *outside), inside[0].name if one_length else None, level, tuple(notes))


def standard_schedules(fit: Fit, steps: int, end: float | None = None) -> dict[str, Array]:
    """Return the usual schedules with the peak and the warm-up of the fitted curves.

    Args:
        fit: of `annealing`.
        steps: how many.
        end: rate at the end of a decay; a tenth of the peak by default.
    """
    law = _law(fit)
    if steps < 2:
        raise PlanningError(f"a schedule has two steps or more; got {steps}.")
    peak = law.peak or 0.0
    end = 0.1 * peak if end is None else end
    ways = {"constant": ("linear", 0.0), "cosine": ("cosine", 1.0)}
    for shape in ("linear", "1-sqrt", "exponential")[: 3 if end else 2]:
        ways |= {f"{shape}, last {percent} %": (shape, percent / 100) for percent in (10, 20, 30)}
    warmup = min(law.warmup or 0, steps - 1)
    return {name: Schedule(steps, peak, shape, end, warmup, share).rates() for name, (shape, share) in ways.items()}


def best_decay(
    fit: Fit, steps: int, *, shape: str = "linear", end: float | None = None, level: float = 0.8, **columns: float
) -> Decay:
    """Return the share of the steps that the final decay of a plateau should take, to one percent.

    Args:
        fit: of `annealing`.
        steps: length of the training.
        shape, end: of the decay (see `Schedule`); down to a tenth of the peak by default.
        level: nominal coverage.
        columns: as for `compare_schedules`.

    Raises:
        PlanningError: the best share lies at an end of 1 % to 99 %: outside the law's validity.
    """
    law, shares = _law(fit, steps), np.arange(1, 100) / 100
    peak = law.peak or 0.0
    given = (steps, peak, shape, 0.1 * peak if end is None else end, law.warmup or 0)
    ends = [law.columns_of(Schedule(*given, share).rates()) for share in shares]
    there = {name: np.array([one[name][-1] for one in ends]) for name in ends[0]} | columns
    rows = [fit.value(**there)[None], *([fit.values(**there)] if fit.draws else [])]
    losses = np.concatenate(rows)
    best = shares[losses.argmin(1)]
    if best[0] in (shares[0], shares[-1]):
        raise PlanningError(
            f"outside the law's validity: by it the best {shape} decay takes {best[0]:.0%} of {si(steps)} steps or "
            "beyond. Ask for a longer training, or compare the schedules that you can run."
        )
    share, notes = Estimate.of(best, level), (f"for a peak rate of {peak:.3g}, that of the fitted curves",)
    ends_at = tuple(shares.tolist()), tuple(losses[0].tolist())
    return Decay(share.value, share.lower, share.upper, steps, shape, *ends_at, level, notes)


def _law(fit: Fit, steps: int | None = None) -> Annealing:
    law = fit.model
    if not isinstance(law, Annealing):
        raise PlanningError(
            f"schedules are compared by a fit of annealing; this is one of {law.name}. Fit it to curves with the "
            "columns run, step, lr and loss: limbeck fit curves.csv --law annealing"
        )
    if not fit.identifiability.identified["C"]:
        raise PlanningError("the fitted curves never anneal, so C is not identified: add one whose rate falls.")
    if steps is not None and steps < (least := (law.warmup or 0) + 2):
        raise PlanningError(f"{steps} steps are too few: the fitted curves warm up first; ask for {least} or more.")
    return law


def _option(
    fit: Fit, law: Annealing, name: str, rates: Array, level: float, columns: Mapping[str, float]
) -> ScheduleOption:
    kept = np.unique(np.linspace(max(int(np.argmax(rates)), 1), len(rates) - 1, POINTS).astype(int))
    p = fit.predict(level, **{k: v[kept] for k, v in law.columns_of(rates).items()}, **columns)
    tail, outside = int(np.argmax(rates[::-1] > 0)), ""
    if law.peak and abs(rates.max() / law.peak - 1) > 0.01:
        outside = f"outside the law's validity: peaks at {rates.max():.3g}, the fitted curves at {law.peak:.3g}"
    elif tail > 1:
        outside = f"outside the law's validity: ends with {tail} steps at rate zero"
    value, form = float(p.mean[-1]), float(ndtri((1 + level) / 2)) * FORM_ERROR
    low, high = (float(np.hypot(np.log(x[-1] / value), form)) for x in (p.lower, p.upper))
    loss = None if outside else Estimate(value, float(value * np.exp(-low)), float(value * np.exp(high)))
    return ScheduleOption(name, len(rates), loss, float(p.extrapolation[-1]), kept, p.mean, outside)
