"""Pass rates of a series of models: the task law, whether a skill emerges faster than it, and the next model's rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Fit, Interval, Parameter, Prediction
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.fitting.plain import plain
from limbeck.laws.law import fit
from limbeck.laws.loss import OneColumn, exponent
from limbeck.laws.task_passes import HU, Estimator, PassCounts


@dataclass(frozen=True)
class PassRate(OneColumn):
    """The task law: pass rate = exp(-(E + A x^-alpha)), so ln(-ln rate) is a line in ln x where E = 0, as in the paper.

    A + E is the loss of a whole reference answer; exp(-E) is the rate of the largest models, which label noise or an
    ambiguous task keeps below 1.

    Source: Predicting Emergent Abilities with Infinite Resolution Evaluation (Hu et al., 2023, arXiv 2310.03262); the
    floor E is ours.

    Example:
        >>> float(PassRate()({"E": 0.0, "A": 4000.0, "alpha": 0.4}, params=1e9).round(3))
        0.366
    """

    column: str = "params"
    quantity: str = "pass_rate"

    name = "pass-rate"
    source = HU
    shape = "exp(-(E + A / x^alpha))"
    floor = "E"
    preferred_loss = SQUARED

    declared = (
        Parameter("E", "surprise that stays, nats", start=(0.01, 0.1, 1.0), log=True),
        Parameter("A", "surprise at x = 1, nats", start=(0.1, 1.0, 5.0), log=True, dimension={"x": "alpha"}),
        exponent("alpha", "exponent"),
    )

    def curve(self, p: Any, x: Any) -> Any:
        """exp(-(E + A x^-alpha))."""
        return np.exp(-(p.E + p.A * x**-p.alpha))


@dataclass(frozen=True)
class Growth:
    """How a pass rate grows: the curvature of F = ln(-ln rate) in ln x.

    Args:
        verdict: "accelerated emergence" (F concave: faster than the law), "scaling-law growth" (a line), "sub-law
            growth" (F convex) or "undecided" (fewer than four sizes).
        curvature: second-order coefficient b2 of F in ln x.
        p_value: two-sided, of b2 = 0.
    """

    verdict: str
    curvature: float
    p_value: float


def growth(x: ArrayLike, rates: ArrayLike, errors: ArrayLike | None = None, *, level: float = 0.95) -> Growth:
    """Test whether ln(-ln rate) bends in ln x, by a quadratic weighted by 1/Var(F), Var(F) = (error / (p ln p))².

    A task of several steps that each follow the law bends F upwards (see `multi_step`); only several ways to succeed
    can bend it downwards (see `multi_circuit`).

    Args:
        x: sizes, [n].
        rates: strictly between 0 and 1, [n].
        errors: standard errors of the rates, [n]; equal weights if not given.
        level: confidence at which a bend counts.

    Source: Predicting Emergent Abilities with Infinite Resolution Evaluation (Hu et al., 2023, arXiv 2310.03262).

    Example:
        >>> size = np.array([1e6, 1e7, 1e8, 1e9])
        >>> growth(size, np.exp(-4000 * size**-0.6)).verdict
        'scaling-law growth'
    """
    p = np.asarray(rates, float)
    if len(p) < 4:
        return Growth("undecided", float("nan"), float("nan"))
    u, f = np.log(np.asarray(x, float)), np.log(-np.log(p))
    w = np.ones(len(p)) if errors is None else np.abs(p * np.log(p)) / np.asarray(errors, float)
    (b2, *_), cov = np.polyfit(u - u.mean(), f, 2, w=w, cov=True)
    t = b2 / max(float(np.sqrt(cov[0, 0])), 1e-9)  # rounding bends a perfect line too
    p_value = float(2 * stdtr(len(p) - 3, -abs(t)))
    bend = "scaling-law growth" if p_value > 1 - level else "accelerated emergence" if b2 < 0 else "sub-law growth"
    return Growth(bend, float(b2), p_value)


def multi_step(x: ArrayLike, c: ArrayLike, alpha: ArrayLike) -> Array:
    """Return the rate of a task whose steps all must succeed, Π exp(-c_i x^-alpha_i): F is convex in ln x."""
    return np.asarray(np.exp(-np.sum(_surprise(x, c, alpha), -1)))


def multi_circuit(x: ArrayLike, c: ArrayLike, alpha: ArrayLike) -> Array:
    """Return the rate of a task with several ways to succeed, 1 - Π (1 - exp(-c_j x^-alpha_j)): F can be concave."""
    return np.asarray(1 - np.prod(-np.expm1(-_surprise(x, c, alpha)), -1))


def _surprise(x: ArrayLike, c: ArrayLike, alpha: ArrayLike) -> Array:
    return np.asarray(np.asarray(c, float) * np.asarray(x, float)[..., None] ** -np.asarray(alpha, float))


def instance_rates(x: ArrayLike, passes: ArrayLike, draws: ArrayLike, at: float) -> Array:
    """Return the pass rate of every instance at another size, from its own law exp(-c_s x^-alpha_s), [n].

    The mean of such curves is not one of them: predict each, then average. Passes are binomial with a complementary
    log-log link, whatever stopped the drawing, so that instances that never or always pass count as what they are.
    (ln c_s, alpha_s) are normal over instances, with mean and covariance by expectation maximisation: instances borrow
    from each other. A negative alpha_s counts as 0.

    Args:
        x: sizes, [k].
        passes, draws: of the same instances at every size, [k, n].
        at: the size to predict.

    Source: Predicting Emergent Abilities with Infinite Resolution Evaluation (Hu et al., 2023, arXiv 2310.03262); the
    likelihood and the borrowing are ours.

    Example:
        >>> size, draws = np.array([1e6, 1e7, 1e8]), np.full((3, 2), 1e9)
        >>> law = lambda x: np.exp(-np.array([900.0, 50.0]) * x ** -np.array([0.5, 0.2]))
        >>> instance_rates(size, draws * law(size[:, None]), draws, 1e9).round(3).tolist(), law(1e9).round(3).tolist()
        ([0.972, 0.453], [0.972, 0.453])
    """
    c, k = (np.asarray(one, float).T for one in (passes, draws))
    u = np.log(np.asarray(x, float))
    design = np.stack([np.ones(len(u)), u.mean() - u])
    eta = np.log(-np.log((c + 0.5) / (k + 1)))
    centre, spread = np.array([eta.mean(), 0.3]), np.diag([10.0, 1.0])
    for _ in range(50):
        surprise = np.exp(np.clip(eta, -8.0, 3.5))
        fail = -np.expm1(-surprise)
        weight = k * surprise**2 * np.exp(-surprise) / fail
        force = weight * eta + k * surprise / fail * ((k - c) / k - fail)
        belief = np.linalg.inv(spread)
        covariance = np.linalg.inv(np.einsum("ak,bk,nk->nab", design, design, weight) + belief)
        own = np.einsum("nab,nb->na", covariance, force @ design.T + belief @ centre)
        eta = np.clip(own @ design, -8.0, 3.5)
        centre = own.mean(0)
        spread = covariance.mean(0) + np.cov(own.T, bias=True) + 1e-12 * np.eye(2)
    return np.asarray(np.exp(-np.exp(own[:, 0] + np.maximum(own[:, 1], 0.0) * (u.mean() - np.log(at)))))


@dataclass(frozen=True)
class TaskCurve:
    """What pass rates of a series of models say about the next. Build it with `task_curve`.

    Args:
        column: what the sizes are.
        x: sizes, increasing, [k].
        counts: passes and draws at each, of the same instances.
        rates: mean pass rates, [k].
        errors: their standard errors over instances, [k].
        growth: the test of emergence.
        fits: "law" and "law with a floor" through the rates between 0 and 1, those that there were sizes for.
        notes: what limits the answer, in words.
    """

    column: str
    x: Array
    counts: Sequence[PassCounts]
    rates: Array
    errors: Array
    growth: Growth
    fits: Mapping[str, Fit]
    notes: tuple[str, ...]

    def predict(self, at: ArrayLike, level: float = 0.8, *, law: str | None = None) -> Prediction:
        """Predict the mean pass rate at other sizes by one law, the one with a floor where there is one.

        Raises:
            FittingError: no such law was fitted.
        """
        law = law or ["law", *self.fits][-1]
        if law not in self.fits:
            raise FittingError(f'no "{law}" was fitted: {"; ".join(self.notes) or f"there are {len(self.x)} sizes"}.')
        predicted = self.fits[law].predict(level, **{self.column: at})
        return replace(predicted, upper=np.minimum(predicted.upper, 1.0))

    def predict_instances(self, at: float, level: float = 0.8, *, seed: int = 0) -> Interval:
        """Predict the mean pass rate at another size instance by instance, with its interval over resampled instances.

        Raises:
            FittingError: the sizes were not measured on the same number of instances, or there is one size.
        """
        if len({len(one.draws) for one in self.counts}) != 1 or len(self.x) < 2:
            raise FittingError("predicting every instance takes two or more sizes, measured on the same instances.")
        passes, draws = (np.array([getattr(one, name) for one in self.counts]) for name in ("passes", "draws"))
        rates = instance_rates(self.x, passes, draws, at)
        drawn = np.random.default_rng(seed).choice(rates, (1000, len(rates))).mean(1)
        return Interval.of(drawn, rates.mean(), level)

    def summary(self) -> str:
        """Return the rates, the test of emergence and what limits them."""
        lines, g = [], self.growth
        for x, rate, error, counts in zip(self.x, self.rates, self.errors, self.counts, strict=True):
            lines.append(f"{self.column} {x:.3g}: pass rate {rate:.3g} ± {error:.1g}, {counts.censored:.0%} given up")
        bend = f"{g.verdict}: ln(-ln rate) has curvature {g.curvature:+.2g} in ln {self.column} (p = {g.p_value:.2g})"
        if np.isnan(g.curvature):
            bend = f"{g.verdict}: whether the skill emerges takes four sizes with a rate between 0 and 1"
        return "\n".join([*lines, bend, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        same = {name: getattr(self, name) for name in ("column", "x", "rates", "errors", "notes")}
        given_up = [counts.censored for counts in self.counts]
        laws = {name: one.parameters for name, one in self.fits.items()}
        return dict(plain({**same, "given_up": given_up, "growth": asdict(self.growth), "laws": laws}))

    def plot(self) -> Any:
        """Draw the rates with the law and its band, or alone where there were too few for a law."""
        if self.fits:
            return list(self.fits.values())[-1].plot()
        rates = {"mode": "markers", "x": self.x, "y": self.rates, "name": "pass rate"}
        return chart("too few rates between 0 and 1 for a law", self.column, "pass_rate", [rates], log="x")


def task_curve(
    x: ArrayLike, counts: Sequence[PassCounts], *, column: str = "params", estimator: Estimator = "umvu",
    bootstrap: int = 200, seed: int = 0,
) -> TaskCurve:  # fmt: skip
    """Fit the task law to the pass rates of a series of models, and test for emergence.

    Sizes with a mean rate of 0 or 1 have no ln(-ln rate): they are named and left out. The law needs two others, the
    law with a floor four.

    Args:
        x: sizes, [k].
        counts: passes and draws at each size.
        column: what the sizes are: params, flops, samples, ...
        estimator: see `PassCounts.rates`.
        bootstrap: resamples of the residuals.
        seed: of the resamples.

    Raises:
        FittingError: the estimator cannot be used.

    Source: Predicting Emergent Abilities with Infinite Resolution Evaluation (Hu et al., 2023, arXiv 2310.03262).
    """
    order = np.argsort(np.asarray(x, float), kind="stable")
    sizes, counts = np.asarray(x, float)[order], [counts[k] for k in order]
    each = [one.rates(estimator) for one in counts]
    rates, errors = np.array([r.mean() for r in each]), np.array([r.std() / np.sqrt(len(r)) for r in each])
    usable = (rates > 0) & (rates < 1)
    notes = []
    for size, rate, one in zip(sizes[~usable], rates[~usable], np.array(counts, object)[~usable], strict=True):
        total = float(np.sum(one.draws))
        reason = f"no pass in {total:.3g} draws (rate below {3 / total:.2g})" if rate == 0 else "every draw passed"
        notes.append(f"{column} {size:.3g} left out of the law: {reason}")
    inside, fits = int(usable.sum()), {}
    columns = {column: sizes[usable], "pass_rate": rates[usable]}
    weights = (rates[usable] / np.maximum(errors[usable], 1e-9)) ** 2
    how: dict[str, Any] = {"weights": weights, "bootstrap": bootstrap, "method": "wild", "seed": seed}
    if inside < 2:
        notes.append(f"{inside} sizes with a rate between 0 and 1: the law needs two or more")
    else:
        fits["law"] = fit(PassRate(column), columns, fixed={"E": 0.0}, **how | {"bootstrap": bootstrap * (inside > 3)})
    if inside > 3:
        fits["law with a floor"] = fit(PassRate(column), columns, **how)
    bend = growth(sizes[usable], rates[usable], errors[usable])
    return TaskCurve(column, sizes, counts, rates, errors, bend, fits, tuple(notes))
