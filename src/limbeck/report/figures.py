"""Pictures that need more than one fit: forecasts against measurements, the law with the runs it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.fitting import Fit
from limbeck.fitting.picture import ACCENT, AXIS, picture
from limbeck.report.content import Forecast, ReportContent
from limbeck.report.numbers import percent
from limbeck.runs.quantities import number

if TYPE_CHECKING:
    import plotly.graph_objects as go

MEASURED, QUIET = "#e07b22", "#8a8f98"


def forecast_picture(forecasts: Sequence[Forecast]) -> go.Figure:
    """Draw a prediction as a bar (its interval) with a tick, the measurement as a dot, simpler rules as diamonds."""
    import plotly.graph_objects as go

    rows = [f"{f.name} " for f in forecasts]
    bars = [(row, f) for row, f in zip(rows, forecasts, strict=True) if f.lower is not None and f.upper is not None]
    interval = {
        "type": "bar",
        "orientation": "h",
        "y": [row for row, _ in bars],
        "base": [f.lower for _, f in bars],
        "x": [(f.upper or 0.0) - (f.lower or 0.0) for _, f in bars],
        "width": 0.34,
        "marker": {"color": ACCENT, "opacity": 0.35},
        "hoverinfo": "skip",
        "name": f"{100 * forecasts[0].level:.0f} % interval",
    }
    rule = [(row, v, name) for row, f in zip(rows, forecasts, strict=True) for name, v in f.baselines.items()]
    traces = [
        interval,
        _marks("predicted", rows, [f.predicted for f in forecasts], "line-ns", ACCENT, 26),
        _marks("measured", rows, [f.measured for f in forecasts], "circle", MEASURED, 13),
    ]
    if rule:
        traces.append(_marks("simpler rules", [r[0] for r in rule], [r[1] for r in rule], "diamond-open", QUIET, 10))
        named = {"mode": "markers+text", "textposition": "bottom center", "cliponaxis": False, "textfont": {"size": 10}}
        named["text"] = ["<br>".join(wrap(r[2], 18)) for r in rule]
        traces[-1] |= named | {"hovertemplate": "%{text}: %{x:.4g}<extra></extra>"}
    units = sorted({f.unit for f in forecasts if f.unit})
    layout = {
        "template": "none",
        "title": {"text": _verdict(forecasts), "xref": "paper", "x": 0},
        "xaxis": AXIS | {"title": {"text": " · ".join(units)}, "showgrid": True},
        "yaxis": {"autorange": "reversed", "automargin": True, "showgrid": False, "zeroline": False},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "margin": {"l": 20, "r": 20, "t": 75, "b": 50},
        "hovermode": "closest",
    }
    return go.Figure({"data": traces, "layout": layout})


def _marks(name: str, y: list[str], x: Sequence[float | None], symbol: str, colour: str, size: int) -> dict[str, Any]:
    marker = {"symbol": symbol, "color": colour, "size": size, "line": {"color": colour, "width": 3}}
    if symbol == "circle":
        marker["line"] = {"color": "white", "width": 1}
    hover = f"{name} %{{x:.4g}}<extra>%{{y}}</extra>"
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": x,
        "y": y,
        "marker": marker,
        "hovertemplate": hover,
    }


def _verdict(forecasts: Sequence[Forecast]) -> str:
    measured = [f for f in forecasts if f.inside is not None]
    if not measured:
        return "Predicted, not measured yet"
    inside = sum(bool(f.inside) for f in measured)
    worst = max(abs(f.relative_error or 0.0) for f in measured)
    if len(measured) == 1:
        place = "inside" if inside else "outside"
        return f"The measurement lies {place} the predicted band, {percent(worst)} from the prediction"
    return f"{inside} of {len(measured)} measurements lie inside the predicted band; largest error {percent(worst)}"


def fitted_picture(fit: Fit, names: Sequence[str] = ()) -> go.Figure:
    """Draw what was measured against what the law says, for every point it was fitted on."""
    import plotly.graph_objects as go

    law, y = fit.value(**fit.data.columns), fit.data.target
    ends = [float(min(law.min(), y.min())), float(max(law.max(), y.max()))]
    error = np.median(np.abs(y / law - 1.0))
    unit = fit.units.get(fit.model.target, "")
    label = f" {fit.model.target}" + (f" ({unit})" if unit else "")
    text = list(names) or [f"point {i}" for i in range(len(y))]
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": ends,
            "y": ends,
            "line": {"color": QUIET, "width": 1.5},
            "hoverinfo": "skip",
        },
        _marks("measured", text, list(law), "circle", ACCENT, 7)
        | {"y": y, "text": text, "hovertemplate": "%{text}<br>law %{x:.4g}, measured %{y:.4g}<extra></extra>"},
    ]
    layout = {
        "template": "none",
        "title": {
            "text": f"The law and the data it was fitted on agree to {100 * error:.2g} % (median)",
            "subtitle": {"text": "this is a fit, not a forecast: forecasts are tested by runs the law has not seen"},
            "xref": "paper",
            "x": 0,
        },
        "xaxis": AXIS | {"title": {"text": "law:" + label}},
        "yaxis": AXIS | {"title": {"text": "measured:" + label}},
        "showlegend": False,
        "margin": {"l": 65, "r": 20, "t": 75, "b": 55},
        "hovermode": "closest",
    }
    return go.Figure({"data": traces, "layout": layout})


def law_picture(content: ReportContent, fit: Fit) -> go.Figure:
    """Draw data and law, the runs that the fit left out in grey, and the runs that test it in their own colour."""
    tests = [f for f in content.predictions if set(f.columns) == set(fit.model.columns)]
    figure = picture(
        fit,
        content.against,
        content.level,
        to=tests[0].columns if tests else None,
        names=content.runs or None,
        label=number,
    )
    across = figure.layout.meta["across"]
    left_out = [m for m in content.marked if not m.held_out]
    held_out = [(m.columns, m.value, m.name or m.reason) for m in content.marked if m.held_out]
    held_out += [(f.columns, f.measured, f.name) for f in tests if f.measured is not None]
    for colour, symbol, size, points in (
        (QUIET, "circle-open", 7, [(m.columns, m.value, f"{m.name} {m.reason}".strip()) for m in left_out]),
        (MEASURED, "star", 14, held_out),
    ):
        if points:
            x, y = [p[0][across] for p in points], [p[1] for p in points]
            text = [f"{p[2]}<br>measured {p[1]:.4g}" for p in points]
            figure.add_scatter(
                x=x,
                y=y,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": size},
                text=text,
                hovertemplate="%{text}<extra></extra>",
            )
    subtitle = figure.layout.title.subtitle.text
    reasons = sorted({m.reason for m in left_out if m.reason})
    subtitle += " · star: predicted, then measured" if held_out else ""
    subtitle += f" · hollow: {', '.join(reasons)}" if reasons else ""
    figure.layout.title.subtitle.text = subtitle
    return figure
