"""`limbeck evaluate`, `sample`, `export`: what a student learnt, what it makes, and how it leaves."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from limbeck.cli.arguments import LevelOption, SeedOption, option, shown
from limbeck.errors import LimbeckError


@shown("Write how the answers of student and teacher split as a page.")
def evaluate(
    student: Annotated[Path, typer.Argument(help="Model folder.")],
    against: Annotated[Path, option("Model folder of the teacher.")],
    data: Annotated[
        Path, option("JSON lines of prompt, completion and perhaps task; or a text. Of classifiers: see recipes.")
    ],
    baseline: Annotated[Path | None, option("The same student trained without the teacher.")] = None,
    length: Annotated[int | None, option("Most tokens of an answer (twice the longest reference).")] = None,
    limit: Annotated[int | None, option("Read so many prompts or windows only.")] = None,
    level: LevelOption = 0.95,
    seed: SeedOption = 0,
) -> Any:
    """Compare a student with its teacher: right answers, equal answers, predictions; with what chance explains.

    Example: limbeck evaluate student/ --against teacher/ --data sums.jsonl --baseline alone/

    Classifiers: limbeck evaluate distilled/student --against distilled/teacher-1
    --data distilled/held-out.npz

    Diffusion models: limbeck evaluate distilled/digits/student --against distilled/digits/teacher --data digits
    """
    kind = next((name for name in ("network.json", "model.json") if (student / name).is_file()), "")
    if kind and (baseline is not None or length is not None):
        raise LimbeckError("--baseline and --length are about language models: leave them out")
    if kind == "model.json":
        from limbeck.diffusion.recipe import evaluate_folder as judge_folder

        return judge_folder(student, against, data, limit, seed)
    if kind:
        from limbeck.distill.folders import room_of

        module = importlib.import_module(f"limbeck.{room_of(student) or 'vision'}.recipe")
        return module.evaluate_folder(student, against, data, limit)
    from limbeck import lm

    how: dict[str, Any] = {"baseline": baseline, "length": length, "limit": limit, "level": level, "seed": seed}
    return lm.evaluate(student, against, data, **how)


@shown()
def sample(
    model: Annotated[Path, typer.Argument(help="Folder of a student or a teacher.")],
    count: Annotated[int, option("Pictures.", "--n")] = 64,
    grid: Annotated[Path | None, option("One picture of all, PNG.")] = None,
    out: Annotated[Path | None, option("Arrays that recipes read as data, .npz.")] = None,
    steps: Annotated[int | None, option("Steps of a teacher's sampler (18).")] = None,
    sampler: Annotated[Literal["heun", "euler", "ddim"] | None, option("Of a teacher (heun).")] = None,
    guidance: Annotated[float | None, option("Of a teacher with classes; 1 is none.")] = None,
    chosen: Annotated[str | None, option("This class alone, by name.", "--class")] = None,
    base: Annotated[Path | None, option("Teacher that takes the first steps of a student.")] = None,
    base_steps: Annotated[int, option("How many.")] = 1,
    data: Annotated[Path | None, option("Of super-resolution: pictures to make small, and large again.")] = None,
    dt: Annotated[Path | None, option("What is believed at each step of a student, PNG.")] = None,
    seed: SeedOption = 0,
) -> Any:
    """Make pictures with a diffusion model, and say how many network calls and milliseconds each takes.

    Example: limbeck sample distilled/digits/student --n 64 --grid out.png --class 3
    """
    from limbeck.diffusion.sampling import sample_folder

    how: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance, "chosen": chosen, "seed": seed}
    how |= {"base": None if base is None else (base, base_steps), "believed": dt, "data": data}
    made = sample_folder(model, count, **how)
    made.save(out, grid)
    return made


@shown()
def export(
    model: Annotated[Path, typer.Argument(help="Folder of a student of a diffusion model.")],
    to: Annotated[Literal["onnx", "diffusers"], option("A file for onnxruntime, or a pipeline folder.")],
    out: Annotated[Path, option("The file or folder.")],
) -> Any:
    """Write a student for programs that do not know limbeck.

    Example: limbeck export distilled/digits/student --to onnx --out student.onnx
    """
    from limbeck.diffusion.export import export_diffusers, export_onnx
    from limbeck.diffusion.folders import load_model

    saved = load_model(model)
    if saved.kind == "teacher":
        raise LimbeckError(f"{model} is a teacher: export a student, which makes a picture in few calls.")
    if to == "onnx":
        export_onnx(saved.model, out, saved.shape)
    else:
        export_diffusers(saved.model, out)
    record = {"out": str(out), "to": to, "params": saved.params, "steps": saved.model.steps}
    return record, f"{out}: {to}, {saved.params:,} parameters, {saved.model.steps} network calls for a picture"
