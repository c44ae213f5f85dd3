"""From content to one HTML file that needs no network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from limbeck.files import write_text
from limbeck.fitting.picture import residual_picture
from limbeck.report import words
from limbeck.report.content import Forecast, ReportContent
from limbeck.report.figures import fitted_picture, forecast_picture, law_picture
from limbeck.report.folder import content_of
from limbeck.report.numbers import interval, percent, significant
from limbeck.report.planner import planner
from limbeck.runs.quantities import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

REPORT = "report.html"


def write_report(content: ReportContent, path: str | Path) -> Path:
    """Write a report as one HTML file and return its path."""
    return write_text(path, render(content))


def report_of(folder: str | Path) -> Path:
    """Write `report.html` into the folder of a demo or a fit and return its path.

    Raises:
        ConfigError: the folder holds nothing that a report can show.
    """
    return write_report(content_of(folder), Path(folder) / REPORT)


@dataclass(frozen=True)
class Picture:
    """A figure for the template: its title and subtitle are text of the page."""

    title: str
    subtitle: str
    json: Markup

    @classmethod
    def of(cls, figure: go.Figure) -> Picture:
        """Take title and subtitle out of a Plotly figure."""
        title = figure.layout.title
        return cls(title.text or "", title.subtitle.text or "", _embedded(figure.to_json()))


def render(content: ReportContent) -> str:
    """Return the page as HTML."""
    from plotly.io import from_json

    fit, forecasts = content.fit, content.predictions
    if not forecasts and fit is not None and (outlook := words.outlook(fit, content.level)):
        forecasts = (outlook,)
    view: dict[str, Any] = {
        "title": content.title, "content": content,
        "question": words.question(content),
        "forecasts": [_forecast(f) for f in forecasts],
        "notes": [*content.notes, *(words.holdout_words(fit) if fit is not None else [])],
        "shorts": list(dict.fromkeys(tokens for row in content.students for tokens in row.short)),
        "reproduce": _reproduce(content),
        "ways": [Picture.of(from_json(one)) for one in content.ways],
        "first": None, "first_height": 130 + 84 * len(content.predictions), "law": None, "planner": None,
        "number": number, "percent": percent, "interval": interval,
        "loss": lambda value: "–" if value is None else f"{value:#.4g}",
    }  # fmt: skip
    if content.progress:
        view |= {"first": Picture.of(from_json(content.progress)), "first_height": 340}
    elif content.predictions:
        view["first"] = Picture.of(forecast_picture(content.predictions))
    elif fit is not None:
        view |= {"first": Picture.of(fitted_picture(fit, content.runs)), "first_height": 340}
    if fit is not None:
        plan, repeated, strained = planner(content, fit), words.repeated(fit), words.strained(fit)
        view |= {
            "law": Picture.of(law_picture(content, fit)),
            "equation": f"{fit.model.target} = {fit.model.equation}",
            "residuals": Picture.of(residual_picture(fit, content.level, names=content.runs or None, label=number)),
            "repeated": repeated, "noise": words.noise_words(repeated), "identified": words.identified_words(fit),
            "parameters": words.parameter_rows(fit, content.level), "strained": ", ".join(strained),
            "planner": plan, "planner_law": Markup(plan.law), "planner_size": Markup(plan.size),
            "planner_json": _embedded(json.dumps(plan.data)),
        }  # fmt: skip
    return filled("page.html", view)


def filled(template: str, view: Mapping[str, Any]) -> str:
    """Return a template of this folder as one HTML page, with style, script and Plotly inside."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from plotly.offline import get_plotlyjs

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
        loader=PackageLoader("limbeck.report", "."),
    )  # fmt: skip
    inside = {"css": Markup(_file("page.css")), "script": Markup(_file("page.js")), "plotly": Markup(get_plotlyjs())}
    return environment.get_template(template).render(inside | dict(view))


def _file(name: str) -> str:
    return resources.files("limbeck.report").joinpath(name).read_text(encoding="utf-8")


def _embedded(text: str) -> Markup:
    """JSON that cannot end the script element it stands in."""
    return Markup(text.replace("<", "\\u003c"))


def _forecast(forecast: Forecast) -> dict[str, str]:
    state = {True: "inside", False: "outside", None: "open"}[forecast.inside]
    written = f"written down {_moment(forecast.written)}, before it was measured" if forecast.written else ""
    facts = (words.reach(forecast.extrapolation), written, forecast.note)
    return {
        "name": forecast.name, "unit": forecast.unit, "line": words.forecast_line(forecast), "state": state,
        "value": significant(forecast.predicted, forecast.half_width), "facts": " · ".join(filter(None, facts)),
    }  # fmt: skip


def _moment(written: str) -> str:
    return f"{datetime.fromisoformat(written).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _reproduce(content: ReportContent) -> dict[str, str]:
    facts = {name: value if isinstance(value, str) else f"{value:.6g}" for name, value in content.facts.items()}
    if content.fit is not None:
        fit = content.fit
        draws = f"{len(next(iter(fit.draws.values())))} draws ({fit.method})" if fit.draws else "no bootstrap"
        facts["fit"] = f"{fit.model.name}, {draws}, seed {fit.seed}"
    for name, values in (("versions", content.versions), ("seeds", content.seeds)):
        if values:
            facts[name] = ", ".join(f"{k} {v}" for k, v in values.items())
    if content.seconds is not None:
        facts["wall time"] = f"{content.seconds / 60:.1f} min" if content.seconds > 90 else f"{content.seconds:.0f} s"
    facts |= {f"sha256 of the prediction: {f.name}": f.sha256[:16] for f in content.predictions if f.sha256}
    return facts
