"""Over-trained models: their loss with tied exponents, and the task error or accuracy that follows from a loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.fitting import Fit, Parameter, Prediction
from limbeck.fitting.model import Array
from limbeck.fitting.prediction import percentile_interval
from limbeck.laws.law import LINEAR, SOURCES, Law
from limbeck.laws.loss import A, B, E, exponent

GADRE = SOURCES["gadre-2024"]


class Overtraining(Law):
    """Chinchilla's form with one exponent: L = E + A N^-alpha + B D^-alpha.

    With M = D/N (the token multiplier), C = 6 N D and eta = alpha/2 it reads L = E + (a M^eta + b M^-eta) C^-eta (eq.
    4): over-training moves the level of a power law in compute and leaves its exponent alone. See `OvertrainedLoss` for
    that form.

    Source: Language models scale reliably with over-training and on downstream tasks (Gadre et al., 2024, arXiv
    2403.08540).

    Example:
        >>> float(Overtraining()({"E": 1.8, "A": 100.0, "B": 400.0, "alpha": 0.25}, params=1e8, tokens=16e8).round(3))
        4.8
    """

    name = "overtraining"
    source = GADRE
    columns = ("params", "tokens")
    equation = "E + A / params^alpha + B / tokens^alpha"
    linear = ("E", "A", "B")
    floor = "E"
    parameters = (
        E,
        A,
        replace(B, dimension={"tokens": "alpha"}),
        exponent("alpha", "exponent of size and of data, 2 eta"),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """E + A N^-alpha + B D^-alpha."""
        return p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.alpha


@dataclass(frozen=True)
class OvertrainedLoss:
    """The law in compute and token multiplier: L(C, M) = E + (a M^eta + b M^-eta) C^-eta (eq. 4).

    Args:
        E: irreducible loss, nats/token.
        a, b: levels, a = A 6^eta and b = B 6^eta.
        eta: exponent of compute, alpha/2.

    Source: Language models scale reliably with over-training and on downstream tasks (Gadre et al., 2024, arXiv
    2403.08540).

    Example:
        >>> law = OvertrainedLoss.from_nd(E=1.8, A=100.0, B=400.0, alpha=0.25)
        >>> float(law.best_multiplier())
        256.0
        >>> float(law(flops=6 * 1e8 * 16e8, multiplier=16.0).round(3))
        4.8
    """

    E: float
    a: float
    b: float
    eta: float

    @classmethod
    def from_nd(cls, E: float, A: float, B: float, alpha: float) -> OvertrainedLoss:
        """Return the same law from E + A N^-alpha + B D^-alpha."""
        six = 6.0 ** (alpha / 2)
        return cls(E, A * six, B * six, alpha / 2)

    @classmethod
    def from_official(cls, alpha: float, beta: float, b: float, E: float) -> OvertrainedLoss:
        """Return the law from the authors' code: y = alpha N^b + beta 6^(b/2) (M N)^b + E, b < 0."""
        return cls.from_nd(E, alpha, beta * 6.0 ** (b / 2), -b)

    def to_nd(self) -> dict[str, float]:
        """Return E, A, B, alpha: the parameters of the law `overtraining`."""
        six = 6.0**self.eta
        return {"E": self.E, "A": self.a / six, "B": self.b / six, "alpha": 2 * self.eta}

    def __call__(self, *, flops: ArrayLike, multiplier: ArrayLike) -> Array:
        """Return the loss for a budget in FLOP and a token multiplier D/N."""
        m = np.asarray(multiplier, float) ** self.eta
        return np.asarray(self.E + (self.a * m + self.b / m) * np.asarray(flops, float) ** -self.eta)

    def best_multiplier(self) -> float:
        """Return M* = (b/a)^(1/(2 eta)), the compute-optimal tokens per parameter, the same at every budget."""
        return float((self.b / self.a) ** (0.5 / self.eta))


def informative(error: ArrayLike, random_error: float) -> NDArray[np.bool_]:
    """Return which points an error law may use: those below 98 % of the error of guessing. The law is flat above.

    Args:
        error: mean task errors, [n].
        random_error: mean error of guessing on the same tasks.
    """
    return np.asarray(error, float) <= 0.98 * random_error


def chain(loss_fit: Fit, error_fit: Fit, level: float = 0.8, **columns: ArrayLike) -> Prediction:
    """Predict task error from size and data: the loss law feeds the error law, and so do its uncertainties.

    Each draw of the loss law, with one run's noise, goes through one draw of the error law, with that law's noise.
    Without enough points for draws of the loss law the interval is that of the error law at the delta method's loss
    interval.

    Args:
        loss_fit: a fit of loss on `columns`.
        error_fit: a fit of `downstream-error`, made on measured losses of the same held-out set.
        level: nominal coverage.
        columns: of the loss law.

    Raises:
        FittingError: no interval is possible: fewer than two residual degrees of freedom and no draws.

    Source: Language models scale reliably with over-training and on downstream tasks (Gadre et al., 2024, arXiv
    2403.08540).
    """
    reach = loss_fit.predict(level, **columns)
    mean = error_fit.value(loss=reach.mean)
    if not (loss_fit.draws and error_fit.draws):
        ends = [error_fit.predict(level, loss=end) for end in (reach.lower, reach.upper)]
        return Prediction(mean, ends[0].lower, ends[1].upper, level, reach.extrapolation, reach.outside)
    rng = np.random.default_rng([loss_fit.seed, error_fit.seed])
    losses = loss_fit.simulate(**columns)
    pick = rng.integers(0, len(next(iter(error_fit.draws.values()))), len(losses))
    errors = error_fit.model({name: draw[pick, None] for name, draw in error_fit.draws.items()}, loss=losses)
    errors = error_fit.shifted(errors, rng.choice(error_fit.noise, (len(errors), 1)))
    return Prediction(mean, *percentile_interval(errors, level), level, reach.extrapolation, reach.outside)


BHAGIA = SOURCES["bhagia-2024"]


class FromLoss(Law):
    """A law that reads a loss."""

    columns = ("loss",)
    preferred_loss = LINEAR

    def size(self, x: Any) -> Any:
        """A lower loss is a larger run."""
        return 1.0 / x.loss


class DownstreamError(FromLoss):
    """Mean task error from loss: Err = epsilon - k exp(-gamma L) (eq. 5), L in nats/token: a power law in perplexity.

    Source: Language models scale reliably with over-training and on downstream tasks (Gadre et al., 2024, arXiv
    2403.08540).

    Example:
        >>> float(DownstreamError()({"epsilon": 0.85, "k": 2.0, "gamma": 0.7}, loss=2.5).round(4))
        0.5025
    """

    name = "downstream-error"
    source = GADRE
    target = "error"
    equation = "epsilon - k exp(-gamma loss)"
    linear = ("epsilon", "k")
    parameters = (
        Parameter("epsilon", "error of a model that knows nothing", log=True),
        Parameter("k", "size of the gain", log=True),
        Parameter("gamma", "rate per nat", start=(0.1, 0.3, 0.5, 0.7, 1.0, 1.5, 2.5), lower=0.02, upper=10.0),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """Epsilon - k exp(-gamma L)."""
        return p.epsilon - p.k * np.exp(-p.gamma * x.loss)


class TaskAccuracy(FromLoss):
    """Accuracy on a task falls along a sigmoid of the loss: y = floor + (ceiling - floor) / (1 + exp(k (L - L0))).

    L is any loss that the model's scale moves: the task's own bits per byte of the right answer, or a cross-entropy on
    held-out text. The ceiling is seldom in sight of small models; `fixed={"ceiling": 1.0}` puts it where a perfect
    model is.

    Source: Establishing Task Scaling Laws via Compute-Efficient Model Ladders (Bhagia et al., 2024, arXiv 2412.04403),
    step 2, with the sign of k turned.

    Example:
        >>> law = TaskAccuracy()
        >>> float(law({"floor": 0.25, "ceiling": 1.0, "k": 8.0, "L0": 0.8}, loss=0.8))
        0.625
    """

    name = "task-accuracy"
    source = BHAGIA
    target = "accuracy"
    equation = "floor + (ceiling - floor) / (1 + exp(k (loss - L0)))"
    linear = ("floor", "ceiling")
    parameters = (
        Parameter("floor", "accuracy of a model that knows nothing", lower=0.0, upper=1.0),
        Parameter("ceiling", "accuracy of the best model", lower=0.0, upper=1.0),
        Parameter("k", "steepness per unit of loss", (3.0, 8.0, 20.0, 60.0), 0.3, 100.0, True, {"loss": -1.0}),
        Parameter("L0", "loss at half-way", (0.6, 0.8, 0.95, 1.1), 0.1, 3.0, True, {"loss": 1.0}),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """Floor + (ceiling - floor) / (1 + exp(k (L - L0)))."""
        return p.floor + (p.ceiling - p.floor) / (1 + np.exp(p.k * (x.loss - p.L0)))
