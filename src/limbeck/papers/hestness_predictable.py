"""Deep Learning Scaling is Predictable, Empirically: error is a power of the number of examples, in one exponent.

Logistic regression and three MLPs learn handwritten digits from nested shards of 10 to 1280 images. A line through the
log-log learning curve of the best model on up to half of the images forecasts its error on all of them.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.fitting.model import Array
from limbeck.laws import Trend, range_warning
from limbeck.laws.loss import HESTNESS
from limbeck.papers import Figure, Outcome, Paper, Series
from limbeck.papers._data import shuffled_digits

SHARDS = (10, 20, 40, 80, 160, 320, 640, 1280)
MODELS = {"logistic regression": (), "MLP 16": (16,), "MLP 128": (128,), "MLP 128-128": (128, 128)}


class HestnessPredictable(Paper):
    """Learning curves of four models of scikit-learn on its digits."""

    source = HESTNESS
    claim = (
        "Error falls as a power of the number of examples: small shards forecast large ones, models share the exponent."
    )
    metric = "relative error of the last value carried forward minus that of the power law, for twice the data"
    unit = "points"
    baseline = "last value"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> list[list[float]]:
        """Return the test error of every model (rows) on every shard."""
        images, labels = shuffled_digits(np.random.default_rng(seed))
        unseen, truth = images[SHARDS[-1] :], labels[SHARDS[-1] :]

        def error(layers: tuple[int, ...], m: int) -> float:
            model = classifier(layers, seed, 80 if quick else 200)
            with warnings.catch_warnings(action="ignore"):  # training ends at max_iter
                model.fit(images[:m], labels[:m])
            return float((np.sum(model.predict(unseen) != truth) + 0.5) / (len(truth) + 1))  # never zero

        return [[error(layers, m) for m in SHARDS] for layers in MODELS.values()]

    def conclude(self, measured: Sequence[list[list[float]]]) -> Outcome:
        """Fit all shards but the smallest, where guessing still matters, and the largest, which is forecast."""
        curves, shards = np.array(measured), np.array(SHARDS, float)  # [seed, model, shard]
        best, rng = curves.mean(0).min(0), np.random.default_rng(0)
        trend, truth = line(shards, best), float(best[-1])
        forecast = float(trend.value(shards[-1]))
        own = curves.min(1)
        forecasts = np.array([line(shards, curve).value(shards[-1]) for curve in own])
        slopes = np.array(exponents(shards, curves.mean(0)))
        resampled = [exponents(shards, curves[rng.integers(0, len(curves), len(curves))].mean(0)) for _ in range(500)]
        title = f"Shards up to {shards[-2]:.0f} images forecast {shards[-1]:.0f}: {forecast:.3f}, measured {truth:.3f}"
        series = [Series.measured(name, shards, curves[:, k]) for k, name in enumerate(MODELS)]
        series.append(Series("power law", shards[1:-1], trend.value(shards[1:-1]), kind="line"))
        series.append(Series("forecast", shards[-2:], trend.value(shards[-2:]), kind="dashed"))
        return Outcome(
            effects=100 * (abs(own[:, -2] / own[:, -1] - 1) - abs(forecasts / own[:, -1] - 1)),
            checks={
                "the forecast of the largest shard is within 30 %": abs(forecast / truth - 1) < 0.3,
                "the exponents of all models lie within 0.15": np.ptp(slopes) < 0.15,
                "the exponents of the MLPs lie within 0.15": np.ptp(slopes[1:]) < 0.15,
            },
            details={
                "shards": shards, "error": dict(zip(MODELS, curves.mean(0), strict=True)),
                "exponents": dict(zip(MODELS, slopes, strict=True)), "spread of the exponents": np.ptp(slopes),
                "spread, 80 % interval over seeds": np.quantile(np.ptp(resampled, axis=1), [0.1, 0.9]),
                "exponent of the best model": trend.exponent, "forecast": forecast, "measured": truth,
                "last value": best[-2],
            },
            notes=[
                "the exponent is far from the paper's -0.07 to -0.35: the task is tiny and nearly free of noise",
                "the best model of a shard is chosen on the test images: its errors are a little too small everywhere",
                *filter(None, [range_warning(shards[1:-1], best[1:-1])]),
            ],
            figure=Figure(title, "training images", "test error", series, log_x=True, log_y=True),
        )  # fmt: skip


def classifier(layers: tuple[int, ...], seed: int, iterations: int) -> Any:
    """Return an MLP of these hidden layers, or logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    if not layers:
        return LogisticRegression(max_iter=300)
    return MLPClassifier(layers, learning_rate_init=5e-3, max_iter=iterations, random_state=seed)


def line(shards: Array, errors: Array) -> Trend:
    """Return the power law through a learning curve, without its smallest and largest shard."""
    return Trend.through(shards[1:-1], errors[1:-1])


def exponents(shards: Array, curves: Array) -> list[float]:
    """Return the exponent of each learning curve, [model, shard]."""
    return [line(shards, curve).exponent for curve in curves]
