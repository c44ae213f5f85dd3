"""The paper on mixed tokens: what its numbers say, and that a small run without the wheel gives them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.papers import get
from limbeck.papers.unimixer import COLD, FAMILIES, GRADES, NONE, PERMUTATION, UNI, WARM, WAYS, slopes

SIZES = [[1e3, 1e4, 1e5, 1e6], [2e3, 2e4, 2e5, 2e6], [1e3, 1e4, 1e5, 1e6]]


def concluded(gaps: Any = (), exponents: Any = (0.1, 0.12, 0.1), log: str = "movielens", base: float = 0.6) -> Any:
    rows = []
    for k in range(3):
        auc = np.full(len(WAYS), 0.79) + 0.001 * k
        auc[NONE] -= 0.01 + 0.001 * k
        auc[UNI] -= 0.002 + 0.0002 * k
        auc[COLD] += 0.003 + 0.0001 * k
        for way, gap in dict(gaps).items():
            auc[way] += gap
        ladder = [1 - 0.6 * np.array(s) ** -a for s, a in zip(SIZES, exponents, strict=True)]
        rows.append({
            "log": log, "auc": auc, "params": [1] * len(WAYS), "base": base, "ladder": ladder, "sizes": SIZES,
            "rounded": [0.5, 1.0], "rounding": [0.0, -0.001], "residual": [0.01, 0.0],
        })  # fmt: skip
    return get("unimixer").conclude(rows)


def test_the_verdict_on_mixed_tokens_follows_from_the_numbers() -> None:
    found = concluded()
    np.testing.assert_allclose(list(found.effects), [-2.0, -2.2, -2.4])
    assert [bool(passed) for passed in found.checks.values()] == [True, True]
    assert "-2.2 thousandths" in found.figure.title and not found.notes
    bands = found.details["exponent of the permutation, others minus it: 10, 50, 90 %"]["1 - AUC"]
    np.testing.assert_allclose([bands[one] for one in FAMILIES], [[-0.1] * 3, [-0.02] * 3, [0.0] * 3], atol=1e-12)
    assert [bool(passed) for passed in concluded({NONE: 0.02}).checks.values()] == [False, True]
    assert [bool(passed) for passed in concluded({WARM: 0.01}).checks.values()] == [True, False]
    assert found.details["over the permutation"]["none"] == pytest.approx([-11.0, 1 / 3**0.5])


def test_what_cannot_be_said_is_not_said() -> None:
    found = concluded(log="synthetic", base=0.9)
    assert "a made-up log, not MovieLens" in found.notes and any("no exponents of gains" in one for one in found.notes)
    assert list(found.details["exponent of the permutation, others minus it: 10, 50, 90 %"]) == ["1 - AUC"]


def test_an_exponent() -> None:
    np.testing.assert_allclose(slopes(np.array([1.0, 4.0, 50.0]), 3 * np.array([1.0, 4.0, 50.0]) ** -0.3), -0.3)


def test_a_small_run_without_its_wheel_takes_a_made_up_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_WHEELS", str(tmp_path))
    monkeypatch.setattr("limbeck.papers.unimixer.GRADES", [GRADES[0], {}])
    found = get("unimixer").measure(0, quick=True)
    assert found["log"] == "synthetic" and len(found["auc"]) == len(WAYS)
    assert all(0.3 < value < 0.9 for value in found["auc"])
    assert [row[1] for row in found["ladder"]] == [found["auc"][list(WAYS).index(one)] for one in FAMILIES]
    assert found["sizes"][0][1] + 2560 == found["sizes"][1][1] == found["params"][UNI]
    assert found["params"][PERMUTATION] == found["params"][NONE]
