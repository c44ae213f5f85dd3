"""`limbeck plan` and `limbeck report`: decisions from a fitted law, and a page to show them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import limbeck as lb
from limbeck.cli.arguments import LevelOption, SeedOption, option, quantities, quantity, shown
from limbeck.errors import LimbeckError
from limbeck.files import write_text
from limbeck.runs.quantities import parse_quantity


@shown()
def plan_compute(
    fitted: Annotated[Path, typer.Argument(help="A fit saved by limbeck fit.")],
    flops: Annotated[float | None, quantity("Training budget: 1e22.")] = None,
    target_loss: Annotated[float | None, option("With --inference-tokens.")] = None,
    inference_tokens: Annotated[float | None, quantity("Tokens served over the model's life: 1e13, 10T.")] = None,
    level: LevelOption = 0.8,
) -> Any:
    """How large a model, on how many tokens: for a budget, or for a target loss and a life of inference.

    Example: limbeck plan compute fit.json --flops 1e22

    Example: limbeck plan compute fit.json --target-loss 2.1 --inference-tokens 10T
    """
    fit = lb.laws.load_fit(fitted)
    if flops is not None and target_loss is None and inference_tokens is None:
        return lb.planning.compute_optimal(fit, flops, level=level)
    if flops is None and target_loss is not None and inference_tokens is not None:
        return lb.planning.inference_aware(fit, target_loss, inference_tokens, level=level)
    raise LimbeckError("give either --flops, or --target-loss with --inference-tokens.")


@shown()
def plan_teacher(
    fitted: Annotated[Path | None, typer.Argument(help="A fit of distillation; published constants without.")] = None,
    student_params: Annotated[float | None, quantity("Non-embedding parameters: 1e9, 1B.")] = None,
    tokens: Annotated[float | None, quantity("The student's tokens: 2e11, 200B.")] = None,
    flops: Annotated[float | None, quantity("Or one budget that every option spends.")] = None,
    teachers: Annotated[str | None, option("Table of the teachers you have: name, params, loss (and tokens).")] = None,
    scenario: Annotated[str, option("Who pays for it: best-case, inference, pretraining, both.")] = "inference",
    level: LevelOption = 0.8,
) -> Any:
    """Distil or train alone, and from which of the teachers you have; or which one to train yourself.

    Example: limbeck plan teacher fit.json --student-params 1e9 --tokens 2e11 --teachers teachers.csv

    Example: limbeck plan teacher --student-params 1e9 --flops 1e21 --scenario both
    """
    if student_params is None or (teachers is None and (flops is None or tokens is not None)):
        needed = "the student's size, and a table with name, params, loss; or --flops, for a teacher to be trained."
        raise LimbeckError(f"--student-params and --teachers are needed: {needed}")
    law = lb.laws.DISTILLATION_2025 if fitted is None else lb.laws.load_fit(fitted)
    if teachers is None:
        return lb.planning.recipe(student_params, float(flops or 0.0), scenario=scenario, law=law)
    asked: dict[str, Any] = {"tokens": tokens, "flops": flops, "scenario": scenario, "law": law, "level": level}
    return lb.planning.choose_teacher(student_params, lb.planning.read_teachers(teachers), **asked)


@shown()
def plan_bits(
    source: Annotated[str, typer.Argument(help="A fit of bit-level or precision, or a table: params, bits, loss.")],
    memory: Annotated[str | None, option("For the weights, bytes: 24e9, 24GB.")] = None,
    params: Annotated[float | None, quantity("Or the size of the model: 7e9, 7B.")] = None,
    tokens: Annotated[float | None, quantity("Its training data, for a fit of precision.")] = None,
    bits: Annotated[Any, quantities("Precisions to compare: 3,4,8.")] = None,
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
) -> Any:
    """How many bits per weight: a small precise model, or a large coarse one.

    Example: limbeck plan bits runs.csv --memory 24GB

    Example: limbeck plan bits fit.json --params 7B --tokens 2T --bits 3,4,8

    A table has one row per quantised model; rows of one original model share its name in the column run.
    """
    total = None if memory is None else 8 * parse_quantity(memory.replace("GB", "G"))
    fit = lb.laws.load_fit(source) if source.endswith(".json") else lb.laws.fit("bit-level", source, seed=seed)
    return lb.planning.choose_bits(fit, total_bits=total, params=params, tokens=tokens, bits=bits, level=level)


@shown("Write a page with the error of each policy.")
def plan_keep(
    features: Annotated[
        Path | None, typer.Argument(help="Embeddings of your examples: .npz with features and labels, or .npy.")
    ] = None,
    pool: Annotated[float | None, quantity("Or only the number of examples: 50000, 50k.")] = None,
    dimension: Annotated[float | None, quantity("Of the inputs: 512.")] = None,
    probe_error: Annotated[float | None, option("Error of the cheap model that ranks them, 0 to 1.")] = None,
    keep: Annotated[float | None, quantity("How many, or a share up to 1; the least without.")] = None,
    tolerance: Annotated[float, option("Accepted increase of the error: 0.1.")] = 0.1,
    seed: SeedOption = 0,
    out: Annotated[Path | None, option("Write the kept rows, one number a line.")] = None,
) -> Any:
    """Which examples to keep, and how many: the hard ones of a large pool, the easy ones of a small one, or any.

    Example: limbeck plan keep features.npz --keep 0.3 --out kept.txt

    Example: limbeck plan keep --pool 50k --dimension 512 --probe-error 0.07
    """
    rows: Any = None
    given: dict[str, Any] = {"keep": keep, "tolerance": tolerance}
    if features is not None:
        x, labels = lb.planning.read_features(features)
        plan, rows = lb.planning.choose_examples(x, labels, probe_error=probe_error, seed=seed, **given)
    elif pool is None or dimension is None or probe_error is None:
        raise LimbeckError("give a file of features, or --pool, --dimension and --probe-error.")
    else:
        plan = lb.planning.plan_keep(pool, dimension, probe_error, **given)
    if out is not None:
        if rows is None:
            raise LimbeckError("--out needs a file of features: without one there are no rows to name.")
        write_text(out, "".join(f"{row}\n" for row in rows))
    return plan.to_dict() | {"rows": rows}, plan.summary(), plan


@shown("Write a page with the AUC of every grade against its time.")
def plan_grade(
    runs: Annotated[str, typer.Argument(help="Runs of a ladder of click networks: its folder, or a table.")],
    latency: Annotated[float, quantity("Most milliseconds of a request for 200 items: 5.")],
) -> Any:
    """Which click network to serve within a time, and which to distil it from.

    Example: limbeck plan grade distilled/click-ladder --latency 5
    """
    return lb.planning.plan_grade(runs, latency)


@shown()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a demo, or with a fit.json.")]) -> Any:
    """Write report.html into a folder: one file, no network, with plots and an interactive planner.

    Example: limbeck report demo/
    """
    page = lb.report.report_of(folder)
    return {"report": str(page)}, f"report: {page}"
