"""What a report says in words: question, answer, what the runs identify, how noisy a run is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from limbeck.fitting import Fit
from limbeck.fitting.data import numbered
from limbeck.fitting.prediction import percentile_interval
from limbeck.report.content import Forecast, ReportContent
from limbeck.report.numbers import estimate, interval, last_digit, percent, significant
from limbeck.runs import COLUMNS
from limbeck.runs.quantities import quantity, scientific

FAR = 10.0
"""Beyond this factor a forecast gets a warning."""


def question(content: ReportContent) -> str:
    """Return the question, or the one that a fit answers."""
    if content.question:
        return content.question
    if content.fit is None:
        return content.title
    model = content.fit.model
    columns = ", ".join(model.columns[:-1]) + " and " * (len(model.columns) > 1) + model.columns[-1]
    return f"How does {model.target} depend on {columns}?"


def reach(factor: float | None) -> str:
    """Say how far a prediction reaches beyond the data.

    Example:
        >>> reach(8.0), reach(164.0), reach(0.5), reach(None)
        ('8× beyond the largest run', '160× beyond the largest run', 'inside the data', '')
    """
    if factor is None:
        return ""
    return "inside the data" if factor <= 1.0 + 1e-9 else f"{times(factor)} beyond the largest run"


def times(factor: float) -> str:
    """Return a factor with two significant digits."""
    return f"{float(f'{factor:.2g}'):g}×"


def forecast_line(forecast: Forecast) -> str:
    """Return prediction and measurement as one line.

    Example:
        >>> forecast_line(Forecast(name="large run", predicted=1.408, lower=1.36, upper=1.4449, measured=1.4324))
        'predicted 1.41 (80 %: 1.36 – 1.44), measured 1.432: inside the band, prediction −1.7 %'
    """
    text = f"predicted {estimate(forecast.predicted, forecast.lower, forecast.upper, forecast.level)}"
    if forecast.measured is None:
        return f"{text}, not measured yet"
    error = percent(forecast.relative_error or 0.0, sign=True)
    verdict = {True: "inside the band, ", False: "outside the band, ", None: ""}[forecast.inside]
    return f"{text}, measured {forecast.measured:.4g}: {verdict}prediction {error}"


def next_run(fit: Fit, factor: float = 10.0) -> dict[str, float]:
    """Return a setting `factor` times larger than the largest point: columns that count things grow, others stay."""
    largest = fit.largest
    counts = [name for name in largest if is_count(name)]
    return {name: value * (factor ** (1 / len(counts)) if name in counts else 1.0) for name, value in largest.items()}


def setting(columns: Mapping[str, float]) -> str:
    """Return a setting in words; what does not count things goes by its name.

    Example:
        >>> setting({"params": 7e9, "tokens": 2e12, "teacher_loss": 2.1})
        '7 B parameters, 2 T tokens, teacher_loss 2.1 nats/token'
    """
    return ", ".join(f"{'' if is_count(c) else f'{c} '}{quantity(c, v)}" for c, v in columns.items())


def is_count(column: str) -> bool:
    """Whether a column counts things (parameters, tokens), so that it grows with scale."""
    return column in COLUMNS and COLUMNS[column].kind == "count"


def outlook(fit: Fit, level: float) -> Forecast | None:
    """Return the prediction of the next larger run, or None where the fit cannot or must not give one."""
    if fit.model.refusal or (not fit.draws and fit.degrees_of_freedom < 2):
        return None
    columns = next_run(fit)
    p = fit.predict(level, **columns)
    mean, lower, upper, reach = (float(values[0]) for values in (p.mean, p.lower, p.upper, p.extrapolation))
    return Forecast(
        f"a run of {setting(columns)}", mean, lower, upper, level=level, extrapolation=reach, columns=columns,
        unit=fit.units.get(fit.model.target, ""),
    )  # fmt: skip


@dataclass(frozen=True)
class ParameterRow:
    """One line of the parameter table, as text."""

    name: str
    value: str
    interval: str
    meaning: str
    note: str


def parameter_rows(fit: Fit, level: float) -> list[ParameterRow]:
    """Return the parameter table: estimate, interval or the reason why there is none, meaning, prior."""
    intervals, rows = fit.intervals(level), []
    for parameter in fit.model.parameters:
        name, value = parameter.name, fit.parameters[parameter.name]
        between = intervals[name]
        text = fit.without_interval(name) if between is None else interval(*between)
        low, high = percentile_interval(fit.draws[name], level) if name in fit.draws else (value, value)
        prior, partner = fit.priors.get(name), fit.identifiability.trades_with.get(name)
        notes = [f"trades off with {partner}"] if partner else []
        if prior:
            notes.append(f"prior {prior.mean:g} ± {prior.sd:g}{' of its logarithm' if parameter.log else ''}")
        shown = significant(value, float(high - low) / 2)
        if shown == "0" and value > 0:  # its interval is wider than itself, but it is not nothing
            shown = f"{value:.1g}" if value < 1e5 else scientific(value, 1)
        rows.append(ParameterRow(name, shown, text, parameter.meaning, "; ".join(notes)))
    return rows


def strained(fit: Fit) -> tuple[str, ...]:
    """Return the parameters that nobody should quote: not identified, or nearly determined by a partner."""
    known = fit.identifiability
    return tuple(name for name, good in known.identified.items() if not good or name in known.trades_with)


@dataclass(frozen=True)
class Repeated:
    """One setting that several runs share: how many, their mean and how much they differ (s.d. over mean)."""

    columns: dict[str, float]
    count: int
    mean: float
    spread: float

    @property
    def mean_text(self) -> str:
        """The mean to the digit that its standard error leaves meaningful."""
        error = self.mean * self.spread / self.count**0.5
        return significant(self.mean, max(error, 10.0 ** (last_digit(self.mean) - 4)))


def repeated(fit: Fit) -> list[Repeated]:
    """Return the settings that two or more runs share, largest last."""
    place, found = numbered(fit.data.design), []
    for k in range(int(place.max()) + 1):
        member = place == k
        if len(np.unique(fit.data.clusters[member])) >= 2:
            y = fit.data.target[member]
            columns = {name: float(values[member][0]) for name, values in fit.data.columns.items()}
            found.append(Repeated(columns, len(y), float(y.mean()), float(y.std(ddof=1) / y.mean())))
    return found


def noise_words(rows: list[Repeated]) -> str:
    """Say how much runs of one setting differ, pooled over the settings; empty where no setting was repeated."""
    degrees = sum(row.count - 1 for row in rows)
    if not degrees:
        return ""
    pooled = float(np.sqrt(sum(row.spread**2 * (row.count - 1) for row in rows) / degrees))
    return (
        f"Runs that differ only in their seed differ by {percent(pooled)} (s.d., {degrees} degrees of freedom): "
        "no prediction of a single run can be better than that."
    )


def holdout_words(fit: Fit) -> list[str]:
    """Say how well the law predicted the largest runs from the smaller ones; nothing where that was not asked for."""
    if fit.holdout is None:
        return []
    lines = re.sub(r"(?<=\d)%", " %", fit.holdout.summary()).splitlines()
    return [f"{line[0].upper()}{line[1:]}{'' if line.endswith('.') else '.'}" for line in lines]


def identified_words(fit: Fit) -> list[str]:
    """Say what the runs identify, how sure the optimum is and what entered besides the data."""
    words = list(fit.identifiability.words) or ["All parameters are identified by these runs."]
    words.append(f"{fit.starts.summary().capitalize()}.")
    words.append(f"Fitted with {fit.loss.describe()}, {len(fit.data)} points of {fit.data.runs} runs.")
    if fit.priors:
        weight = "carry real weight where the data are few: they are listed with the parameters."
        words.append(f"Wide priors on {', '.join(fit.priors)} {weight}")
    if fit.fixed:
        words.append(f"Held at a given number: {', '.join(f'{k} = {v:g}' for k, v in fit.fixed.items())}.")
    if not fit.draws:
        words.append("No bootstrap was drawn: bands come from the curvature at the optimum.")
    return words
