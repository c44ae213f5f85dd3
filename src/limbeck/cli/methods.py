"""`limbeck compare methods`: which of two (or more) methods to take at a scale beyond their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import limbeck as lb
from limbeck.cli.arguments import LevelOption, Reader, SeedOption, option, quantities, shown
from limbeck.errors import LimbeckError, nearest


@shown("Write the curves as a page.")
def compare_methods(
    sources: Annotated[
        list[str],
        typer.Argument(help="One table of runs per method, or one for all with --by; or two fits, or published laws."),
    ],
    read: Reader,
    at: Annotated[Any, quantities("Target scales: 1e22 or 1e21,1e22.")] = None,
    by: Annotated[str | None, option("Columns that name the method in one table: a or a+b.")] = None,
    methods: Annotated[str | None, option("Of --by, only these: plain,new.")] = None,
    column: Annotated[str, option("The scale.")] = "flops",
    metric: Annotated[str | None, option("What is compared, less is better.")] = None,
    score: Annotated[str | None, option("Or a column where more is better, 0 to 1 or percent.")] = None,
    frontier: Annotated[bool, option("Keep the best runs by compute only.", "--frontier")] = False,
    sweep: Annotated[str, option("Tuned columns: the best setting of each scale counts.")] = "",
    confidence: Annotated[float, option("Probability that a verdict needs.")] = 0.95,
    bootstrap: Annotated[int, typer.Option("--bootstrap", help="Resamples.", min=50)] = 400,
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
) -> Any:
    """Compare methods at a scale beyond their runs: who is better, how surely, where they cross; or undecided.

    Example: limbeck compare methods plain.csv new.csv --at 1e22 --plot compare.html

    Example: limbeck compare methods runs.csv --by recipe --methods plain,new --at 1e22

    Example: limbeck compare methods fit.json besiroglu-2024 --at 1e24
    """
    if not at:
        raise LimbeckError("at which scale? Write: limbeck compare methods plain.csv new.csv --at 1e22")
    laws = {Path(one).stem: law for one in sources if (law := _law(one)) is not None}
    if by is not None:
        table = read(sources[0], mix_setups=True)
        tables = lb.planning.split_methods(table, by.split("+"), methods and methods.split(","))
    else:
        tables = {Path(one).stem: read(one) for one in sources if Path(one).stem not in laws}
    if len(laws) + len(tables) < 2 or (by and len(sources) > 1):
        raise LimbeckError("two methods are needed: two tables of different names, or one table with --by COLUMN.")
    if laws and tables:
        raise LimbeckError(f"{', '.join(laws)}: a law, {', '.join(tables)}: a table. Fit tables first (limbeck fit).")
    options: dict[str, Any] = {"column": column, "level": level}
    if not laws:
        options |= {"quantity": metric, "score": score, "frontier": frontier, "bootstrap": bootstrap, "seed": seed}
        options |= {"sweep": sweep.split(",") if sweep else (), "skip_bad": read.skip_bad}
    if len(tables) > 2 and len(at) > 1:
        raise LimbeckError(f"{len(tables)} methods are ranked at one scale: choose two (--methods), or one scale.")
    if len(tables) > 2:
        return lb.planning.rank_methods(tables, at[0], **options)
    compare: Any = lb.planning.compare_curves if laws else lb.planning.compare_methods
    return compare(laws or tables, at, confidence=confidence, **options)


def _law(text: str) -> Any:
    """A saved fit, or published constants by their name (besiroglu-2024, nezhurina-2025:clip); None for a table."""
    if text.endswith(".json"):
        return lb.laws.load_fit(text)
    known: dict[str, Any] = {}
    for name in lb.laws.__all__:
        held = getattr(lb.laws, name)
        for entry, law in held.items() if isinstance(held, dict) else [((), held)]:
            if isinstance(law, lb.laws.Published):
                parts = [entry] if isinstance(entry, str) else entry
                known[":".join([name.lower().replace("_", "-"), *parts])] = law
    if text not in known and not Path(text).suffix and not Path(text).exists():
        of = [name for name in known if name.startswith(text.partition(":")[0])]
        near = of or dict.fromkeys(name.partition(":")[0] for name in known)
        hint = f"{nearest(text, known)} There are {', '.join(near)}."
        raise LimbeckError(f"{text} is no file and no published law.{hint}")
    return known.get(text)
