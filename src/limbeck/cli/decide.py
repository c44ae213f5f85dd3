"""`limbeck plan` and `limbeck report`: decisions from a fitted law, and a page to show them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import JsonOption, LevelOption, SeedOption, emit
from limbeck.errors import LimbeckError
from limbeck.runs.quantities import parse_quantity


def plan_compute(
    fitted: Annotated[Path, typer.Argument(help="A fit saved by limbeck fit.")],
    flops: Annotated[str | None, typer.Option("--flops", help="Training budget: 1e22.")] = None,
    target_loss: Annotated[float | None, typer.Option("--target-loss", help="With --inference-tokens.")] = None,
    inference_tokens: Annotated[
        str | None, typer.Option("--inference-tokens", help="Tokens served over the model's life: 1e13, 10T.")
    ] = None,
    level: LevelOption = 0.8,
    as_json: JsonOption = False,
) -> None:
    """How large a model, on how many tokens: for a budget, or for a target loss and a life of inference.

    Example: limbeck plan compute fit.json --flops 1e22

    Example: limbeck plan compute fit.json --target-loss 2.1 --inference-tokens 10T
    """
    from limbeck import laws, planning

    fit = laws.load_fit(fitted)
    if flops is not None and target_loss is None and inference_tokens is None:
        plan: Any = planning.compute_optimal(fit, parse_quantity(flops), level=level)
    elif flops is None and target_loss is not None and inference_tokens is not None:
        plan = planning.inference_aware(fit, target_loss, parse_quantity(inference_tokens), level=level)
    else:
        raise LimbeckError("give either --flops, or --target-loss with --inference-tokens.")
    emit(as_json, plan.to_dict(), plan.summary())


def plan_teacher(
    fitted: Annotated[
        Path | None, typer.Argument(help="A fit of the distillation law; published constants without one.")
    ] = None,
    student_params: Annotated[str, typer.Option("--student-params", help="Non-embedding parameters: 1e9, 1B.")] = "",
    tokens: Annotated[str | None, typer.Option("--tokens", help="The student's tokens: 2e11, 200B.")] = None,
    flops: Annotated[str | None, typer.Option("--flops", help="Or one budget that every option spends.")] = None,
    teachers: Annotated[
        str | None, typer.Option("--teachers", help="Table of the teachers you have: name, params, loss (and tokens).")
    ] = None,
    scenario: Annotated[
        str, typer.Option("--scenario", help="Who pays for the teacher: best-case, inference, pretraining, both.")
    ] = "inference",
    level: LevelOption = 0.8,
    as_json: JsonOption = False,
) -> None:
    """Distil or train alone, and from which of the teachers you have.

    Example: limbeck plan teacher fit.json --student-params 1e9 --tokens 2e11 --teachers teachers.csv
    """
    from limbeck import laws, planning

    if not student_params or teachers is None:
        raise LimbeckError(
            "--student-params and --teachers are needed: the student's size, and a table with name, params, loss."
        )
    law = laws.DISTILLATION_2025 if fitted is None else laws.load_fit(fitted)
    plan = planning.choose_teacher(
        parse_quantity(student_params),
        planning.read_teachers(teachers),
        tokens=None if tokens is None else parse_quantity(tokens),
        flops=None if flops is None else parse_quantity(flops),
        scenario=scenario,
        law=law,
        level=level,
    )
    emit(as_json, plan.to_dict(), plan.summary())


def plan_bits(
    source: Annotated[str, typer.Argument(help="A fit of bit-level or precision, or a table: params, bits, loss.")],
    memory: Annotated[str | None, typer.Option("--memory", help="For the weights, bytes: 24e9, 24GB.")] = None,
    params: Annotated[str | None, typer.Option("--params", help="Or the size of the model: 7e9, 7B.")] = None,
    tokens: Annotated[str | None, typer.Option("--tokens", help="Its training data, for a fit of precision.")] = None,
    bits: Annotated[str | None, typer.Option("--bits", help="Precisions to compare: 3,4,8.")] = None,
    level: LevelOption = 0.8,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """How many bits per weight: a small precise model, or a large coarse one.

    Example: limbeck plan bits runs.csv --memory 24GB

    Example: limbeck plan bits fit.json --params 7B --tokens 2T --bits 3,4,8

    A table has one row per quantised model; rows of one original model share its name in the column run.
    """
    from limbeck import laws, planning

    written = (memory and memory.replace("GB", "G"), params, tokens)
    bytes_, size, data = (None if given is None else parse_quantity(given) for given in written)
    plan = planning.choose_bits(
        laws.load_fit(source) if source.endswith(".json") else laws.fit("bit-level", source, seed=seed),
        total_bits=None if bytes_ is None else 8 * bytes_,
        params=size,
        tokens=data,
        bits=None if bits is None else [parse_quantity(one) for one in bits.split(",")],
        level=level,
    )
    emit(as_json, plan.to_dict(), plan.summary())


def plan_keep(
    features: Annotated[
        Path | None, typer.Argument(help="Embeddings of your examples: .npz with features and labels, or .npy.")
    ] = None,
    pool: Annotated[str | None, typer.Option("--pool", help="Or only the number of examples: 50000, 50k.")] = None,
    dimension: Annotated[str | None, typer.Option("--dimension", help="Of the inputs: 512.")] = None,
    probe_error: Annotated[
        float | None, typer.Option("--probe-error", help="Error of the cheap model that ranks them, 0 to 1.")
    ] = None,
    keep: Annotated[str | None, typer.Option("--keep", help="How many, or a share up to 1; the least without.")] = None,
    tolerance: Annotated[float, typer.Option("--tolerance", help="Accepted increase of the error: 0.1.")] = 0.1,
    seed: SeedOption = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write the kept rows, one number a line.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a page with the error of each policy.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Which examples to keep, and how many: the hard ones of a large pool, the easy ones of a small one, or any.

    Example: limbeck plan keep features.npz --keep 0.3 --out kept.txt

    Example: limbeck plan keep --pool 50k --dimension 512 --probe-error 0.07
    """
    from limbeck import planning
    from limbeck.files import write_text

    count = None if keep is None else parse_quantity(keep)
    rows = None
    if features is not None:
        x, labels = planning.read_features(features)
        plan, rows = planning.choose_examples(
            x, labels, probe_error=probe_error, keep=count, tolerance=tolerance, seed=seed
        )
    elif pool is None or dimension is None or probe_error is None:
        raise LimbeckError("give a file of features, or --pool, --dimension and --probe-error.")
    else:
        sizes = parse_quantity(pool), parse_quantity(dimension)
        plan = planning.plan_keep(*sizes, probe_error, keep=count, tolerance=tolerance)
    if out is not None:
        if rows is None:
            raise LimbeckError("--out needs a file of features: without one there are no rows to name.")
        write_text(out, "".join(f"{row}\n" for row in rows))
    if plot is not None:
        write_text(plot, plan.plot().to_html())
    emit(as_json, plan.to_dict() | {"rows": rows}, plan.summary())


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a demo, or with a fit.json.")],
    as_json: JsonOption = False,
) -> None:
    """Write report.html into a folder: one file, no network, with plots and an interactive planner.

    Example: limbeck report demo/
    """
    from limbeck.report import report_of

    page = report_of(folder)
    emit(as_json, {"report": str(page)}, f"report: {page}")
