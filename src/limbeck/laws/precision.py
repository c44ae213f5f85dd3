"""Loss against bits: a curve per precision in the bits of a model, and a law of training and post-training precision.

A precision shifts the curve of loss against total bits; a method that makes b-bit models as good as (b+1)-bit ones
gains one level.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Fit, Interval, Parameter
from limbeck.fitting.model import Array
from limbeck.laws.law import SOURCES, Law
from limbeck.laws.loss import A, B, E, exponent
from limbeck.runs import RunTable

DING = SOURCES["ding-2025"]
KUMAR = SOURCES["kumar-2024"]
TRAINED = {"bits": "w", "activation_bits": "a", "kv_bits": "kv"}
"""Columns of training precisions, with the letter of their parameters."""


def total_bits(
    params: ArrayLike, bits: ArrayLike, *, group: float = math.inf, group_bits: float = 16.0, unquantised: float = 0.0
) -> Array:
    """Return the bits of a model, S = n (b + group_bits / group) + 16 n_unquantised.

    Args:
        params: quantised weights, n.
        bits: b of each.
        group: weights that share one scale; infinity for scales that do not count.
        group_bits: of its scale and, if it has one, its zero point.
        unquantised: weights kept at 16 bits, such as embeddings.

    Source: Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative Models (Ding et al., 2025, arXiv
    2501.06218); reconstructed from its abstract.

    Example:
        >>> float(total_bits(1e9, 4, group=64))
        4250000000.0
    """
    return np.asarray(np.asarray(params, float) * (np.asarray(bits, float) + group_bits / group) + 16.0 * unquantised)


@dataclass(frozen=True)
class BitLevel(Law):
    """Loss against total model bits S at each precision b: Q = E + (x_b / S)^alpha.

    x_b is the number of bits at which the reducible loss is 1, so s_b = x_b / x_best is what precision b costs in bits
    against the best one. ln x_b runs straight between two levels. All precisions share E: three sizes cannot identify
    one for each.

    Args:
        levels: the precisions, bits per weight, increasing. `laws.fit` takes them from the table.
        own_exponents: an exponent for every level; the best precision then depends on the size.

    Source: Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative Models (Ding et al., 2025, arXiv
    2501.06218); reconstructed from its abstract.

    Example:
        >>> law = BitLevel((4.0, 8.0))
        >>> law({"E": 2.0, "x4": 1e6, "x8": 4e6, "alpha": 0.5}, total_bits=1e8, bits=[4, 8]).round(3).tolist()
        [2.1, 2.2]
    """

    levels: tuple[float, ...] = (2.0, 3.0, 4.0, 8.0, 16.0)
    own_exponents: bool = False

    name = "bit-level"
    source = DING
    columns = ("total_bits", "bits")
    equation = "E + (x_b / total_bits)^alpha, b = bits"
    linear = ("E",)
    floor = "E"
    preferred_loss = SQUARED
    resampling = "wild"

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(sorted(map(float, self.levels))))

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """E, an x for every level, and alpha or an alpha for every level."""
        scale: dict[str, Any] = {"start": (0.01, 1.0), "log": True, "dimension": {"total_bits": 1.0}}
        meaning, few = "bits at which the reducible loss is 1", (0.1, 0.3, 1.0)
        scales = (Parameter(f"x{b:g}", meaning, **scale) for b in self.levels)
        return (E, *scales, *(exponent(a, "exponent", few) for a in self._alphas))

    @property
    def _alphas(self) -> list[str]:
        return [f"alpha{b:g}" for b in self.levels] if self.own_exponents else ["alpha"]

    def formula(self, p: Any, x: Any) -> Any:
        """E + (x_b/S)^alpha_b."""
        scale = self._between([np.log(getattr(p, f"x{b:g}")) for b in self.levels], x.bits)
        alpha = self._between([getattr(p, name) for name in self._alphas], x.bits)
        return p.E + np.exp(alpha * (scale - np.log(x.total_bits)))

    def _between(self, values: list[Any], bits: Any) -> Any:
        """One value a level, straight between levels and constant outside."""
        result = values[0]
        for low, high, before, after in zip(self.levels, self.levels[1:], values, values[1:], strict=False):
            result = result + np.minimum(np.maximum((bits - low) / (high - low), 0.0), 1.0) * (after - before)
        return result

    def size(self, x: Any) -> Any:
        """The number of weights: more bits in each do not make a larger model."""
        return x.total_bits / x.bits

    def prepare(self, runs: RunTable, *, skip_bad: bool = False) -> tuple[BitLevel, RunTable]:
        """Return the law with the precisions of a table as its levels."""
        runs = runs.require(*self.columns, skip_bad=skip_bad)
        return replace(self, levels=tuple(np.unique(runs.column("bits")))), runs


def level_gain(base: Fit, method: Fit, bits: float, *, level: float = 0.8) -> Interval:
    """Return by how many levels a method improves b-bit models: ln(x_b / x_b,method) / ln(x_b / x_next).

    0 is the base itself; 1 puts the method's b-bit models on the base's curve of the next higher precision. Fit the
    method with the base's floor and exponent, `fixed={"E": ..., "alpha": ...}`: then the shift is the only difference.

    Args:
        base, method: fits of `bit-level`.
        bits: b, a level of both, and not the highest of the base.
        level: nominal coverage.

    Raises:
        FittingError: no such level, or fits without draws to take an interval from.

    Source: Dissecting Bit-Level Scaling Laws in Quantizing Vision Generative Models (Ding et al., 2025, arXiv
    2501.06218); the measure is reconstructed.
    """
    higher = [b for b in base.model.levels if b > bits]  # type: ignore[attr-defined]
    if bits not in method.model.levels or bits not in base.model.levels or not higher:  # type: ignore[attr-defined]
        raise FittingError(f"a gain at {bits:g} bits needs that level in both fits, and a higher one in the base.")
    if not (base.draws and method.draws):
        raise FittingError("a gain needs fits with draws: fit again with bootstrap=1000.")
    own, above = f"x{bits:g}", f"x{higher[0]:g}"

    def gain(base: Mapping[str, Any], method: Mapping[str, Any]) -> Any:
        return np.log(base[own] / method[own]) / np.log(base[own] / base[above])

    count = min(len(base.draws[own]), len(method.draws[own]))
    draws = gain(*({name: draw[:count] for name, draw in fit.draws.items()} for fit in (base, method)))
    return Interval.of(draws, gain(base.parameters, method.parameters), level)


@dataclass(frozen=True)
class Precision(Law):
    """Loss of a model trained and then quantised: L = A N_eff^-alpha + B D^-beta + E + delta.

    N_eff = N prod_x (1 - e^(-P_x / gamma_x)) over the precisions P_x of the training, and delta = C_T D^gamma_D
    N^-gamma_N e^(-P_post / gamma_post) for weights quantised afterwards. delta grows with the data: beyond
    `critical_tokens`, more training makes the quantised model worse.

    Args:
        trained: columns of training precisions that differ between runs: `bits`, `activation_bits`, `kv_bits`.
        post: whether models were quantised after the training, to `post_bits`.
        unified: delta takes N_eff, and a factor prod_x (1 - e^(-C_x (P_x - P_post))): nothing is lost where the
            training was as coarse.

    Source: Scaling Laws for Precision (Kumar et al., 2024, arXiv 2411.04330).

    Example:
        >>> law = Precision(("bits",))
        >>> p = {"E": 2.0, "A": 400.0, "B": 1800.0, "alpha": 0.35, "beta": 0.3, "gamma_w": 2.5}
        >>> law(p, params=3e8, tokens=6e9, bits=[4, 16]).round(3).tolist()
        [4.565, 4.53]
    """

    trained: tuple[str, ...] = ("bits",)
    post: bool = False
    unified: bool = False

    name = "precision"
    source = KUMAR
    floor: ClassVar[str] = "E"
    preferred_loss = SQUARED

    def __post_init__(self) -> None:
        object.__setattr__(self, "trained", tuple(self.trained))

    @property
    def linear(self) -> tuple[str, ...]:  # type: ignore[override]
        """E, A, B and C_T."""
        return ("E", "A", "B", *["C_T"] * self.post)

    @property
    def equation(self) -> str:  # type: ignore[override]
        """The right-hand side, with the term of a later quantisation where there is one."""
        post = " + C_T tokens^gamma_D / params^gamma_N e^(-post_bits / gamma_post)"
        return "E + A / N_eff^alpha + B / tokens^beta" + post * self.post

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """params, tokens, the training precisions and post_bits."""
        return ("params", "tokens", *self.trained, *(("post_bits",) if self.post else ()))

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """Those of Chinchilla's law, a gamma for every precision, and those of delta."""
        bits: dict[str, Any] = {"start": (0.5, 1.5, 3.0), "lower": 0.05, "upper": 50.0, "log": True}
        letters = [TRAINED[column] for column in self.trained]
        two = (0.2, 0.5)
        plain = (E, A, B, exponent("alpha", "exponent of size", two), exponent("beta", "exponent of data", two))
        lost = (Parameter(f"gamma_{x}", "bits at which a share 1/e of the size is lost", **bits) for x in letters)
        if not self.post:
            return (*plain, *lost)
        return (
            *plain, *lost,
            Parameter("C_T", "level of the loss by quantising", log=True),
            exponent("gamma_D", "exponent of data in it", two), exponent("gamma_N", "exponent of size in it", two),
            Parameter("gamma_post", "bits that divide it by e", **bits),
            *(Parameter(f"C_{x}", "rate in P_train - P_post", **bits) for x in letters if self.unified),
        )  # fmt: skip

    def effective_params(self, p: Any, x: Any) -> Any:
        """N_eff = N prod_x (1 - e^(-P_x/gamma_x))."""
        count = x.params
        for column in self.trained:
            count = count * -np.expm1(-getattr(x, column) / getattr(p, f"gamma_{TRAINED[column]}"))
        return count

    def degradation(self, p: Any, x: Any) -> Any:
        """delta, the loss that quantising after the training adds."""
        size = self.effective_params(p, x) if self.unified else x.params
        lost = p.C_T * x.tokens**p.gamma_D * size**-p.gamma_N * np.exp(-x.post_bits / p.gamma_post)
        for column in self.trained if self.unified else ():
            spare = np.maximum(getattr(x, column) - x.post_bits, 0.0)
            lost = lost * -np.expm1(-getattr(p, f"C_{TRAINED[column]}") * spare)
        return lost

    def formula(self, p: Any, x: Any) -> Any:
        """A N_eff^-alpha + B D^-beta + E + delta."""
        loss = p.E + p.A * self.effective_params(p, x) ** -p.alpha + p.B * x.tokens**-p.beta
        return loss + self.degradation(p, x) if self.post else loss

    def prepare(self, runs: RunTable, *, skip_bad: bool = False) -> tuple[Precision, RunTable]:
        """Return the law with the precisions that a table has, unless it was told which."""
        if self != Precision():
            return self, runs
        trained = tuple(column for column in TRAINED if column in runs.columns)
        return replace(self, trained=trained, post="post_bits" in runs.columns), runs


def critical_tokens(p: Any, params: ArrayLike, post_bits: ArrayLike) -> Array:
    """Return the data D* beyond which more training makes a model quantised to `post_bits` worse.

    d/dD (B D^-beta + delta) = 0 at D* = (beta B N^gamma_N e^(P/gamma_post) / (gamma_D C_T))^(1/(beta + gamma_D)).

    Args:
        p: parameters of `precision` with `post`, as attributes: numbers, or arrays of draws.
        params: N.
        post_bits: P.

    Source: Scaling Laws for Precision (Kumar et al., 2024, arXiv 2411.04330); the closed form is derived.
    """
    ratio = np.log(p.beta * p.B / (p.gamma_D * p.C_T)) + p.gamma_N * np.log(params) + post_bits / p.gamma_post
    return np.asarray(np.exp(ratio / (p.beta + p.gamma_D)))


def optimal_training_bits(*gammas: float) -> float:
    """Return the precision P of a training that is best for its compute, (6/16) N D P: sum_x u_x / (e^u_x - 1) = 1.

    u_x = P / gamma_x. It holds where N, D and P are all free and the P_x are equal, and does not depend on the compute.

    Args:
        gammas: of the precisions that are lowered together, two or more: with one alone, fewer bits are always better
            under this law.

    Raises:
        FittingError: fewer than two.

    Source: Scaling Laws for Precision (Kumar et al., 2024, arXiv 2411.04330); the condition is derived.

    Example:
        >>> round(optimal_training_bits(2.7, 2.2, 1.0), 2)
        3.51
    """
    if len(gammas) < 2:
        raise FittingError("a best training precision exists where two or more precisions are lowered together.")
    u = 1.0 / np.asarray(gammas)
    with np.errstate(over="ignore"):
        return float(brentq(lambda bits: float((bits * u / np.expm1(bits * u)).sum()) - 1.0, 1e-9, 20 * max(gammas)))
