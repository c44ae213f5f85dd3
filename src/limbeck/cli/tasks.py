"""`limbeck task transfer` and `limbeck task passes`: what a task's scores and pass rates say about larger scales."""

from __future__ import annotations

from typing import Annotated, Any

from rich.text import Text

from limbeck.cli.arguments import LevelOption, Reader, RunsArgument, SeedOption, option, quantity, shown
from limbeck.errors import FittingError
from limbeck.runs.quantities import si


@shown()
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
    from limbeck import laws

    table = read(runs).require("tokens", "score", skip_bad=read.skip_bad)
    losses = table.column("loss") if "loss" in table.columns else None
    report = laws.transfer_curve(
        table.column("tokens"), table.column("score"), cross_entropy=losses, baseline=baseline, noise=noise, seed=seed
    )
    record, text = _with_prediction(report, level, "tokens", at, "not extrapolated", force=force)
    return record, _rendered(text)


@shown()
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
    from limbeck import laws

    table = read(runs).require(scale, "instance", "draws", "passes", skip_bad=read.skip_bad)
    groups = table.frame.sort("instance").partition_by(scale, as_dict=True)
    drawn = ((rows["passes"].to_numpy(), rows["draws"].to_numpy()) for rows in groups.values())
    counts = [laws.PassCounts(passed, draws, needed or None) for passed, draws in drawn]
    sizes = [float(size) for (size,) in groups]
    curve = laws.task_curve(sizes, counts, column=scale, estimator=estimator, seed=seed)  # type: ignore[arg-type]
    record, text = _with_prediction(curve, level, scale, at, "not predicted")
    record["by_instance"] = None
    if at is not None:
        each = curve.predict_instances(at, level, seed=seed)
        record["by_instance"] = each.to_dict()
        text += [f"by instance: {each.value:.3g} ({level:.0%}: {each.lower:.3g} – {each.upper:.3g}) at {si(at)}"]
    return record, _rendered(text)


def _with_prediction(
    found: Any, level: float, column: str, at: float | None, otherwise: str, **how: Any
) -> tuple[dict[str, Any], list[str]]:
    """A result as record and text, with its prediction where one is asked for, or why there is none."""
    from limbeck.report import tables

    record, text = found.to_dict() | {"level": level, "prediction": None, "refused": None}, [found.summary()]
    if at is None:
        return record, text
    try:
        predicted = found.predict(at, level, **how)
    except FittingError as reason:
        return record | {"refused": str(reason)}, [*text, "", f"{otherwise}: {reason}"]
    fit = found.fits.get("log-law") or list(found.fits.values())[-1]
    return record | {"prediction": predicted.to_dict()}, [*text, "", tables.prediction(fit, predicted, {column: at})]


def _rendered(text: list[str]) -> str:
    from limbeck.report import tables

    return tables.render(*map(Text, text))
