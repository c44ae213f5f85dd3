"""`limbeck compare methods`: which of two (or more) methods to take at a scale beyond their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import JsonOption, LevelOption, SeedOption, emit
from limbeck.cli.laws import MapOption, SkipBadOption, WhereOption
from limbeck.errors import LimbeckError
from limbeck.runs.quantities import parse_quantity


def compare_methods(
    sources: Annotated[
        list[str],
        typer.Argument(help="One table of runs per method, or one for all with --by; or two fits, or published laws."),
    ],
    at: Annotated[str, typer.Option("--at", help="Target scales: 1e22 or 1e21,1e22.")] = "",
    by: Annotated[str | None, typer.Option("--by", help="Columns that name the method in one table: a or a+b.")] = None,
    methods: Annotated[str | None, typer.Option("--methods", help="Of --by, only these: plain,new.")] = None,
    column: Annotated[str, typer.Option("--column", help="The scale.")] = "flops",
    metric: Annotated[str | None, typer.Option("--metric", help="What is compared, less is better.")] = None,
    score: Annotated[
        str | None, typer.Option("--score", help="Or a column where more is better, 0 to 1 or percent.")
    ] = None,
    frontier: Annotated[bool, typer.Option("--frontier", help="Keep the best runs by compute only.")] = False,
    sweep: Annotated[str, typer.Option("--sweep", help="Tuned columns: the best setting of each scale counts.")] = "",
    confidence: Annotated[float, typer.Option("--confidence", help="Probability that a verdict needs.")] = 0.95,
    bootstrap: Annotated[int, typer.Option("--bootstrap", help="Resamples.", min=50)] = 400,
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
    mapping: MapOption = None,
    where: WhereOption = None,
    skip_bad: SkipBadOption = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write both curves as a page.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare methods at a scale beyond their runs: who is better, how surely, where they cross; or undecided.

    Example: limbeck compare methods plain.csv new.csv --at 1e22 --plot compare.html

    Example: limbeck compare methods runs.csv --by recipe --methods plain,new --at 1e22

    Example: limbeck compare methods fit.json besiroglu-2024 --at 1e24
    """
    from limbeck import planning
    from limbeck.runs import read_runs

    if not at:
        raise LimbeckError("at which scale? Write: limbeck compare methods plain.csv new.csv --at 1e22")
    scales = [parse_quantity(one) for one in at.split(",")]
    read: dict[str, Any] = {"mapping": mapping, "skip_bad": skip_bad, "where": where}
    laws = {Path(one).stem: law for one in sources if (law := _law(one)) is not None}
    if by is not None:
        table = read_runs(sources[0], mix_setups=True, **read)
        tables = planning.split_methods(table, by.split("+"), methods and methods.split(","))
    else:
        tables = {Path(one).stem: read_runs(one, **read) for one in sources if Path(one).stem not in laws}
    if len(laws) + len(tables) < 2 or (by and len(sources) > 1):
        raise LimbeckError("two methods are needed: two tables of different names, or one table with --by COLUMN.")
    if laws and tables:
        raise LimbeckError(f"{', '.join(laws)}: a law, {', '.join(tables)}: a table. Fit tables first (limbeck fit).")
    options: dict[str, Any] = {"column": column, "level": level}
    if not laws:
        options |= {"quantity": metric, "score": score, "frontier": frontier, "bootstrap": bootstrap, "seed": seed}
        options |= {"sweep": sweep.split(",") if sweep else (), "skip_bad": skip_bad}
    result: Any
    if len(tables) > 2 and (plot or len(scales) > 1):
        raise LimbeckError(f"{len(tables)} methods are ranked at one scale, without a plot: choose two (--methods).")
    if len(tables) > 2:
        result = planning.rank_methods(tables, scales[0], **options)
    else:
        compare: Any = planning.compare_curves if laws else planning.compare_methods
        result = compare(laws or tables, scales, confidence=confidence, **options)
    if plot is not None:
        result.plot().write_html(plot)
    emit(as_json, result.to_dict(), result.summary())


def _law(text: str) -> Any:
    """A saved fit, or published constants by their name (besiroglu-2024, nezhurina-2025:clip); None for a table."""
    from limbeck import laws

    if text.endswith(".json"):
        return laws.load_fit(text)
    name, _, entry = text.partition(":")
    found = getattr(laws, name.upper().replace("-", "_"), None)
    found = found.get(entry) if isinstance(found, dict) else found
    return found if isinstance(found, laws.Published) else None
