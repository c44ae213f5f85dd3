"""The paper on potentials: what its numbers say."""

from typing import Any

import numpy as np
import pytest

from limbeck.papers import get
from limbeck.papers.dpa3_atomistic import NAMES


def concluded(forces: Any = (220.0, 80.0, 60.0, 120.0, 115.0), energies: Any = (70.0, 25.0, 20.0, 50.0, 48.0)) -> Any:
    rows = [
        {
            "forces": [one + k for one in forces], "energies": list(energies), "zero": 400.0, "elements": 60.0,
            "params": [10, 20, 30, 18, 18], "visited": 80,
        }
        for k in (0.0, 1.0, 2.0)
    ]  # fmt: skip
    rows[2]["forces"][2] -= 3.0
    return get("dpa3-atomistic").conclude(rows)


def test_the_verdict_on_potentials_follows_from_the_numbers() -> None:
    found = concluded()
    np.testing.assert_allclose(list(found.effects), [160.0, 160.0, 163.0])
    assert [bool(passed) for passed in found.checks.values()] == [True] * 4
    assert found.details["force error (meV/Å)"][NAMES[1]] == 81.0
    assert "Three layers have 27% of the force error of one; angles take 33% off two" in found.figure.title
    assert "difference -5.0 ± 0.0;" in found.notes[0]


@pytest.mark.parametrize(
    ("forces", "energies", "failed"),
    [((220, 60, 80, 120, 115), (70, 25, 20, 50, 48), 0), ((220, 80, 60, 70, 115), (70, 25, 20, 50, 48), 1),
     ((220, 110, 60, 120, 115), (70, 25, 20, 50, 48), 2), ((220, 80, 60, 120, 115), (70, 35, 20, 50, 48), 3)],
)  # fmt: skip
def test_each_check_can_fail(forces: Any, energies: Any, failed: int) -> None:
    passed = [bool(one) for one in concluded(forces, energies).checks.values()]
    assert passed == [k != failed for k in range(4)]
