"""The picture of a reproduction as plain numbers, so that it can be kept in a record and drawn later."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike

from limbeck.fitting.picture import chart

DRAWN: dict[str, dict[str, Any]] = {
    "points": {"mode": "markers"}, "line": {"mode": "lines"}, "dashed": {"mode": "lines", "line": {"dash": "dash"}},
}  # fmt: skip


@dataclass(frozen=True)
class Series:
    """Points or a line.

    Args:
        name: entry of the legend.
        x, y: coordinates, [n].
        error: one standard error of y, [n]; empty for none.
        kind: "points" for measurements, "line" for a law, "dashed" for its extrapolation.
    """

    name: str
    x: Any
    y: Any
    error: Any = ()
    kind: Literal["points", "line", "dashed"] = "points"

    def __post_init__(self) -> None:
        for name in ("x", "y", "error"):  # lists of plain numbers, whatever was given
            object.__setattr__(self, name, np.asarray(getattr(self, name)).tolist())

    @classmethod
    def measured(cls, name: str, x: ArrayLike, replicates: Iterable[Iterable[float]]) -> Self:
        """Return the mean over replicates [seed, n] with its standard error.

        Example:
            >>> Series.measured("ours", [1.0, 2.0], [[1.0, 5.0], [3.0, 5.0]])
            Series(name='ours', x=[1.0, 2.0], y=[2.0, 5.0], error=[1.0, 0.0], kind='points')
        """
        points = list(zip(*replicates, strict=True))
        error = [stdev(values) / len(values) ** 0.5 for values in points if len(values) > 1]
        return cls(name, x, [fmean(values) for values in points], error)


@dataclass(frozen=True)
class Figure:
    """One pair of axes.

    Args:
        title: the finding, as a sentence.
        x, y: labels with units.
        series: what is drawn.
        log_x, log_y: logarithmic axes.
    """

    title: str
    x: str
    y: str
    series: Sequence[Series]
    log_x: bool = False
    log_y: bool = False

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Self:
        """Rebuild a figure from `dataclasses.asdict`."""
        return cls(**{**record, "series": [Series(**one) for one in record["series"]]})

    def plot(self) -> Any:
        """Return the picture as a plotly figure."""
        traces: list[dict[str, Any]] = []
        for one in self.series:
            error = {"error_y": {"array": one.error}} if one.error else {}
            traces.append({"x": one.x, "y": one.y, "name": one.name, **DRAWN[one.kind], **error})
        return chart(self.title, self.x, self.y, traces, log="x" * self.log_x + "y" * self.log_y)
