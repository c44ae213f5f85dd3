"""`limbeck theory`: what closed forms and toy models say about your own models and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import JsonOption, SeedOption, emit


def superposition(
    models: Annotated[list[Path], typer.Argument(help="Model folders (safetensors); several give a trend.")],
    tensor: Annotated[str | None, typer.Option("--tensor", help="Name of the matrix, if it is not found.")] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", help="Rows in use; the others are padding.")] = None,
    sample: Annotated[int, typer.Option("--sample", help="Most rows whose pairs are gone through.", min=2)] = 16384,
    seed: SeedOption = 0,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a page with the overlaps as a picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Audit a model's output matrix: do its tokens share directions as in strong superposition, and what follows.

    Example: limbeck theory superposition models/student --plot overlaps.html

    Only the matrix is read, a few thousand rows at a time; no code of the model runs.
    """
    from limbeck.files import write_text
    from limbeck.theory import audit_heads

    audits = audit_heads(models, tensor=tensor, tokens=tokens, sample=sample, seed=seed)
    if plot is not None:
        write_text(plot, audits.plot().to_html())
    emit(as_json, audits.to_dict(), audits.summary())
