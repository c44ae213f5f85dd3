"""A fit as a picture: data as points, law as a line with its band, dashed beyond the data; residuals against size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError, nearest
from limbeck.fitting.data import numbered
from limbeck.fitting.model import Array
from limbeck.fitting.prediction import check_level, percentile_interval

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from limbeck.fitting.fit import Fit

COLOURS = np.array([[47, 165, 140], [59, 130, 196], [138, 85, 181]], float)
"""Small to large: green, blue, violet. Mid tones: they read on white and on black."""
ACCENT = "#3b82c4"
AXIS = {"showline": True, "ticks": "outside", "showgrid": False, "zeroline": False, "exponentformat": "B"}
REACH = 4.0
"""The law is drawn at most this factor beyond the data."""

LINE = 49
"""Points of a line."""

Label = Callable[[str, float], str]


def plain(name: str, value: float) -> str:
    """Return a number in a few characters, whatever its column means."""
    return f"{value:.3g}".replace("e+", "e").replace("e0", "e").replace("e-0", "e-")


def picture(
    fit: Fit, against: str | None = None, level: float = 0.8, *, to: Mapping[str, float] | None = None,
    names: Sequence[str] | None = None, label: Label = plain,
) -> go.Figure:  # fmt: skip
    """Draw data and law over one column, one line per value of a second column; further columns at their medians.

    Args:
        fit: a fitted model.
        against: column of the horizontal axis; by default the one that spans the widest range.
        level: nominal coverage of the band, which holds the noise of one new run.
        to: a setting (one value per column) that the law is drawn up to, with a line of its own.
        names: what hovering over a point shows first, one per point.
        label: writes a value of a column for people.

    Raises:
        FittingError: the model has no such column.
    """
    import plotly.graph_objects as go

    check_level(level)
    columns = fit.data.columns
    if against is not None and against not in columns:
        raise FittingError(
            f'{fit.model.name} has no column "{against}".{nearest(against, columns)} It has: {", ".join(columns)}.'
        )
    order = sorted(columns, key=lambda name: float(-np.ptp(np.log(np.abs(columns[name]) + 1e-300))))
    across = against or order[0]
    shade = next((name for name in order if name != across), None)
    end = max(_beyond(columns[across]), to[across] if to else -np.inf)
    traces: list[dict[str, Any]] = []
    for value, member in _groups(fit, shade, to):
        line = _line(fit, across, shade, value, member, end)
        colour, text = (_colours(fit, shade, line[shade][:1], to)[0], label(shade, value)) if shade else (ACCENT, "")
        traces += _law(fit, across, line, level, colour, text)
    colours = _colours(fit, shade, columns[shade], to) if shade else ACCENT
    traces.append(points_trace(columns[across], fit.data.target, colours, _hover(fit, names, label)))
    heights = np.concatenate([trace["y"] for trace in traces])
    x = log_axis(float(columns[across].min()), float(end), partial(label, across))
    y = log_axis(float(np.nanmin(heights)), float(np.nanmax(heights)), partial(plain, ""))
    error = np.median(np.abs(fit.data.target / fit.value(**columns) - 1.0))
    points = f"{len(fit.data)} points" + ("" if fit.data.runs == len(fit.data) else f" of {fit.data.runs} runs")
    lines = f"one line per value of {shade} · " if shade else ""
    shown = layout(
        f"{fit.model.name} follows {points} to {100 * error:.2g} % (median error)",
        f"{lines}band: one new run, {100 * level:.0f} % · dashed: beyond the data",
        x | {"title": {"text": _axis(fit, across)}}, y | {"title": {"text": _axis(fit, fit.model.target)}},
        meta={"across": across},
    )  # fmt: skip
    return go.Figure({"data": traces, "layout": shown})


def residual_picture(
    fit: Fit, level: float = 0.8, *, names: Sequence[str] | None = None, label: Label = plain
) -> go.Figure:
    """Draw what the law leaves over, in percent, against size relative to the largest point."""
    import plotly.graph_objects as go

    size = fit.sizes / fit.sizes.max()
    left = 100.0 * (fit.data.target / fit.value(**fit.data.columns) - 1.0)
    ranks = np.array([numbered(size), numbered(left)], float)
    trend = float(np.atleast_2d(np.corrcoef(ranks))[0, 1]) if np.ptp(size) > 0 else 0.0
    trends = f"Residuals {'rise' if trend > 0 else 'fall'} with size: the form is not quite right"
    found = trends if abs(trend) * np.sqrt(len(size) - 1) >= 2.6 else "Residuals show no trend with size"
    low, high = percentile_interval(left, level)
    band = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": float(low), "y1": float(high)}
    shown = layout(
        f"{found} (rank correlation {trend:+.2f})".replace("-", "−"),
        f"shaded: where {100 * level:.0f} % of the residuals lie",
        log_axis(float(size.min()), 1.0, partial(plain, ""))
        | {"title": {"text": f"{' × '.join(fit.model.columns)}, relative to the largest"}},
        AXIS | {"title": {"text": f"{fit.model.target}: data above law (%)"}, "zeroline": True},
        shapes=[band | {"fillcolor": ACCENT, "opacity": 0.15, "line": {"width": 0}, "layer": "below"}],
    )
    return go.Figure({"data": [points_trace(size, left, ACCENT, _hover(fit, names, label))], "layout": shown})


def layout(title: str, subtitle: str, x: Mapping[str, Any], y: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Return the frame that all pictures share, around two axes; `more` adds to it or replaces parts."""
    heading = {"text": title, "subtitle": {"text": subtitle}, "xref": "paper", "x": 0}
    frame = {"template": "none", "title": heading, "xaxis": x, "yaxis": y, "showlegend": False, "hovermode": "closest"}
    return {**frame, "margin": {"l": 65, "r": 65, "t": 75, "b": 55}, **more}


def chart(title: str, x: str, y: str, traces: Sequence[Mapping[str, Any]], *, log: str = "", **more: Any) -> go.Figure:
    """Return traces between two named axes; `log` names the logarithmic ones, `more` is as for `layout`."""
    import plotly.graph_objects as go

    kind = {axis: {"type": "log"} if axis in log else {} for axis in "xy"}
    across, up = (AXIS | kind[axis] | {"title": {"text": text}} for axis, text in (("x", x), ("y", y)))
    shown = layout(title, "", across, up, **{"showlegend": True, **more})
    return go.Figure({"data": [{"type": "scatter", **trace} for trace in traces], "layout": shown})


def band_trace(x: Array, low: Array, high: Array, colour: str, **more: Any) -> dict[str, Any]:
    """Return the area between two curves."""
    outline = {"x": np.r_[x, x[::-1]], "y": np.r_[high, low[::-1]], "fill": "toself", "fillcolor": colour}
    quiet = {"type": "scatter", "mode": "lines", "line": {"width": 0}, "opacity": 0.15, "hoverinfo": "skip"}
    return outline | quiet | {"showlegend": False} | more


def _axis(fit: Fit, name: str) -> str:
    unit = fit.units.get(name, "")
    says_so = unit.lower().startswith(name.lower().rstrip("s"))
    return unit if says_so else f"{name} ({unit})" if unit else name


def log_axis(low: float, high: float, text: Callable[[float], str]) -> dict[str, Any]:
    """Return a logarithmic axis with at most eight round ticks; a linear one unless `low` > 0."""
    if low <= 0:
        return dict(AXIS)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    choices = [np.outer(powers, digits).ravel() for digits in ((1, 2, 5), (1, 3), (1,))]
    if high / low < 10:
        coarse = 10.0 ** np.floor(np.log10((high - low) / 5))
        choices = [step * coarse * np.arange(np.ceil(high / (step * coarse)) + 1) for step in (1, 2, 5, 10)]
    choices.append(powers[:: max(len(powers) // 7, 1)])
    shown = [ticks[(ticks >= low / 1.02) & (ticks <= high * 1.02)] for ticks in choices]
    ticks = next((t for t in shown if len(t) <= 8), shown[-1])
    return AXIS | {"type": "log", "tickvals": ticks.tolist(), "ticktext": [text(float(t)) for t in ticks.round(12)]}


def _groups(fit: Fit, shade: str | None, to: Mapping[str, float] | None) -> list[tuple[float, NDArray[np.bool_]]]:
    """Values of the colour column that get a line, and the points nearest to each."""
    everything = np.ones(len(fit.data), bool)
    if shade is None:
        return [(0.0, everything)]
    values = fit.data.columns[shade]
    distinct = np.unique(values)
    if len(distinct) > 5:
        distinct = np.unique(np.quantile(values, [0.03, 0.35, 0.65, 0.97], method="nearest"))
        if to:
            distinct = distinct[np.abs(np.log(distinct / to[shade])) > np.log(1.5)]
    distance = np.abs(np.log(np.maximum(values, 1e-300))[:, None] - np.log(np.maximum(distinct, 1e-300)))
    groups = [(float(v), distance.argmin(1) == k) for k, v in enumerate(distinct)]
    if to and not np.isclose(distinct, to[shade], rtol=1e-6).any():
        groups.append((float(to[shade]), everything))
    return groups


def _line(
    fit: Fit, across: str, shade: str | None, value: float, member: NDArray[np.bool_], end: float
) -> dict[str, Array]:
    """The columns of one line, from the first of its points to `end`."""
    middle = {name: value if name == shade else np.median(v[member]) for name, v in fit.data.columns.items()}
    columns = {name: np.full(LINE, v) for name, v in middle.items()}
    first = fit.data.columns[across][member].min()
    columns[across] = (np.geomspace if fit.data.columns[across].min() > 0 else np.linspace)(first, end, LINE)
    return columns


def _beyond(values: Array) -> float:
    """Where the law's line ends: half as far again as the data span, at most a factor `REACH`."""
    low, high = float(values.min()), float(values.max())
    return high * min(REACH, float(np.sqrt(high / low))) if low > 0 else high + (high - low) / 2


def _law(
    fit: Fit, across: str, line: Mapping[str, Array], level: float, colour: str, text: str
) -> list[dict[str, Any]]:
    """Traces of one line of the law: band, the part inside the data, the part beyond it, and its label at the end."""
    x, mean = line[across], fit.value(**line)
    inside = np.all([fit.data.inside(name, values) for name, values in line.items()], axis=0)
    outside = ~inside
    outside[:-1] |= outside[1:]
    base = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "name": text}
    traces: list[dict[str, Any]] = [
        base | {"x": x, "y": np.where(part, mean, np.nan), "line": {"color": colour, "dash": dash, "width": 2}}
        for part, dash in ((inside, "solid"), (outside, "dash"))
    ]
    traces.append(base | {"mode": "text", "x": x[-1:], "y": mean[-1:], "text": [f" {text}"], "cliponaxis": False})
    traces[-1] |= {"textposition": "middle right", "textfont": {"color": colour}}
    if fit.draws or fit.degrees_of_freedom >= 2:
        band = replace(fit, forced=True).predict(level, **line)
        traces.insert(0, band_trace(x, band.lower, band.upper, colour, name=text))
    return traces


def points_trace(x: ArrayLike, y: ArrayLike, colour: str | list[str], hover: list[str]) -> dict[str, Any]:
    """Return data as points that say something of their own when hovered over."""
    marker = {"color": colour, "size": 7, "line": {"width": 0.5, "color": "white"}}
    trace = {"type": "scatter", "mode": "markers", "name": "data", "x": x, "y": y, "marker": marker}
    return trace | {"text": hover, "hovertemplate": "%{text}<extra></extra>"}


def _colours(fit: Fit, shade: str, values: Array, to: Mapping[str, float] | None) -> list[str]:
    """Colours of values of the colour column, by their logarithm between the smallest and the largest."""
    data = fit.data.columns[shade]
    scale = np.log if data.min() > 0 else np.asarray
    low, high = scale([data.min(), max(data.max(), to[shade] if to else data.max())])
    place = (scale(values) - low) / max(high - low, 1e-12)
    channels = [np.interp(place, [0.0, 0.5, 1.0], channel).astype(int) for channel in COLOURS.T]
    return [f"rgb({r}, {g}, {b})" for r, g, b in zip(*channels, strict=True)]


def _hover(fit: Fit, names: Sequence[str] | None, label: Label) -> list[str]:
    fitted = fit.value(**fit.data.columns)
    texts = []
    for i, (y, f) in enumerate(zip(fit.data.target, fitted, strict=True)):
        at = "<br>".join(f"{name} {label(name, float(v[i]))}" for name, v in fit.data.columns.items())
        head = f"<b>{names[i]}</b><br>" if names else ""
        texts.append(f"{head}{at}<br>{fit.model.target} {y:.4g}, law {f:.4g} ({100 * (y / f - 1):+.2g} %)")
    return texts
