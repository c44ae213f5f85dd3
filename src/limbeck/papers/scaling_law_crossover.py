"""From generalization to scaling: where curves cross, the winner of small runs loses, and an honest rule says so.

CLIP and MaMMUT are compared at 1e12 GFLOP from runs up to 2.5e10 GFLOP only (the authors' table, `LIMBECK_DATA`), where
the naive rule, the winner at the largest affordable scale, is always wrong. Simulated pairs of power laws measure
whether the probabilities are right and what choosing by them costs.
"""

from collections.abc import Sequence

import numpy as np

from limbeck.laws.law import SOURCES
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series
from limbeck.papers._recipes import CASES, frontiers
from limbeck.planning import LogRatio, compare_methods

AFFORDABLE, TARGET = 2.5e10, 1e12
RUNGS, PAIRS = 10.0 ** np.arange(5), 300


class ScalingLawCrossover(Paper):
    """Two recipes from small runs only, one data set and benchmark per seed."""

    source = SOURCES["xiao-2024"]
    claim = "Curves of methods cross: small runs alone pick the wrong one, and weak evidence must give no verdict."
    metric = "probability given to the recipe that wins at 1e12 GFLOP, ours minus that of the naive rule"
    baseline = "largest scale run"
    seeds = len(CASES)

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Compare from small runs and from all runs in one case; simulate pairs of power laws."""
        count = 150 if quick else 400
        case, small = frontiers(seed, AFFORDABLE)
        early = compare_methods(small, TARGET, bootstrap=count, seed=seed)
        late = compare_methods(frontiers(seed)[1], TARGET, bootstrap=count, seed=seed)
        winner, given = int(np.argmin(late.targets[0].regret)), early.targets[0].second_better or 0.0
        return {
            "case": case, "winner": late.names[winner], "P(winner)": float(given if winner else 1 - given),
            "verdict": early.targets[0].verdict, "naive": early.naive, "simulated": simulate(seed),
        }  # fmt: skip

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Check verdicts in every case, and the probabilities of all simulated pairs."""
        p, right, ours, naive = np.concatenate([one["simulated"] for one in measured]).T
        bins = np.linspace(0.5, 1.0, 6)[:-1]
        shares = [right[(p >= low) & (p < low + 0.1)].mean() for low in bins]
        title = f"Of simulated verdicts with P from 0.8 to 0.9, {100 * shares[3]:.0f} % are right"
        axes = "probability of the better method", "share of verdicts that are right"
        calibrated = Series("calibrated", [0.5, 1.0], [0.5, 1.0], kind="line")
        series = Series("simulated pairs", bins + 0.05, shares), calibrated
        return Outcome(
            effects=[one["P(winner)"] - (one["naive"] == one["winner"]) for one in measured],
            checks={
                "the naive rule picks the loser in every case": [one["naive"] != one["winner"] for one in measured],
                "the loser is never preferred": [one["verdict"] in (one["winner"], "undecided") for one in measured],
                "of verdicts with P 0.8 to 0.9, 72 to 96 % are right": 0.72 <= shares[3] <= 0.96,
                "choosing by probability costs no more than the naive rule": ours.mean() <= naive.mean(),
            },
            details={one["case"]: {k: one[k] for k in ("winner", "P(winner)", "verdict", "naive")} for one in measured}
            | {"share right by P": shares, "mean regret": ours.mean(), "naive regret": naive.mean()},
            notes=[
                "no seeds: the replicates are two data sets by two benchmarks",
                "two recipes of vision-language models, not the language models of the paper",
            ],
            figure=Figure(title, *axes, series),
        )


def simulate(seed: int) -> list[tuple[float, bool, float, float]]:
    """Return P, whether the choice was right, and the regret of our choice and of the naive one, for pairs of laws.

    Five rungs a decade apart, 1 % noise, target a decade beyond.
    """
    rng, far, rows = np.random.default_rng(seed), 10 * RUNGS[-1], []
    for _ in range(PAIRS):
        a, p = rng.uniform(5, 20), rng.uniform(0.05, 0.15)
        b, q = a * np.exp(rng.normal(0, 0.02)), p + rng.normal(0, 0.002)
        ratio = np.log(a / b) + (q - p) * np.log(RUNGS) + rng.normal(0, 0.01 * 2**0.5, len(RUNGS))
        first = float(LogRatio.through(np.log(RUNGS), ratio).first_better(np.log(far)))
        gap = a * far**-p - b * far**-q  # positive: the second is better
        ours, naive = first > 0.5, ratio[-1] < 0
        regret = [max(0.0, gap if chosen else -gap) for chosen in (ours, naive)]
        rows.append((max(first, 1 - first), ours == (gap < 0), *regret))
    return rows
