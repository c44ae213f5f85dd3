"""Scaling Law with Learning Rate Annealing: two loss curves predict the whole curve under schedules never run.

Curves of language models of 25 M, 100 M and 400 M parameters under nine learning-rate schedules (of Luo et al., 2025,
arXiv 2503.12811). The law is fitted to a constant rate and one other schedule, and must predict all the rest. The
baseline is the same law without its annealing term, a power law in the sum of the learning rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from limbeck.fitting import Fit
from limbeck.laws import Schedule, annealed, fit, multi_power
from limbeck.laws.annealing import TISSUE
from limbeck.papers._data import run_table
from limbeck.papers._figure import Figure, Series
from limbeck.papers._paper import Outcome, Paper
from limbeck.planning import best_decay
from limbeck.runs import RunTable, read_runs

SIZES = ("25M", "100M", "400M")
FLAT = "constant_24000"
OTHERS = ("cosine_24000", "wsd_20000_24000", "wsdld_20000_24000", "wsdcon_9", "cosine_72000")
MULTI_POWER = {"25M": 0.0038, "100M": 0.0044, "400M": 0.0048}
"""Mean absolute error of the multi-power law (seven parameters) on these curves, from its authors' repository."""


class LrAnnealingLaw(Paper):
    """One model size per seed."""

    slug = "lr-annealing-law"
    source = TISSUE
    claim = (
        "A law in two areas under the learning rate, fitted to two curves, predicts the loss under any other schedule."
    )
    metric = "mean absolute error on unseen schedules, law without annealing minus law"
    unit = "mnat/token"
    baseline = "no annealing term"

    def measure(self, seed: int, quick: bool) -> dict[str, Any]:
        """Fit pairs of curves of one size and predict the other schedules."""
        path = run_table("lr-schedule-curves/curves.csv")
        size = SIZES[seed % len(SIZES)]
        table = synthetic_curves(seed) if path is None else read_runs(path, {"run": "schedule"}, where={"model": size})
        pairs = {other: self.pair(table, other) for other in OTHERS[: 1 if quick else None]}
        first = fit("annealing", table.filter({"run": [FLAT, OTHERS[0]]}), bootstrap=0)
        alone = fit("annealing", table.filter({"run": OTHERS[0]}), bootstrap=0)
        return {
            "size": "synthetic" if path is None else size,
            "pairs": pairs,
            "parameters": first.parameters | {"momentum": first.model.momentum},  # type: ignore[attr-defined]
            "fitted to one cosine": float(np.mean([*errors(alone, table, OTHERS[0]).values()])),
            "best linear decay": best_decay(first, 24000).value,
            "checkpoints": checkpoint_errors(first, table),
            "curve": list(curves(first, table)["wsdld_20000_24000"].values()),
        }

    def pair(self, table: RunTable, other: str) -> dict[str, float]:
        """Fit one pair with and without annealing; return mean errors on the rest, and at the ends."""
        seen = table.filter({"run": [FLAT, other]})
        law = fit("annealing", seen, bootstrap=0)
        flat = fit(law.model, seen, bootstrap=0, fixed={"C": 0.0})
        ends = [abs(one["law"][-1] / one["loss"][-1] - 1) for one in curves(law, table, FLAT, other).values()]
        with_term, without = (float(np.mean([*errors(one, table, FLAT, other).values()])) for one in (law, flat))
        return {"law": with_term, "no annealing": without, "at the end": float(np.mean(ends))}

    def conclude(self, measured: Sequence[dict[str, Any]]) -> Outcome:
        """Average over the pairs of a size; sizes are the replicates."""
        law, flat = (
            np.array([np.mean([pair[kind] for pair in m["pairs"].values()]) for m in measured])
            for kind in ("law", "no annealing")
        )
        first = [m["pairs"][OTHERS[0]] for m in measured]
        pairs = [pair for m in measured for pair in m["pairs"].values()]
        shares = [m["best linear decay"] for m in measured]
        real = measured[0]["size"] != "synthetic"
        raw, by_area, by_law = np.mean([m["checkpoints"] for m in measured], axis=(0, 1))
        at, loss, line = measured[0]["curve"]
        notes = [
            "the replicates are model sizes, each with its mean over pairs of fitted curves",
            f"by the law the best linear decay takes {min(shares):.0%} to {max(shares):.0%} of 24 000 steps",
            f"at the end of unseen schedules the error is {np.mean([p['at the end'] for p in pairs]):.2%}",
            f"checkpoints as final losses are off by {raw:.3f}, corrected by S2 alone by {by_area:.3f}, by the whole "
            f"law by {by_law:.3f}: a decay shortens S1 too",
            f"multi-power law, by its authors: {[MULTI_POWER[m['size']] for m in measured]}"
            if real
            else "table absent (see LIMBECK_DATA): curves drawn from another law, no evidence",
        ]
        return Outcome(
            effects=1000 * (flat - law),
            checks={
                "constant + cosine: error at most 0.01 on every size": max(p["law"] for p in first) <= 0.01,
                "constant + cosine: four times below no annealing": all(
                    4 * p["law"] <= p["no annealing"] for p in first
                ),
                "better than no annealing for every pair": all(p["law"] < p["no annealing"] for p in pairs),
            },
            details={m["size"]: {k: v for k, v in m.items() if k not in ("size", "curve")} for m in measured},
            notes=notes,
            figure=Figure(
                f"Two curves predict a linear decay to {1000 * np.abs(np.subtract(line, loss)).mean():.0f} mnat/token",
                "step",
                "loss, nats/token",
                (Series("measured", at, loss), Series("law", at, line, kind="line")),
            ),
        )


def curves(law: Fit, table: RunTable, *seen: str) -> dict[str, dict[str, list[float]]]:
    """Return step, measured and predicted loss of every schedule that was not fitted."""
    frame = law.model.prepare(table)[1].frame  # type: ignore[attr-defined]
    frame = frame.with_columns(law=law.value(S1=frame["S1"].to_numpy(), S2=frame["S2"].to_numpy()))
    rest = frame.filter(~pl.col("run").is_in(seen)).partition_by("run")
    return {one["run"][0]: {name: one[name].to_list() for name in ("step", "loss", "law")} for one in rest}


def errors(law: Fit, table: RunTable, *seen: str) -> dict[str, float]:
    """Return the mean absolute error of every schedule that was not fitted."""
    return {
        run: float(np.abs(np.subtract(one["law"], one["loss"])).mean())
        for run, one in curves(law, table, *seen).items()
    }


def checkpoint_errors(law: Fit, table: RunTable) -> list[tuple[float, float, float]]:
    """Return how far checkpoints are from the final loss of a run that ended there: raw, by S2 alone, by the law."""
    found = []
    for run, shape, decay, final in (
        (FLAT, "linear", 1 / 6, "wsdld_20000_24000"),
        ("cosine_72000", "cosine", 1.0, "cosine_24000"),
    ):
        there = table.filter({"run": final}).frame[-1]
        step = there["step"].item()
        near = table.filter({"run": run})
        one = annealed(law, near, decay=decay, shape=shape, end=3e-5)
        at = int(np.abs(one.column("step") - step).argmin())
        raw, corrected = one.column("raw_loss")[at], one.column("loss")[at]
        imagined = law.model.columns_of(Schedule(int(step) + 1, 3e-4, shape, 3e-5, 2160, decay).rates())  # type: ignore[attr-defined]
        area = law.parameters["C"] * (imagined["S2"][-1] - one.column("S2")[at])
        found.append(tuple(abs(float(x) - there["loss"].item()) for x in (raw, raw - area, corrected)))
    return found


def synthetic_curves(seed: int) -> RunTable:
    """Draw curves of the multi-power law, which is not the law that is tested; 0.05 % noise."""
    rng, parts = np.random.default_rng(seed), []
    for run, steps, shape, decay, end in (
        (FLAT, 24000, "linear", 0.0, 3e-5),
        ("cosine_24000", 24000, "cosine", 1.0, 3e-5),
        ("wsd_20000_24000", 24000, "exponential", 1 / 6, 3e-5),
        ("wsdld_20000_24000", 24000, "linear", 1 / 6, 3e-5),
        ("wsdcon_9", 16000, "step", 0.5, 9e-5),
        ("cosine_72000", 72000, "cosine", 1.0, 3e-5),
    ):
        rates = Schedule(steps, 3e-4, shape, end, 2160, decay).rates()
        at = np.arange(2176, steps, 256)
        loss = multi_power(rates, at, L0=2.8, A=0.6, alpha=0.45, B=400.0, C=1.0, beta=0.5, gamma=0.5)
        loss = loss * np.exp(5e-4 * rng.standard_normal(len(at)))
        parts.append(pl.DataFrame({"run": run, "step": at, "lr": rates[at], "loss": loss}))
    return read_runs(pl.concat(parts))
