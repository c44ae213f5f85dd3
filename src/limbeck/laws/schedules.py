"""Learning rates step by step, and the two areas under them that a loss curve depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError, nearest
from limbeck.fitting.model import Array

SHAPES: dict[str, Callable[[Array, float], Array]] = {
    "cosine": lambda u, low: low + (1 - low) * (1 + np.cos(np.pi * u)) / 2,
    "linear": lambda u, low: 1 + (low - 1) * u,
    "exponential": lambda u, low: low**u,
    "1-sqrt": lambda u, low: 1 + (low - 1) * np.sqrt(u),
    "step": lambda u, low: np.full_like(u, low),
}
"""Ways down: share of the peak rate at the share u of the decay, low = end / peak at u = 1."""

LONGEST = 10_000_000
"""Steps of a schedule; more are tokens by mistake."""


@dataclass(frozen=True)
class Schedule:
    """A learning rate for every step: linear warm-up, plateau, decay.

    Args:
        steps: how many.
        peak: rate of the plateau.
        shape: way down, one of `SHAPES`.
        end: rate that the decay reaches at `steps`.
        warmup: steps from 0 to the peak.
        decay: share of the steps that decay; 0 is a constant rate, 1 decays from the end of the warm-up on.

    Raises:
        FittingError: the shape is unknown, or the numbers make no schedule.

    Example:
        >>> Schedule(8, 1.0, "linear", warmup=2, decay=0.5).rates()
        array([0.  , 0.5 , 1.  , 1.  , 1.  , 0.75, 0.5 , 0.25])
    """

    steps: int
    peak: float
    shape: str = "cosine"
    end: float = 0.0
    warmup: int = 0
    decay: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            hint = f"{nearest(self.shape, SHAPES)} One of: {', '.join(SHAPES)}."
            raise FittingError(f'unknown shape "{self.shape}".{hint}')
        if not (0 <= self.warmup < self.steps and 0 <= self.end <= self.peak > 0 and 0 <= self.decay <= 1):
            raise FittingError(f"no schedule: {self}. Needs warmup < steps, 0 <= end <= peak, decay from 0 to 1.")
        if self.shape == "exponential" and not self.end:
            raise FittingError("an exponential decay never reaches 0: give the rate at its end.")
        _check_length(self.steps)

    def rates(self) -> Array:
        """Return the rate of every step, [steps]."""
        start = max(self.warmup, round(self.steps * (1 - self.decay)))
        t = np.arange(self.steps, dtype=float)
        down = SHAPES[self.shape](np.maximum(t - start, 0) / max(self.steps - start, 1), self.end / self.peak)
        rising = np.minimum(t / max(self.warmup, 1), 1.0) if self.warmup else 1.0
        return np.asarray(self.peak * np.where(t < start, rising, down))


def logged_rates(step: ArrayLike, lr: ArrayLike) -> Array:
    """Return the rate of every step up to the last logged one, linear between the logged ones and from 0 before them.

    Args:
        step: logged steps, increasing, [n].
        lr: rates there, [n].

    Raises:
        FittingError: more than ten million steps.

    Example:
        >>> logged_rates([2, 4, 6], [1.0, 1.0, 0.5])
        array([0.  , 0.5 , 1.  , 1.  , 1.  , 0.75, 0.5 ])
    """
    at = np.asarray(step, float)
    _check_length(at[-1])
    head = ([0.0], [0.0]) if at[0] > 0 else ([], [])
    return np.interp(np.arange(at[-1] + 1), np.r_[head[0], at], np.r_[head[1], np.asarray(lr, float)])


def _check_length(steps: float) -> None:
    if steps > LONGEST:
        raise FittingError(f"a schedule has {LONGEST:.0e} steps or fewer; got {steps:.2g}. Are they tokens?")


def warmup_steps(rates: ArrayLike) -> int:
    """Return the step at which the first rise ends.

    Example:
        >>> warmup_steps([0.0, 0.5, 1.0, 1.0, 0.2, 0.4])
        2
    """
    return int(np.argmin(np.append(np.diff(np.asarray(rates, float)) > 0, False)))


def areas(rates: ArrayLike, momentum: float, warmup: int = 0) -> tuple[Array, Array]:
    """Return the forward area S1 and the annealing area S2 of every step, [steps] each.

    S1(s) = Σ_{i≤s} η_i; m_i = λ m_{i-1} + (η_{i-1} - η_i), S2(s) = Σ_{i≤s} m_i. A drop δ of the rate at step k leaves
    S2(s) = δ (1 - λ^(s-k+1)) / (1 - λ).

    Args:
        rates: η of every step, [steps].
        momentum: λ, how long a change of the rate lasts: 1/(1 - λ) steps.
        warmup: steps at the start whose rise is no (negative) annealing.

    Source: Scaling Law with Learning Rate Annealing (Tissue, Wang, Wang, 2024, arXiv 2408.11029); that the warm-up is
    left out of S2 is reconstructed.

    Example:
        >>> areas([1.0, 1.0, 0.5, 0.5], 0.5)[1]
        array([0.  , 0.  , 0.5 , 0.75])
    """
    from scipy.signal import lfilter  # here, so that other laws do not wait for it

    eta = np.asarray(rates, float)
    drop = -np.diff(eta, prepend=eta[:1])
    drop[: warmup + 1] = 0.0
    return np.cumsum(eta), np.cumsum(lfilter([1.0], [1.0, -momentum], drop))
