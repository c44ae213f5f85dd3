"""Even your Teacher Needs Guidance: ground truth among the targets dampens what self-distillation regularises.

Kernel ridge regression on 150 patients of scikit-learn's diabetes data is distilled into itself, up to nine times, with
a weight of 0, of 0.3 or of the best value on the ground truth. The round is chosen on 110 patients, as is the ridge of
the competitor that is never distilled; errors are of the other 182.

Then networks: 300 digits, of which three in ten have a drawn label, train a perceptron that learns them too well. It is
distilled into itself for four rounds, beside the kernel path of its last layer, whose ridge gives its training error.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.theory import kernel_ridge, rbf, self_distill
from limbeck.theory.kernel_self_distillation import BORUP

RIDGES, WAYS = (1e-3, 1e-2, 1e-1, 1.0), {"α = 0": 0.0, "α = 0.3": 0.3, "best α": None}
TRAIN, VALIDATION, GAMMA = 150, 110, 0.02
ALPHAS, DECAYS, NOISE, ROUNDS = (0.0, 0.3), (1e-4, 3e-4, 1e-3, 3e-3), 0.3, 4


class SelfDistillationKernel(Paper):
    """Four ridges, three weights of the ground truth, ridge regression with its ridge tuned; networks on digits."""

    source = BORUP
    claim = "Self-distillation regularises an under-regularised teacher, and ground-truth targets dampen it."
    metric = "test error of the teacher minus that of its best self-distillation (α = 0), ridge 0.001"
    unit = "variances"
    baseline = "the teacher"
    extras = ("vision",)
    seeds = 8

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return what kernel regression and what networks give."""
        return {"errors": self.kernels(seed), **networks(seed, *((260, 2) if quick else (500, ROUNDS)))}

    def kernels(self, seed: int) -> list[list[float]]:
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

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare every way with the teacher it starts from and with tuned ridge regression."""
        # errors: [seed, ridge, teacher and ways and tuned]
        errors, right, path, grid, found, hits = stacked(measured, "errors", "right", "path", "grid", "found", "tuned")
        gained, shown, regret = right[:, 0, -1] - right[:, 0, 0], path.mean(0), found[:, 1] - grid.min(1)
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
                "networks: rounds without labels raise the accuracy": gained.mean() > 2 * sem(gained),
                "networks: labels dampen that": right[:, 0, -1].mean() > right[:, 1, -1].mean() > right[:, 0, 0].mean(),
                "their kernel path says both": shown[0, -1] > shown[1, -1] > shown[0, 0],
                "networks: the estimated α costs at most 0.002 of squared error": regret.mean() < 2e-3,
            },
            details={
                "ridges": RIDGES, "error": dict(zip(names, mean.T, strict=True)),
                "standard error": dict(zip(names, sem(errors).T, strict=True)),
                "networks: accuracy by round, α = 0 and 0.3": right.mean(0), "its standard error": sem(right),
                "kernel path": shown, "tuned decay": [hits.mean(), sem(hits)], "regret": [regret.mean(), sem(regret)],
                "estimated α and its error": found, "errors of α = 0, 0.3, 0.6, 1": grid,
            },
            notes=[
                f"ridge regression that is merely tuned on the same patients has an error of {tuned[0]:.3f}, the best "
                f"distillation from any ridge {mean[:, 1:4].min():.3f}: distilling is a way to tune the ridge here",
                f"networks: from {right[:, 0, 0].mean():.3f} to {right[:, 0, -1].mean():.3f} without labels, to "
                f"{right[:, 1, -1].mean():.3f} with α = 0.3; labels alone with the weight decay that validation "
                f"accuracy prefers {hits.mean():.3f}",
            ],
            figure=Figure(title, *axes, series, log_x=True),
        )  # fmt: skip


def networks(seed: int, steps: int, rounds: int) -> Numbers:
    """Return test accuracies of networks and of their kernel path, and how the estimate of α does in one round."""
    import torch

    from limbeck.vision import Network, Regime, distill_generations, probabilities, read_data

    learn, rest = read_data("digits").split(seed, 0.8, per_class=30)
    valid, test = rest.split(seed, 0.6)
    rng, size = np.random.default_rng(seed), len(learn)
    labels = np.where(rng.random(size) < NOISE, rng.integers(10, size=size), learn.labels)
    noisy = replace(learn, labels=torch.from_numpy(labels))

    def run(alpha: Any, rounds: int = 1, decay: float = DECAYS[0]) -> Any:
        regime = Regime(steps, learning_rate=3e-3, weight_decay=decay)
        return distill_generations(
            lambda number: Network((128,)).build([1, 8, 8], 10, seed), noisy, valid=valid, test=test, rounds=rounds,
            alpha=alpha, decays=(), regime=regime, seed=seed, progress=False,
        )  # fmt: skip

    paths = [run(alpha, rounds) for alpha in ALPHAS]
    first, truth = paths[0].students[0], np.eye(10)[labels] - 0.1
    x, new = (first[:-1](one.inputs).detach().double().numpy() for one in (noisy, test))
    model, ridges = kernel_ridge(x, truth, 1.0), np.logspace(-6, 3, 91)
    residual = ((model.predict(x, model.ridge_filter(ridges)) - truth) ** 2).mean((1, 2))
    own = ((probabilities(first, noisy) - 0.1 - truth) ** 2).mean()
    model = replace(model, ridge=float(ridges[np.abs(residual - own).argmin()]))
    shrunk = [model.predict(new, model.filters([1.0] + [alpha] * rounds)) for alpha in ALPHAS]
    found, others = run("estimate").generations[1], [*paths, run(0.6)]
    decayed = [run((), 0, decay) for decay in DECAYS]
    hits = [(probabilities(one.student, valid).argmax(-1) == valid.labels.numpy()).mean() for one in decayed]
    return {
        "right": [[one.judged.student.accuracy for one in path.generations] for path in paths],
        "path": [(one.argmax(-1) == test.labels.numpy()).mean(-1) for one in shrunk],
        "grid": [one.distance for one in (*(each.generations[1] for each in others), paths[0].generations[0])],
        "found": [found.weight, found.distance],
        "tuned": decayed[int(np.argmax(hits))].generations[0].judged.student.accuracy,
    }
