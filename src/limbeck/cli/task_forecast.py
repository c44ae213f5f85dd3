"""`limbeck task forecast`: which benchmarks are worth tracking, and what a larger model will score on each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import JsonOption, LevelOption, emit, numbers
from limbeck.cli.laws import MapOption, MixOption, RunsArgument, SkipBadOption, WhereOption
from limbeck.errors import LimbeckError


def forecast(
    runs: RunsArgument,
    target: Annotated[list[str] | None, typer.Argument(help="One larger model: params=7B tokens=4T.")] = None,
    targets: Annotated[
        Path | None, typer.Option("--targets", help="Or a table of them; accuracies in it are only compared.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option("--task", help="One task (all by default). Repeatable.")] = None,
    through: Annotated[
        list[str] | None, typer.Option("--through", help="One intermediate loss, a column. Repeatable.")
    ] = None,
    level: LevelOption = 0.8,
    mapping: MapOption = None,
    where: WhereOption = None,
    skip_bad: SkipBadOption = False,
    mix_setups: MixOption = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a page with the forecasts as a picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Forecast task accuracies of a larger model from the checkpoints of smaller ones, task by task.

    Example: limbeck task forecast checkpoints.csv params=7B tokens=4T

    Accuracies are columns named TASK_acc, fractions from 0 to 1. Each task goes through the losses (TASK_bpb, c4_ce,
    ...) that forecast the largest sizes best from the smaller ones; a task whose curves are noise gets no number.
    """
    from limbeck.planning import forecast_tasks
    from limbeck.runs import read_runs
    from limbeck.runs.vocabulary import recognise

    one = {(recognise(name) or (name,))[0]: value for name, value in numbers(target or [], "setting").items()}
    if (targets is None) == (not one) or (one and one.keys() != {"params", "tokens"}):
        raise LimbeckError("give the larger model as params=7B tokens=4T, or a table of them as --targets FILE.")
    table = read_runs(runs, mapping, skip_bad=skip_bad, mix_setups=mix_setups, where=where)
    goal: Any = targets or [one]
    found = forecast_tasks(table, read_runs(goal, mix_setups=True), tasks=task, through=through, level=level)
    dropped = [f"dropped {bad.row}: {bad.column} {bad.reason}" for bad in table.dropped]
    lines = [found.summary(), *dropped]
    if plot is not None:
        found.plot().write_html(plot)
        lines.append(f"page: {plot}")
    emit(as_json, found.to_dict() | {"dropped": dropped}, "\n".join(lines))
