"""`limbeck compare losses`: which losses beat a baseline over seeds, and what published tables can say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

import limbeck as lb
from limbeck.cli.arguments import Reader, option, shown
from limbeck.errors import LimbeckError


@shown("Write the differences with their intervals as a page.")
def compare_losses(
    source: Annotated[str, typer.Argument(help="Results per seed, a published table, or a study in YAML.")],
    read: Reader,
    changes: Annotated[list[str] | None, typer.Argument(help="To a study: seeds=3 steps=400")] = None,
    baseline: Annotated[str, option("The method to beat.")] = "CE",
    workers: Annotated[int, typer.Option("--workers", help="Processes of a study, one thread each.", min=1)] = 2,
) -> Any:
    """Which losses beat a baseline visibly, over seeds that they share; no order within noise.

    Example: limbeck compare losses results.csv --plot losses.html

    Example: limbeck compare losses recipes/vision/compare.yaml seeds=3

    Columns of results: method, seed, accuracy_percent; also dataset, regime, nll, ece, teacher_agreement_percent,
    seconds. A published table (teacher, student, method, top1, source) is read for copied baselines, diverged runs,
    other recipes and gains; it has no seeds, so that nothing is ranked. A study trains methods x seeds x settings
    first; it may be stopped, and the same command goes on.
    """
    if Path(source).suffix in (".yaml", ".yml"):
        stages = lb.study.Stages(2, Console(stderr=True, highlight=False, soft_wrap=True))
        return lb.study.run_loss_study(source, baseline, overrides=changes or (), workers=workers, stages=stages)
    if changes:
        raise LimbeckError(f"{' '.join(changes)}: only a study in YAML takes changes; {source} is a table.")
    table = read(source, mix_setups=True)
    if "top1" in table.columns:
        return lb.planning.compare_published(table)
    return lb.planning.compare_losses(table, baseline)
