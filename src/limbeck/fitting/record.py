"""A fit as plain numbers, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from limbeck.fitting.data import Data
from limbeck.fitting.model import Array, Model
from limbeck.fitting.multistart import Starts
from limbeck.fitting.objective import Loss, Prior
from limbeck.fitting.plain import plain
from limbeck.fitting.validation import Validation

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit

AS_THEY_ARE = ("objective", "parameters", "fixed", "prior_noise", "method", "degenerate", "seed", "units")
"""Fields of a fit that JSON holds as they are."""


def to_record(fit: Fit, level: float, *, full: bool) -> dict[str, Any]:
    """Return a fit as plain numbers, lists and names; `full` adds draws, noise and data, which `from_record` needs."""
    record = {
        "law": fit.model.name, "options": asdict(fit.model), **{name: getattr(fit, name) for name in AS_THEY_ARE},
        "level": level, "intervals": fit.intervals(level), "points": len(fit.data), "starts": asdict(fit.starts),
        "loss": asdict(fit.loss) | {"delta": fit.loss.delta if math.isfinite(fit.loss.delta) else "inf"},
        "identifiability": fit.identifiability.to_dict(), "holdout": fit.holdout and fit.holdout.to_dict(),
        "priors": {name: asdict(prior) for name, prior in fit.priors.items()},
    }  # fmt: skip
    if full:
        record |= {"draws": fit.draws, "noise": fit.noise, "data": asdict(fit.data)}
    return dict(plain(record))


def from_record(record: Mapping[str, Any], model: Model) -> Fit:
    """Rebuild a fit from `to_record(full=True)` and its model."""
    from limbeck.fitting.fit import Fit

    data, loss = record["data"], record["loss"]
    clusters = np.array(data["clusters"], int)
    return Fit(
        model=model, loss=Loss(**loss | {"delta": float(loss["delta"])}),
        data=Data(_arrays(data["columns"]), _array(data["target"]), _array(data["weights"]), clusters),
        starts=Starts(**record["starts"]), draws=_arrays(record["draws"]), noise=_array(record["noise"]),
        priors={name: Prior(**prior) for name, prior in record["priors"].items()},
        holdout=None if record.get("holdout") is None else Validation.from_dict(record["holdout"]),
        **{name: record[name] for name in AS_THEY_ARE},
    )  # fmt: skip


def _array(values: Any) -> Array:
    return np.array(values, float)


def _arrays(columns: Mapping[str, Any]) -> dict[str, Array]:
    return {name: _array(values) for name, values in columns.items()}
