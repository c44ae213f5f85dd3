"""`limbeck task forecast`: which benchmarks are worth tracking, and what a larger model will score on each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import LevelOption, MixedReader, RunsArgument, dropped, option, setting, shown
from limbeck.errors import LimbeckError


@shown("Write a page with the forecasts as a picture.")
def forecast(
    runs: RunsArgument,
    read: MixedReader,
    target: Annotated[list[str] | None, typer.Argument(help="One larger model: params=7B tokens=4T.")] = None,
    targets: Annotated[Path | None, option("Or a table of them; accuracies in it are only compared.")] = None,
    task: Annotated[list[str] | None, option("One task (all by default). Repeatable.")] = None,
    through: Annotated[list[str] | None, option("One intermediate loss, a column. Repeatable.")] = None,
    level: LevelOption = 0.8,
) -> Any:
    """Forecast task accuracies of a larger model from the checkpoints of smaller ones, task by task.

    Example: limbeck task forecast checkpoints.csv params=7B tokens=4T

    Accuracies are columns named TASK_acc, fractions from 0 to 1. Each task goes through the losses (TASK_bpb, c4_ce,
    ...) that forecast the largest sizes best from the smaller ones; a task whose curves are noise gets no number.
    """
    from limbeck.planning import forecast_tasks
    from limbeck.runs import read_runs

    one = setting(target or [])
    if (targets is None) == (not one) or (one and one.keys() != {"params", "tokens"}):
        raise LimbeckError("give the larger model as params=7B tokens=4T, or a table of them as --targets FILE.")
    table, goal = read(runs), read_runs(targets or [one], mix_setups=True)
    found = forecast_tasks(table, goal, tasks=task, through=through, level=level)
    text = "\n".join([found.summary(), *dropped(table)])
    return found.to_dict() | {"dropped": dropped(table)}, text, found
