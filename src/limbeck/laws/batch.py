"""Loss at any step for any batch size, and the critical batch size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import median_filter
from scipy.optimize import nnls

from limbeck.errors import FittingError
from limbeck.fitting import Parameter, fit
from limbeck.fitting.expression import held
from limbeck.fitting.model import Array
from limbeck.laws.law import SOURCES, Law, published
from limbeck.laws.loss import KAPLAN, PowerFloor, exponent, scale
from limbeck.laws.trend import Trend
from limbeck.runs import BadRow, RunTable

SU = SOURCES["su-2024"]

ROUNDS = 10
"""Newton steps for the loss; six reach rounding from any start."""


class Batch(Law):
    """Loss of N parameters after S steps of B tokens: L = (N_c/N)^alpha_N + (S_c/S)^alpha_S (1 + B_crit(L)/B)^alpha_S.

    B_crit(L) = B_star L^(-1/alpha_B) grows as the loss falls; the equation is solved for L. Data are never repeated,
    the learning rate does not decay and suits the batch, and the first steps do not count. B and B_star have one unit,
    examples where there are no tokens. `BatchLaw` has everything that follows in closed form.

    Source: Unraveling the Mystery of Scaling Laws: Part I (Su, Tian, Shen, Cai, 2024, arXiv 2403.06563); the procedure
    is reconstructed.

    Example:
        >>> float(KAPLAN_2020_BATCH.value(params=1e9, batch_tokens=5e5, step=1e5).round(3))
        2.546
    """

    name = "batch"
    source = SU
    columns = ("params", "batch_tokens", "step")
    equation = "(N_c/params)^alpha_N + (S_c/step)^alpha_S (1 + B_star loss^(-1/alpha_B) / batch_tokens)^alpha_S"
    parameters = (
        scale("N_c", "size scale", "params", (1e3, 1e6)),
        exponent("alpha_N", "exponent of size", (0.08, 0.2)),
        scale("S_c", "scale of steps", "step", (0.3, 10.0)),
        exponent("alpha_S", "exponent of steps", (0.7,)),
        scale("B_star", "critical batch at loss 1", "batch_tokens", (3.0, 300.0)),
        Parameter("alpha_B", "exponent of the critical batch", start=(0.2, 0.5), log=True, lower=0.01, upper=20.0),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """L by Newton's method on h(u) = u - ln(floor + T(u)), u = ln L.

        T is convex and falls in u, so h is concave and rises: from ln(floor) no step passes the root.
        """
        floor, k = p.alpha_N * (np.log(p.N_c) - np.log(x.params)), 1.0 / p.alpha_B
        level, ratio = p.alpha_S * (np.log(p.S_c) - np.log(x.step)), np.log(p.B_star) - np.log(x.batch_tokens)
        u = floor
        for _ in range(ROUNDS):
            u = held(u)
            soft = np.logaddexp(0.0, ratio - k * u)
            reducible = level + p.alpha_S * soft
            right = np.logaddexp(floor, reducible)
            slope = 1.0 + p.alpha_S * k * np.exp(ratio - k * u - soft + reducible - right)
            u = u - (u - right) / slope
        return np.exp(u)

    def prepare(self, runs: RunTable, *, skip_bad: bool = False) -> tuple[Law, RunTable]:
        """Return the table without the rows at step 0."""
        step = runs.require(*self.columns, "loss", skip_bad=skip_bad).column("step")
        bad = [BadRow(runs.rows[int(i)], "step", "no step was made: leave it out") for i in np.flatnonzero(step <= 0)]
        return self, runs.without(bad, skip_bad)


@dataclass(frozen=True)
class BatchLaw:
    """The closed forms of the law `batch`.

    S = S_min (1 + B_crit/B) steps and E = E_min (1 + B/B_crit) tokens reach a loss, (S/S_min - 1)(E/E_min - 1) = 1.

    Args:
        constants: the six parameters by name, numbers or arrays (draws) that broadcast.

    Source: Unraveling the Mystery of Scaling Laws: Part I (Su, Tian, Shen, Cai, 2024, arXiv 2403.06563).

    Example:
        >>> law = BatchLaw(KAPLAN_2020_BATCH.parameters)
        >>> critical = law.critical_batch(3.0)
        >>> float(law.steps(3.0, 1e9, critical) / law.min_steps(3.0, 1e9))
        2.0
    """

    constants: Mapping[str, Any]

    def floor(self, params: ArrayLike) -> Array:
        """Lowest reachable loss, (N_c/N)^alpha_N."""
        return np.asarray((self.constants["N_c"] / np.asarray(params, float)) ** self.constants["alpha_N"])

    def critical_batch(self, loss: ArrayLike) -> Array:
        """B_crit(L) = B_star L^(-1/alpha_B), where time and compute both are twice their least."""
        return np.asarray(self.constants["B_star"] * np.asarray(loss, float) ** (-1 / self.constants["alpha_B"]))

    def min_steps(self, loss: ArrayLike, params: ArrayLike) -> Array:
        """S_min, steps with an endless batch; infinite at and below the floor."""
        reducible = np.maximum(np.asarray(loss, float) - self.floor(params), 0.0)
        with np.errstate(divide="ignore"):
            return np.asarray(self.constants["S_c"] * reducible ** (-1 / self.constants["alpha_S"]))

    def min_tokens(self, loss: ArrayLike, params: ArrayLike) -> Array:
        """E_min, tokens with a small batch."""
        return self.min_steps(loss, params) * self.critical_batch(loss)

    def steps(self, loss: ArrayLike, params: ArrayLike, batch: ArrayLike) -> Array:
        """Steps that reach a loss with a batch; batch times steps are the tokens."""
        return np.asarray(self.min_steps(loss, params) * (1 + self.critical_batch(loss) / np.asarray(batch, float)))

    def best_batch(self, loss: ArrayLike, step_price: float, token_price: float) -> Array:
        """Batch of least p_S S + p_E E: B_crit √(p_S S_min / (p_E E_min)) = √(p_S B_crit / p_E)."""
        return np.asarray(np.sqrt(step_price * self.critical_batch(loss) / token_price))

    def data_exponent(self, loss: ArrayLike, params: ArrayLike) -> Array:
        """Exponent of tokens in the reducible loss at B much below B_crit, to compare with beta of a law in N and D."""
        steps, growth = self.constants["alpha_S"], self.constants["alpha_S"] / self.constants["alpha_B"]
        return np.asarray(steps / (1 + growth * (1 - self.floor(params) / np.asarray(loss, float))))

    def frontier(self) -> dict[str, float]:
        """Exponents of the loss, size, batch and steps in compute on the compute-efficient frontier."""
        size, steps, batch = (self.constants[f"alpha_{name}"] for name in "NSB")
        loss = 1 / (1 / size + 1 / steps + 1 / batch)
        return {"loss": loss, "params": loss / size, "batch": loss / batch, "steps": loss / steps}


KAPLAN_2020_BATCH = published("kaplan-2020-batch", KAPLAN)
SU_2024_BATCH = published("su-2024-batch")


def noise_scale(big: float, big_norm2: float, small: float, small_norm2: float) -> float:
    """Return tr Σ / |G|² of the gradient, a cheap guess of the critical batch, from its norms at two batch sizes.

    |G|² = (B |G_B|² - b |G_b|²) / (B - b), tr Σ = (|G_b|² - |G_B|²) / (1/b - 1/B); both are without bias.

    Args:
        big, small: the batch sizes B and b.
        big_norm2, small_norm2: mean squared norms of their gradients.

    Source: An Empirical Model of Large-Batch Training (McCandlish et al., 2018, arXiv 1812.06162).

    Example:
        >>> round(noise_scale(100, 1 + 0.5, 10, 1 + 5.0), 9)
        50.0
    """
    signal = (big * big_norm2 - small * small_norm2) / (big - small)
    return (small_norm2 - big_norm2) / (1 / small - 1 / big) / signal


@dataclass(frozen=True)
class Hyperbola:
    """Steps to one loss against batch size: S = S_min + E_min / B.

    Args:
        min_steps, min_tokens: S_min and E_min.
        error: mean relative error of the fitted points.
    """

    min_steps: float
    min_tokens: float
    error: float

    @property
    def critical_batch(self) -> float:
        """E_min / S_min."""
        return self.min_tokens / self.min_steps if self.min_steps else math.inf

    @classmethod
    def through(cls, batch: ArrayLike, steps: ArrayLike) -> Hyperbola:
        """Return the least-squares hyperbola on relative errors, both terms not negative.

        Raises:
            FittingError: fewer than two batch sizes.

        Example:
            >>> Hyperbola.through([1, 10, 100], [120, 30, 21]).critical_batch.__round__(6)
            5.0
        """
        b, s = np.asarray(batch, float), np.asarray(steps, float)
        if len(np.unique(b)) < 2:
            raise FittingError(
                "one batch size says nothing about the critical one: train with two or more, better five."
            )
        rows = np.stack([1 / s, 1 / (b * s)], 1)
        least = nnls(rows, np.ones(len(b)))[0]
        return cls(float(least[0]), float(least[1]), float(np.abs(rows @ least - 1).mean()))


@dataclass(frozen=True)
class Stages:
    """The law step by step, each stage with what it was read from.

    Args:
        floors: converged loss by size, extrapolated along the curve of the largest batch.
        size: line through them, None with one size.
        hyperbolas: by loss level, of the size with most batches.
        skipped: levels that not all batches reached.
        critical: line of B_crit in the loss, None with one level.
        parameters: the six constants; None where a line is missing.
    """

    floors: dict[float, float]
    size: Trend | None
    hyperbolas: dict[float, Hyperbola]
    skipped: tuple[float, ...]
    critical: Trend | None
    parameters: dict[str, float] | None


def stepwise(runs: RunTable, *, levels: int = 12) -> Stages:
    """Estimate the law in stages: floors, critical batch at equal losses, then steps. `fit("batch", runs)` polishes.

    Args:
        runs: params, batch_tokens, step and loss, with the run of every checkpoint.
        levels: losses at which batches are compared.

    Raises:
        FittingError: no size was trained with two batch sizes.

    Source: Unraveling the Mystery of Scaling Laws: Part I (Su, Tian, Shen, Cai, 2024, arXiv 2403.06563), reconstructed.
    """
    runs = Batch().prepare(runs)[1]
    columns = np.stack([runs.column(name) for name in ("params", "batch_tokens", "step", "loss")])
    of_run = [columns[:, runs.clusters() == k] for k in range(runs.clusters().max() + 1)]
    curves = sorted((one[:, one[2].argsort()] for one in of_run), key=lambda one: (one[0, 0], one[1, 0]))
    longest = {float(one[0, 0]): fit(PowerFloor("step"), {"step": one[2]}, one[3], bootstrap=0) for one in curves}
    floors = {n: one.parameters["E"] for n, one in longest.items()}  # of each size the largest batch came last
    several = max(floors, key=lambda n: len({one[1, 0] for one in curves if one[0, 0] == n}))
    own = [one for one in curves if one[0, 0] == several]
    tried = np.geomspace(min(one[3, 0] for one in own), min(one[3].min() for one in own), levels + 1)[1:]
    reached, batches = np.array([steps_to(one[2], one[3], tried) for one in own]), [one[1, 0] for one in own]
    by_all = np.isfinite(reached).all(0)
    found = {float(x): Hyperbola.through(batches, s) for x, s in zip(tried[by_all], reached[:, by_all].T, strict=True)}
    usable = {x: h.critical_batch for x, h in found.items() if 0 < h.critical_batch < math.inf}
    size = Trend.through([*floors], [*floors.values()]) if len(floors) > 1 and all(floors.values()) else None
    critical = Trend.through([*usable], [*usable.values()]) if len(usable) > 1 else None
    constants = None
    if size and critical and size.exponent < 0 and critical.exponent < 0:
        n, b, s, x = columns
        low, reducible = s / (1 + critical.value(x) / b), x - size.value(n)
        line = Trend.through(low[reducible > 0], reducible[reducible > 0])
        constants = {
            "N_c": size.coefficient ** (-1 / size.exponent), "alpha_N": -size.exponent,
            "S_c": line.coefficient ** (-1 / line.exponent), "alpha_S": -line.exponent,
            "B_star": critical.coefficient, "alpha_B": -1 / critical.exponent,
        }  # fmt: skip
    return Stages(floors, size, found, tuple(tried[~by_all].tolist()), critical, constants)


def steps_to(step: ArrayLike, loss: ArrayLike, level: ArrayLike) -> Array:
    """Return the step at which a noisy curve first reaches each loss level; NaN where it does not.

    The loss is smoothed by a median over 2 % of its points and made to fall, then read on log-log axes.

    Args:
        step, loss: of one run, steps increasing, [n].
        level: losses, [k].

    Example:
        >>> steps_to([1, 10, 100], [4.0, 2.0, 1.0], [2.0, 0.5])
        array([10., nan])
    """
    s, y = np.asarray(step, float), np.asarray(loss, float)
    smooth = np.minimum.accumulate(median_filter(y, max(1, len(y) // 50), mode="nearest"))
    first = np.concatenate([[True], np.diff(smooth) < 0])
    at = np.interp(-np.log(level), -np.log(smooth[first]), np.log(s[first]), left=np.nan, right=np.nan)
    return np.asarray(np.exp(at))
