from __future__ import annotations

import pytest

from limbeck.report.numbers import at_digit, estimate, interval, last_digit, percent, significant


@pytest.mark.parametrize(
    ("value", "uncertainty", "text"),
    [
        (1.81722, 0.03, "1.817"),
        (1.81722, 0.04, "1.82"),
        (477.83, 150.0, "480"),
        (2143.4, 1300.0, "2100"),
        (2143.4, 9000.0, "2000"),
        (0.0, 0.1, "0"),
        (-0.5131, 0.02, "-0.513"),
        (4.2187e9, 1e8, "4.22e9"),
        (3.21e-5, 4e-6, "3.2e-5"),
        (0.3, 4.0, "0"),
        (1.81722, None, "1.817"),
        (1.81722, 0.0, "1.817"),
        (123456.0, None, "1.235e5"),
        (float("inf"), 1.0, "inf"),
    ],
)
def test_uncertainty_decides_the_digits(value: float, uncertainty: float | None, text: str) -> None:
    assert significant(value, uncertainty) == text


def test_two_digits_up_to_354() -> None:
    assert [last_digit(u) for u in (1.0, 3.54, 3.55, 9.9, 10.0)] == [-1, -1, 0, 0, 0]
    assert at_digit(99.96, -1) == "100.0"


def test_intervals_and_estimates() -> None:
    assert interval(1.36, 1.4449) == "1.36 – 1.44"
    assert estimate(1.40813, 1.3604, 1.4449, 0.9, "nats/byte") == "1.41 nats/byte (90 %: 1.36 – 1.44)"
    assert estimate(2.0, None, None, unit="s") == "2 s"


def test_percent() -> None:
    assert [percent(v) for v in (0.0113, 0.2, 0.0004, 0.0)] == ["1.1 %", "20 %", "0.04 %", "0 %"]
    assert [percent(v, sign=True) for v in (-0.017, 0.017)] == ["−1.7 %", "+1.7 %"]
