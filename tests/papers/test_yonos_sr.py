"""Scale distillation: the oracle against its closed form, and what is concluded from numbers."""

from typing import Any

import numpy as np
import pytest

from limbeck.papers import get, yonos_sr


def test_the_oracle_costs_what_the_variances_of_the_targets_say() -> None:
    """Least squares: excess risk = parameters / examples x variance of the target; here 10 / 2000 a coordinate.

    The variances, of a coordinate, are those of the specification. A mean of 20 trials of 80 numbers each that go
    like a chi-square is within 4 standard errors of 4 sqrt(2 / 1600) = 14 %.
    """
    found = np.array(yonos_sr.oracle(0))
    variances = np.array([[0.3783, 0.2037], [0.3019, 0.1496], [0.1326, 0.0529]])
    assert found == pytest.approx(variances * 10 / 2000, rel=0.14)


def made(**changes: Any) -> dict[str, Any]:
    rows = [[14.0, 3.0], [13.5, 1.5], [13.0, 0.7], [12.5, 0.3]]
    better = [[14.3, 3.0], [13.8, 1.4], [13.2, 0.6], [12.5, 0.25]]
    worse = [[13.8, 3.1], [13.4, 1.6], [12.8, 0.6], [12.3, 0.28]]
    return {
        "excess": [[2.0, 1.0], [3.0, 1.5], [4.0, 2.0]],
        "digits": [[rows, rows, worse], [rows, rows, better]],
    } | changes


def test_what_is_concluded() -> None:
    paper = get("yonos-sr")
    good = paper.conclude([made()] * 3)
    assert list(good.effects) == [50.0] * 3 and all(np.all(one) for one in good.checks.values())
    assert "[-0.2 -0.1 -0.2 -0.2] dB" in good.notes[0] and "[0.3 0.3 0.2 0. ] dB" in good.notes[1]
    assert good.figure is not None and "-0.20 dB by brief, +0.30 by long" in good.figure.title
    close = paper.conclude([made(), made(excess=[[2.0, 1.0], [3.0, 2.5], [4.0, 2.0]]), made()])
    assert [bool(np.all(one)) for one in close.checks.values()] == [False, True, True, True]
    digits = made()["digits"]
    digits[1][2][2][1] = 0.8
    digits[0][1][3][0] = 14.5
    both = paper.conclude([made(), made(digits=digits), made(excess=[[1.5, 1.0]] * 3)])
    assert [bool(np.all(one)) for one in both.checks.values()] == [True, True, False, False]
    low = paper.conclude([made(excess=[[1.5, 1.0]] * 3)] * 3)
    assert [bool(np.all(one)) for one in low.checks.values()] == [True, False, True, True]
