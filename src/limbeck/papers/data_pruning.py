"""Beyond neural scaling laws, data pruning: keep the hard examples of a large pool, the easy ones of a small one.

Handwritten digits are ranked by EL2N, out of fold, and by their distance to k-means prototypes; logistic regression
learns from the hardest, the easiest or random 30 % of a pool of 1300 and of one of 100. Simulated max-margin
perceptrons of 120 dimensions are set beside the exact curves.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import sem

from limbeck.fitting.model import Array
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._data import shuffled_digits
from limbeck.theory import el2n, max_margin, out_of_fold, prototype_distance, prune, pruned_perceptron
from limbeck.theory.perceptron_pruning import SORSCHER

POOLS, FRACTION = (1300, 100), 0.3
RANKINGS = ("EL2N", "prototypes")
WAYS = ("EL2N hard", "EL2N easy", "prototypes hard", "prototypes easy", "random", "all")
CELLS = ((2, 0.3, 0, "hard"), (1, 0.3, 0, "hard"), (1, 0.3, 0, "easy"), (3, 0.4, 20, "hard"), (2, 1.0, 0, "random"))
"""Kept examples per dimension, kept share, angle in degrees and policy of the simulated perceptrons."""


class DataPruning(Paper):
    """Digits pruned by two rankings, and perceptrons beside their theory."""

    source = SORSCHER
    claim = (
        "From a large pool the hard examples teach more than as many random ones; from a small one the easy ones teach "
        "more than the hard ones."
    )
    metric = f"test error with {FRACTION:.0%} of 1300 examples at random minus with the hardest by EL2N"
    unit = "points"
    baseline = "random subset"
    extras = ("vision",)
    seeds = 8

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return the test error of every way to keep examples of each pool, and of each simulated perceptron."""
        return {
            "digits": [digits(seed, pool) for pool in POOLS],
            "perceptrons": [simulate(seed, *cell, draws=1 if quick else 4) for cell in CELLS],
        }

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Pair the ways by seed; the perceptrons must agree with the exact curves within their noise."""
        errors, simulated = stacked(measured, "digits", "perceptrons")  # [seed, pool, way], [seed, cell]
        large, small = (dict(zip(WAYS, errors[:, k].T, strict=True)) for k in (0, 1))
        alpha, fraction, degrees = np.array([cell[:3] for cell in CELLS]).T
        exact = pruned_perceptron(alpha, fraction, np.radians(degrees), [cell[3] for cell in CELLS]).error
        noise = sem(simulated)
        away = np.abs(simulated.mean(0) - exact) / noise
        pool = np.geomspace(1, 30, 25)
        curves = {way: pruned_perceptron(0.5 * pool, 0.5, keep=way).error for way in ("hard", "easy", "random")}
        flips = pool[np.flatnonzero(np.diff(np.sign(curves["easy"] - curves["hard"])))]
        crossing = len(flips) == 1 and 4.5 < flips[0] < 5.5
        harm = {score: [d[f"{score} easy"] - d[f"{score} hard"] for d in (large, small)] for score in RANKINGS}
        title = "A small pool wants its easy half kept, a large one its hard half"
        axes = "examples in the pool per dimension", "exact test error of a perceptron, half of the pool kept"
        lines = [Series(name, pool, curve, kind="line") for name, curve in curves.items()]

        def says(way: str, errors: dict[str, Array], other: str = "random") -> str:
            gains = 100 * (errors[other] - errors[way])
            return f"{way}: {gains.mean():+.1f} ± {sem(gains):.1f} points"

        return Outcome(
            effects=100 * (large["random"] - large["EL2N hard"]),
            checks={
                "large pool: hard beats easy by both rankings": [harm[score][0].mean() > 0 for score in RANKINGS],
                "small pool: easy beats hard by prototypes": harm["prototypes"][1].mean() < 0,
                "simulated perceptrons are within 3 standard errors of the exact error": away < 3,
                "exact curves of hard and easy at a half cross once, near 5 examples per dimension": crossing,
            },
            details={
                "pools": POOLS, "error": dict(zip(WAYS, errors.mean(0).T, strict=True)),
                "standard error": dict(zip(WAYS, sem(errors).T, strict=True)), "perceptrons": CELLS,
                "simulated": simulated.mean(0), "standard error of simulated": noise, "exact": exact,
            },
            notes=[
                f"gain over random examples, {says('prototypes hard', large)} with 1300; "
                f"{says('EL2N easy', small)} and {says('prototypes easy', small)} with 100",
                f"gain of easy over hard with 100, {says('EL2N easy', small, 'EL2N hard')}; "
                + says("prototypes easy", small, "prototypes hard"),
                "the finite perceptrons have 120 dimensions, the exact curves infinitely many",
            ],
            figure=Figure(title, *axes, lines, log_x=True, log_y=True),
        )  # fmt: skip


def digits(seed: int, size: int) -> list[float]:
    """Return the test error after each way of keeping examples, in the order of `WAYS`."""
    from sklearn.linear_model import LogisticRegression

    images, labels = shuffled_digits(np.random.default_rng(seed))
    x, y, test = images[:size], labels[:size], slice(max(POOLS), None)
    scores = (el2n(out_of_fold(x, y, seed=seed), y), prototype_distance(x, seed=seed))
    kept = [prune(score, FRACTION, keep, seed=seed) for score in scores for keep in ("hard", "easy")]
    kept += [prune(scores[0], FRACTION, "random", seed=seed), np.arange(size)]
    models = [LogisticRegression(C=10, max_iter=1000).fit(x[rows], y[rows]) for rows in kept]
    return [float(np.mean(model.predict(images[test]) != labels[test])) for model in models]


def simulate(seed: int, alpha: float, fraction: float, degrees: float, keep: str, draws: int) -> float:
    """Return the mean test error of max-margin perceptrons of 120 dimensions."""
    rng, size, angle, errors = np.random.default_rng([seed, 1]), 120, np.radians(degrees), []
    for _ in range(draws):
        x = rng.standard_normal((round(alpha / fraction * size), size))  # the teacher is the first axis
        difficulty = -np.abs(np.cos(angle) * x[:, 0] + np.sin(angle) * x[:, 1])
        kept = x[prune(difficulty, fraction, keep)]
        errors.append(np.arccos(max_margin(kept * np.sign(kept[:, :1]))[0]) / np.pi)
    return float(np.mean(errors))
