"""`limbeck plan schedule` and `limbeck plan batch`: decisions from laws of whole training curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import JsonOption, LevelOption, emit
from limbeck.errors import LimbeckError
from limbeck.runs.quantities import parse_quantity


def plan_schedule(
    fitted: Annotated[Path, typer.Argument(help="A fit saved by limbeck fit --law annealing.")],
    steps: Annotated[str | None, typer.Option("--steps", help="Length of the usual schedules to compare: 24k.")] = None,
    end: Annotated[
        float | None, typer.Option("--end", help="Rate at their end; a tenth of the peak by default.")
    ] = None,
    rates: Annotated[
        str | None, typer.Option("--rates", help="Table of schedules of your own: run, step, lr (as for a fit).")
    ] = None,
    params: Annotated[str | None, typer.Option("--params", help="Model size, for a fit of annealing-size.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write the predicted curves as a page.")] = None,
    level: LevelOption = 0.8,
    as_json: JsonOption = False,
) -> None:
    """Predict the loss curve of learning-rate schedules that were never run, and which ends lowest.

    Example: limbeck fit curves.csv --law annealing && limbeck plan schedule fit.json --steps 24k
    Example: limbeck plan schedule fit.json --rates schedules.csv --plot curves.html
    """
    from limbeck import laws, planning
    from limbeck.runs import read_runs

    if steps is None and rates is None:
        raise LimbeckError("give --steps, the length of the usual schedules, or --rates, a table of your own.")
    fit = laws.load_fit(fitted)
    columns = {} if params is None else {"params": parse_quantity(params)}
    schedules = {} if steps is None else planning.standard_schedules(fit, int(parse_quantity(steps)), end)
    if rates is not None:
        table = read_runs(rates).require("run", "step", "lr")
        for (run,), rows in table.frame.sort("step").group_by("run", maintain_order=True):
            schedules[str(run)] = laws.logged_rates(rows["step"].to_numpy(), rows["lr"].to_numpy())
    plan = planning.compare_schedules(fit, schedules, level=level, **columns)
    if plot is not None:
        plan.plot().write_html(plot)
    emit(as_json, plan.to_dict(), plan.summary())
