"""`limbeck evaluate`: what a student learnt, and whether it answers and predicts like its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    """
    if (student / "network.json").is_file():
        from limbeck.vision import evaluate_folder

        if baseline is not None or length is not None:
            raise LimbeckError("--baseline and --length are about language models: leave them out for classifiers")
        return evaluate_folder(student, against, str(data), limit)
    from limbeck import lm

    how: dict[str, Any] = {"baseline": baseline, "length": length, "limit": limit, "level": level, "seed": seed}
    return lm.evaluate(student, against, data, **how)
