"""A fit as plain numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.fitting.data import Data
from limbeck.fitting.model import Model
from limbeck.fitting.multistart import Starts
from limbeck.fitting.objective import Loss, Prior
from limbeck.fitting.validation import Validation

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit


def to_record(fit: Fit, level: float, *, full: bool) -> dict[str, Any]:
    """Return a fit as plain numbers, lists and names; `full` adds draws, noise and data, which `from_record` needs."""
    record: dict[str, Any] = {
        "law": fit.model.name,
        "options": asdict(fit.model),
        "objective": fit.objective,
        "parameters": dict(fit.parameters),
        "level": level,
        "intervals": {k: None if v is None else list(v) for k, v in fit.intervals(level).items()},
        "loss": {**asdict(fit.loss), "delta": fit.loss.delta if math.isfinite(fit.loss.delta) else "inf"},
        "points": len(fit.data),
        "starts": asdict(fit.starts),
        "identifiability": fit.identifiability.to_dict(),
        "holdout": None if fit.holdout is None else fit.holdout.to_dict(),
        "fixed": fit.fixed,
        "priors": {k: asdict(v) for k, v in fit.priors.items()},
        "prior_noise": fit.prior_noise,
        "method": fit.method,
        "degenerate": fit.degenerate,
        "seed": fit.seed,
        "units": fit.units,
    }
    if full:
        record["draws"] = {k: v.tolist() for k, v in fit.draws.items()}
        record["noise"] = fit.noise.tolist()
        record["data"] = {
            "columns": {k: v.tolist() for k, v in fit.data.columns.items()},
            "target": fit.data.target.tolist(),
            "weights": fit.data.weights.tolist(),
            "clusters": fit.data.clusters.tolist(),
        }
    return record


def from_record(record: Mapping[str, Any], model: Model) -> Fit:
    """Rebuild a fit from `to_record(full=True)` and its model."""
    from limbeck.fitting.fit import Fit

    data, loss = record["data"], record["loss"]
    return Fit(
        model=model,
        parameters={k: float(v) for k, v in record["parameters"].items()},
        objective=float(record["objective"]),
        loss=Loss(float(loss["delta"]), loss["space"], float(loss["overestimate"])),
        data=Data(
            {k: np.asarray(v, float) for k, v in data["columns"].items()},
            np.asarray(data["target"], float),
            np.asarray(data["weights"], float),
            np.asarray(data["clusters"], int),
        ),
        starts=Starts(**record["starts"]),
        draws={k: np.asarray(v, float) for k, v in record["draws"].items()},
        noise=np.asarray(record["noise"], float),
        fixed=dict(record["fixed"]),
        priors={k: Prior(**v) for k, v in record["priors"].items()},
        prior_noise=float(record["prior_noise"]),
        method=record["method"],
        degenerate=int(record["degenerate"]),
        seed=int(record["seed"]),
        units=dict(record["units"]),
        holdout=None if record.get("holdout") is None else Validation.from_dict(record["holdout"]),
    )
