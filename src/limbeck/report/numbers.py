"""Numbers with no more digits than they deserve: the uncertainty decides which digit is the last."""

from __future__ import annotations

import math

from limbeck.runs.quantities import scientific


def last_digit(uncertainty: float) -> int:
    """Return the power of ten of the last digit worth printing.

    Uncertainties that begin with 1.0 to 3.5 deserve two digits, others one (the rule of the Particle Data Group).

    Example:
        >>> last_digit(0.03), last_digit(0.04), last_digit(150.0)
        (-3, -2, 1)
    """
    power = math.floor(math.log10(abs(uncertainty)) + 1e-12)
    return power - 1 if abs(uncertainty) / 10.0**power <= 3.54 else power


def at_digit(value: float, digit: int) -> str:
    """Return a value rounded at a power of ten; scientific from 1e6 and below 1e-3.

    Example:
        >>> at_digit(1.81722, -3), at_digit(2143.4, 2), at_digit(4.2187e9, 7)
        ('1.817', '2100', '4.22e9')
    """
    if not math.isfinite(value):
        return f"{value:g}"
    rounded = round(value, -digit)
    if rounded == 0.0:
        return "0"
    power = math.floor(math.log10(abs(rounded)) + 1e-12)
    if power >= 6 or power < -3:
        return scientific(value, max(power - digit + 1, 1))
    return f"{rounded:.{max(-digit, 0)}f}"


def significant(value: float, uncertainty: float | None) -> str:
    """Return a value to the last digit that its uncertainty leaves meaningful.

    Args:
        value: the estimate.
        uncertainty: half-width of its interval or standard error, same unit; None or 0 for "not known": four digits.

    Example:
        >>> significant(1.81722, 0.03), significant(477.83, 150.0), significant(0.34731, None)
        ('1.817', '480', '0.3473')
    """
    if not uncertainty or not math.isfinite(uncertainty):
        return f"{value:.4g}" if abs(value) < 1e5 else scientific(value, 4)
    return at_digit(value, last_digit(uncertainty))


def interval(lower: float, upper: float) -> str:
    """Return the ends of an interval, each to the last meaningful digit of its half-width.

    Example:
        >>> interval(1.7887, 1.8512)
        '1.789 – 1.851'
    """
    half = (upper - lower) / 2
    return f"{significant(lower, half)} – {significant(upper, half)}"


def estimate(value: float, lower: float | None, upper: float | None, level: float = 0.8, unit: str = "") -> str:
    """Return a value with its unit and interval, or the value alone.

    Example:
        >>> estimate(1.40813, 1.3604, 1.4449, unit="nats/byte")
        '1.41 nats/byte (80 %: 1.36 – 1.44)'
    """
    half = None if lower is None or upper is None else (upper - lower) / 2
    text = f"{significant(value, half)} {unit}".rstrip()
    return text if lower is None or upper is None else f"{text} ({percent(level)}: {interval(lower, upper)})"


def percent(fraction: float, *, sign: bool = False) -> str:
    """Return a fraction as a percentage with two significant digits.

    Example:
        >>> percent(0.0113), percent(-0.017, sign=True), percent(0.2)
        ('1.1 %', '−1.7 %', '20 %')
    """
    value = 100.0 * fraction
    text = f"{value:.0f}" if abs(value) >= 9.95 else f"{value:.1f}" if abs(value) >= 0.095 else f"{value:.1g}"
    text = ("+" if sign and value > 0 else "") + text
    return text.replace("-", "−") + " %"
