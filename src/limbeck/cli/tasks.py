"""`limbeck task transfer` and `limbeck task passes`: what a task's scores and pass rates say about larger scales."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from limbeck.cli.arguments import JsonOption, LevelOption, SeedOption, emit
from limbeck.cli.laws import MapOption, RunsArgument, SkipBadOption, WhereOption
from limbeck.errors import FittingError
from limbeck.runs.quantities import parse_quantity, si


def transfer(
    runs: RunsArgument,
    at: Annotated[str | None, typer.Option("--at", help="Pre-training tokens to predict: 1e12, 1T.")] = None,
    baseline: Annotated[float | None, typer.Option("--baseline", help="Score without pre-training.")] = None,
    noise: Annotated[float | None, typer.Option("--noise", help="Standard deviation of one score, points.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Predict a misaligned task all the same.")] = False,
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
    mapping: MapOption = None,
    where: WhereOption = None,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """Does more pre-training on this corpus help a task? A verdict first, then the score at more tokens.

    Example: limbeck task transfer scores.csv --map score=bleu --baseline 18.4 --at 1T

    One row per checkpoint, fine-tuned alike: tokens, score (0 to 100 points) and, if measured, the task's loss.
    """
    from limbeck import laws
    from limbeck.report import tables
    from limbeck.runs import read_runs

    table = read_runs(runs, mapping, where=where, skip_bad=skip_bad).require("tokens", "score", skip_bad=skip_bad)
    losses = table.column("loss") if "loss" in table.columns else None
    report = laws.transfer_curve(
        table.column("tokens"), table.column("score"), cross_entropy=losses, baseline=baseline, noise=noise, seed=seed
    )
    record, text = report.to_dict() | {"level": level, "prediction": None, "refused": None}, [report.summary()]
    if at is not None:
        columns = {"tokens": parse_quantity(at)}
        try:
            predicted = report.predict(columns["tokens"], level, force=force)
            record["prediction"] = predicted.to_dict()
            text += ["", tables.prediction(report.fits["log-law"], predicted, columns)]
        except FittingError as reason:
            record["refused"] = str(reason)
            text += ["", f"not extrapolated: {reason}"]
    emit(as_json, record, tables.render(*map(Text, text)))


def passes(
    runs: RunsArgument,
    at: Annotated[str | None, typer.Option("--at", help="Size to predict: 7B.")] = None,
    scale: Annotated[str, typer.Option("--scale", help="Column of the sizes: params, flops, tokens ...")] = "params",
    needed: Annotated[int, typer.Option("--needed", help="Passes at which drawing stopped; 0: fixed draws.")] = 5,
    estimator: Annotated[str, typer.Option("--estimator", help="umvu (unbiased) or mle (the paper's).")] = "umvu",
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
    mapping: MapOption = None,
    where: WhereOption = None,
    skip_bad: SkipBadOption = False,
    as_json: JsonOption = False,
) -> None:
    """How fast does a skill grow, and what will the next model pass? From draws until the first few passes.

    Example: limbeck task passes draws.csv --needed 5 --at 7B

    One row per model and instance: params (or --scale), instance, draws, passes (0 where it was given up).
    """
    from limbeck import laws
    from limbeck.report import tables
    from limbeck.runs import read_runs

    table = read_runs(runs, mapping, where=where, skip_bad=skip_bad)
    table = table.require(scale, "instance", "draws", "passes", skip_bad=skip_bad)
    groups = table.frame.sort("instance").partition_by(scale, as_dict=True)
    counts = [
        laws.PassCounts(rows["passes"].to_numpy(), rows["draws"].to_numpy(), needed or None) for rows in groups.values()
    ]
    sizes = [float(size) for (size,) in groups]
    curve = laws.task_curve(sizes, counts, column=scale, estimator=estimator, seed=seed)  # type: ignore[arg-type]
    record: dict[str, Any] = curve.to_dict() | {
        "level": level,
        "prediction": None,
        "refused": None,
        "by_instance": None,
    }
    text = [curve.summary()]
    if at is not None:
        where_to = parse_quantity(at)
        try:
            predicted = curve.predict(where_to, level)
            record["prediction"] = predicted.to_dict()
            text += ["", tables.prediction(list(curve.fits.values())[-1], predicted, {scale: where_to})]
        except FittingError as reason:
            record["refused"] = str(reason)
            text += ["", f"not predicted: {reason}"]
        each = curve.predict_instances(where_to, level, seed=seed)
        record["by_instance"] = each.to_dict()
        text += [f"by instance: {each.value:.3g} ({level:.0%}: {each.lower:.3g} – {each.upper:.3g}) at {si(where_to)}"]
    emit(as_json, record, tables.render(*map(Text, text)))
