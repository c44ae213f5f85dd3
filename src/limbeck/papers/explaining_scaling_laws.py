"""Explaining neural scaling laws: an exponent of 1 near every limit, one of the kernel's spectrum away from it.

Random-feature regression with the spectrum i^-(1 + alpha_K) is simulated on both sides of the interpolation peak; its
losses are set beside the closed form, its exponents beside each other. On handwritten digits the closed form gets the
spectrum and the target of a random ReLU kernel, and forecasts the learning curve.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import sem

from limbeck.fitting.model import Array
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._data import shuffled_digits
from limbeck.theory import power_spectrum, random_feature_loss, simulate_random_features
from limbeck.theory.spectra import BAHRI

ALPHAS, FEW, MANY, FIXED = (0.5, 1.0), (20, 40, 80, 160, 320), (100, 200, 400, 800), 20
POINTS = (*((n, None) for n in FEW), *((None, n) for n in FEW), *((n, FIXED) for n in MANY), (None, FIXED))
"""Samples and features of the simulated losses; None is infinitely many."""


class ExplainingScalingLaws(Paper):
    """Simulated random-feature regression, and kernel regression on digits."""

    source = BAHRI
    claim = "Near its limit the loss falls with the exponent 1; away from it with that of the kernel's spectrum."
    metric = "exponent of the approach to the limit minus exponent of the limit itself, alpha_K = 0.5"
    baseline = "one exponent for all"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return simulated and exact losses, [alpha_K, point, 2], and the measured and forecast curve of digits."""
        draws, size = (6, 600) if quick else (10, 2500)

        def losses(d: int | None, p: int | None, alpha: float) -> list[float]:
            spectrum = power_spectrum(size, alpha)
            own = seed + 1000 * (p is None)  # data and features are drawn apart, the limit with its approach
            simulated = simulate_random_features(d, p, spectrum, draws=draws, seed=own).mean()
            return [float(simulated), float(random_feature_loss(d or np.inf, p or np.inf, spectrum))]

        table = [[losses(*point, alpha) for point in POINTS] for alpha in ALPHAS]
        return {"losses": table, "digits": digits(seed, 2 if quick else 8)}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Fit every curve's exponent seed by seed; the approach to the limit is paired with the limit."""
        losses, curves = stacked(measured, "losses", "digits")  # [seed, alpha_K, point, 2], [seed, 2, n]
        data, features, many, limit = np.split(losses, [len(FEW), 2 * len(FEW), -1], axis=2)
        parts = {"data": (FEW, data), "features": (FEW, features), "approach": (MANY, many - limit)}
        exponents = {name: slopes(n, curve) for name, (n, curve) in parts.items()}  # [seed, alpha_K, 2]
        means = {name: found.mean(0) for name, found in exponents.items()}
        own, other, near = (mean[:, 0] for mean in means.values())
        ratio = losses[..., 0] / losses[..., 1]
        away, noise = np.abs(ratio.mean(0) - 1), sem(ratio)
        real, forecast = curves.mean(0)
        unlike_1, off = np.abs(near - 1), np.abs(forecast / real - 1)[:3]
        title = "The spectrum of a kernel forecasts its learning curve on digits"
        series = [Series.measured("measured", FEW, curves[:, 0]), Series("closed form", FEW, forecast, kind="line")]
        return Outcome(
            effects=exponents["approach"][:, 0, 0] - exponents["data"][:, 0, 0],
            checks={
                "every simulated loss is within 3 standard errors and 2 % of the closed form": away < 0.02 + 3 * noise,
                "the approach to the limit has an exponent within 0.15 of 1, whatever the spectrum": unlike_1 < 0.15,
                "data and features have the same exponent, within 0.05": abs(own - other) < 0.05,
                "digits: the spectrum forecasts the learning curve up to 80 images within 15 %": off < 0.15,
            },
            details={
                "alpha_K": ALPHAS, "exponents, simulated and exact": means,
                "largest relative deviation from the closed form": away.max(), "digits, images": FEW,
                "digits, loss": real, "digits, forecast": forecast,
            },
            notes=[
                "a finite spectrum bends the exponents of data and features away from alpha_K: see the exact ones",
                f"digits: with 320 images the loss is {real[-1] / forecast[-1]:.2f} times its forecast, for which the "
                "kernel was measured on 1000",
                "the relation 4/d of exponent and dimension is not tested",
            ],
            figure=Figure(title, "training images", "mean square error", series, log_x=True, log_y=True),
        )  # fmt: skip


def slopes(n: Sequence[int], curves: Array) -> Array:
    """Return minus the log-log slope of every curve, [seed, alpha_K, n, ...] to [seed, alpha_K, ...]."""
    points = np.log(np.moveaxis(curves, 2, 0))
    return np.asarray(-np.polyfit(np.log(n), points.reshape(len(n), -1), 1)[0].reshape(points.shape[1:]))


def digits(seed: int, draws: int) -> tuple[list[float], list[float]]:
    """Return the error of a random ReLU kernel on unseen digits for each number of images, and its forecast.

    Training sets are drawn from 1000 images, whose kernel matrix is taken for the population's.
    """
    rng, size = np.random.default_rng(seed), 1000
    images, labels = shuffled_digits(rng)
    hidden = np.maximum(images[:size] @ rng.standard_normal((64, 2000)), 0)
    kernel, target = hidden @ hidden.T / 2000, np.eye(10)[labels[:size]]
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
