"""Predictions that cannot be changed afterwards: on disk, fsynced, before the run that checks them starts."""

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
        said = {name: value for name, value in asdict(self).items() if name != "basis"}
        off, inside = self.predicted / measured - 1, self.lower <= measured <= self.upper
        return {**said, "measured": measured, "relative_error": off, "inside": inside, **facts}


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
        entry = next((one for one in self.entries() if one["name"] == name), None)
        return Forecast(**{key: entry[key] for key in entry if key not in ("written", "sha256")}) if entry else None

    def write(self, forecast: Forecast) -> Forecast:
        """Add a forecast and force it to the disk; return the one that stands in the book."""
        if known := self.find(forecast.name):
            return known
        content = json.loads(json.dumps(asdict(forecast)))
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        entry = {**content, "written": datetime.now(UTC).isoformat(timespec="seconds"), "sha256": digest}
        write_json(self.path, {"forecasts": [*self.entries(), entry]})
        return forecast
