"""Explaining neural scaling laws: an exponent of 1 near every limit, one of the kernel's spectrum away from it.

Random-feature regression with the spectrum i^-(1 + alpha_K) is simulated on both sides of the interpolation peak; its
losses are set beside the closed form, its exponents beside each other. On handwritten digits the closed form gets the
spectrum and the target of a random ReLU kernel, and forecasts the learning curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbeck.papers._figure import Figure, Series
from limbeck.papers._paper import Outcome, Paper
from limbeck.theory import power_spectrum, random_feature_loss, simulate_random_features
from limbeck.theory.spectra import BAHRI

ALPHAS, FEW, MANY, FIXED = (0.5, 1.0), (20, 40, 80, 160, 320), (100, 200, 400, 800), 20
POINTS = (*((n, None) for n in FEW), *((None, n) for n in FEW), *((n, FIXED) for n in MANY), (None, FIXED))
"""Samples and features of the simulated losses; None is infinitely many."""


class ExplainingScalingLaws(Paper):
    """Simulated random-feature regression, and kernel regression on digits."""

    slug = "explaining-scaling-laws"
    source = BAHRI
    claim = "Near its limit the loss falls with the exponent 1; away from it with that of the kernel's spectrum."
    metric = "exponent of the approach to the limit minus exponent of the limit itself, alpha_K = 0.5"
    baseline = "one exponent for all"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> dict[str, Any]:
        """Return simulated and exact losses, [alpha_K, point, 2], and the measured and forecast curve of digits."""
        draws, size = (6, 600) if quick else (10, 2500)

        def losses(d: int | None, p: int | None, alpha: float) -> list[float]:
            spectrum = power_spectrum(size, alpha)
            own = seed + 1000 * (p is None)  # data and features are drawn apart, the limit with its approach
            simulated = simulate_random_features(d, p, spectrum, draws=draws, seed=own).mean()
            return [float(simulated), float(random_feature_loss(d or np.inf, p or np.inf, spectrum))]

        table = [[losses(*point, alpha) for point in POINTS] for alpha in ALPHAS]
        return {"losses": table, "digits": digits(seed, 2 if quick else 8)}

    def conclude(self, measured: Sequence[dict[str, Any]]) -> Outcome:
        """Fit every curve's exponent seed by seed; the approach to the limit is paired with the limit."""
        losses = np.array([one["losses"] for one in measured])  # [seed, alpha_K, point, simulated or exact]
        data, features, many, limit = np.split(losses, [len(FEW), 2 * len(FEW), -1], axis=2)
        curves = {"data": (FEW, data), "features": (FEW, features), "approach": (MANY, many - limit)}
        exponents = {name: slopes(n, curve) for name, (n, curve) in curves.items()}  # [seed, alpha_K, 2]
        means = {name: found.mean(0) for name, found in exponents.items()}
        ratio = losses[..., 0] / losses[..., 1]
        away, noise = np.abs(ratio.mean(0) - 1), ratio.std(0, ddof=1) / len(ratio) ** 0.5
        real, forecast = np.mean([one["digits"] for one in measured], 0)
        return Outcome(
            effects=exponents["approach"][:, 0, 0] - exponents["data"][:, 0, 0],
            checks={
                "every simulated loss is within 3 standard errors and 2 % of the closed form": bool(
                    (away < 0.02 + 3 * noise).all()
                ),
                "the approach to the limit has an exponent within 0.15 of 1, whatever the spectrum": bool(
                    (np.abs(means["approach"][:, 0] - 1) < 0.15).all()
                ),
                "data and features have the same exponent, within 0.05": bool(
                    (np.abs(means["data"] - means["features"])[:, 0] < 0.05).all()
                ),
                "digits: the spectrum forecasts the learning curve up to 80 images within 15 %": bool(
                    (np.abs(forecast / real - 1)[:3] < 0.15).all()
                ),
            },
            details={
                "alpha_K": list(ALPHAS),
                "exponents, simulated and exact": {name: value.tolist() for name, value in means.items()},
                "largest relative deviation from the closed form": float(away.max()),
                "digits, images": list(FEW),
                "digits, loss": real.tolist(),
                "digits, forecast": forecast.tolist(),
            },
            notes=[
                "a finite spectrum bends the exponents of data and features away from alpha_K: see the exact ones",
                f"digits: with 320 images the loss is {real[-1] / forecast[-1]:.2f} times its forecast, for which the "
                "kernel was measured on 1000",
                "the relation 4/d of exponent and dimension is not tested",
            ],
            figure=Figure(
                "The spectrum of a kernel forecasts its learning curve on digits",
                "training images",
                "mean square error",
                (
                    Series.measured("measured", FEW, [one["digits"][0] for one in measured]),
                    Series("closed form", FEW, forecast.tolist(), kind="line"),
                ),
                log_x=True,
                log_y=True,
            ),
        )


def slopes(n: Sequence[int], curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return minus the log-log slope of every curve, [seed, alpha_K, n, ...] to [seed, alpha_K, ...]."""
    points = np.log(np.moveaxis(curves, 2, 0))
    return np.asarray(-np.polyfit(np.log(n), points.reshape(len(n), -1), 1)[0].reshape(points.shape[1:]))


def digits(seed: int, draws: int) -> tuple[list[float], list[float]]:
    """Return the error of a random ReLU kernel on unseen digits for each number of images, and its forecast.

    Training sets are drawn from 1000 images, whose kernel matrix is taken for the population's.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    rng, size = np.random.default_rng(seed), 1000
    chosen = rng.permutation(len(labels))[:size]
    hidden = np.maximum(images[chosen] / 16 @ rng.standard_normal((64, 2000)), 0)
    kernel, target = hidden @ hidden.T / 2000, np.eye(10)[labels[chosen]]
    values, vectors = np.linalg.eigh(kernel)
    keep = values > 1e-9 * values[-1]
    strength = ((vectors[:, keep].T @ target) ** 2).sum(1) / values[keep]
    forecast = random_feature_loss(np.array(FEW, float), np.inf, values[keep] / size, target=np.sqrt(strength))
    measured = np.zeros(len(FEW))
    for _ in range(draws):
        order = rng.permutation(size)
        for k, count in enumerate(FEW):
            train, test = order[:count], order[count:]
            weights = np.linalg.lstsq(kernel[np.ix_(train, train)], target[train], rcond=1e-10)[0]
            measured[k] += ((kernel[np.ix_(test, train)] @ weights - target[test]) ** 2).sum(1).mean() / draws
    return measured.tolist(), forecast.tolist()
