"""`limbeck demo`, `limbeck distill` and `limbeck reproduce`: the commands that train."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from limbeck.cli.arguments import JsonOption, SeedOption, emit, option
from limbeck.errors import LimbeckError

ROOMS = {
    "lm": "", "vision": "read_classifier_recipe", "diffusion": "read_diffusion_recipe", "recsys": "read_click_recipe",
    "graphs": "read_graph_recipe", "atoms": "read_atoms_recipe",
}  # fmt: skip
"""Rooms that a recipe may name; each but the first has a module `recipe` with `run_recipe` and this reader."""


def demo(
    out: Annotated[Path, option("Folder of everything; the same command continues in it.")] = Path("demo"),
    text: Annotated[Path | None, option("Your own text or JSONL file.")] = None,
    tokenizer: Annotated[str, option("byte, or bpe:1024.")] = "byte",
    quick: Annotated[bool, option("About eighty seconds, less sure.", "--quick")] = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes of one thread each.", min=1)] = 2,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Go round the whole circle on real text: ladder, law, prediction, larger run, distillation, report.

    Example: limbeck demo --out demo

    Each prediction is written to OUT/prediction.json before the run that checks it. Stop it at any time: the same
    command goes on.
    """
    from limbeck.report import report_of, tables
    from limbeck.study import Stages
    from limbeck.study import demo as run

    result = run(
        out, text=text, tokenizer=tokenizer, seed=seed, quick=quick, workers=workers, stages=Stages(6, quiet=as_json)
    )
    page = report_of(out)
    emit(as_json, result.summary, f"\n{tables.outcomes(result.summary)}\n\nreport: {page}")


def distill(
    recipe: Annotated[Path, typer.Argument(help="A recipe: a YAML file of about ten lines.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to it: seed=1 divergence.temperature=2")
    ] = None,
    cost: Annotated[bool, option("Make three steps, say what all of them will cost, and stop.", "--preview")] = False,
    as_json: JsonOption = False,
) -> None:
    """Distil a teacher into a student as a recipe says.

    Example: limbeck distill recipe.yaml tokens=2M seed=1

    \b
    teacher: models/teacher        # a Hugging Face model folder, or {endpoint: http://localhost:8000/v1, model: qwen3}
    student: models/student        # another one, or {width: 64} for a fresh one
    data: prompts.jsonl            # {"prompt": ..., "completion": ...} a line, or text
    method: gkd                    # kd, sft, seqkd, gkd, distillm, minillm, opd, g-opd, spin, opsd, paced
    steps: 1000                    # or tokens: 1M, of text
    out: models/distilled

    An endpoint writes its answers first (methods seqkd, sft; kd with log_probs: 20). Data with log-probabilities
    (limbeck answer --log-probs 20) teach without a teacher. text: corpus.txt is learned beside any method.

    Classifiers: room: vision as the first line, then data: digits, teacher: {hidden: [128]}, student: {hidden: [16]},
    method: kd (ce, dkd, dist, pld, mlkd, kd-z, ...), steps, out; see recipes/vision.

    Diffusion models: room: diffusion, data: digits, method: dmd2 (dmd, gdd, phased, ...), out; see recipes/diffusion.

    Click logs, graphs, atoms: room: recsys, graphs or atoms; see recipes/recsys, recipes/graphs, recipes/atoms.

    The same command continues after a stop; a finished run says so. Several processes: torchrun --nproc_per_node 2 -m
    limbeck distill recipe.yaml. Recipes for every method are in recipes/lm.
    """
    if (room := room_of(recipe)) != "lm":
        if cost:
            raise LimbeckError("--preview counts language models: give fewer steps to try a recipe of another room")
        module = importlib.import_module(f"limbeck.{room}.recipe")
        settled = getattr(module, ROOMS[room])(recipe, overrides or [])
        found = module.run_recipe(settled, progress=not as_json)
        emit(as_json, found.to_dict(), found.summary())
        return
    from limbeck.lm import distill as run
    from limbeck.lm import preview, read_recipe

    settings = read_recipe(recipe, overrides or [])
    result = preview(settings) if cost else run(settings, progress=not as_json)
    if int(os.environ.get("RANK", "0")) == 0:  # of several processes one speaks
        emit(as_json, result.to_dict(), result.summary())


def study(
    file: Annotated[Path, typer.Argument(help="A study: a YAML file of about eight lines.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Changes to it: within=4 recipe.lr=0.01")] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes of one thread each.", min=1)] = 2,
    ray: Annotated[str | None, option("Run the trials on this Ray cluster: its address, auto, or local.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Go round the circle with recipes of a room: ladder, law, plan, distillation, and the check of the prediction.

    Example: limbeck study study.yaml --workers 4

    \b
    room: vision                                             # or lm, diffusion, atoms
    recipe: {data: digits, teacher: {hidden: [128, 128]}, method: kd, lr: 0.003}
    ladder: {student.hidden: [[4], [8], [16]], steps: [100, 200, 400]}   # every combination is run
    seeds: [0, 1]
    plan: {student.hidden: [[8], [16], [32]], steps: [800, 1600]}        # what may be chosen
    within: 8                                                # times the compute of the largest run
    out: studies/digits

    What the chosen run will reach is written to OUT/prediction.json before it is run. The same command continues after
    a stop. Studies of every room are in recipes/studies.
    """
    from limbeck.report import report_of
    from limbeck.study import Stages, on_ray, on_this_machine, read_study, run_study

    settings = read_study(file, overrides or [])
    execute = on_this_machine(workers) if ray is None else on_ray(ray)
    result = run_study(settings, execute, base=file.parent, stages=Stages(5, quiet=as_json))
    emit(as_json, result.to_dict(), f"\nreport: {report_of(settings.out)}")


def room_of(recipe: Path) -> str:
    """The room that a recipe names; language models if it names none, or cannot be read yet."""
    import yaml

    try:
        content = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return "lm"  # the reader of that room says what is wrong
    room = content.get("room", "lm") if isinstance(content, dict) else "lm"
    if room not in ROOMS:
        raise LimbeckError(f'{recipe}: no room is called "{room}". Known: {", ".join(ROOMS)}.')
    return str(room)


def answer(
    prompts: Annotated[Path, typer.Argument(help='JSON lines: {"prompt": ...} or {"messages": [...]}.')],
    model: Annotated[str, option("Its name at the endpoint.")],
    url: Annotated[str, option("Root of the protocol.")] = "http://localhost:8000/v1",
    out: Annotated[Path, option("JSON lines with the completions; rows that are there are kept.")] = Path(
        "answers.jsonl"
    ),
    length: Annotated[int, option("Most tokens of an answer.")] = 512,
    temperature: Annotated[float, option("Of the samples.")] = 1.0,
    chat: Annotated[bool, option("Send texts as messages of a user.", "--chat")] = False,
    log_probs: Annotated[int, option("Favourites to ask for at every token.")] = 0,
    concurrency: Annotated[int, option("Requests at once.")] = 8,
    per_minute: Annotated[float, option("Requests that may start in a minute.")] = float("inf"),
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Have a model behind an OpenAI-compatible endpoint answer prompts, to distil from: method sft or kd.

    Example: limbeck answer prompts.jsonl --model qwen3 --url http://localhost:8000/v1 --out answers.jsonl

    The key comes from OPENAI_API_KEY. A server that is away is waited for; the same command continues after a stop.
    """
    from limbeck.lm import Endpoint, write_answers

    endpoint = Endpoint(url, model, length, temperature, chat, log_probs, concurrency, per_minute)
    written = write_answers(endpoint, prompts, out, seed=seed)
    emit(as_json, {"answers": str(out), "written": written}, f"{out}: {written} answers written now")


def reproduce(
    slugs: Annotated[list[str] | None, typer.Argument(help="Papers, by slug; --list shows them.")] = None,
    every: Annotated[bool, option("All papers.", "--all")] = False,
    listing: Annotated[bool, option("List the papers and their claims.", "--list")] = False,
    quick: Annotated[bool, option("At most 20 seconds a paper, less sure.", "--quick")] = False,
    seeds: Annotated[str | None, option("Seeds to run: 0,1,2 (the paper's own number).")] = None,
    again: Annotated[bool, option("Run even what --out has finished.", "--again")] = False,
    workers: Annotated[int, typer.Option("--workers", help="Processes.", min=1)] = 2,
    out: Annotated[Path | None, option("Keep records here, and do not repeat finished ones.")] = None,
    page: Annotated[Path | None, option("Write all of it, with pictures, as one HTML page.", "--html")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run a paper's small experiment: claim, baseline, measured with its standard error, and whether it holds here.

    Example: limbeck reproduce hestness-predictable --quick

    Example: limbeck reproduce --all --out reproductions --html reproductions.html
    """
    from limbeck import papers

    if listing:
        rows = papers.catalogue()
        emit(as_json, rows, "\n".join(f"{row['slug']:28} {row['claim']}" for row in rows))
        return
    if not every and not slugs:
        raise LimbeckError("which papers? Name them (limbeck reproduce --list), or use --all.")
    if seeds is not None and not all(seed.strip().isdigit() for seed in seeds.split(",")):
        raise LimbeckError(f"--seeds {seeds}: write whole numbers separated by commas, as in --seeds 0,1,2.")
    chosen = None if seeds is None else [int(seed) for seed in seeds.split(",")]
    work: dict[str, Any] = {"workers": workers, "out": out, "again": again, "progress": not as_json}
    records = papers.reproduce(None if every else slugs, quick=quick, seeds=chosen, **work)
    if page is not None:
        from limbeck.report import write_gallery

        write_gallery(records, papers.counts(records), page)
    emit(as_json, [record.to_dict() for record in records], papers.table(records) + (f"\n{page}" if page else ""))
    if any(record.error for record in records):
        sys.exit(1)
