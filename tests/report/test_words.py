from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from limbeck import laws
from limbeck.report import Forecast, ReportContent, javascript, numbers, words
from limbeck.report.planner import planner, representative, stretch


@pytest.mark.parametrize("module", [words, numbers, javascript])
def test_examples(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted and not found.failed


def test_noise_between_seeds_is_pooled(ladder_fit: Any) -> None:
    rows = words.repeated(ladder_fit)
    assert len(rows) == 12 and all(row.count == 3 for row in rows)
    y = ladder_fit.data.target.reshape(4, 3, 3)  # sizes, seeds, budgets
    spread = y.std(axis=1, ddof=1) / y.mean(axis=1)
    assert np.allclose(sorted(row.spread for row in rows), sorted(spread.ravel()))
    assert f"differ by {100 * np.sqrt(np.mean(spread**2)):.1f} %" in words.noise_words(rows)


def test_no_repeats_no_words(chinchilla_fit: Any) -> None:
    fit = laws.fit("power:tokens", {"tokens": [1e8, 1e9, 1e10, 1e11], "loss": [4.0, 3.2, 2.6, 2.1]}, bootstrap=0)
    assert words.repeated(fit) == [] and words.noise_words([]) == ""


def test_next_run_is_ten_times_larger_in_what_counts(chinchilla_fit: Any) -> None:
    size = chinchilla_fit.data.columns["params"] * chinchilla_fit.data.columns["tokens"]
    at = words.next_run(chinchilla_fit)
    assert at["params"] * at["tokens"] == pytest.approx(10 * size.max())
    law = laws.get("downstream-error")
    loss = np.linspace(2.0, 4.0, 9)
    fit = laws.fit(law, {"loss": loss, "error": law({"epsilon": 0.9, "k": 3.0, "gamma": 1.0}, loss=loss)}, bootstrap=0)
    assert words.next_run(fit)["loss"] in loss


def test_strained_parameters_are_named(chinchilla_fit: Any, ladder_fit: Any) -> None:
    assert words.strained(chinchilla_fit) == ("A", "B")
    assert "E" in words.strained(ladder_fit)


def test_forecast_knows_its_error_and_band() -> None:
    forecast = Forecast("run", 1.5, 1.4, 1.6, measured=1.25)
    assert forecast.relative_error == pytest.approx(0.2) and forecast.inside is False
    assert Forecast("run", 1.5).inside is None and Forecast("run", 1.5).relative_error is None
    assert words.forecast_line(Forecast("run", 1.5)) == "predicted 1.5, not measured yet"


def test_page_draws_stand_for_all(chinchilla_fit: Any) -> None:
    chosen = representative(chinchilla_fit)
    values = chinchilla_fit.values(**words.next_run(chinchilla_fit))[:, 0]
    assert len(set(chosen)) == 200
    quantiles = [0.1, 0.5, 0.9]
    assert np.allclose(np.quantile(values[chosen], quantiles), np.quantile(values, quantiles), rtol=2e-4)
    assert stretch(chinchilla_fit, 0.8) == pytest.approx(1.0, abs=0.01)
    data = planner(ReportContent.of_fit(chinchilla_fit), chinchilla_fit).data
    assert data["split"] and len(data["draws"]) == 200 and len(data["noise"]) == 25
