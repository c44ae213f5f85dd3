"""Quantities as people read and type them: 57 M parameters, 2.1 T tokens, 3.4e21 FLOP."""

import math
import re
from decimal import Decimal

from limbeck.errors import LimbeckError

from .vocabulary import COLUMNS

PREFIXES = {"": 0, "k": 3, "M": 6, "B": 9, "T": 12}
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(?:[eE][+-]?\d+)?)\s*([kKMmBbGgTt]?)")


def si(value: float, digits: int = 2) -> str:
    """Format a count with the prefixes people use: k, M, B (1e9), T; scientific beyond 999 T and below 0.01.

    Whole numbers below 1000 keep all their digits.

    Args:
        value: the number.
        digits: significant digits.

    Example:
        >>> si(7.1e9), si(57e6), si(838), si(999_900), si(3.4e21)
        ('7.1 B', '57 M', '838', '1 M', '3.4e21')
    """
    if not math.isfinite(value) or (abs(value) < 1000 and value == int(value)):
        return f"{value:g}"
    if not 0.01 <= abs(value) < 1e15:
        return scientific(value, digits)
    rounded = float(f"{value:.{digits - 1}e}")
    power = 3 * (math.floor(math.log10(abs(rounded)) + 1e-12) // 3)
    if power > 12:
        return scientific(value, digits)
    prefix = {exponent: letter for letter, exponent in PREFIXES.items()}[max(power, 0)]
    number = float(Decimal(repr(rounded)).scaleb(-max(power, 0)))
    return f"{number:.{max(digits, 3)}g} {prefix}".rstrip()


def scientific(value: float, digits: int = 2) -> str:
    """Format as FLOP counts are written.

    Example:
        >>> scientific(3.4e21), scientific(1e22), scientific(0.00034)
        ('3.4e21', '1e22', '3.4e-4')
    """
    if not math.isfinite(value):
        return f"{value:g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{int(exponent)}"


def parse_quantity(text: str) -> float:
    """Read a number as people type it; the inverse of `si`.

    The letters k, M, B (or G) and T stand for 1e3, 1e6, 1e9 and 1e12, in either case.

    Raises:
        LimbeckError: the text is not a number.

    Example:
        >>> parse_quantity("7B"), parse_quantity("2.1 T"), parse_quantity("3e21"), parse_quantity("1_000")
        (7000000000.0, 2100000000000.0, 3e+21, 1000.0)
    """
    match = _NUMBER.fullmatch(text.strip())
    if not match:
        raise LimbeckError(f'"{text}" is not a number. Write it as 7e9, 7000000000, 7B or "7 B" (k, M, B, T).')
    prefix = {"K": "k", "G": "B"}.get(match[2].upper(), match[2].upper())
    return float(f"{Decimal(match[1].replace('_', '')).scaleb(PREFIXES[prefix])}")


def quantity(name: str, value: float, digits: int | None = None) -> str:
    """Format a value of the column `name` with its unit.

    Example:
        >>> quantity("tokens", 2.1e12), quantity("flops", 3.4e21), quantity("loss", 2.0414)
        ('2.1 T tokens', '3.4e21 FLOP', '2.041 nats/token')
    """
    unit = COLUMNS[name].unit if name in COLUMNS else ""
    return f"{number(name, value, digits)} {unit}".rstrip()


def number(name: str, value: float, digits: int | None = None) -> str:
    """Format a value of the column `name` without its unit: counts by `si`, FLOP by `scientific`, the rest plainly."""
    if name == "flops":
        return scientific(value, digits or 2)
    if name in COLUMNS and COLUMNS[name].kind == "count":
        return si(value, digits or 2)
    return f"{value:.{digits or 4}g}"


def span(name: str, low: float, high: float, digits: int | None = None) -> str:
    """Format a range of the column `name`.

    Example:
        >>> span("params", 57e6, 16e9), span("flops", 4e17, 3e21)
        ('57 M–16 B parameters', '4e17–3e21 FLOP')
    """
    last = quantity(name, high, digits)
    first = number(name, low, digits)
    return last if first == number(name, high, digits) else f"{first}–{last}"
