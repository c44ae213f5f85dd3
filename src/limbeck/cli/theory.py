"""`limbeck theory`: what closed forms and toy models say about your own models and tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from limbeck.cli.arguments import JsonOption, LevelOption, SeedOption, emit
from limbeck.cli.laws import MapOption, MixOption, SkipBadOption, WhereOption


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


def regimes(
    runs: Annotated[str, typer.Argument(help="Table of runs with params, tokens or samples, and a loss.")],
    target: Annotated[str, typer.Option("--target", help="The column that falls.")] = "loss",
    peak: Annotated[
        bool, typer.Option("--peak", help="Fit nothing across params = data: unregularised models that interpolate.")
    ] = False,
    level: LevelOption = 0.95,
    mapping: MapOption = None,
    where: WhereOption = None,
    skip_bad: SkipBadOption = False,
    mix_setups: MixOption = False,
    plot: Annotated[Path | None, typer.Option("--plot", help="Write a page with the exponents.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which scaling regime each curve of a table is in, before anybody extrapolates it.

    Example: limbeck theory regimes runs.csv

    An exponent of 1 near a limit is the same for every model and data set; only a resolution-limited one is your own.
    """
    from limbeck import theory
    from limbeck.files import write_text
    from limbeck.runs import read_runs

    table = read_runs(runs, mapping, skip_bad=skip_bad, mix_setups=mix_setups, where=where)
    found = theory.regimes(table, target=target, peak=peak, level=level)
    if plot is not None:
        write_text(plot, found.plot().to_html())
    emit(as_json, found.to_dict(), found.summary())


def exponents(
    features: Annotated[Path, typer.Argument(help="Last hidden layer of your data: .npy, or .npz with features.")],
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Predict the exponents of a learning curve from features: kernel spectrum and intrinsic dimension.

    Example: limbeck theory exponents features.npy
    """
    from limbeck import planning, theory

    found = theory.predict_exponents(planning.read_features(features)[0], seed=seed)
    emit(as_json, found.to_dict(), found.summary())
