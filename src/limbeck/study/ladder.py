"""Half a circle: a ladder of small runs, the law through them, and the forecast of a larger run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from limbeck import laws
from limbeck.fitting import SQUARED, Fit, Prior
from limbeck.fitting.hierarchical import NoiseComponents, hierarchical_draws, noise_components
from limbeck.runs import RunTable, read_runs
from limbeck.study.design import Design
from limbeck.study.forecast import Forecast


@dataclass(frozen=True)
class Ladder:
    """A fitted ladder.

    Args:
        table: its run table.
        fit: the law with hierarchical draws.
        free: the same law without priors, for comparison.
        noise: run-to-run noise, from the seeds.
    """

    table: RunTable
    fit: Fit
    free: Fit
    noise: NoiseComponents


def fit_ladder(rows: Sequence[dict[str, Any]], design: Design, seed: int) -> Ladder:
    """Fit the law of size and data to the ladder's runs.

    Squared log residuals (with this few points a Huber loss adds nothing), weak priors on the exponents, and noise from
    the seeds: the residuals of a fit understate it, for the law bends to follow the trunks.

    Args:
        rows: run records of the ladder.
        design: priors and number of draws.
        seed: of the draws.
    """
    table = read_runs(pl.DataFrame([_plain(row) for row in rows], infer_schema_length=None))
    sizes, tokens = table.column("params"), table.column("tokens")
    configuration = [f"{n:.0f}/{d:.0f}" for n, d in zip(sizes, tokens, strict=True)]
    noise = noise_components(table.column("loss"), configuration, table.clusters(), sizes)

    def fitted(priors: dict[str, Prior]) -> Fit:
        fit = laws.fit(
            "chinchilla", table, priors=priors, loss=SQUARED, prior_noise=design.residual, bootstrap=0, seed=seed
        )
        return hierarchical_draws(fit, noise, design.draws, seed=seed)

    return Ladder(table, fitted(design.priors), fitted({}), noise)


def forecast_large(ladder: Ladder, params: int, tokens: int, level: float = 0.8) -> Forecast:
    """Predict the loss of one larger run, with run-to-run noise in the interval.

    Args:
        ladder: the fitted ladder.
        params, tokens: of the larger run.
        level: coverage of the interval.
    """
    size = {"params": params, "tokens": tokens}
    prediction, without = (fit.predict(level, **size) for fit in (ladder.fit, ladder.free))
    (predicted, lower, upper), free = (
        [float(x[0]) for x in (one.mean, one.lower, one.upper)] for one in (prediction, without)
    )
    basis = {
        "law": ladder.fit.model.name, **size, "parameters": ladder.fit.parameters,
        "priors": plain_priors(ladder.fit), "noise": ladder.noise.to_dict(), "runs": len(ladder.table),
        "without_priors": free, "last_value": float(ladder.table.column("loss").min()),
    }  # fmt: skip
    return Forecast("large run", predicted, lower, upper, level, float(prediction.extrapolation[0]), basis)


def plain_priors(fit: Fit) -> dict[str, list[float]]:
    """Return mean and standard deviation of a fit's priors by parameter."""
    return {name: [prior.mean, prior.sd] for name, prior in fit.priors.items()}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """Keep the columns that a run table knows; bookkeeping such as times stays in the records."""
    return {key: value for key, value in row.items() if isinstance(value, int | float | str | bool)}
