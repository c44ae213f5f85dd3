"""Superposition Yields Robust Neural Scaling: with all features represented, loss falls like 1/width whatever they are.

Toy autoencoders of 100 sparse features and 4 to 32 dimensions are trained on two frequency laws, p ∝ i^-1.5 and i^-0.5.
Weight decay pushes them into strong superposition (γ = -1) or into weak (γ = 0.5). In the strong regime both laws give
nearly the same exponent; in the weak one the loss is the tail of the frequencies.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import sem

from limbeck.laws import Trend
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.theory.superposition import LIU, frequencies, tail_loss, train_toy

FEATURES, WIDTHS, EXPONENTS, DECAYS = 100, (4, 8, 16, 32), (1.5, 0.5), (-1.0, 0.5)


class Superposition(Paper):
    """The toy model over two frequency laws, two weight decays and four widths, trained as one batch."""

    source = LIU
    claim = "In strong superposition loss falls about like 1/width for any frequencies; in weak it is their tail."
    metric = "exponent of loss in 1/m - 1/n, strong superposition minus tail formula, mean of two frequency laws"
    baseline = "tail formula"
    seeds = 10

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Train all models and return losses, represented shares and overlaps. A quick run has half the batch."""
        tables = [frequencies(FEATURES, a) for a in EXPONENTS]
        sweep = train_toy(tables, WIDTHS, DECAYS, steps=1500, batch=128 if quick else 256, seed=seed)
        trends = [[sweep.exponents(table, decay) for decay in (0, 1)] for table in (0, 1)]
        return {
            "loss": sweep.loss, "tail": sweep.tail, "represented": sweep.represented,
            "exponents": [[[trend.exponent for trend in pair] for pair in row] for row in trends],
            "overlap": [[one.relative for one in sweep.overlaps(table, 0)] for table in (0, 1)],
        }  # fmt: skip

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare exponents of the strong regime with those of the tail formula, then the weak regime with the formula.

        All numbers are [seed, frequency law, decay, width] until they are averaged.
        """
        loss, tail, kept, exponents, overlap = stacked(measured, "loss", "tail", "represented", "exponents", "overlap")
        m = np.array(WIDTHS, float)
        formula = [tail_loss(frequencies(FEATURES, a), WIDTHS) for a in EXPONENTS]
        predicted = [Trend.through(1 / m - 1 / FEATURES, values).exponent for values in formula]
        strong, weak = exponents[:, :, 0].mean(0), exponents[:, :, 1, 0].mean(0)
        share, angle, ratios = kept.mean(0), overlap.mean(0), loss[:, 0, 1] / tail[:, 0, 1]
        least, flat = ratios.mean(0) - 2 * sem(ratios), strong[:, 1]
        local = np.diff(-np.log(loss[:, 1, 1].mean(0))) / np.diff(np.log(m))
        few = np.abs(share[0, 1] - m / FEATURES)[:3]
        title = f"Strong superposition: exponents {flat[0]:.2f} and {flat[1]:.2f} for two frequency laws"
        curves = [
            Series.measured(f"{regime}, p ∝ i^-{a:g}", m, loss[:, table, decay])
            for table, a in enumerate(EXPONENTS)
            for decay, regime in enumerate(("strong", "weak"))
        ]
        for a, values in zip(EXPONENTS, formula, strict=True):
            curves.append(Series(f"tail formula, p ∝ i^-{a:g}", m, values, kind="line"))
        return Outcome(
            effects=(exponents[:, :, 0, 1] - predicted).mean(1),
            checks={
                "strong: all features are represented": share[:, 0] > 0.98,
                "strong: m times the mean square overlap lies in 0.7 to 2": (angle > 0.7) & (angle < 2),
                "strong: both exponents lie in 0.8 to 1.6": (flat > 0.8) & (flat < 1.6),
                "weak, p ∝ i^-1.5: m features of n are represented, within 0.05 of n, up to m = 16": few < 0.05,
                "weak, p ∝ i^-1.5: the exponent is 0.5 ± 0.25": abs(weak[0] - 0.5) < 0.25,
                "weak, p ∝ i^-1.5: loss within 30 % and 2 s.e. of the tail, to m = 16": least[:3] < 1.3,
                "weak, p ∝ i^-0.5: no power law, the local exponent grows with m": np.diff(local) > 0,
            },
            details={
                "widths": WIDTHS, "strong exponents in 1/m and in 1/m - 1/n": strong, "tail formula": predicted,
                "weak exponents in 1/m": weak, "represented, strong and weak": share,
                "m times the mean square overlap, strong": angle,
                "weak loss over tail formula, p ∝ i^-1.5": ratios.mean(0), "weak local exponents, p ∝ i^-0.5": local,
            },
            notes=[
                "m/n reaches 0.32, so interference falls like 1/m - 1/n; in 1/m alone the exponents look larger than 1",
                "training keeps some features that are rare and shortens all of them: weak losses lie above the tail",
            ],
            figure=Figure(title, "width m", "Σ (y - x)² over the features", curves, log_x=True, log_y=True),
        )  # fmt: skip
