"""Predicting emergent abilities with infinite resolution evaluation: tiny pass rates, measured, predict larger scales.

A task instance is 24 test digits, all of which a classifier must label right when it samples labels from its softmax:
one draw passes with a probability that is known exactly. Classifiers learn from 40 to 1300 digits. Pass rates up to 280
digits, from draws until the fifth pass, are fitted by exp(-(E + A D^-alpha)) and predict the rest; the baseline carries
the last rate forward.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.fitting.model import Array
from limbeck.laws import PassCounts, TaskCurve, draw_until, mle_mean, task_curve
from limbeck.laws.task_passes import HU
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

SAMPLES, FITTED = np.array([40, 60, 90, 130, 190, 280, 410, 600, 880, 1300]), 280
DIGITS, INSTANCES, MODELS, CAP = 24, 200, 4, 100_000
STEPS, RATE = 500, 4e-3
LAST = "last value"


class Passuntil(Paper):
    """Small classifiers of scikit-learn's digits, four trained side by side per seed."""

    source = HU
    claim = "Drawing until a task is passed measures tiny pass rates, and a law through them predicts larger models."
    metric = "mean absolute log error of the last rate carried forward minus that of the law with a floor"
    unit = "nats"
    baseline = LAST
    extras = ("distill", "vision")
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return the exact pass rate of every instance by training size, and its draws until the fifth pass."""
        sizes, rng = SAMPLES[[0, 2, 4, 5, 7, 9]] if quick else SAMPLES, np.random.default_rng(seed)
        rates = success(sizes, seed)
        counts = [[draw_until(coin(p, rng), cap=CAP, batch=4096) for p in row] for row in rates[sizes <= FITTED]]
        once = rng.random(rates.shape) < rates
        return {"sizes": sizes.tolist(), "rates": rates, "counts": np.array(counts), "once": once}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Fit the law to every seed and to all together, and predict the larger sizes."""
        sizes, floor = np.array(measured[0]["sizes"], float), "law with a floor"
        rates, counts, once = (np.concatenate([*values], 1) for values in stacked(measured, "rates", "counts", "once"))
        small, truth = sizes <= FITTED, rates.mean(1)
        each = [misses(sizes, one["rates"].mean(1), curve(sizes[small], one["counts"])) for one in measured]
        whole = curve(sizes[small], counts)
        miss = misses(sizes, truth, whole)
        unbiased = whole.rates / truth[small]
        ordinary = mle_mean(rates[small]).mean(1) / truth[small]
        title = f"Pass rates up to {FITTED} digits predict the rest to {100 * miss[floor]:.0f} %"
        series = [
            Series("exact", sizes, truth),
            Series("draws until the fifth pass", sizes[small], whole.rates),
            Series(floor, sizes, whole.fits[floor].value(samples=sizes), kind="dashed"),
        ]
        return Outcome(
            effects=[one[LAST] - one[floor] for one in each],
            checks={
                "the law with a floor errs by less than 0.2 nats": miss[floor] < 0.2,
                "and by less than half of what the law without one does": 2 * miss[floor] < miss["law"],
                "unbiased rates lie within 10 % of the truth from 1e-4": abs(unbiased - 1)[truth[small] >= 1e-4] < 0.1,
                "one pass per instance overstates every rate more than twice": ordinary > 2,
            },
            details={
                "samples": sizes, "pass rate": truth, "measured": whole.rates, "one draw each": once.mean(1),
                "bias of one pass": ordinary, "error": miss, "error by seed": each, "growth": whole.growth.verdict,
            },
            notes=[
                "without a floor the law does worse than carrying the last rate forward"
                if miss["law"] > miss[LAST]
                else "the law without a floor beats carrying the last rate forward too",
                "scale is training digits; 500 steps let the rates level off, and where they do not a floor misleads",
            ],
            figure=Figure(title, "training digits", "pass rate", series, log_x=True, log_y=True),
        )  # fmt: skip


def coin(rate: float, rng: np.random.Generator) -> Callable[[int], NDArray[np.bool_]]:
    """Return draws that pass at a rate: to sample 24 labels and compare them is to throw this coin."""
    return lambda number: rng.random(number) < rate


def curve(sizes: Array, counts: Array) -> TaskCurve:
    """Return the task curve of passes and draws [size, instance, 2]."""
    return task_curve(sizes, [PassCounts(row[:, 0], row[:, 1]) for row in counts], column="samples", bootstrap=0)


def misses(sizes: Array, truth: Array, found: TaskCurve) -> dict[str, float]:
    """Return the mean absolute log error of every forecast beyond the fitted sizes."""
    far = sizes > FITTED
    guesses = {name: law.value(samples=sizes[far]) for name, law in found.fits.items()}
    guesses["by instance"] = np.array([found.predict_instances(m).value for m in sizes[far]])
    guesses[LAST] = np.full(far.sum(), found.rates[-1])
    return {name: float(np.abs(np.log(guess / truth[far])).mean()) for name, guess in guesses.items()}


def success(sizes: Array, seed: int) -> Array:
    """Train `MODELS` classifiers of every size, each on its own digits, and return their exact pass rates.

    Returns:
        By size, then instances of all models, [size, model · instance].
    """
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    from limbeck.papers._training import descend, seeded

    count = MODELS * len(sizes)

    def build() -> nn.ParameterList:
        """As many MLPs of 24 hidden units as there are models, side by side: biases and weights of two layers."""
        return nn.ParameterList(torch.rand(count, a + 1, b) * 2 / a**0.5 - a**-0.5 for a, b in ((64, 24), (24, 10)))

    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(len(labels)) for _ in range(MODELS)] * len(sizes))  # nested training sets
    x, y = torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]
    rows = torch.arange(count)[:, None]

    def log_likelihood(chosen: torch.Tensor) -> Any:
        hidden = torch.relu(x[rows, chosen] @ first[:, 1:] + first[:, :1])
        logits = hidden @ second[:, 1:] + second[:, :1]
        return torch.log_softmax(logits, -1).gather(2, y[rows, chosen, None])[..., 0]

    model = seeded(build, seed)
    first, second = model.parameters()
    batches = torch.tensor((rng.random((STEPS, count, 128)) * np.repeat(sizes, MODELS)[:, None]).astype(int))
    descend(model, lambda batch: -log_likelihood(batch).mean(1).sum(), batches, learning_rate=RATE, weight_decay=0.3)
    with torch.no_grad():
        tested = log_likelihood(torch.arange(SAMPLES[-1], len(labels))).double().numpy()
    instances = np.stack([rng.choice(tested.shape[1], DIGITS, replace=False) for _ in range(INSTANCES)])
    return np.asarray(np.exp(tested[:, instances].sum(-1)).reshape(len(sizes), -1))
