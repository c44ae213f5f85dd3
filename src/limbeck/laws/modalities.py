"""Published laws of autoregressive models in every modality, and what they say about entropy and information."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.laws.law import TABLES
from limbeck.laws.trend import Trend

PETAFLOP_DAY = 8.64e19
"""FLOP in a petaflop/s-day, the unit of compute in the source."""


@dataclass(frozen=True)
class PowerPlusConstant:
    """L(x) = L_inf + (x0/x)^alpha (eq. 1.1): L_inf reads as the entropy of the data, the rest as KL(data || model).

    Args:
        L_inf: irreducible loss, nats/token.
        x0: scale, in the unit of x. It means nothing across domains: x0 and alpha are almost collinear.
        alpha: exponent.

    Source: Scaling Laws for Autoregressive Generative Modeling (Henighan et al., 2020, arXiv 2010.14701).

    Example:
        >>> law = PowerPlusConstant(3.12, 80.0, 0.24)
        >>> float(law.value(1e6).round(3)), float(law.x_for(law.reducible(1e6)).round())
        (3.224, 1000000.0)
    """

    L_inf: float
    x0: float
    alpha: float

    def reducible(self, x: ArrayLike) -> Array:
        """Return L - L_inf, nats/token left to learn."""
        return np.asarray((self.x0 / np.asarray(x, float)) ** self.alpha)

    def value(self, x: ArrayLike) -> Array:
        """Return L."""
        return self.L_inf + self.reducible(x)

    def x_for(self, reducible: ArrayLike) -> Array:
        """Return the scale that leaves a given reducible loss, x0 r^(-1/alpha). In parameters: the size for a KL."""
        return np.asarray(self.x0 * np.asarray(reducible, float) ** (-1.0 / self.alpha))


@dataclass(frozen=True)
class Modality:
    """What table 1 gives for one domain.

    Args:
        params: L against non-embedding parameters.
        compute: L against compute in petaflop/s-days, None for text parts of multimodal models.
        optimal: N_opt against compute in petaflop/s-days. Its exponent near 0.7 shares the bias of fixed schedules and
            non-embedding counts; later work finds about 0.5.
        tokens_per_item: tokens of one image or video, where the domain fixes it.
    """

    params: PowerPlusConstant
    compute: PowerPlusConstant | None = None
    optimal: Trend | None = None
    tokens_per_item: int | None = None

    def optimal_tokens(self, compute: ArrayLike) -> Array:
        """Return the tokens processed at the optimum, E = C/(6 N_opt), for compute in petaflop/s-days."""
        if self.optimal is None:
            raise FittingError("this domain has no published N_opt(C).")
        return np.asarray(np.asarray(compute, float) * PETAFLOP_DAY / (6.0 * self.optimal.value(compute)))

    def nats_per_item(self, params: ArrayLike) -> Array:
        """Return nats per image or video left to learn: reducible loss times tokens."""
        if self.tokens_per_item is None:
            raise FittingError("this domain fixes no number of tokens per item.")
        return self.params.reducible(params) * self.tokens_per_item


def _trend(unit: float, beta: float) -> Trend:
    return Trend(math.exp(-beta * math.log(unit)), beta)


COLUMNS: tuple[Callable[..., Any], ...] = (PowerPlusConstant, PowerPlusConstant, _trend)
MODALITIES = {
    domain: Modality(*(make(*one) for make, one in zip(COLUMNS, row, strict=False)), *row[3:])
    for domain, row in TABLES["modalities"].items()
}
"""Table 1 of the source, by domain. Loss in nats/token, N in non-embedding parameters, C in petaflop/s-days."""


def mutual_information(loss_blank: ArrayLike, loss_conditioned: ArrayLike) -> Array:
    """Return what the condition tells the model, in the unit of the losses: I = L(blank) - L(conditioned) (section 4).

    The model must have been trained with blanked conditions too, else I comes out about twice too large.

    Source: Scaling Laws for Autoregressive Generative Modeling (Henighan et al., 2020, arXiv 2010.14701).
    """
    return np.asarray(np.asarray(loss_blank, float) - np.asarray(loss_conditioned, float))


def infogain(information: ArrayLike, condition_loss: ArrayLike) -> Array:
    """Return the share of the condition's information that the model uses: I / L(condition) (eq. 1.3).

    Outside [0, 1] it is a fault of the measurement, not information.

    Source: Scaling Laws for Autoregressive Generative Modeling (Henighan et al., 2020, arXiv 2010.14701).

    Example:
        >>> float(infogain(mutual_information(21.29, 20.38), np.log(10)).round(2))
        0.4
    """
    return np.asarray(np.asarray(information, float) / np.asarray(condition_loss, float))


def trend_conflict(
    compute: PowerPlusConstant, data: PowerPlusConstant, optimal: Trend, *, unit: float = PETAFLOP_DAY
) -> float:
    """Return the compute beyond which L(C) would fall below L(D(C)), D(C) = C/(6 N_opt(C)).

    One of the trends must break there (section 6).

    Args:
        compute: L against compute.
        data: L against tokens.
        optimal: N_opt against compute.
        unit: FLOP in one unit of compute.

    Raises:
        FittingError: the trends do not cross within 60 decades.

    Source: Scaling Laws for Autoregressive Generative Modeling (Henighan et al., 2020, arXiv 2010.14701).
    """

    from scipy.optimize import brentq  # here, so that a fit does not wait for it

    def excess(log_compute: float) -> float:
        c = math.exp(log_compute)
        tokens = c * unit / (6.0 * float(optimal.value(c)))
        return math.log(float(compute.value(c))) - math.log(float(data.value(tokens)))

    grid = np.linspace(-30, 30, 241) * math.log(10)
    values = np.array([excess(g) for g in grid])
    falls = (values[:-1] > 0) & (values[1:] <= 0)
    if not falls.any():
        raise FittingError("the trends of loss with compute and with data do not cross.")
    k = int(falls.argmax())
    return math.exp(float(brentq(excess, grid[k], grid[k + 1], xtol=1e-12)))
