"""What commands share: numbers as people write them, `name=value` pairs, and JSON or text on standard output."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from limbeck.errors import LimbeckError
from limbeck.runs.quantities import parse_quantity

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON only.")]
LevelOption = Annotated[float, typer.Option("--level", help="Coverage of intervals.", show_default=True)]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]


def pairs(items: Iterable[str], what: str) -> dict[str, str]:
    """Split `name=value` items.

    Raises:
        LimbeckError: an item has no `=`, or a name comes twice.

    Example:
        >>> pairs(["params=7e9", "tokens=2T"], "setting")
        {'params': '7e9', 'tokens': '2T'}
    """
    found: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name or not value:
            raise LimbeckError(f'"{item}" is not a {what}: write it as name=value.')
        if name in found:
            raise LimbeckError(f"the {what} {name} is given twice: {found[name]} and {value}.")
        found[name] = value
    return found


def numbers(items: Iterable[str], what: str) -> dict[str, float]:
    """Split `name=number` items; numbers may be written 7e9, 7B, 2.1T.

    Example:
        >>> numbers(["params=7B"], "setting")
        {'params': 7000000000.0}
    """
    return {name: parse_quantity(value) for name, value in pairs(items, what).items()}


def emit(as_json: bool, record: dict[str, Any] | list[Any], text: str) -> None:
    """Print a result: JSON alone, or text."""
    if as_json:
        json.dump(plain(record), sys.stdout, indent=1, allow_nan=False)
        sys.stdout.write("\n")
    else:
        print(text)


def plain(value: Any) -> Any:
    """Return a value as JSON allows it: numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return value
