from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import LimbeckError
from limbeck.runs import parse_quantity, quantity, scientific, si, span
from limbeck.runs.quantities import number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7.1e9, "7.1 B"),
        (57e6, "57 M"),
        (2.1e12, "2.1 T"),
        (16e9, "16 B"),
        (234e9, "230 B"),
        (1406, "1.4 k"),
        (838, "838"),
        (999.6e6, "1 B"),
        (0, "0"),
        (0.25, "0.25"),
        (-57e6, "-57 M"),
        (3.4e21, "3.4e21"),
        (3e-5, "3e-5"),
        (math.inf, "inf"),
        (1.75e308, "1.8e308"),
        (999.6e12, "1e15"),
    ],
)
def test_si(value, text):
    assert si(value) == text


@settings(deadline=None, derandomize=True)
@given(st.floats(1e-2, 1e18), st.integers(2, 6))
def test_parsing_inverts_formatting_up_to_the_digits_shown(value, digits):
    # Rounding to `digits` significant digits moves a number by at most half a unit of the last one.
    assert parse_quantity(si(value, digits)) == pytest.approx(value, rel=0.5 * 10 ** (1 - digits) * (1 + 1e-9))


@settings(deadline=None, derandomize=True)
@given(st.integers(1, 999), st.sampled_from("kMBT"), st.sampled_from(["", " ", "  "]))
def test_parse_is_exact(count, letter, blank):
    expected = count * {"k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}[letter]
    assert parse_quantity(f"{count}{blank}{letter}") == expected
    assert parse_quantity(f" {count}{blank}{letter.lower()}") == expected


@settings(deadline=None, derandomize=True)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_parse_reads_python_numbers_exactly(value):
    assert parse_quantity(repr(value)) == value


@pytest.mark.parametrize("text", ["", "B", "seven", "1,000", "1e9 tokens", "nan", "7 BB", "0x10", "--3"])
def test_what_is_no_number(text):
    with pytest.raises(LimbeckError, match=r"is not a number\. Write it as 7e9"):
        parse_quantity(text)


def test_other_spellings():
    assert parse_quantity("7e9") == parse_quantity("7G") == parse_quantity("7_000_000_000") == 7e9
    assert parse_quantity("7.1B") == 7100000000.0


def test_quantities_carry_the_unit_of_their_column():
    assert quantity("params", 57e6) == "57 M parameters"
    assert quantity("loss", 2.04142) == "2.041 nats/token"
    assert quantity("unknown", 3.0) == "3"
    assert number("flops", 1.84e22) == "1.8e22"
    assert span("flops", 4e17, 3e21) == "4e17–3e21 FLOP"
    assert span("params", 57e6, 57.1e6) == "57 M parameters"
    assert scientific(math.nan) == "nan"
