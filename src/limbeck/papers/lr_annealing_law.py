"""Scaling Law with Learning Rate Annealing: two loss curves predict the whole curve under schedules never run.

Curves of language models of 25 M, 100 M and 400 M parameters under nine learning-rate schedules (of Luo et al., 2025,
arXiv 2503.12811). The law is fitted to a constant rate and one other schedule, and must predict all the rest. The
baseline is the same law without its annealing term, a power law in the sum of the learning rates; the rival, given a
third curve as by its authors, is the multi-power law.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from limbeck.fitting import Fit
from limbeck.laws import Annealing, Schedule, fit, multi_power
from limbeck.laws.annealing import TISSUE
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series
from limbeck.papers._data import run_table
from limbeck.planning import best_decay
from limbeck.runs import RunTable, read_runs

SIZES = ("25M", "100M", "400M")
FLAT, SHOWN, DROP = "constant_24000", "wsdld_20000_24000", "wsdcon_9"
OTHERS = ("cosine_24000", "wsd_20000_24000", SHOWN, DROP, "cosine_72000")
TERMS = ("law", "no annealing", "law at the end")


class LrAnnealingLaw(Paper):
    """One model size per seed."""

    source = TISSUE
    claim = (
        "Two loss curves fit a law in two areas under the learning rate that predicts the loss under other schedules."
    )
    metric = "mean absolute error on unseen schedules, law without annealing minus law"
    unit = "mnat/token"
    baseline = "no annealing term"

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Fit a constant rate and one other curve of a size, with and without annealing; predict all the rest."""
        path, size = run_table("lr-schedule-curves/curves.csv"), SIZES[seed % len(SIZES)]
        table = synthetic_curves(seed) if path is None else read_runs(path, {"run": "schedule"}, where={"model": size})
        pairs, laws = {}, {}
        for other in OTHERS[: 1 if quick else None]:
            seen = table.filter({"run": [FLAT, other]})
            law = laws[other] = fit("annealing", seen, bootstrap=0)
            flat = fit(law.model, seen, bootstrap=0, fixed={"C": 0.0})
            unseen = [one for run, one in by_run(table) if run not in (FLAT, other)]
            off, without = ([np.abs(errors(way, one)) for one in unseen] for way in (law, flat))
            along = (float(np.mean([one.mean() for one in way])) for way in (off, without))
            pairs[other] = [*along, float(np.mean([one[-1] for one in off]))]
        three, rivals = [FLAT, OTHERS[0], DROP], {}
        rest = [one for run, one in by_run(table) if run not in three]
        for name in ("annealing", "multi-power"):
            law = fit(name, table.filter({"run": three}), bootstrap=0)
            rivals[name] = float(np.mean([np.abs(errors(law, one)).mean() for one in rest]))
        first, shown = laws[OTHERS[0]], table.filter({"run": SHOWN})
        return {
            "size": "synthetic" if path is None else size, "pairs": pairs, "parameters": first.parameters,
            "best decay": best_decay(first, 24000).value, "three curves": rivals,
            "curve": [shown.column("step").tolist(), shown.column("loss").tolist(), errors(first, shown).tolist()],
        }  # fmt: skip

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Average over the pairs of a size; sizes are the replicates."""
        means = np.array([[*one["pairs"].values()] for one in measured])  # [size, pair, term]
        law, flat, end = means.transpose(2, 0, 1)
        real, shares = measured[0]["size"] != "synthetic", [one["best decay"] for one in measured]
        at, loss, off = measured[0]["curve"]
        each = {name: [one["three curves"][name] for one in measured] for name in measured[0]["three curves"]}
        rivals = "; ".join(f"{name} {', '.join(f'{error:.4f}' for error in own)}" for name, own in each.items())
        kept = "pairs", "parameters", "best decay", "three curves"
        title = f"Two curves predict a linear decay to {1000 * np.abs(off).mean():.0f} mnat/token"
        series = Series("measured", at, loss), Series("law", at, np.add(loss, off), kind="line")
        return Outcome(
            effects=1000 * (flat - law).mean(1),
            checks={
                "constant + cosine: error at most 0.01 on every size": law[:, 0] <= 0.01,
                "constant + cosine: four times below no annealing": 4 * law[:, 0] <= flat[:, 0],
                "better than no annealing for every pair": law < flat,
            },
            details={one["size"]: {k: one[k] for k in kept} for one in measured},
            notes=[
                f"replicates are model sizes; numbers of a pair: {', '.join(TERMS)}",
                f"at the end of unseen schedules the error is {end.mean():.4f}, along them {law.mean():.4f}",
                f"by the law the best linear decay takes {min(shares):.0%} to {max(shares):.0%} of 24 000 steps",
                f"fitted to {DROP} too, {rivals}; multi-power by its authors 0.0038, 0.0044 and 0.0048"
                if real
                else "table absent (see LIMBECK_DATA): curves drawn from another law, no evidence",
            ],
            figure=Figure(title, "step", "loss, nats/token", series),
        )


def by_run(table: RunTable) -> list[tuple[str, RunTable]]:
    """Return the curves of a table with their names."""
    return [(run, table.filter({"run": run})) for run in table.frame["run"].unique(maintain_order=True)]


def errors(law: Fit, curve: RunTable) -> Any:
    """Return predicted minus measured loss along a curve."""
    assert isinstance(law.model, Annealing)
    there = law.model.prepare(curve)[1]
    return law.value(**{name: there.column(name) for name in law.model.columns}) - there.column("loss")


def synthetic_curves(seed: int) -> RunTable:
    """Draw curves of the multi-power law, which is not the law that is tested; 0.05 % noise."""
    rng, parts = np.random.default_rng(seed), []
    constants = {"L0": 2.8, "A": 0.6, "alpha": 0.45, "B": 400.0, "C": 1.0, "beta": 0.5, "gamma": 0.5}
    shapes = ("linear", 0.0), ("cosine", 1.0), ("exponential", 1 / 6), ("linear", 1 / 6), ("step", 0.5), ("cosine", 0.5)
    for run, (shape, decay) in zip((FLAT, *OTHERS), shapes, strict=True):
        rates = Schedule(24000, 3e-4, shape, 3e-5, 2160, decay).rates()
        at = np.arange(2176, 24000, 256)
        loss = multi_power(rates, at, constants) * np.exp(5e-4 * rng.standard_normal(len(at)))
        parts.append(pl.DataFrame({"run": run, "step": at, "lr": rates[at], "loss": loss}))
    return read_runs(pl.concat(parts))
