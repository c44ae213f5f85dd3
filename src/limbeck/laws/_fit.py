"""From a table of runs to a fitted law."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting import Fit, Loss, Model, Prior
from limbeck.fitting import fit as fit_model
from limbeck.fitting.resampling import Method
from limbeck.laws.law import Law, get
from limbeck.runs import COLUMNS, RunTable, read_runs


def fit(
    law: Model | str,
    runs: RunTable | str | Path | Mapping[str, ArrayLike] | Any,
    *,
    bootstrap: int = 1000,
    seed: int = 0,
    fixed: Mapping[str, float] | None = None,
    priors: Mapping[str, Prior] | None = None,
    prior_noise: float = 0.01,
    loss: Loss | None = None,
    weights: ArrayLike | None = None,
    method: Method = "pairs",
    **read: Any,
) -> Fit:
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
        weights: of the rows, [n].
        method: of resampling: `pairs`, `residual` or `wild`.
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
    table = runs if isinstance(runs, RunTable) else read_runs(runs, **read)
    table = table.require(*model.columns, model.target, skip_bad=bool(read.get("skip_bad", False)))
    return fit_model(
        model,
        {name: table.column(name) for name in model.columns},
        table.column(model.target),
        loss=loss or (model.preferred_loss if isinstance(model, Law) else None),
        weights=weights,
        clusters=table.clusters(),
        fixed=fixed,
        priors=priors,
        prior_noise=prior_noise,
        bootstrap=bootstrap,
        method=method,
        seed=seed,
        units={name: COLUMNS[name].unit for name in (*model.columns, model.target) if name in COLUMNS},
    )


def load_fit(path: str | Path) -> Fit:
    """Read a fit that `Fit.save` wrote.

    Raises:
        FittingError: the file is missing, is not a saved fit, or its law is not defined here.
    """
    path = Path(path)
    try:
        record = json.loads(path.read_text())
        law, options = record["law"], record["options"]
    except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise FittingError(
            f"{path} is not a saved fit ({error}). Write one with: limbeck fit runs.csv --law NAME"
        ) from error
    return Fit.from_dict(record, get(law, **options))
