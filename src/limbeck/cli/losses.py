"""`limbeck compare losses`: which losses beat a baseline over seeds, and what published tables can say."""

from __future__ import annotations

from typing import Annotated, Any

import typer

import limbeck as lb
from limbeck.cli.arguments import Reader, option, shown


@shown("Write the differences with their intervals as a page.")
def compare_losses(
    source: Annotated[str, typer.Argument(help="Table of results per seed, or a published table.")],
    read: Reader,
    baseline: Annotated[str, option("The method to beat.")] = "CE",
) -> Any:
    """Which losses beat a baseline visibly, over seeds that they share; no order within noise.

    Example: limbeck compare losses results.csv --plot losses.html

    Columns of results: method, seed, accuracy_percent; also dataset, regime, nll, ece, teacher_agreement_percent,
    seconds. A published table (teacher, student, method, top1, source) is read for copied baselines, diverged runs,
    other recipes and gains; it has no seeds, so that nothing is ranked.
    """
    table = read(source, mix_setups=True)
    if "top1" in table.columns:
        return lb.planning.compare_published(table)
    return lb.planning.compare_losses(table, baseline)
