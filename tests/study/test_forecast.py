from __future__ import annotations

import hashlib
import json

import pytest

from limbeck.study.forecast import Forecast, ForecastBook


def forecast(name: str = "large run", predicted: float = 1.4) -> Forecast:
    return Forecast(name, predicted, 1.3, 1.5, 0.8, 8.0, {"noise": 0.01})


def test_a_forecast_is_never_replaced(tmp_path):
    book = ForecastBook(tmp_path / "prediction.json")
    book.write(forecast())
    assert book.write(forecast(predicted=9.9)).predicted == 1.4
    book.write(forecast("student", 1.6))
    assert [entry["name"] for entry in book.entries()] == ["large run", "student"]
    assert ForecastBook(tmp_path / "prediction.json").find("student") == forecast("student", 1.6)
    assert book.find("nothing") is None


def test_the_hash_is_of_the_forecast_alone(tmp_path):
    book = ForecastBook(tmp_path / "prediction.json")
    book.write(forecast())
    entry = book.entries()[0]
    digest = entry.pop("sha256")
    assert entry.pop("written").endswith("+00:00")
    assert hashlib.sha256(json.dumps(entry, sort_keys=True).encode()).hexdigest() == digest


def test_the_outcome_compares_prediction_and_measurement():
    row = forecast().outcome(1.42, unit="nats/byte")
    assert row["relative_error"] == pytest.approx(1.4 / 1.42 - 1)
    assert row["inside"] is True and row["unit"] == "nats/byte"
    assert forecast().outcome(1.6)["inside"] is False
