"""`limbeck plan schedule` and `limbeck plan batch`: decisions from laws of whole training curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import LevelOption, option, quantities, quantity, shown
from limbeck.errors import LimbeckError


@shown("Write the predicted curves as a page.")
def plan_schedule(
    fitted: Annotated[Path, typer.Argument(help="A fit saved by limbeck fit --law annealing.")],
    steps: Annotated[float | None, quantity("Length of the usual schedules to compare: 24k.")] = None,
    end: Annotated[float | None, option("Rate at their end; a tenth of the peak by default.")] = None,
    rates: Annotated[str | None, option("Table of schedules of your own: run, step, lr (as for a fit).")] = None,
    params: Annotated[float | None, quantity("Model size, for a fit of annealing-size.")] = None,
    level: LevelOption = 0.8,
) -> Any:
    """Predict the loss curve of learning-rate schedules that were never run, and which ends lowest.

    Example: limbeck fit curves.csv --law annealing && limbeck plan schedule fit.json --steps 24k

    Example: limbeck plan schedule fit.json --rates schedules.csv --plot curves.html
    """
    from limbeck import laws, planning
    from limbeck.runs import read_runs

    if steps is None and rates is None:
        raise LimbeckError("give --steps, the length of the usual schedules, or --rates, a table of your own.")
    fit = laws.load_fit(fitted)
    columns = {} if params is None else {"params": params}
    schedules = {} if steps is None else planning.standard_schedules(fit, int(steps), end)
    if rates is not None:
        table = read_runs(rates).require("run", "step", "lr")
        for (run,), rows in table.frame.sort("step").group_by("run", maintain_order=True):
            schedules[str(run)] = laws.logged_rates(rows["step"].to_numpy(), rows["lr"].to_numpy())
    return planning.compare_schedules(fit, schedules, level=level, **columns)


@shown("Write the predicted curves as a page.")
def plan_batch(
    fitted: Annotated[Path | None, typer.Argument(help="A fit of the law batch; published constants without.")] = None,
    params: Annotated[float | None, quantity("Size of the model: 1e9, 1B.")] = None,
    loss: Annotated[float, option("Loss to reach, nats/token.")] = 0.0,
    batches: Annotated[Any, quantities("Tokens per step to compare: 0.5M,2M.")] = None,
    step_price: Annotated[float | None, option("Cost of a step (time) ...")] = None,
    token_price: Annotated[float | None, option("... and of a token (compute).")] = None,
    level: LevelOption = 0.8,
) -> Any:
    """Choose a batch size: steps and tokens to a loss, the critical batch, and the loss curve at any batch size.

    Example: limbeck fit runs.csv --law batch && limbeck plan batch fit.json --params 1B --loss 2.8

    Example: limbeck plan batch fit.json --params 1B --loss 2.8 --batches 0.5M,2M --plot curves.html
    """
    from limbeck import laws, planning

    if params is None or not loss > 0:
        raise LimbeckError("--params and --loss are needed: the size of the model and the loss to reach.")
    law = laws.KAPLAN_2020_BATCH if fitted is None else laws.load_fit(fitted)
    prices = {"step_price": step_price, "token_price": token_price}
    return planning.plan_batch(law, params, loss, batches=batches, level=level, **prices)
