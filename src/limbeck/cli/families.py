"""`limbeck compare families` and `limbeck plan parts`: rules for families of models, and models of two parts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import JsonOption, LevelOption, emit
from limbeck.cli.laws import MapOption, RunsArgument, SkipBadOption, WhereOption
from limbeck.errors import LimbeckError, nearest
from limbeck.runs.quantities import parse_quantity


def compare_families(
    runs: RunsArgument,
    family: Annotated[
        str | None, typer.Option("--family", help="One family: fewer models, shorter runs, each size left out.")
    ] = None,
    law: Annotated[str, typer.Option("--law", help="With --family: chinchilla or overtraining.")] = "chinchilla",
    holdout: Annotated[
        str, typer.Option("--holdout", help="largest, or a condition on the rows to predict: is_train=0.")
    ] = "largest",
    source: Annotated[
        str | None, typer.Option("--source", help="Column of studies: families of one lend each other nothing.")
    ] = None,
    mapping: MapOption = None,
    where: WhereOption = None,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Predict the largest model of every family by the rule that does best on all other families.

    Example: limbeck compare families runs.csv --map model=run

    Example: limbeck compare families runs.csv --family opt

    The table names its families in the column family and the trainings in run. The error is the mean of |L - L^|/L over
    the last 30 % of the largest model's training. Also written: limbeck compare --protocol families runs.csv
    """
    from limbeck import laws

    found, skipped = laws.read_families(
        runs, holdout=holdout, source=source, mapping=mapping, where=where, skip_bad=skip_bad
    )
    result: Any
    if family is None:
        result = laws.compare_families(found, skipped=skipped)
    else:
        chosen = next((one for one in found if one.name == family), None)
        if chosen is None:
            names = [one.name for one in found]
            reason = skipped.get(family) or f"there are {', '.join(names)}.{nearest(family, names)}"
            raise LimbeckError(f"{runs} has no family {family} that can be used: {reason}")
        result = chosen.study(law)
    emit(as_json, result.to_dict(), result.summary())


def plan_parts(
    fitted: Annotated[Path, typer.Argument(help="A fit of two-part or two-part-sum, saved by limbeck fit.")],
    budget: Annotated[str, typer.Option("--budget", help="Parameters of both parts together: 500M.")],
    cost: Annotated[str, typer.Option("--cost", help="Cost of one parameter of either part: 1,2.")] = "1,1",
    level: LevelOption = 0.8,
    as_json: JsonOption = False,
) -> None:
    """Split a budget of parameters between an encoder and a decoder, or any two parts.

    Example: limbeck plan parts fit.json --budget 500M

    Example: limbeck plan parts fit.json --budget 500M --cost 1,2
    """
    from limbeck import laws, planning

    costs = [parse_quantity(one) for one in cost.split(",")]
    if len(costs) != 2:
        raise LimbeckError(f"--cost {cost}: write two numbers, of an encoder's and a decoder's parameter, as in 1,2.")
    plan = planning.allocate_two_parts(
        laws.load_fit(fitted), parse_quantity(budget), cost=(costs[0], costs[1]), level=level
    )
    emit(as_json, plan.to_dict(), plan.summary())
