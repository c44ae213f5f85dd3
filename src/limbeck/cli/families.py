"""`limbeck compare families`, `compare splits` and `plan parts`: families, kinds of data, models of two parts."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import limbeck as lb
from limbeck.cli.arguments import LevelOption, MixedReader, Reader, RunsArgument, option, quantities, quantity, shown
from limbeck.errors import LimbeckError, nearest


@shown("Write the errors as a page.")
def compare_families(
    runs: RunsArgument,
    read: Reader,
    family: Annotated[str | None, option("One family: fewer models, shorter runs, each size left out.")] = None,
    law: Annotated[str, option("With --family: chinchilla or overtraining.")] = "chinchilla",
    holdout: Annotated[str, option("largest, or a condition on the rows to predict: is_train=0.")] = "largest",
    source: Annotated[str | None, option("Column of studies: families of one lend each other nothing.")] = None,
) -> Any:
    """Predict the largest model of every family by the rule that does best on all other families.

    Example: limbeck compare families runs.csv --map model=run

    Example: limbeck compare families runs.csv --family opt

    The table names its families in the column family and the trainings in run. The error is the mean of |L - L^|/L over
    the last 30 % of the largest model's training. Also written: limbeck compare --protocol families runs.csv
    """
    found, skipped = lb.laws.read_families(runs, holdout=holdout, source=source, **asdict(read))
    if family is None:
        return lb.laws.compare_families(found, skipped=skipped)
    known = {one.name: one for one in found}
    if family not in known:
        reason = skipped.get(family) or f"there are {', '.join(known)}.{nearest(family, known)}"
        raise LimbeckError(f"{runs} has no family {family} that can be used: {reason}")
    return known[family].study(law)


@shown("Write runs and laws of every split as a page.")
def compare_splits(
    runs: RunsArgument,
    read: MixedReader,
    splits: Annotated[str, option("Columns of losses, that of the training sources first: id,lsf,monash.")],
    scales: Annotated[str, option("Columns to pay for.")] = "params,samples",
    level: LevelOption = 0.8,
) -> Any:
    """Which splits of the data scale alike, and what to pay for when what counts is data that the training never saw.

    Example: limbeck compare splits runs.csv --splits id,ood --scales params,samples --plot splits.html

    One row per run, a column per scale and per split; empty cells are left out.
    """
    return lb.planning.compare_splits(read(runs), splits.split(","), scales=scales.split(","), level=level)


@shown()
def plan_parts(
    fitted: Annotated[Path, typer.Argument(help="A fit of two-part or two-part-sum, saved by limbeck fit.")],
    budget: Annotated[float, quantity("Parameters of both parts together: 500M.")],
    cost: Annotated[Any, quantities("Cost of one parameter of either part: 1,2.")] = "1,1",
    level: LevelOption = 0.8,
) -> Any:
    """Split a budget of parameters between an encoder and a decoder, or any two parts.

    Example: limbeck plan parts fit.json --budget 500M

    Example: limbeck plan parts fit.json --budget 500M --cost 1,2
    """
    if len(cost) != 2:
        given = ",".join(f"{one:g}" for one in cost)
        raise LimbeckError(f"--cost {given}: write two numbers, of an encoder's and a decoder's parameter, as in 1,2.")
    return lb.planning.allocate_two_parts(lb.laws.load_fit(fitted), budget, cost=(cost[0], cost[1]), level=level)
