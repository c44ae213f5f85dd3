"""Predictions that cannot be changed afterwards: on disk, fsynced, before the run that checks them starts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from limbeck.files import write_json


@dataclass(frozen=True)
class Forecast:
    """One prediction of one number.

    Args:
        name: what is predicted, unique within a study.
        predicted, lower, upper: point and interval.
        level: nominal coverage.
        extrapolation: compute of the predicted run over that of the largest run fitted.
        basis: the numbers it was computed from (law, parameters, noise), plain JSON.
    """

    name: str
    predicted: float
    lower: float
    upper: float
    level: float
    extrapolation: float
    basis: dict[str, Any]

    def outcome(self, measured: float, **facts: Any) -> dict[str, Any]:
        """Compare with the measurement: the row that `summary.json` holds."""
        return {
            "name": self.name,
            "predicted": self.predicted,
            "lower": self.lower,
            "upper": self.upper,
            "level": self.level,
            "measured": measured,
            "relative_error": self.predicted / measured - 1,
            "inside": self.lower <= measured <= self.upper,
            "extrapolation": self.extrapolation,
            **facts,
        }


class ForecastBook:
    """`prediction.json`: forecasts in the order in which they were made, each with its time and a hash of its content.

    A forecast that is already in the book is never replaced: asking again returns the first one.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[dict[str, Any]]:
        """All forecasts written so far."""
        return list(json.loads(self.path.read_text())["forecasts"]) if self.path.is_file() else []

    def find(self, name: str) -> Forecast | None:
        """Return a forecast by name."""
        for entry in self.entries():
            if entry["name"] == name:
                return Forecast(**{k: v for k, v in entry.items() if k not in ("written", "sha256")})
        return None

    def write(self, forecast: Forecast) -> Forecast:
        """Add a forecast and force it to the disk; return the one that stands in the book."""
        known = self.find(forecast.name)
        if known is not None:
            return known
        content = json.loads(json.dumps(asdict(forecast)))
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        entry = {**content, "written": datetime.now(UTC).isoformat(timespec="seconds"), "sha256": digest}
        write_json(self.path, {"forecasts": [*self.entries(), entry]})
        return forecast
