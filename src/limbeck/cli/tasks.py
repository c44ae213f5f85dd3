"""`limbeck task`: what scores and pass rates of tasks say about larger scales."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

import limbeck as lb
from limbeck.cli.arguments import (
    LevelOption,
    MixedReader,
    Reader,
    RunsArgument,
    SeedOption,
    dropped,
    option,
    quantity,
    setting,
    shown,
)  # fmt: skip
from limbeck.errors import FittingError, LimbeckError
from limbeck.runs import read_runs
from limbeck.runs.quantities import si


@shown("Write the scores and their curves as a page.")
def transfer(
    runs: RunsArgument,
    read: Reader,
    at: Annotated[float | None, quantity("Pre-training tokens to predict: 1e12, 1T.")] = None,
    baseline: Annotated[float | None, option("Score without pre-training.")] = None,
    noise: Annotated[float | None, option("Standard deviation of one score, points.")] = None,
    force: Annotated[bool, option("Predict a misaligned task all the same.", "--force")] = False,
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
) -> Any:
    """Does more pre-training on this corpus help a task? A verdict first, then the score at more tokens.

    Example: limbeck task transfer scores.csv --map score=bleu --baseline 18.4 --at 1T

    One row per checkpoint, fine-tuned alike: tokens, score (0 to 100 points) and, if measured, the task's loss.
    """
    table = read(runs).require("tokens", "score", skip_bad=read.skip_bad)
    losses = table.column("loss") if "loss" in table.columns else None
    report = lb.laws.transfer_curve(
        table.column("tokens"), table.column("score"), cross_entropy=losses, baseline=baseline, noise=noise, seed=seed
    )
    record, text = _with_prediction(report, level, "tokens", at, "not extrapolated", force=force)
    return record, _rendered(text), report


@shown("Write the pass rates and their growth as a page.")
def passes(
    runs: RunsArgument,
    read: Reader,
    at: Annotated[float | None, quantity("Size to predict: 7B.")] = None,
    scale: Annotated[str, option("Column of the sizes: params, flops, tokens ...")] = "params",
    needed: Annotated[int, option("Passes at which drawing stopped; 0: fixed draws.")] = 5,
    estimator: Annotated[str, option("umvu (unbiased) or mle (the paper's).")] = "umvu",
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
) -> Any:
    """How fast does a skill grow, and what will the next model pass? From draws until the first few passes.

    Example: limbeck task passes draws.csv --needed 5 --at 7B

    One row per model and instance: params (or --scale), instance, draws, passes (0 where it was given up).
    """
    table = read(runs).require(scale, "instance", "draws", "passes", skip_bad=read.skip_bad)
    groups = table.frame.sort("instance").partition_by(scale, as_dict=True)
    drawn = ((rows["passes"].to_numpy(), rows["draws"].to_numpy()) for rows in groups.values())
    counts = [lb.laws.PassCounts(passed, draws, needed or None) for passed, draws in drawn]
    sizes = [float(size) for (size,) in groups]
    curve = lb.laws.task_curve(sizes, counts, column=scale, estimator=estimator, seed=seed)  # type: ignore[arg-type]
    record, text = _with_prediction(curve, level, scale, at, "not predicted")
    record["by_instance"] = None
    if at is not None and len(sizes) > 1:
        each = curve.predict_instances(at, level, seed=seed)
        record["by_instance"] = each.to_dict()
        text += [f"by instance: {each.value:.3g} ({level:.0%}: {each.lower:.3g} – {each.upper:.3g}) at {si(at)}"]
    return record, _rendered(text), curve


@shown("Write scores against compute as a page.")
def observe(
    runs: Annotated[str, typer.Argument(help="Table of models: a name, flops, and benchmarks (0 to 1).")],
    read: Reader,
    task: Annotated[str, option("Column of the score to forecast.")],
    cutoff: Annotated[float, quantity("Compute up to which models are known: 8.4e22.")],
    scores: Annotated[str | None, option("A second table that has the task, joined by the models' names.")] = None,
    benchmarks: Annotated[str | None, option("Columns to read: MMLU,HellaSwag; the first table's without.")] = None,
    skills: Annotated[int | None, option("Number of components; the best of 1 to 3 without.")] = None,
    ceiling: Annotated[float | None, option("Score of the best model, where it is known.")] = None,
    level: LevelOption = 0.8,
) -> Any:
    """Forecast a task of models larger than a compute, from the benchmarks that everybody publishes.

    Example: limbeck task observe models.csv --task arithmetic --cutoff 8.4e22 --plot observed.html

    Example: limbeck task observe models.csv --scores tasks.csv --task arithmetic --cutoff 8.4e22 --skip-bad
    """
    other = None if scores is None else read(scores, mix_setups=True)
    names = benchmarks.split(",") if benchmarks else ()
    given: dict[str, Any] = {"cutoff": cutoff, "skills": skills, "ceiling": ceiling, "level": level}
    return lb.planning.observe_runs(read(runs, mix_setups=True), task, scores=other, benchmarks=names, **given)


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
    one = setting(target or [])
    if (targets is None) == (not one) or (one and one.keys() != {"params", "tokens"}):
        raise LimbeckError("give the larger model as params=7B tokens=4T, or a table of them as --targets FILE.")
    table, goal = read(runs), read_runs(targets or [one], mix_setups=True)
    found = lb.planning.forecast_tasks(table, goal, tasks=task, through=through, level=level)
    text = "\n".join([found.summary(), *dropped(table)])
    return found.to_dict() | {"dropped": dropped(table)}, text, found


def _with_prediction(
    found: Any, level: float, column: str, at: float | None, otherwise: str, **how: Any
) -> tuple[dict[str, Any], list[str]]:
    """A result as record and text, with its prediction where one is asked for, or why there is none."""
    record, text = found.to_dict() | {"level": level, "prediction": None, "refused": None}, [found.summary()]
    if at is None:
        return record, text
    try:
        predicted = found.predict(at, level, **how)
    except FittingError as reason:
        return record | {"refused": str(reason)}, [*text, "", f"{otherwise}: {reason}"]
    fit = found.fits.get("log-law") or list(found.fits.values())[-1]
    said = lb.report.tables.prediction(fit, predicted, {column: at})
    return record | {"prediction": predicted.to_dict()}, [*text, "", said]


def _rendered(text: list[str]) -> str:

    return lb.report.tables.render(*map(Text, text))
