"""Pictures that need more than one fit: forecasts against measurements, the law with the runs it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.fitting import Fit
from limbeck.fitting.picture import ACCENT, AXIS, layout, picture, points_trace
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
        "type": "bar", "orientation": "h", "width": 0.34, "hoverinfo": "skip",
        "name": f"{100 * forecasts[0].level:.0f} % interval", "marker": {"color": ACCENT, "opacity": 0.35},
        "y": [row for row, _ in bars], "base": [f.lower for _, f in bars],
        "x": [(f.upper or 0.0) - (f.lower or 0.0) for _, f in bars],
    }  # fmt: skip
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
    across = AXIS | {"title": {"text": " · ".join(units)}, "showgrid": True}
    down = {"autorange": "reversed", "automargin": True, "showgrid": False, "zeroline": False}
    legend = {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
    frame = {"showlegend": True, "legend": legend, "margin": {"l": 20, "r": 20, "t": 75, "b": 50}}
    shown = layout(_verdict(forecasts), "", across, down, **frame)
    return go.Figure({"data": traces, "layout": shown})


def _marks(name: str, y: list[str], x: Sequence[float | None], symbol: str, colour: str, size: int) -> dict[str, Any]:
    marker = {"symbol": symbol, "color": colour, "size": size, "line": {"color": colour, "width": 3}}
    if symbol == "circle":
        marker["line"] = {"color": "white", "width": 1}
    base = {"type": "scatter", "mode": "markers", "hovertemplate": f"{name} %{{x:.4g}}<extra>%{{y}}</extra>"}
    return base | {"name": name, "x": x, "y": y, "marker": marker}


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
    x, y_axis = (AXIS | {"title": {"text": f"{what}: {fit.model.target}" + (f" ({unit})" if unit else "")}}
                 for what in ("law", "measured"))  # fmt: skip
    shown = names or [f"point {i}" for i in range(len(y))]
    text = [f"{name}<br>law {f:.4g}, measured {v:.4g}" for name, f, v in zip(shown, law, y, strict=True)]
    line = {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "hoverinfo": "skip"}
    title = f"The law and the data it was fitted on agree to {100 * error:.2g} % (median)"
    subtitle = "this is a fit, not a forecast: forecasts are tested by runs the law has not seen"
    frame = layout(title, subtitle, x, y_axis, margin={"l": 65, "r": 20, "t": 75, "b": 55})
    traces = [line | {"line": {"color": QUIET, "width": 1.5}}, points_trace(law, y, ACCENT, text)]
    return go.Figure({"data": traces, "layout": frame})


def law_picture(content: ReportContent, fit: Fit) -> go.Figure:
    """Draw data and law, the runs that the fit left out in grey, and the runs that test it in their own colour."""
    tests = [f for f in content.predictions if set(f.columns) == set(fit.model.columns)]
    to = tests[0].columns if tests else None
    figure = picture(fit, content.against, content.level, to=to, names=content.runs or None, label=number)
    across = figure.layout.meta["across"]
    left_out = [m for m in content.marked if not m.held_out]
    held_out = [(m.columns, m.value, m.name or m.reason) for m in content.marked if m.held_out]
    held_out += [(f.columns, f.measured, f.name) for f in tests if f.measured is not None]
    for colour, symbol, size, points in (
        (QUIET, "circle-open", 7, [(m.columns, m.value, f"{m.name} {m.reason}".strip()) for m in left_out]),
        (MEASURED, "star", 14, held_out),
    ):
        if points:
            x, y = [at[across] for at, _, _ in points], [value for _, value, _ in points]
            text = [f"{name}<br>measured {value:.4g}" for _, value, name in points]
            marker = {"color": colour, "symbol": symbol, "size": size}
            figure.add_trace(points_trace(x, y, colour, text) | {"marker": marker})
    subtitle = figure.layout.title.subtitle.text
    reasons = sorted({m.reason for m in left_out if m.reason})
    subtitle += " · star: predicted, then measured" if held_out else ""
    subtitle += f" · hollow: {', '.join(reasons)}" if reasons else ""
    figure.layout.title.subtitle.text = subtitle
    return figure
