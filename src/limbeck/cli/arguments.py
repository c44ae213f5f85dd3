"""What commands share: options, numbers as people write them, and how a result is shown: as text, JSON or a picture."""

from __future__ import annotations

import inspect
import json
import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from limbeck.errors import LimbeckError
from limbeck.runs.quantities import parse_quantity

if TYPE_CHECKING:
    from limbeck.runs import RunTable


def option(help: str, *names: str) -> Any:
    """Return an option; its name follows from the parameter unless it is given."""
    return typer.Option(*names, help=help)


def quantity(help: str) -> Any:
    """Return an option for a number, which may be written 7e9, 7B, 2.1T."""
    return typer.Option(help=help, parser=parse_quantity, metavar="<number>")


def quantities(help: str) -> Any:
    """Return an option for numbers with commas between them."""
    return typer.Option(help=help, parser=_parse_quantities, metavar="<numbers>")


def _parse_quantities(text: str) -> list[float]:
    return [parse_quantity(one) for one in text.split(",")]


JsonOption = Annotated[bool, option("Print JSON only.", "--json")]
LevelOption = Annotated[float, typer.Option("--level", help="Coverage of intervals.", show_default=True)]
SeedOption = Annotated[int, option("Seed of everything random.")]
RunsArgument = Annotated[
    str, typer.Argument(help="Table of runs: CSV, Parquet, JSONL, trainer_state.json, or a folder of runs.")
]


@dataclass(frozen=True)
class Reader:
    """How a command reads tables: a parameter of this type becomes its options."""

    mapping: Annotated[list[str] | None, option("Name a column: --map loss=eval/c4_loss. Repeatable.", "--map")] = None
    where: Annotated[list[str] | None, option("Keep rows: --where outlier=0, --where 'tokens>=1e9'. Repeatable.")] = (
        None
    )
    skip_bad: Annotated[bool, option("Drop rows that cannot be used, and say which.", "--skip-bad")] = False

    def __call__(self, runs: Any, **options: Any) -> RunTable:
        """Read a table of runs as the options say."""
        from limbeck.runs import read_runs

        return read_runs(runs, **asdict(self) | options)


@dataclass(frozen=True)
class MixedReader(Reader):
    """A reader that may be told to take runs of different set-ups together."""

    mix_setups: Annotated[bool, option("Allow runs of different set-ups in one fit.", "--mix-setups")] = False


def shown(picture: str = "") -> Callable[[Callable[..., Any]], Callable[..., None]]:
    """Show what a command returns: a result (`summary`, `to_dict`, `plot`), or a record, its text and what to plot.

    The command gets --json and, where `picture` says what the result's `plot` draws, --plot; a parameter of type
    `Reader` becomes the options of that class.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., None]:
        given = list(inspect.signature(command, eval_str=True).parameters.values())
        readers = {p.name: p.annotation for p in given if p.annotation in (Reader, MixedReader)}
        options = {p.name: p for p in given if p.name not in readers}
        for reader in readers.values():
            options |= inspect.signature(reader, eval_str=True).parameters
        more = {"plot": Annotated[Path | None, option(picture)]} if picture else {}
        defaults = {"plot": None, "as_json": False}
        for name, annotation in {**more, "as_json": JsonOption}.items():
            default = defaults[name]
            options[name] = inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )

        @wraps(command)
        def run(*, as_json: bool, **values: Any) -> None:
            page = values.pop("plot") if picture else None
            for name, reader in readers.items():
                values[name] = reader(**{field: values.pop(field) for field in inspect.signature(reader).parameters})
            result = command(**values)
            record, text, *drawn = result if isinstance(result, tuple) else (result.to_dict(), result.summary(), result)
            if page is not None:
                from limbeck.files import write_text

                write_text(page, drawn[0].plot().to_html())
                text += f"\npage: {page}"
            emit(as_json, record, text)

        run.__signature__ = inspect.Signature(list(options.values()))  # type: ignore[attr-defined]
        run.__annotations__ = {name: p.annotation for name, p in options.items()}
        return run

    return decorate


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


def setting(items: Iterable[str]) -> dict[str, float]:
    """Split `column=number` items; columns may have the names people use.

    Example:
        >>> setting(["N=7B"])
        {'params': 7000000000.0}
    """
    from limbeck.runs.vocabulary import recognise

    return {(recognise(name) or (name,))[0]: value for name, value in numbers(items, "setting").items()}


def dropped(table: RunTable) -> list[str]:
    """Return the rows that were left out, in words."""
    return [f"dropped {bad.row}: {bad.column} {bad.reason}" for bad in table.dropped]


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
