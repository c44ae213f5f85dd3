"""Whole loss curves under any learning-rate schedule by a law that saturates where annealing has gained all it can."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.fitting import Parameter
from limbeck.fitting.model import Array
from limbeck.laws.annealing import Annealing
from limbeck.laws.law import SOURCES
from limbeck.laws.schedules import warmup_steps

LUO = SOURCES["luo-2025"]
PARTS = 24
"""Parts, of equal change of the rate, that a schedule is summed over."""


class MultiPower(Annealing):
    """Loss along a training: L(s) = L0 + A S1^-alpha - B Σ_k (η_{k-1} - η_k) (1 - (1 + C η_k^-gamma S1_k)^-beta).

    S1_k = S1(s) - S1(k-1) is the sum of the rates since step k, the sum runs over the steps after the warm-up. A fit
    takes it over `PARTS` parts of a schedule, each with its mean rate and mean S1_k (within 0.02 % of the loss), and
    η_k in units of the peak, so that C = C_paper peak^-gamma; see `constants`. It reads what `annealing` reads, best a
    plateau, a smooth decay and a single drop: without the drop beta and gamma are not identified.

    Source: A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules (Luo et al., 2025, arXiv
    2503.12811).

    Example:
        >>> law = MultiPower()
        >>> curve = law.columns_of([0.1, 0.1, 0.05, 0.05])
        >>> p = {"L0": 2.0, "A": 1.0, "B": 10.0, "alpha": 0.5, "C": 10**0.5, "beta": 0.5, "gamma": 0.5}
        >>> law(p, **curve)[[1, 3]].round(3)
        array([4.236, 3.741])
    """

    name = "multi-power"
    source = LUO
    dependent = tuple(f"{part}{k}" for k in range(PARTS) for part in ("fall", "rate", "since"))
    columns = ("S1", *dependent)
    shape = "L0 + A / S1^alpha - B sum_k fall_k (1 - (1 + C rate_k^-gamma since_k)^-beta)"
    linear = ("L0", "A", "B")
    momenta = ()
    parameters = (
        *Annealing.parameters[:2],
        Parameter("B", "gain per rate that falls", log=True),
        Annealing.parameters[3],
        Parameter("C", "pace of the gain at the peak rate", start=(100.0, 1000.0), log=True),
        Parameter("beta", "exponent of the gain", start=(0.5,), lower=0.05, upper=5.0),
        Parameter("gamma", "exponent of the rate", start=(0.5,), lower=0.0, upper=2.0),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """L0 + A S1^-alpha - B Σ fall (1 - (1 + C rate^-gamma since)^-beta)."""
        fall, rate, since = ([getattr(x, f"{part}{k}") for k in range(PARTS)] for part in ("fall", "rate", "since"))
        gains = (f * (1 - (1 + p.C * r**-p.gamma * s) ** -p.beta) for f, r, s in zip(fall, rate, since, strict=True))
        return p.L0 + p.A * x.S1**-p.alpha - p.B * sum(gains)

    def columns_of(self, rates: ArrayLike) -> dict[str, Array]:
        """Return S1 and the parts of every step of a schedule, ready for `Fit.predict`."""
        eta = np.asarray(rates, float)
        s1, fall = np.cumsum(eta), -np.diff(eta, prepend=eta[:1])
        fall[: warmup_steps(eta) + 1] = 0.0
        change = np.abs(fall)
        part = np.minimum(PARTS * (np.cumsum(change) - change / 2) / max(change.sum(), 1e-300), PARTS - 1).astype(int)
        own = (np.arange(PARTS)[:, None] == part) * change
        weight = np.cumsum(own, 1)
        log_rate, before = (
            np.cumsum(own * one, 1) / np.maximum(weight, 1e-300)
            for one in (np.log(np.maximum(eta / eta.max(), 1e-6)), s1 - eta)
        )
        parts = {"fall": np.cumsum(own * np.sign(fall), 1), "rate": np.exp(log_rate)}
        parts["since"] = np.where(weight > 0, s1 - before, 0.0)
        return {"S1": s1} | {f"{name}{k}": row for name, rows in parts.items() for k, row in enumerate(rows)}

    def gained(self, columns: Mapping[str, Array]) -> Array:
        """How far the rate has fallen."""
        return np.asarray(sum(columns[f"fall{k}"] for k in range(PARTS)))

    def constants(self, parameters: Mapping[str, float]) -> dict[str, float]:
        """Return the constants as the paper has them, for `multi_power`."""
        return {**parameters, "C": parameters["C"] * (self.peak or 1.0) ** parameters["gamma"]}


def multi_power(rates: ArrayLike, steps: ArrayLike, constants: Mapping[str, float], *, warmup: int = 0) -> Array:
    """Return the loss at some steps by the multi-power law, which saturates where the annealing law goes on falling.

    L(s) = L0 + A S1(s)^-alpha + B Σ_{k≤s} (η_k - η_{k-1}) (1 - (1 + C η_k^-gamma (S1(s) - S1(k-1)))^-beta)

    Args:
        rates: η of every step, [steps].
        steps: where the loss is wanted, [n].
        constants: L0, A, alpha, B, C, beta and gamma.
        warmup: steps at the start whose changes of the rate do not count.

    Source: A Multi-Power Law for Loss Curve Prediction Across Learning Rate Schedules (Luo et al., 2025, arXiv
    2503.12811).

    Example:
        >>> constants = {"L0": 2.0, "A": 1.0, "alpha": 0.5, "B": 10.0, "C": 1.0, "beta": 0.5, "gamma": 0.5}
        >>> multi_power([0.1, 0.1, 0.05, 0.05], [1, 3], constants).round(3)
        array([4.236, 3.741])
    """
    eta, s, c = np.asarray(rates, float), np.asarray(steps, int), SimpleNamespace(**constants)
    s1 = np.cumsum(eta)
    k = np.flatnonzero(np.diff(eta)) + 1
    k = k[k > warmup]
    since = np.where(k <= s[:, None], s1[s][:, None] - s1[k - 1], 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = 1 - (1 + c.C * np.where(since > 0, eta[k] ** -c.gamma, 0.0) * since) ** -c.beta
    return np.asarray(c.L0 + c.A * s1[s] ** -c.alpha + c.B * (gain * np.diff(eta)[k - 1]).sum(1))
