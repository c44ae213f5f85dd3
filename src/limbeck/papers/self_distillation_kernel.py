"""Even your Teacher Needs Guidance: ground truth among the targets dampens what self-distillation regularises.

Kernel ridge regression on 150 patients of scikit-learn's diabetes data is distilled into itself, up to nine times, with
a weight of 0, of 0.3 or of the best value on the ground truth. The round is chosen on 110 patients, as is the ridge of
the competitor that is never distilled; errors are of the other 182.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import sem

from limbeck.papers import Figure, Outcome, Paper, Series
from limbeck.theory import kernel_ridge, rbf, self_distill
from limbeck.theory.kernel_self_distillation import BORUP

RIDGES, WAYS = (1e-3, 1e-2, 1e-1, 1.0), {"α = 0": 0.0, "α = 0.3": 0.3, "best α": None}
TRAIN, VALIDATION, GAMMA = 150, 110, 0.02


class SelfDistillationKernel(Paper):
    """Four ridges, three weights of the ground truth, and ridge regression with its ridge tuned."""

    source = BORUP
    claim = "Self-distillation regularises an under-regularised teacher, and ground-truth targets dampen it."
    metric = "test error of the teacher minus that of its best self-distillation (α = 0), ridge 0.001"
    unit = "variances"
    baseline = "the teacher"
    extras = ("vision",)
    seeds = 8

    def measure(self, seed: int, quick: bool) -> list[list[float]]:
        """Return the test error by ridge (rows): of the teacher, of every way to distil, of tuned ridge."""
        from sklearn.datasets import load_diabetes

        x, y = load_diabetes(return_X_y=True)
        order = np.random.default_rng(seed).permutation(len(y))
        own, seen, new = np.split(order, [TRAIN, TRAIN + VALIDATION])
        x, y = (x - x[own].mean(0)) / x[own].std(0), (y - y[own].mean()) / y[own].std()
        rows = []
        for ridge in RIDGES:
            model = kernel_ridge(x[own], y[own], ridge, rbf(GAMMA))
            found = [self_distill(model, x[seen], y[seen], alpha=alpha) for alpha in WAYS.values()]
            chosen = [model.filters(one.alphas)[one.best - 1] for one in found]
            filters = np.stack([model.filters([1.0])[0], *chosen, model.ridge_filter(found[0].tuned)])
            rows.append(((model.predict(x[new], filters)[..., 0] - y[new]) ** 2).mean(1).tolist())
        return rows

    def conclude(self, measured: Sequence[list[list[float]]]) -> Outcome:
        """Compare every way with the teacher it starts from and with tuned ridge regression."""
        errors = np.array(measured)  # [seed, ridge, teacher and ways and tuned]
        mean, names = errors.mean(0), ["teacher", *WAYS, "tuned ridge"]
        teacher, pure, mixed, greedy, tuned = mean.T
        gap, near = abs(greedy[2] - tuned[2]), max(sem(errors[:, 2, 4]), 1e-3)
        title = (
            f"At ridge 0.001 self-distillation lowers the error from {teacher[0]:.2f} to {pure[0]:.2f}; "
            f"tuning the ridge gives {tuned[0]:.2f}"
        )
        axes = "ridge of the teacher", "test error, variances of the target"
        series = [Series.measured(name, RIDGES, errors[:, :, k]) for k, name in enumerate(names)]
        return Outcome(
            effects=errors[:, 0, 0] - errors[:, 0, 1],
            checks={
                "ridge 0.001: ground truth dampens the effect": pure[0] < mixed[0] < teacher[0],
                "ridge 0.001 and 0.01: the best α is no worse than α = 0.3": greedy[:2] <= mixed[:2],
                "ridge 1: nothing is gained, within 0.01": abs(greedy[3] - teacher[3]) < 0.01,
                "ridge 0.1: the best α comes within a standard error of tuned ridge": gap <= near,
            },
            details={
                "ridges": RIDGES, "error": dict(zip(names, mean.T, strict=True)),
                "standard error": dict(zip(names, sem(errors).T, strict=True)),
            },
            notes=[
                f"ridge regression that is merely tuned on the same patients has an error of {tuned[0]:.3f}, the best "
                f"distillation from any ridge {mean[:, 1:4].min():.3f}: distilling is a way to tune the ridge here",
                "kernel regression only; deep nets are another experiment",
            ],
            figure=Figure(title, *axes, series, log_x=True),
        )  # fmt: skip
