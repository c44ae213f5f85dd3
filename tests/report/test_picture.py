from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from limbeck import fitting, laws
from limbeck.errors import FittingError
from limbeck.fitting import Loss, Model, Parameter
from limbeck.fitting.picture import log_axis, picture, residual_picture
from limbeck.report.figures import forecast_picture, law_picture


def lines(figure: Any, dash: str) -> list[Any]:
    return [t for t in figure.data if t.mode == "lines" and t.line.dash == dash]


def test_law_is_solid_inside_the_data_and_dashed_beyond(chinchilla_fit: Any) -> None:
    figure = picture(chinchilla_fit, to={"params": 7e9, "tokens": 2e12})
    tokens = chinchilla_fit.data.columns["tokens"]
    assert figure.layout.xaxis.title.text == "tokens" and figure.layout.yaxis.title.text == "loss (nats/token)"
    for solid, dashed in zip(lines(figure, "solid"), lines(figure, "dash"), strict=True):
        seen, beyond = solid.x[np.isfinite(solid.y)], dashed.x[np.isfinite(dashed.y)]
        assert seen.max() <= tokens.max() < beyond.max() == pytest.approx(2e12)
        assert beyond.min() == pytest.approx(seen.max())
    points = figure.data[-1]
    assert len(points.x) == 240 and points.mode == "markers"
    assert figure.layout.title.text == "chinchilla follows 240 points to 0.32 % (median error)"


def test_line_and_band_are_the_fits(chinchilla_fit: Any) -> None:
    at = {"params": 7e9, "tokens": 2e12}
    figure = picture(chinchilla_fit, to=at, level=0.9)
    p = chinchilla_fit.predict(0.9, **at)
    label = next(t for t in figure.data if t.mode == "text" and t.text[0].strip() == "7e9")
    band = next(t for t in figure.data if t.fill == "toself" and t.name == "7e9")
    half = len(band.y) // 2
    assert label.y[0] == pytest.approx(float(p.mean[0]))
    assert band.y[half - 1] == pytest.approx(float(p.upper[0])) and band.y[half] == pytest.approx(float(p.lower[0]))


def test_columns_can_be_chosen_and_are_checked(chinchilla_fit: Any) -> None:
    assert picture(chinchilla_fit, "params").layout.xaxis.title.text == "parameters"
    with pytest.raises(FittingError, match=r'no column "parms"\. Did you mean "params"'):
        picture(chinchilla_fit, "parms")


def test_one_column_and_no_draws_still_draw() -> None:
    tokens = np.geomspace(1e8, 1e11, 8)
    fit = laws.fit("power:tokens", {"tokens": tokens, "loss": 60 * tokens**-0.15}, bootstrap=0)
    figure = picture(fit)
    assert len(lines(figure, "solid")) == 1 and len(figure.data[-1].x) == 8


def test_columns_may_be_zero_or_negative() -> None:
    class Plane(Model):
        name, columns, target, linear = "plane", ("x", "y"), "z", ("a", "b", "c")
        parameters = (Parameter("a"), Parameter("b"), Parameter("c"))

        def formula(self, p: Any, x: Any) -> Any:
            return p.a + p.b * x.x + p.c * x.y

    x, y = np.tile([-2.0, 0.0, 1.0, 3.0], 2), np.repeat([0.0, 1.0], 4)
    wiggle = np.array([1, -1, 1, -1, -1, 1, -1, 1]) * 0.01
    fit = fitting.fit(Plane(), {"x": x, "y": y}, 1 + 2 * x - y + wiggle, loss=Loss(np.inf, "linear"), bootstrap=0)
    figure = picture(fit)
    assert lines(figure, "dash")[0].x.max() == pytest.approx(5.5)
    assert figure.layout.xaxis.type is None and len(lines(figure, "solid")) == 2


def test_residual_picture_says_what_it_sees(chinchilla_fit: Any) -> None:
    figure = residual_picture(chinchilla_fit)
    assert figure.layout.title.text.startswith("Residuals show no trend with size (rank correlation ")
    x, y = figure.data[0].x, figure.data[0].y
    left = 100 * (chinchilla_fit.data.target / chinchilla_fit.value(**chinchilla_fit.data.columns) - 1)
    assert x.max() == 1.0 and np.allclose(y, left)
    band = figure.layout.shapes[0]
    assert np.mean((y >= band.y0) & (y <= band.y1)) == pytest.approx(0.8, abs=0.01)


def test_residual_trend_is_told(chinchilla_fit: Any) -> None:
    size = chinchilla_fit.data.columns["params"] * chinchilla_fit.data.columns["tokens"]
    bent = replace(chinchilla_fit.data, target=chinchilla_fit.data.target * (size / size.min()) ** 0.01)
    title = residual_picture(replace(chinchilla_fit, data=bent)).layout.title.text
    assert title.startswith("Residuals rise with size: the form is not quite right (rank correlation +0.")


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1.4, 2.5, [1.4, 1.6, 1.8, 2.0, 2.2, 2.4]),
        (2e4, 9e5, [2e4, 5e4, 1e5, 2e5, 5e5]),
        (1e6, 1e12, [1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12]),
    ],
)
def test_round_ticks(low: float, high: float, ticks: list[float]) -> None:
    axis = log_axis(low, high, str)
    assert axis["tickvals"] == pytest.approx(ticks)


def test_law_picture_marks_what_the_fit_has_not_seen(demo_content: Any) -> None:
    figure = law_picture(demo_content, demo_content.fit)
    stars = [t for t in figure.data if t.marker.symbol == "star"]
    hollow = [t for t in figure.data if t.marker.symbol == "circle-open"]
    assert [(t.x[0], t.y[0]) for t in stars] == [(395_904.0, 1.45)]
    assert [(t.x[0], t.y[0]) for t in hollow] == [(25_248.0, 2.47)]
    assert "hollow: not yet on the law" in figure.layout.title.subtitle.text
    assert figure.data[-3].text[0].startswith("<b>n13944-s0</b>")


def test_forecast_picture_states_the_finding(demo_content: Any) -> None:
    figure = forecast_picture(demo_content.predictions)
    first, second = demo_content.predictions
    assert figure.layout.title.text == "1 of 2 measurements lie inside the predicted band; largest error " + (
        f"{100 * max(abs(first.relative_error), abs(second.relative_error)):.1f} %"
    )
    bar = figure.data[0]
    assert bar.base == (first.lower, second.lower)
    assert np.allclose(bar.x, [first.upper - first.lower, second.upper - second.lower])
