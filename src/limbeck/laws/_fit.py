"""From a table of runs to a fitted law."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting import Comparison, Fit, Loss, Model, Prior, estimation, selection
from limbeck.fitting.resampling import Method
from limbeck.laws.law import Law, get
from limbeck.runs import COLUMNS, RunTable, read_runs


def fit(
    law: Model | str, runs: RunTable | str | Path | Mapping[str, ArrayLike] | Any, *, bootstrap: int = 1000,
    seed: int = 0, fixed: Mapping[str, float] | None = None, priors: Mapping[str, Prior] | None = None,
    prior_noise: float = 0.01, loss: Loss | None = None, delta: float | Literal["auto"] | None = None,
    weights: ArrayLike | None = None, method: Method | None = None, holdout: float | None = None, **read: Any,
) -> Fit:  # fmt: skip
    """Fit a law to runs. Checkpoints of one run are resampled together.

    Args:
        law: a law, or its name (`limbeck.laws.names()`).
        runs: a run table, a path that `read_runs` reads, a data frame, or columns by name.
        bootstrap: number of resamples; 0 for none.
        seed: of starts and resamples.
        fixed: parameters held at a number: borrowed constants.
        priors: normal beliefs about parameters (about their logarithm where they are positive).
        prior_noise: standard deviation of one residual, which weighs data against priors.
        loss: what is minimised; the law's own choice by default, else Huber 1e-3 on log residuals, summed.
        delta: replaces the loss's threshold between squared and absolute; "auto" takes it from the residuals.
        weights: of the rows, [n].
        method: of resampling: `pairs`, `residual`, `wild`, `mammen` or `block`; the law's own choice by default.
        holdout: share of the largest runs that is left out once to check the law (0.3 is usual).
        read: options of `read_runs`, such as `mapping`, `where` or `skip_bad`.

    Raises:
        FittingError: the law is unknown, or the runs cannot identify it.
        RunsError: the table lacks a column that the law reads, or a row is bad.

    Example:
        >>> runs = {"tokens": [1e8, 1e9, 1e10, 1e11, 1e12], "loss": [3.8, 2.8, 2.3, 2.05, 1.925]}
        >>> found = fit("power-floor:tokens", runs, bootstrap=0)
        >>> round(found.parameters["E"], 2), round(found.parameters["alpha"], 2)
        (1.8, 0.3)
    """
    model = get(law) if isinstance(law, str) else law
    model, table = _prepared(model, _read(runs, read), read)
    own_loss, own_method = (model.preferred_loss, model.resampling) if isinstance(model, Law) else (None, "pairs")
    return estimation.fit(
        model, {name: table.column(name) for name in model.columns}, table.column(model.target),
        clusters=table.clusters(), loss=loss or own_loss, delta=delta, weights=weights, fixed=fixed, priors=priors,
        prior_noise=prior_noise, bootstrap=bootstrap, method=method or own_method, holdout=holdout, seed=seed,
        units={name: COLUMNS[name].unit for name in (*model.columns, model.target) if name in COLUMNS},
    )  # fmt: skip


def _read(runs: Any, read: Mapping[str, Any]) -> RunTable:
    return runs if isinstance(runs, RunTable) else read_runs(runs, **read)


def _prepared(model: Model, table: RunTable, read: Mapping[str, Any]) -> tuple[Model, RunTable]:
    """The law and the table with every column that it reads."""
    skip_bad = bool(read.get("skip_bad", False))
    if isinstance(model, Law):
        model, table = model.prepare(table, skip_bad=skip_bad)
    return model, table.require(*model.columns, model.target, skip_bad=skip_bad)


def compare(
    laws: Sequence[Model | str], runs: RunTable | str | Path | Mapping[str, ArrayLike] | Any, *, bootstrap: int = 200,
    seed: int = 0, loss: Loss | None = None, **read: Any,
) -> Comparison:  # fmt: skip
    """Compare laws on the same runs by how well each predicts the largest from the smaller ones.

    Args:
        laws: laws or their names; they must predict the same column.
        runs: as for `fit`; rows must have every column that one of the laws reads.
        bootstrap: number of resamples, of the fits and per cut.
        seed: of starts and resamples.
        loss: what is minimised, the same for all; Huber 1e-3 on log residuals by default.
        read: options of `read_runs`.

    Raises:
        FittingError: no laws, a law is unknown, laws predict different columns, or there are too few runs for all.
        RunsError: the table lacks a column, or a row is bad.
    """
    models = [get(law) if isinstance(law, str) else law for law in laws]
    if len({model.target for model in models}) != 1:
        targets = "; ".join(f"{model.name}: {model.target}" for model in models) or "none given"
        raise FittingError(f"laws that are compared must predict the same column ({targets}).")
    table = _read(runs, read)
    for i, model in enumerate(models):
        models[i], table = _prepared(model, table, read)
    fits, left_out = [], {}
    for model in models:
        try:
            fits.append(fit(model, table, bootstrap=bootstrap, seed=seed, loss=loss or Loss()))
        except FittingError as error:
            left_out[model.name] = str(error)
    if not fits:
        raise FittingError("\n".join(left_out.values()))
    return replace(selection.compare(fits, resamples=bootstrap), left_out=left_out)


def load_fit(path: str | Path) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Raises:
        FittingError: the file is missing, is not a saved fit, or its law is not defined here.
    """
    try:
        record = json.loads(Path(path).read_text())
        law, options = record["law"], record["options"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        advice = "Write one with: limbeck fit runs.csv --law NAME"
        raise FittingError(f"{path} is not a saved fit ({error}). {advice}") from error
    return Fit.from_dict(record, get(law, **options))
