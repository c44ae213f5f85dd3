"""Scaling laws for robust comparison: two recipes are compared by their curves, not at one affordable scale.

Frontiers of CLIP and MaMMUT, from the authors' table (`LIMBECK_DATA`), on two data sets by two benchmarks. Below 1e10
GFLOP every comparison picks CLIP; the curves cross later, and at 1e12 GFLOP MaMMUT is better. Simulated tables measure
how often the band of a curve covers it, and how often one of the width that the authors' code draws does.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.special import stdtrit

from limbeck.fitting import fit as fit_model
from limbeck.laws import NEZHURINA_2025, ShiftedPower, fit
from limbeck.laws.saturation import NEZHURINA
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._recipes import CASES, frontiers
from limbeck.planning import compare_methods

SMALL, TARGETS = 1e10, (1e10, 1e11, 1e12)
CUT = 2.5e11


class RobustComparisonClipMammut(Paper):
    """Two recipes on two data sets by two benchmarks, one pair per seed."""

    source = NEZHURINA
    claim = "Recipes whose order at one small scale is wrong are told apart by the curves of their frontiers."
    metric = "error at 1e12 GFLOP of the recipe that wins below 1e10 minus that of the one that the curves pick"
    unit = "points"
    baseline = "one small scale"
    seeds = len(CASES)

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Compare both recipes in one case; fit below a cut and test above it; cover one curve of simulated tables."""
        case, runs = frontiers(seed)
        found = compare_methods(runs, TARGETS, bootstrap=150 if quick else 400, seed=seed, level=0.95)
        small = [one["error"].filter(one["flops"] <= SMALL).to_numpy().min() for one in runs.values()]
        loss = [estimate.value for estimate in found.targets[-1].loss]
        naive, picked = int(np.argmin(small)), int(np.argmin(found.targets[-1].regret))
        return {
            "case": case, "naive": found.names[naive], "gain": 100 * (loss[naive] - loss[picked]),
            "P(MaMMUT)": [target.second_better for target in found.targets],
            "crossing": asdict(found.crossing[0]) if found.crossing[0] else {"value": 0.0},
            "held out": {name: held_out(one) for name, one in runs.items()},
            "covered": coverage(seed, 30 if quick else 100),
            "runs": {name: one.to_dict(as_series=False) for name, one in runs.items()},
            "curves": dict(zip(found.names, found.curves(GRID)[:, 0].tolist(), strict=True)),
        }  # fmt: skip

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Check crossings, probabilities and coverage in every case."""
        chance, covers, gains = stacked(measured, "P(MaMMUT)", "covered", "gain")
        places = np.array([one["crossing"]["value"] for one in measured])
        first, covered = measured[0], covers.mean(0)
        points = [Series(name, runs["flops"], runs["error"]) for name, runs in first["runs"].items()]
        laws = [Series(f"{name}, law", GRID, curve, kind="line") for name, curve in first["curves"].items()]
        title = f"{first['case']}: the curves cross at {places[0]:.2g} GFLOP, beyond what one small scale shows"
        return Outcome(
            effects=gains,
            checks={
                "below 1e10 GFLOP every comparison picks CLIP": [one["naive"] == "clip" for one in measured],
                "all crossings lie in 1e10 to 3e11 GFLOP": (places > 1e10) & (places < 3e11),
                "P(MaMMUT better) < 0.05 at 1e10 GFLOP": chance[:, 0] < 0.05,
                "P(MaMMUT better) > 0.85 at 1e12 GFLOP": chance[:, 2] > 0.85,
                "the 95 % band covers the curve in 90 to 99 % of simulated tables": 0.9 <= covered[0] <= 0.99,
            },
            details={"coverage of our 95 % band": covered[0], "of the published width": covered[1]}
            | {one["case"]: {k: one[k] for k in ("crossing", "P(MaMMUT)", "held out")} for one in measured},
            notes=[
                "no seeds: the replicates are two data sets by two benchmarks",
                f"a band as wide as the authors' code draws it (ln t for t) covers {100 * covered[1]:.0f} % at 95 %",
            ],
            figure=Figure(title, "compute, GFLOP", "error", points + laws, log_x=True, log_y=True),
        )


GRID = np.geomspace(1e7, 4e12, 60)
FORMS: dict[str, dict[str, float]] = {"floor": {}, "no floor": {"E": 0.0}, "power": {"E": 0.0, "x0": 0.0}}


def held_out(runs: Any) -> dict[str, float]:
    """Return the root mean square error of each form above the cut, fitted below it; none where no run is larger."""
    below, above = runs.filter(runs["flops"] <= CUT), runs.filter(runs["flops"] > CUT)
    errors: dict[str, float] = {}
    for name, held in FORMS.items() if len(above) else ():
        law = fit(ShiftedPower(), below, fixed=held, bootstrap=0)
        missed = law.value(flops=above["flops"].to_numpy()) - above["error"].to_numpy()
        errors[name] = float(np.sqrt(np.mean(missed**2)))
    return errors


def coverage(seed: int, tables: int) -> list[float]:
    """Return how often our 95 % band and one of the published width hold the true curve of a simulated table."""
    rng, x, at = np.random.default_rng(seed), np.geomspace(1e7, 1e12, 20), 3e9
    truth, t = NEZHURINA_2025["clip"], float(stdtrit(16, 0.975))
    inside = []
    for _ in range(tables):
        error = truth.value(flops=x) + rng.normal(0, 0.005, len(x))
        law = fit_model(ShiftedPower(), {"flops": x}, error, loss=ShiftedPower.preferred_loss, bootstrap=0)
        lower, upper = (float(end[0]) for end in law.confidence(0.95, flops=at))
        off = abs(float(truth.value(flops=at)) - (lower + upper) / 2)
        inside.append((off <= (upper - lower) / 2, off <= (upper - lower) / 2 * math.log(t) / t))
    return list(map(float, np.mean(inside, axis=0)))
