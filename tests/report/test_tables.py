from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from limbeck import fitting, laws
from limbeck.report import tables


def test_fit_is_told_in_80_columns(chinchilla_fit: Any, chinchilla_runs: Any) -> None:
    text = tables.fit_summary(chinchilla_fit, chinchilla_runs)
    rows = text.splitlines()
    assert max(map(len, rows)) <= 80 and "\x1b" not in text
    assert rows[0].startswith("240 runs · 57 M–16 B parameters")
    assert rows[2] == "loss = E + A / params^alpha + B / tokens^beta"
    assert re.search(r"^  E +1\.817  1\.7\d+ – 1\.8\d+ +irreducible loss$", text, re.M)
    assert re.search(r"^  A +4[78]\d? .*trades off with alpha$", text, re.M)
    assert "Optimum reached from" in text
    assert re.search(r"compute-optimal at 3e22 FLOP: 1\d B parameters \(80 %: 1\d B – \d+ B\)", text)
    assert text.endswith("2.3× beyond the largest run")


def test_unidentified_parameters_have_no_interval(ladder_fit: Any) -> None:
    text = tables.fit_summary(ladder_fit)
    assert text.startswith("36 points\n")
    assert re.search(r"^  E .* not +irreducible|^  E .* not identified", text, re.M)
    assert "E is not identified by these runs" in text and "prior 0.4 ± 0.12" in text


def test_prediction_says_how_far_it_reaches(chinchilla_fit: Any) -> None:
    columns = {"params": [1e9, 7e9], "tokens": [2e10, 2e12]}
    text = tables.prediction(chinchilla_fit, chinchilla_fit.predict(**columns), columns)
    first, near, second, far = text.splitlines()
    assert re.match(r"loss 2\.\d+ nats/token \(80 %: 2\.\d+ – 2\.\d+\) at 1 B parameters, 20 B tokens", first)
    assert near == "  inside the data" and far == "  6.5× beyond the largest run"
    assert second.endswith("at 7 B parameters, 2 T tokens")


def test_prediction_says_what_never_varied() -> None:
    tokens = np.geomspace(1e8, 1e10, 12)
    loss = 1.8 + 500 * tokens**-0.35 * np.exp(np.random.default_rng(0).normal(0, 0.002, 12))
    fit = laws.fit("chinchilla", {"params": np.full(12, 1e8), "tokens": tokens, "loss": loss}, bootstrap=20, seed=0)
    columns = {"params": 1e10, "tokens": 1e10}
    text = tables.prediction(fit, fit.predict(**columns), columns)
    assert "all runs had 100 M parameters: what others do is a guess" in text
    inside = {"params": 1e8, "tokens": 1e9}
    assert "a guess" not in tables.prediction(fit, fit.predict(**inside), inside)


def test_outcomes_say_inside_or_outside() -> None:
    rows = [
        {"name": "large run", "predicted": 1.408, "lower": 1.36, "upper": 1.4449, "measured": 1.4324, "inside": True},
        {"name": "student", "predicted": 1.568, "lower": 1.547, "upper": 1.58, "measured": 1.5829, "basis": {}},
        {"name": "later", "predicted": 2.0, "lower": 1.9, "upper": 2.1},
    ]
    text = tables.outcomes({"predictions": rows, "baselines": {"student": {"trained alone": 1.626}}})
    cells = [re.split(r" {2,}", line.strip()) for line in text.splitlines()]
    assert cells[0] == ["predicted", "80 % interval", "measured", "error"]
    assert cells[1] == ["large run", "1.41", "1.36 – 1.44", "1.432", "−1.7 %", "inside"]
    assert cells[2] == ["student", "1.568", "1.547 – 1.580", "1.583", "−0.9 %", "outside"]
    assert cells[3] == ["later", "2.00", "1.90 – 2.10", "–"]
    assert cells[4] == ["student, alone", "1.626"]


def test_comparison_puts_the_best_forecaster_first() -> None:
    rng = np.random.default_rng(1)
    params, tokens = np.repeat([1e7, 3e7, 1e8, 3e8], 6), np.tile(np.geomspace(1e9, 1e11, 6), 4)
    loss = laws.get("chinchilla")(
        {"E": 1.7, "A": 400, "B": 2000, "alpha": 0.34, "beta": 0.37}, params=params, tokens=tokens
    )
    runs = {"params": params, "tokens": tokens, "loss": loss * np.exp(rng.normal(0, 0.003, 24))}
    fits = [laws.fit(name, runs, bootstrap=0) for name in ("power:tokens", "chinchilla")]
    text = tables.comparison(fitting.compare(fits, resamples=40))
    rows = text.splitlines()
    assert rows[0].startswith("chinchilla predicts the largest runs best (up to ")
    assert max(map(len, rows)) <= 80
    header = next(i for i, row in enumerate(rows) if row.split()[:2] == ["held", "out"])
    order = [re.split(r" {2,}", row)[0] for row in rows[header + 1 : rows.index("", header)]]
    assert order[0] == "chinchilla" and "power" in order and "last value carried forward" in order


@pytest.mark.parametrize("key", ["law", "name"])
def test_catalogue_lists_equations(key: str) -> None:
    text = tables.catalogue([{key: "power", "equation": "A / x^alpha"}])
    assert text.splitlines()[1].split() == ["power", "A", "/", "x^alpha"]
