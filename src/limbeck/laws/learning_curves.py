"""Error against the number of examples: three regions, what more data buys, and how large the model must be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Fit, Interval
from limbeck.fitting import fit as fit_model
from limbeck.fitting.model import Array
from limbeck.laws.law import published_family
from limbeck.laws.loss import OneColumn, Power, PowerFloor
from limbeck.laws.trend import Trend


@dataclass(frozen=True)
class LearningCurve:
    """Error of the best model for m examples: err(m) = min(best_guess, alpha m^beta + gamma), beta < 0.

    Args:
        alpha: level of the reducible error at m = 1.
        beta: slope on log-log axes (beta_g in the paper), negative.
        gamma: irreducible error.
        best_guess: error of guessing, such as 1 - 1/K or the entropy of the labels; infinity leaves the small-data
            region out.
        unit: what m counts (examples, tokens, hours of audio, ...).

    Source: Deep Learning Scaling is Predictable, Empirically (Hestness et al., 2017, arXiv 1712.00409).

    Example:
        >>> curve = LearningCurve(alpha=4.0, beta=-0.5, gamma=0.1, best_guess=0.9)
        >>> curve.error_at([4, 400]).round(6).tolist()
        [0.9, 0.3]
        >>> float(curve.examples_for(0.3).round(6))
        400.0
        >>> curve.data_to_halve()
        4.0
    """

    alpha: float
    beta: float
    gamma: float = 0.0
    best_guess: float = math.inf
    unit: str = "examples"

    @classmethod
    def of(cls, fit: Fit, best_guess: float = math.inf, unit: str = "examples") -> LearningCurve:
        """Return the curve of a fit of `power` or `power-floor`."""
        p = fit.parameters
        return cls(p["A"], -p["alpha"], p.get("E", 0.0), best_guess, unit)

    def power_law(self, m: ArrayLike) -> Array:
        """Return alpha m^beta + gamma, without the small-data region."""
        return np.asarray(self.alpha * np.asarray(m, float) ** self.beta + self.gamma)

    def error_at(self, m: ArrayLike, *, width: float | None = None) -> Array:
        """Return the error at m examples.

        Args:
            m: number of examples, any shape.
            width: round the corner to the best guess off: g |e / (e - i g width)| with e the power law and g the best
                guess, as in A Constructive Prediction of the Generalization Error Across Scales (Rosenfeld et al.,
                2020, arXiv 1909.12673). The result then lies below g min(1, e / (g width)).
        """
        law = self.power_law(m)
        if width is None:
            return np.minimum(self.best_guess, law)
        return np.asarray(self.best_guess * law / np.hypot(law, self.best_guess * width))

    def examples_for(self, target: ArrayLike) -> Array:
        """Return the number of examples that reaches a target error: ((target - gamma)/alpha)^(1/beta).

        Raises:
            FittingError: the target is not above the irreducible error.
        """
        goal = np.asarray(target, float)
        if not np.all(goal > self.gamma):
            raise FittingError(
                f"no amount of data reaches an error of {goal.min():g}: the irreducible error is {self.gamma:g}. "
                "Ask for a larger error, or change the model or the labels."
            )
        return np.asarray(((goal - self.gamma) / self.alpha) ** (1.0 / self.beta))

    def doubling_gain(self) -> float:
        """Return the factor on the reducible error when the data are doubled: 2^beta."""
        return float(2.0**self.beta)

    def data_to_halve(self) -> float:
        """Return the factor on the data that halves the reducible error: 2^(-1/beta)."""
        return float(2.0 ** (-1.0 / self.beta))


@dataclass(frozen=True)
class Regions:
    """Where a learning curve bends, found on log-log axes.

    Args:
        slopes: d ln error / d ln m of each piece, left to right.
        breaks: m at the borders between pieces, one fewer than slopes.
        small_data_end: m where the power-law region starts, None if no small-data region shows.
        irreducible_start: m where the curve levels off, None if it does not.
    """

    slopes: tuple[float, ...]
    breaks: tuple[float, ...]
    small_data_end: float | None
    irreducible_start: float | None

    def contains(self, m: ArrayLike) -> NDArray[np.bool_]:
        """Return which m lie in the power-law region."""
        low, high = self.small_data_end or 0.0, self.irreducible_start or math.inf
        return (np.asarray(m, float) >= low) & (np.asarray(m, float) <= high)


def regions(m: ArrayLike, error: ArrayLike) -> Regions:
    """Return the regions of a learning curve by a continuous piecewise-linear fit of ln error on ln m.

    Zero, one or two breaks (at shards, at least two shards a piece) are chosen by BIC. A left piece with a slope above
    -0.02 is the small-data region; a right piece with less than half the steepest slope is irreducible.

    Args:
        m: shard sizes, increasing, [n].
        error: mean error at each, [n].

    Source: Deep Learning Scaling is Predictable, Empirically (Hestness et al., 2017, arXiv 1712.00409), section 5; the
    detector is ours.
    """
    x, y = np.log(np.asarray(m, float)), np.log(np.asarray(error, float))
    n, inner = len(x), range(1, len(x) - 1)
    best: tuple[float, tuple[int, ...], Array] | None = None
    for breaks in [(), *((i,) for i in inner), *((i, j) for i in inner for j in inner if j > i + 1)]:
        basis = np.stack([np.ones(n), x, *(np.maximum(0.0, x - x[k]) for k in breaks)], 1)
        coefficients = np.linalg.lstsq(basis, y, rcond=None)[0]
        rss, count = float(((y - basis @ coefficients) ** 2).sum()), 2 + 2 * len(breaks)
        bic = n * math.log(max(rss / n, 1e-16)) + count * math.log(n)
        if count < n and (best is None or bic < best[0] - 1e-9):
            best = bic, breaks, coefficients
    if best is None:
        raise FittingError(f"regions need at least 3 shards; given {n}.")
    _, breaks, coefficients = best
    slopes, borders = np.cumsum(coefficients[1:]).tolist(), np.exp(x[list(breaks)]).tolist()
    first_flat = len(slopes) > 1 and slopes[0] > -0.02
    last_flat = len(slopes) > 1 + first_flat and abs(slopes[-1]) < abs(min(slopes)) / 2
    ends = borders[0] if first_flat else None, borders[-1] if last_flat else None
    return Regions(tuple(slopes), tuple(borders), *ends)


def range_warning(m: ArrayLike, error: ArrayLike) -> str | None:
    """Return why these shards cannot show a power law, or None.

    Example:
        >>> range_warning([100, 200, 400], [0.5, 0.4, 0.3])
        '3 shards over 0.6 decades, error falling 1.7×: a power law needs 5 shards over 1.5 decades and a fall of 2×'
        >>> range_warning([10, 40, 160, 640, 2560], [0.8, 0.4, 0.2, 0.1, 0.05])
    """
    sizes, errors = np.asarray(m, float), np.asarray(error, float)
    shards, decades = len(np.unique(sizes)), math.log10(sizes.max() / sizes.min())
    fall = errors.max() / errors.min()
    if shards >= 5 and decades >= 1.5 and fall >= 2:
        return None
    return (
        f"{shards} shards over {decades:.1f} decades, error falling {fall:.1f}×: "
        "a power law needs 5 shards over 1.5 decades and a fall of 2×"
    )


@dataclass(frozen=True)
class LearningCurveFit:
    """A learning curve with its uncertainty.

    Args:
        curve: the estimate.
        fit: of `power` or `power-floor`, with draws; `fit.predict(samples=...)` gives intervals.
        regions: where the curve bends, None with fewer than four shards.
        warnings: what limits it, in words.
    """

    curve: LearningCurve
    fit: Fit
    regions: Regions | None
    warnings: tuple[str, ...]


def fit_learning_curve(
    samples: ArrayLike, error: ArrayLike, *, best_guess: float = math.inf, floor: bool | None = None,
    test_size: int | None = None, bootstrap: int = 1000, seed: int = 0,
) -> LearningCurveFit:  # fmt: skip
    """Fit err(m) = alpha m^beta + gamma to the power-law and irreducible regions of a learning curve.

    Args:
        samples: shard size of every row; several rows of one size are seeds, [n].
        error: error or loss of the best model on that shard, [n].
        best_guess: error of guessing; shards within 10 % of it are left out.
        floor: fit gamma (True) or not (False). None: if it predicts the held-out largest shard better, by more than two
            standard errors.
        test_size: number of test examples, where errors are error rates: rows then weigh by their binomial variance,
            and zero errors become (k + 1/2)/(n + 1).
        bootstrap, seed: of the resamples.

    Raises:
        FittingError: fewer shards than parameters in the power-law region.

    Source: Deep Learning Scaling is Predictable, Empirically (Hestness et al., 2017, arXiv 1712.00409).
    """
    m, e = np.asarray(samples, float), np.asarray(error, float)
    weights = np.ones(len(m))
    if test_size is not None:
        e = np.where(e == 0, 0.5 / (test_size + 1), e)
        weights = test_size * e / np.maximum(1 - e, 1e-3)
    shards = np.unique(m)
    means = np.array([e[m == size].mean() for size in shards])
    found = regions(shards, means) if len(shards) >= 4 else None
    start = (found.small_data_end if found else None) or 0.0
    keep = (m >= start) & np.isin(m, shards[means < 0.9 * best_guess])

    def law_fit(law: OneColumn, rows: NDArray[np.bool_], draws: int) -> Fit:
        how: dict[str, Any] = {"loss": SQUARED, "weights": weights[rows], "bootstrap": draws, "seed": seed}
        return fit_model(law, {"samples": m[rows]}, e[rows], **how)

    laws: dict[bool, OneColumn] = {True: PowerFloor("samples", "error"), False: Power("samples", "error")}
    if floor is None:
        largest = m == m[keep].max() if keep.any() else keep
        inner = keep & ~largest
        floor = len(np.unique(m[inner])) > 3
        if floor:
            both = {key: law_fit(law, inner, 0) for key, law in laws.items()}
            there = {key: float(one.value(samples=m[largest][0])) for key, one in both.items()}
            miss = {key: abs(math.log(value / e[largest].mean())) for key, value in there.items()}
            noise = float(np.sqrt(np.mean(both[True].noise ** 2) / largest.sum()))
            floor = miss[True] + 2 * noise < miss[False]
    fit = law_fit(laws[floor], keep, bootstrap)
    short = range_warning(m[keep], e[keep]) if keep.any() else None
    return LearningCurveFit(LearningCurve.of(fit, best_guess), fit, found, () if short is None else (short,))


def exponent_shift(first: Fit, second: Fit, level: float = 0.8) -> Interval:
    """Return by how much the slope beta differs between two curves (second minus first).

    It asks, for example, whether a teacher changes the slope or only the level. Fits with one seed and one design share
    their resamples, so the difference is paired.
    """
    count = min(len(first.draws["alpha"]), len(second.draws["alpha"]))
    draws = first.draws["alpha"][:count] - second.draws["alpha"][:count]
    return Interval.of(draws, first.parameters["alpha"] - second.parameters["alpha"], level)


def smallest_good_size(params: ArrayLike, loss: ArrayLike, standard_error: ArrayLike) -> float:
    """Return the smallest model size whose loss is within one standard error of the best: it keeps noise out of s(m).

    Args:
        params: sizes tried on one shard, [n].
        loss: mean validation loss of each, [n].
        standard_error: of those means, [n].
    """
    sizes, losses, errors = np.broadcast_arrays(params, loss, standard_error)
    best = int(losses.argmin())
    return float(sizes[losses <= losses[best] + errors[best]].min())


def model_size(m: ArrayLike, params: ArrayLike) -> tuple[Trend, str | None]:
    """Return s(m) = kappa m^beta_p, the size of the best model for m examples, and a warning if it is not sublinear.

    Source: Deep Learning Scaling is Predictable, Empirically (Hestness et al., 2017, arXiv 1712.00409), eq. for s(m).
    """
    trend = Trend.through(m, params)
    warning = f"model size grows as m^{trend.exponent:.2f}: 0.5 to 1 is usual" if trend.exponent >= 1 else None
    return trend, warning


HESTNESS_2017 = published_family("hestness-2017")
"""Published learning curves, by domain."""

MODEL_SIZE_EXPONENTS = {"word_lm": 0.69, "char_lm_sgd": 0.78, "char_lm_adam": 0.92, "imagenet_top1": 0.573}
"""Published beta_p of s(m) = kappa m^beta_p, by domain (section 4)."""
