"""`limbeck plan schedule`, `decay`, `annealed` and `batch`: decisions from laws of whole training curves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import limbeck as lb
from limbeck.cli.arguments import LevelOption, Reader, option, quantities, quantity, shown
from limbeck.errors import LimbeckError
from limbeck.files import write_text
from limbeck.runs import read_runs


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
    if steps is None and rates is None:
        raise LimbeckError("give --steps, the length of the usual schedules, or --rates, a table of your own.")
    fit = lb.laws.load_fit(fitted)
    columns = {} if params is None else {"params": params}
    schedules = {} if steps is None else lb.planning.standard_schedules(fit, int(steps), end)
    if rates is not None:
        table = read_runs(rates).require("run", "step", "lr")
        for (run,), rows in table.frame.sort("step").group_by("run", maintain_order=True):
            schedules[str(run)] = lb.laws.logged_rates(rows["step"].to_numpy(), rows["lr"].to_numpy())
    return lb.planning.compare_schedules(fit, schedules, level=level, **columns)


@shown("Write the final loss of every share as a page.")
def plan_decay(
    fitted: Annotated[Path, typer.Argument(help="A fit saved by limbeck fit --law annealing.")],
    steps: Annotated[float, quantity("Length of the training: 24k.")],
    shape: Annotated[str, option("Of the decay: linear, cosine, 1-sqrt or exponential.")] = "linear",
    end: Annotated[float | None, option("Rate at its end; a tenth of the peak by default.")] = None,
    params: Annotated[float | None, quantity("Model size, for a fit of annealing-size.")] = None,
    level: LevelOption = 0.8,
) -> Any:
    """Over which last part of a training the learning rate should decay.

    Example: limbeck plan decay fit.json --steps 24k

    Example: limbeck plan decay fit.json --steps 24k --shape 1-sqrt --end 0 --plot decay.html
    """
    columns = {} if params is None else {"params": params}
    return lb.planning.best_decay(lb.laws.load_fit(fitted), int(steps), shape=shape, end=end, level=level, **columns)


@shown()
def plan_annealed(
    fitted: Annotated[Path, typer.Argument(help="A fit saved by limbeck fit --law annealing, on such curves.")],
    runs: Annotated[str, typer.Argument(help="Table of checkpoints: run, step, lr, loss.")],
    read: Reader,
    decay: Annotated[float, option("Share of the steps that the imagined decay takes.")] = 0.2,
    shape: Annotated[str, option("Of the imagined decay: linear, cosine, 1-sqrt or exponential.")] = "linear",
    end: Annotated[float, option("Rate at its end.")] = 0.0,
    from_tokens: Annotated[float | None, quantity("Leave earlier checkpoints out: 1e9, 1B.")] = None,
    out: Annotated[Path, option("Where the table is written.")] = Path("annealed.csv"),
) -> Any:
    """Turn checkpoints into final losses: what each would have been had its run decayed and stopped there.

    Example: limbeck plan annealed fit.json curves.csv --out annealed.csv && limbeck fit annealed.csv
    """
    given: dict[str, Any] = {"decay": decay, "shape": shape, "end": end, "from_tokens": from_tokens or 0.0}
    table = lb.laws.annealed(lb.laws.load_fit(fitted), read(runs), **given)
    write_text(out, table.frame.write_csv())
    gain = float((table.column("loss") - table.column("raw_loss")).mean())
    count, text = len(table), f"{table.derived['loss']}: {gain:+.3g} on average, {len(table)} checkpoints"
    return {"saved": str(out), "checkpoints": count, "mean_change": gain, **given}, f"{text}\nsaved {out}"


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
    if params is None or not loss > 0:
        raise LimbeckError("--params and --loss, above 0, are needed: the size of the model and the loss to reach.")
    law = lb.laws.KAPLAN_2020_BATCH if fitted is None else lb.laws.load_fit(fitted)
    prices = {"step_price": step_price, "token_price": token_price}
    return lb.planning.plan_batch(law, params, loss, batches=batches, level=level, **prices)
