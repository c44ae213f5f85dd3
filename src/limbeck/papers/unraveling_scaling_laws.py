"""Unraveling the Mystery of Scaling Laws: steps to a loss are a hyperbola in the batch size, S = S_min + E_min / B.

A small network learns handwritten digits by plain gradient descent at eight batch sizes, the learning rate tuned for
each; what counts is the first step at which the held-out loss is below a target. The hyperbola must predict a batch
size that was left out, against the two ends of the trade: steps that do not depend on the batch, and steps that fall
as 1/B. The growth of the critical batch with falling loss is reported, not demanded: the task is too small to show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.laws import Hyperbola
from limbeck.laws.batch import SU
from limbeck.papers._figure import Figure, Series
from limbeck.papers._paper import Outcome, Paper

Array = NDArray[np.float64]

BATCHES = (2, 4, 8, 16, 32, 64, 128, 256)
RATES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.2, 1.6)
TARGETS = (1.2, 0.8, 0.5)
RULES = ("hyperbola", "constant", "1/B")


class UnravelingScalingLaws(Paper):
    """A network of one hidden layer of 48 on scikit-learn's digits."""

    slug = "unraveling-scaling-laws"
    source = SU
    claim = "Steps to a loss follow S = S_min (1 + B_crit / B): a few batch sizes tell what any other needs."
    metric = "error on a batch size left out: the better of constant steps and 1/B, minus the hyperbola"
    unit = "points"
    baseline = "constant, 1/B"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> dict[str, Any]:
        """Train every batch size with every rate; return the fewest steps to each target, and the rate that did it."""
        found = [first_steps(seed, batch) for batch in (BATCHES[::2] if quick else BATCHES)]
        return {
            "batch": BATCHES[::2] if quick else BATCHES,
            "steps": [s for s, _ in found],
            "rate": [r for _, r in found],
        }

    def conclude(self, measured: Sequence[dict[str, Any]]) -> Outcome:
        """Leave every batch size out of each seed; fit all of them to the mean over seeds."""
        batch = np.array(measured[0]["batch"], float)
        steps = np.array([one["steps"] for one in measured], float)  # [seed, batch, target]
        errors = np.array([[left_out(batch, s) for s in one.T] for one in steps]).mean(1)  # [seed, rule]
        mean = steps.mean(0).T
        fits = [Hyperbola.through(batch, s) for s in mean]
        inside = np.array([one_term(batch, s) for s in mean])
        edge = sum(rate in (RATES[0], RATES[-1]) for one in measured for rates in one["rate"] for rate in rates)
        growth = [f"{one.critical_batch:.0f} at {target}" for target, one in zip(TARGETS, fits, strict=True)]
        line = np.geomspace(batch[0], batch[-1], 60)
        return Outcome(
            effects=100 * (errors[:, 1:].min(1) - errors[:, 0]),
            checks={
                "mean error of the hyperbola at most 15 % at every target": max(one.error for one in fits) <= 0.15,
                "at most half of that of either baseline": bool(
                    all(2 * one.error <= rest.min() for one, rest in zip(fits, inside, strict=True))
                ),
            },
            details={
                "batch": batch.tolist(),
                "steps": dict(zip(map(str, TARGETS), mean.tolist(), strict=True)),
                "min steps": [one.min_steps for one in fits],
                "min examples": [one.min_tokens for one in fits],
                "critical batch": [one.critical_batch for one in fits],
                "error": [one.error for one in fits],
                "error on a batch left out": dict(zip(RULES, errors.mean(0).tolist(), strict=True)),
            },
            notes=[
                f"critical batch in examples: {', '.join(growth)}; its growth with falling loss is not demanded here",
                f"best rate at an edge of the grid in {edge} of {steps.size} cases",
            ],
            figure=Figure(
                f"Steps to a loss are a hyperbola in the batch size, to {100 * max(one.error for one in fits):.0f} %",
                "batch size, examples",
                "steps",
                tuple(
                    series
                    for k, (target, one) in enumerate(zip(TARGETS, fits, strict=True))
                    for series in (
                        Series.measured(f"loss {target}", batch.tolist(), steps[:, :, k].tolist()),
                        Series(
                            "S_min + E_min / B",
                            line.tolist(),
                            (one.min_steps + one.min_tokens / line).tolist(),
                            kind="line",
                        ),
                    )
                ),
                log_x=True,
                log_y=True,
            ),
        )


def one_term(batch: Array, steps: Array) -> Array:
    """Return the mean relative error of the best constant and of the best 1/B, least squares on relative errors."""
    terms = np.stack([1 / steps, 1 / (batch * steps)])
    return np.asarray(np.abs(terms * (terms.sum(1) / (terms**2).sum(1))[:, None] - 1).mean(1))


def left_out(batch: Array, steps: Array) -> list[float]:
    """Return the mean relative error on a batch size left out, of the hyperbola, a constant and 1/B."""
    errors = []
    for k in range(len(batch)):
        b, s = np.delete(batch, k), np.delete(steps, k)
        one, terms = Hyperbola.through(b, s), np.stack([1 / s, 1 / (b * s)])
        constant, inverse = terms.sum(1) / (terms**2).sum(1)
        errors.append(
            np.array([one.min_steps + one.min_tokens / batch[k], constant, inverse / batch[k]]) / steps[k] - 1
        )
    return [float(x) for x in np.abs(errors).mean(0)]


def first_steps(seed: int, batch: int) -> tuple[list[float], list[float]]:
    """Train all rates side by side on the same batches; return the first step below each target, and its rate."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    images, hot = images[order] / 16, np.eye(10)[labels[order]]
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
