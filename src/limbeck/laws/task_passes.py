"""How often a model solves a task: draw until the r-th success, and even tiny probabilities get a number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, binom, hyp2f1

from limbeck.errors import FittingError
from limbeck.fitting import Interval
from limbeck.fitting.model import Array
from limbeck.fitting.prediction import check_level
from limbeck.laws.law import SOURCES

HU = SOURCES["hu-2023"]

Estimator = Literal["umvu", "mle"]


def draw_until(
    draw: Callable[[int], ArrayLike], needed: int = 5, *, cap: int = 100_000, batch: int = 64
) -> tuple[int, int]:
    """Draw generations for one instance until `needed` of them pass; return passes and draws.

    Draws of a batch after the last needed pass do not count: counting them would bias the rate.

    Args:
        draw: takes a number of generations, independent ones, and returns which of them pass, [number].
        needed: passes at which to stop, r.
        cap: draws at which to give up.
        batch: generations asked for at once.

    Source: Predicting Emergent Abilities with Infinite Resolution Evaluation (Hu et al., 2023, arXiv 2310.03262).

    Example:
        >>> results = iter([[False, True], [False, False], [True, True]])
        >>> draw_until(lambda number: next(results), needed=2, batch=2)
        (2, 5)
    """
    passes = drawn = 0
    while drawn < cap:
        hits = np.flatnonzero(np.asarray(draw(min(batch, cap - drawn)), bool))
        if passes + len(hits) >= needed:
            return needed, drawn + int(hits[needed - passes - 1]) + 1
        passes, drawn = passes + len(hits), min(drawn + batch, cap)
    return passes, drawn


@dataclass(frozen=True)
class PassCounts:
    """Passes and draws of n instances of a task, by one model.

    Args:
        passes: successes c of each instance, [n].
        draws: generations K it took, [n].
        needed: passes r at which drawing stopped; None where the number of draws was fixed beforehand.

    Source: Predicting Emergent Abilities with Infinite Resolution Evaluation (Hu et al., 2023, arXiv 2310.03262); all
    but the maximum-likelihood estimator is ours.

    Example:
        >>> counts = PassCounts([5, 5, 1], [9, 120, 500], needed=5)
        >>> counts.rates().round(4).tolist(), round(counts.censored, 2)
        ([0.5, 0.0336, 0.002], 0.33)
    """

    passes: Array
    draws: Array
    needed: int | None = 5

    def __post_init__(self) -> None:
        """Refuse counts that cannot be."""
        c, k = (np.atleast_1d(np.asarray(one, float)) for one in (self.passes, self.draws))
        limit = np.inf if self.needed is None else self.needed
        bad = np.flatnonzero(~((c >= 0) & (c <= k) & (k > 0) & (c <= limit)))
        if len(bad):
            stop = "" if self.needed is None else f" and at most needed={self.needed} (None: a fixed number of draws)"
            raise FittingError(
                f"instance {bad[0]} has {c[bad[0]]:g} passes in {k[bad[0]]:g} draws: passes must lie between 0 and the "
                f"draws{stop}."
            )
        object.__setattr__(self, "passes", c)
        object.__setattr__(self, "draws", k)

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which instances reached the needed passes, [n]; none where the number of draws was fixed."""
        return np.asarray(self.passes == self.needed)

    @property
    def censored(self) -> float:
        """Share of instances given up before the needed passes."""
        return 0.0 if self.needed is None else float(1 - self.finished.mean())

    @property
    def pooled(self) -> float:
        """Σ c / Σ K, the maximum-likelihood rate of instances that share one."""
        return float(np.sum(self.passes) / np.sum(self.draws))

    def rates(self, estimator: Estimator = "umvu") -> Array:
        """Return the pass rate of each instance, [n].

        "umvu" is (r - 1)/(K - 1) for a finished instance and c/K for one given up or with fixed draws: unbiased for any
        cap (Girshick, Mosteller and Savage 1946). "mle" is r/K, as in the paper: too high by -ln p/(1 - p) for r = 1
        and by r/(r - 1) for small p (see `mle_mean`).

        Raises:
            FittingError: "umvu" with one needed pass, or an unknown estimator.
        """
        if estimator not in ("umvu", "mle"):
            raise FittingError(f'unknown estimator "{estimator}": choose umvu (unbiased) or mle (the paper).')
        if estimator == "umvu" and self.needed == 1:
            raise FittingError('no unbiased rate from one pass: draw until two or more, or choose estimator="mle".')
        less = self.finished & (estimator == "umvu")
        return np.asarray((self.passes - less) / (self.draws - less))

    def intervals(self, level: float = 0.95) -> tuple[Array, Array]:
        """Return exact intervals of the rates, [n] each.

        A finished instance: BetaInv((1-level)/2; r, K-r+1) to BetaInv((1+level)/2; r, K-r); others as Clopper-Pearson,
        so no pass in K draws gives 0 to 1 - ((1-level)/2)^(1/K).
        """
        check_level(level)
        c, k = self.passes, self.draws
        above = c + ~self.finished
        with np.errstate(invalid="ignore"):
            low = np.where(c > 0, betaincinv(np.maximum(c, 1), k - c + 1, (1 - level) / 2), 0.0)
            high = np.where(k > c, betaincinv(above, np.maximum(k - c, 1), (1 + level) / 2), 1.0)
        return low, high

    def mean(
        self, estimator: Estimator = "umvu", level: float = 0.8, *, resamples: int = 1000, seed: int = 0
    ) -> Interval:
        """Return the mean rate over instances with its interval over resampled instances.

        Those given up count: leaving them out would raise the mean.
        """
        rates = self.rates(estimator)
        drawn = np.random.default_rng(seed).choice(rates, (resamples, len(rates))).mean(1)
        return Interval.of(drawn, rates.mean(), level)


def mle_mean(rate: ArrayLike, needed: int = 1) -> Array:
    """Return the expectation of r/K, p 2F1(1, 1; r + 1; 1 - p): what the paper's estimator measures.

    Example:
        >>> mle_mean([0.5, 1e-3]).round(4).tolist(), float(mle_mean(0.01, 5).round(4))
        ([0.6931, 0.0069], 0.0125)
    """
    p = np.asarray(rate, float)
    if needed > 1:
        return np.asarray(p * hyp2f1(1, 1, needed + 1, 1 - p))
    log = np.log(np.clip(p, 1e-300, 1 - 1e-12))  # -p ln p / (1 - p), where the series of 2F1 ends too early
    return np.asarray(p * log / np.expm1(log))


def expected_draws(rate: ArrayLike, needed: int = 5, cap: int = 100_000) -> Array:
    """Return the draws that an instance takes, E[min(K, cap)] = Σ_j P(at least j passes in cap draws) / p, j = 1..r.

    Example:
        >>> expected_draws([0.1, 1e-9], needed=5, cap=1000).round().tolist()
        [50.0, 1000.0]
    """
    p = np.maximum(np.asarray(rate, float), 1e-300)
    j = np.arange(1, needed + 1)
    return np.asarray(betainc(j, cap - j + 1, p[..., None]).sum(-1) / p)


def pass_at_k(passes: ArrayLike, draws: ArrayLike, k: int) -> Array:
    """Return the unbiased chance that one of k generations passes, 1 - C(n - c, k)/C(n, k), from n fixed draws.

    Raises:
        FittingError: fewer draws than k.

    Example:
        >>> pass_at_k([2, 0], 10, 3).round(3).tolist()
        [0.533, 0.0]
    """
    c, n = np.asarray(passes, float), np.asarray(draws, float)
    if (n < k).any():
        raise FittingError(f"pass@{k} needs {k} draws or more of each instance; one has {n.min():g}.")
    return np.asarray(1 - binom(n - c, k) / binom(n, k))
