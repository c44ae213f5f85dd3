"""The paper on grades of click networks: what its numbers say, and that a small run gives them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.papers import get

AUC = [0.778, 0.804, 0.806, 0.801, 0.804]


def concluded(auc: Any = AUC, parts: Any = (0.65, 0.77), loss: Any = (0.55, 0.54), log: str = "movielens") -> Any:
    rows = [
        {
            "log": log, "events": [5000, 20000, 80000], "parts": [*parts, auc[1]], "rates": 0.77,
            "auc": np.array(auc) + 0.001 * k, "loss": [0.56, 0.54, 0.54, *loss],
        }
        for k in range(3)
    ]  # fmt: skip
    return get("suan-ctr").conclude(rows)


def test_the_verdict_on_click_networks_follows_from_the_numbers() -> None:
    found = concluded()
    np.testing.assert_allclose(list(found.effects), 3.0)
    assert all(map(bool, found.checks.values()))
    assert "gains +3.0 thousandths" in found.figure.title
    assert found.details["exponent of 1 - AUC"] == pytest.approx(np.polyfit(
        np.log([5000, 20000, 80000]), np.log([0.35, 0.23, 0.196]), 1)[0])  # fmt: skip
    for broken in (
        concluded([0.79, *AUC[1:]]), concluded([*AUC[:2], 0.803, *AUC[3:]]), concluded(loss=(0.54, 0.55)),
        concluded(parts=(0.83, 0.82)),
    ):  # fmt: skip
        assert [bool(passed) for passed in broken.checks.values()].count(False) == 1
    assert "a made-up log, not MovieLens" in concluded(log="synthetic").notes


def test_without_its_wheel_a_small_run_takes_a_made_up_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path))
    found = get("suan-ctr").measure(0, quick=True)
    assert found["log"] == "synthetic" and found["events"] == [100, 400, 1600]
    assert len(found["auc"]) == 5 and all(0.45 < value < 0.9 for value in found["auc"])
    assert found["rates"] > 0.55 and found["parts"][-1] == found["auc"][1]
