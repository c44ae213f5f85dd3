"""Unraveling the Mystery of Scaling Laws: steps to a loss are a hyperbola in the batch size, S = S_min + E_min / B.

A small network learns handwritten digits by plain gradient descent at eight batch sizes, the learning rate tuned for
each; what counts is the first step at which the held-out loss is below a target. The hyperbola must predict a batch
size that was left out, against the two ends of the trade: steps that do not depend on the batch, and steps that fall
as 1/B. The growth of the critical batch with falling loss is reported, not demanded: the task is too small to show it.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from scipy.optimize import nnls

from limbeck.fitting.model import Array
from limbeck.laws import Hyperbola
from limbeck.laws.batch import SU
from limbeck.papers import Figure, Outcome, Paper, Series
from limbeck.papers._data import shuffled_digits

BATCHES = (2, 4, 8, 16, 32, 64, 128, 256)
RATES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2, 1.6)
TARGETS = (1.2, 0.8, 0.5)
RULES = ("hyperbola", "constant", "1/B")


class UnravelingScalingLaws(Paper):
    """A network of one hidden layer of 48 on scikit-learn's digits."""

    source = SU
    claim = "Steps to a loss follow S = S_min (1 + B_crit / B): a few batch sizes tell what any other needs."
    metric = "error on a batch size left out: the better of constant steps and 1/B, minus the hyperbola"
    unit = "points"
    baseline = "constant, 1/B"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> list[tuple[int, list[float], list[float]]]:
        """Train every batch size with every rate; return the fewest steps to each target, and the rate that did it."""
        return [(batch, *first_steps(seed, batch)) for batch in (BATCHES[::2] if quick else BATCHES)]

    def conclude(self, measured: Sequence[list[tuple[int, list[float], list[float]]]]) -> Outcome:
        """Leave every batch size out of each seed; fit all of them to the mean over seeds."""
        batch = np.array([row[0] for row in measured[0]], float)
        steps = np.array([[row[1] for row in one] for one in measured])  # [seed, batch, target]
        errors = np.array([[left_out(batch, s) for s in one.T] for one in steps])  # [seed, target, rule]
        fits = [Hyperbola.through(batch, s) for s in steps.mean(0).T]
        worst = max(one.error for one in fits)
        edge = np.isin([row[2] for one in measured for row in one], (RATES[0], RATES[-1])).sum()
        growth = ", ".join(f"{one.critical_batch:.1f} at {target}" for target, one in zip(TARGETS, fits, strict=True))
        title = f"Steps to a loss are a hyperbola in the batch size, to {100 * worst:.0f} %"
        series, mean = [], errors.mean(0)
        for k, (target, one) in enumerate(zip(TARGETS, fits, strict=True)):
            series.append(Series.measured(f"loss {target}", batch, steps[:, :, k]))
            series.append(Series("S_min + E_min / B", batch, one.min_steps + one.min_tokens / batch, kind="line"))
        return Outcome(
            effects=100 * (errors[:, :, 1:].mean(1).min(1) - errors[:, :, 0].mean(1)),
            checks={
                "mean error of the hyperbola at most 15 % at every target": worst <= 0.15,
                "on a batch left out at most half of either baseline": 2 * mean[:, 0] <= mean[:, 1:].min(1),
            },
            details={
                "batch": batch, "steps": dict(zip(map(str, TARGETS), steps.mean(0).T, strict=True)),
                "fits": [asdict(one) for one in fits],
                "error on a batch left out": dict(zip(RULES, mean.mean(0), strict=True)),
            },
            notes=[
                f"critical batch in examples: {growth}; its growth with falling loss is not demanded here",
                f"best rate at an edge of the grid in {edge} of {steps.size} cases",
            ],
            figure=Figure(title, "batch size, examples", "steps", series, log_x=True, log_y=True),
        )  # fmt: skip


def left_out(batch: Array, steps: Array) -> list[float]:
    """Return the mean relative error on a batch size left out, by relative least squares, of every rule."""
    terms = np.stack([np.ones_like(batch), 1 / batch], 1)
    errors = []
    for k in range(len(batch)):
        rows = np.delete(terms / steps[:, None], k, 0)
        least = [nnls(rows * use, np.ones(len(rows)))[0] * use for use in ((1, 1), (1, 0), (0, 1))]
        errors.append(np.abs(terms[k] @ np.array(least).T / steps[k] - 1))
    return [float(x) for x in np.mean(errors, 0)]


def first_steps(seed: int, batch: int) -> tuple[list[float], list[float]]:
    """Train all rates side by side on the same batches; return the first step below each target, and its rate."""
    rng = np.random.default_rng(seed)
    images, labels = shuffled_digits(rng)
    hot = np.eye(10)[labels]
    weights = [rng.normal(0, size**-0.5, (size, out)) for size, out in ((64, 48), (48, 10))]
    layers = [np.repeat(w[None], len(RATES), 0) for w in weights] + [np.zeros((len(RATES), 1, k)) for k in (48, 10)]
    rate = np.array(RATES)[:, None, None]

    def forward(x: Array) -> tuple[Array, Array]:
        hidden = np.maximum(x @ layers[0] + layers[2], 0)
        z = hidden @ layers[1] + layers[3]
        return hidden, z - np.logaddexp.reduce(z, -1, keepdims=True)

    steps: list[float] = []
    rates: list[float] = []
    for step in range(1, 5000):
        pick = rng.integers(0, 1400, batch)
        hidden, log_p = forward(images[pick])
        error = (np.exp(log_p) - hot[pick]) / batch
        back = error @ layers[1].swapaxes(1, 2) * (hidden > 0)
        for k, (left, right) in enumerate(((images[pick].T, back), (hidden.swapaxes(1, 2), error))):
            layers[k] -= rate * (left @ right)
            layers[k + 2] -= rate * right.sum(1, keepdims=True)
        loss = -(forward(images[1400:])[1] * hot[1400:]).sum(-1).mean(-1)
        while len(steps) < len(TARGETS) and loss.min() < TARGETS[len(steps)]:
            steps.append(float(step))
            rates.append(RATES[int(loss.argmin())])
        if len(steps) == len(TARGETS):
            return steps, rates
    raise RuntimeError(f"batch {batch} did not reach a loss of {TARGETS[-1]}")
