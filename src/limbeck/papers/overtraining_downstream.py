"""Language models scale reliably with over-training and on downstream tasks: five small runs predict the rest.

With M tokens per parameter, L(C, M) = E + (a M^eta + b M^-eta) C^-eta (eq. 4) is fitted on four small models at M = 20
and one at M = 320, and must predict every over-trained model and the largest. The baseline knows compute only: a power
law in C at M = 20. A second law, Err = epsilon - k exp(-gamma L) (eq. 5), turns predicted losses into mean task errors.
Measured on the authors' 104 models where their table is found (`LIMBECK_DATA`); else the same fits run on a synthetic
one, which is no evidence.
"""

import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from limbeck.fitting import Fit, Loss
from limbeck.fitting.model import Array
from limbeck.laws import DownstreamError, OvertrainedLoss, Overtraining, PowerFloor, fit
from limbeck.laws.overtraining import GADRE
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series
from limbeck.papers._data import run_table
from limbeck.runs import read_runs

RAW = Loss(delta=math.inf, space="linear")  # least squares on the raw loss, as in the authors' code
SIZE, M = pl.col("size"), pl.col("M")
SMALL = (M == 20) & (SIZE <= 3)
FITTED = SMALL | ((M == 320) & (SIZE == 0))
TRAINING_SETS = ("c4_original", "rpj", "rw_original")
PUBLISHED = {"c4_original": (4.3, 0.14), "rpj": (0.7, 0.05, 0.7, 3.6), "rw_original": (1.6, 2.94)}
"""Relative errors in percent: loss and task error at 6.9 B; the same at 1.4 B, M = 640."""


class OvertrainingDownstream(Paper):
    """The authors' table of 104 models, one training set per seed."""

    source = GADRE
    claim = "A law of five small runs predicts the loss of over-trained models and the mean task error of large ones."
    metric = "mean relative error of the loss at M >= 160, power law in compute minus this law"
    unit = "points"
    baseline = "compute alone"

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Fit and predict one training set; every seed has its own."""
        path = run_table("overtraining-testbed/runs.csv")
        if path is None:
            return {"set": "synthetic", **predict_loss(numbered(synthetic_runs(seed)))}
        name = TRAINING_SETS[seed % len(TRAINING_SETS)]
        names = {"loss_c4_val": "loss", "err_avg_17": "error"}
        runs = numbered(read_runs(path, mapping=names, where={"train_set": name}).frame)
        return {"set": name, **predict_loss(runs), **predict_error(runs)}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare with the baseline on every training set, and with the published errors."""
        sets = {one["set"]: one for one in measured}
        law, alone = (np.array([one[name] for one in sets.values()]) for name in ("law", "compute alone"))
        left_out = [max(one["error with one run left out"].values()) for one in sets.values()]
        checks = {
            "three times better than compute alone on every set": 3 * law < alone,
            "better than compute alone with any fitted run left out": left_out < alone,
        }
        first = next(iter(sets.values()))
        if "large models" in first:
            off = [np.abs(np.subtract(one["large models"], PUBLISHED[name])).max() for name, one in sets.items()]
            checks["errors on large models within 0.05 points of the published ones"] = np.array(off) < 0.05
            note = "no seeds: the replicates are three training sets, the spread is over left-out runs"
        else:
            note = "run table absent (see LIMBECK_DATA): synthetic losses drawn from the law itself, no evidence for it"
        title = f"Five small runs predict over-trained ones to {law.mean():.1f} %, by compute to {alone.mean():.1f} %"
        series = []
        for name, flops, loss, fitted in first["curves"]:
            series += [Series(name, flops, loss), Series(f"{name}, law", flops, fitted, kind="line")]
        details = {name: {k: v for k, v in one.items() if k not in ("set", "curves")} for name, one in sets.items()}
        notes = [note, "five points for four parameters leave one degree of freedom"]
        figure = Figure(title, "compute, FLOP", "loss, nats/token", series, log_x=True)
        return Outcome(alone - law, checks, details, notes, figure)


def numbered(runs: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that the laws read, with `size` (0 is the smallest model) and `M`, tokens per parameter."""
    size, multiplier = pl.col("params").rank("dense") - 1, (pl.col("tokens") / pl.col("params")).round()
    columns = [name for name in ("params", "tokens", "flops", "loss", "error") if name in runs.columns]
    return runs.select(*columns, size.alias("size"), multiplier.alias("M")).sort("flops")


def predict_loss(runs: pl.DataFrame) -> Numbers:
    """Fit both laws; return their errors in percent on over-trained runs, and those with a fitted run left out."""
    law, alone = fit_loss(runs.filter(FITTED)), fit(PowerFloor("flops"), runs.filter(SMALL), loss=RAW, bootstrap=0)
    far = runs.filter((M >= 160) & ~FITTED)
    left_out = {}
    for k, (size, multiplier) in enumerate(runs.filter(FITTED).select("size", "M").rows()):
        fold = fit_loss(runs.filter(FITTED).filter(pl.int_range(pl.len()) != k))
        left_out[f"without size {size} at M = {multiplier:.0f}"] = off(fold, far).mean()
    lines = [(m, runs.filter(m == M)) for m in (20, 80, 320)]
    return {
        "law": off(law, far).mean(), "compute alone": off(alone, far).mean(),
        "median error at M >= 20": float(np.median(off(law, runs.filter(M >= 20)))), "parameters": law.parameters,
        "error with one run left out": left_out,
        "curves": [(f"M = {m}", one["flops"], one["loss"], predicted(law, one)) for m, one in lines],
    }  # fmt: skip


def predict_error(runs: pl.DataFrame) -> Numbers:
    """Chain the laws of loss and of task error; return the relative errors in percent on the largest models."""
    law = fit_loss(runs.filter(FITTED))
    error_law = fit(DownstreamError(), runs.filter(FITTED | ((M == 20) & (SIZE == 4))), bootstrap=0)
    errors: list[float] = []
    for target in (runs.filter((M == 20) & (SIZE == 5)), runs.filter((M == 640) & (SIZE == 4))):
        ratio = error_law.value(loss=predicted(law, target)) / target["error"].to_numpy()
        errors += [*off(law, target), *(100 * np.abs(ratio - 1))]
    return {"large models": errors, "error law": error_law.parameters}


def fit_loss(runs: pl.DataFrame) -> Fit:
    """Return the over-training law of some runs."""
    return fit(Overtraining(), runs, loss=RAW, bootstrap=0)


def predicted(law: Fit, runs: pl.DataFrame) -> Array:
    """Return what a law says about runs."""
    return law.value(**{name: runs[name].to_numpy() for name in law.model.columns})


def off(law: Fit, runs: pl.DataFrame) -> Array:
    """Return the relative errors of a law on runs, in percent."""
    return np.asarray(100 * np.abs(predicted(law, runs) / runs["loss"].to_numpy() - 1))


def synthetic_runs(seed: int) -> pl.DataFrame:
    """Draw losses at the authors' sizes from the law that their code fits to models trained on C4; 0.5 % noise."""
    truth = OvertrainedLoss.from_official(alpha=113.693, beta=189.516, b=-0.24247, E=1.50826)
    params, multiplier = np.meshgrid([1.06e7, 7.89e7, 1.54e8, 4.12e8, 1.44e9], 20.0 * 2 ** np.arange(6))
    flops = 6 * params**2 * multiplier
    loss = truth(flops=flops, multiplier=multiplier) * np.exp(np.random.default_rng(seed).normal(0, 0.005, flops.shape))
    columns = {"params": params, "tokens": multiplier * params, "flops": flops, "loss": loss}
    return pl.DataFrame({name: values.ravel() for name, values in columns.items()})
