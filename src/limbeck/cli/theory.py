"""`limbeck theory`: what closed forms and toy models say about your own models and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import limbeck as lb
from limbeck.cli.arguments import LevelOption, MixedReader, SeedOption, option, shown


@shown("Write a page with the overlaps as a picture.")
def superposition(
    models: Annotated[list[Path], typer.Argument(help="Model folders (safetensors); several give a trend.")],
    tensor: Annotated[str | None, option("Name of the matrix, if it is not found.")] = None,
    tokens: Annotated[int | None, option("Rows in use; the others are padding.")] = None,
    sample: Annotated[int, typer.Option("--sample", help="Most rows whose pairs are gone through.", min=2)] = 16384,
    seed: SeedOption = 0,
) -> Any:
    """Audit a model's output matrix: do its tokens share directions as in strong superposition, and what follows.

    Example: limbeck theory superposition models/student --plot overlaps.html

    Only the matrix is read, a few thousand rows at a time; no code of the model runs.
    """
    return lb.theory.audit_heads(models, tensor=tensor, tokens=tokens, sample=sample, seed=seed)


@shown("Write a page with the exponents.")
def regimes(
    runs: Annotated[str, typer.Argument(help="Table of runs: params; tokens or samples; a loss.")],
    read: MixedReader,
    target: Annotated[str, option("The column that falls.")] = "loss",
    peak: Annotated[
        bool, option("Fit nothing across params = data: unregularised models that interpolate.", "--peak")
    ] = False,
    level: LevelOption = 0.95,
) -> Any:
    """Say which scaling regime each curve of a table is in, before anybody extrapolates it.

    Example: limbeck theory regimes runs.csv

    An exponent of 1 near a limit is the same for every model and data set; only a resolution-limited one is your own.
    """
    return lb.theory.regimes(read(runs), target=target, peak=peak, level=level)


@shown()
def exponents(
    features: Annotated[Path, typer.Argument(help="Last hidden layer of your data: .npy, or .npz with features.")],
    seed: SeedOption = 0,
) -> Any:
    """Predict the exponents of a learning curve from features: kernel spectrum and intrinsic dimension.

    Example: limbeck theory exponents features.npy
    """
    return lb.theory.predict_exponents(lb.planning.read_features(features)[0], seed=seed)
