"""A fitted model: the optimum, its resamples, the noise of one run, and everything one asks of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from limbeck.errors import FittingError, MisalignedError
from limbeck.files import write_json
from limbeck.fitting.covariance import classical, sandwich
from limbeck.fitting.data import Data
from limbeck.fitting.identifiability import Identifiability, identifiability
from limbeck.fitting.model import Array, Model
from limbeck.fitting.multistart import Starts
from limbeck.fitting.objective import Loss, Prior, Problem
from limbeck.fitting.prediction import Interval, Prediction, bca_interval, check_level, run_interval
from limbeck.fitting.resampling import Method, leave_one_out, leverage
from limbeck.fitting.solver import refit
from limbeck.fitting.tape import Program, trace
from limbeck.fitting.validation import Validation

if TYPE_CHECKING:
    import plotly.graph_objects as go

IntervalMethod = Literal["percentile", "bca"]
Quantity = Callable[[SimpleNamespace], ArrayLike]
Ends = tuple[float, float]


@dataclass(frozen=True)
class Fit:
    """A fitted model. Build it with `fit`.

    Args:
        model: the law.
        parameters: best estimate in natural units.
        objective: the minimised sum.
        loss: what was minimised.
        data: the points.
        starts: how many starts reached the optimum.
        draws: bootstrap draws in natural units, [B] each; empty without a bootstrap.
        noise: residuals in residual space, corrected for leverage: what one new run adds.
        fixed: parameters held at a number.
        priors: beliefs that entered the objective.
        prior_noise: standard deviation of one residual, which weighs data against priors.
        method: how the draws were made.
        degenerate: resamples drawn again because they could not identify the model.
        seed: of the starts and the draws.
        units: unit by column name, for people.
        holdout: check against the largest runs, when it was asked for.
        forced: predict beyond the data also where the model refuses to.
    """

    model: Model
    parameters: dict[str, float]
    objective: float
    loss: Loss
    data: Data
    starts: Starts
    draws: dict[str, Array]
    noise: Array
    fixed: dict[str, float] = field(default_factory=dict)
    priors: dict[str, Prior] = field(default_factory=dict)
    prior_noise: float = 0.01
    method: str = "pairs"
    degenerate: int = 0
    seed: int = 0
    units: dict[str, str] = field(default_factory=dict)
    holdout: Validation | None = None
    forced: bool = False

    @cached_property
    def problem(self) -> Problem:
        """The minimised problem, rebuilt from the data."""
        return self.problem_on(self.data)

    def problem_on(self, data: Data, **fixed: float) -> Problem:
        """The same problem on other data, with further parameters held at a number."""
        priors = {name: prior for name, prior in self.priors.items() if name not in fixed}
        return Problem.build(
            self.model, data.columns, data.target, loss=self.loss, weights=data.weights,
            fixed={**self.fixed, **fixed}, priors=priors, prior_noise=self.prior_noise,
        )  # fmt: skip

    @property
    def z(self) -> Array:
        """The optimum in the solver's centred coordinates, [p]."""
        return self.problem.coordinates(self.parameters)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the fitted parameters."""
        return tuple(name for name in self.model.parameter_names if name not in self.fixed)

    @property
    def degrees_of_freedom(self) -> int:
        """Points minus fitted parameters."""
        return len(self.data) - len(self.free)

    @cached_property
    def sizes(self) -> Array:
        """Size of every point (`Model.size`), [n]."""
        return self.model.sizes(self.data.columns)

    @property
    def largest(self) -> dict[str, float]:
        """The columns of the largest point."""
        return {name: float(values[np.argmax(self.sizes)]) for name, values in self.data.columns.items()}

    def value(self, **columns: ArrayLike) -> Array:
        """Return the point prediction at the given columns, broadcast."""
        return self.model(self.parameters, **columns)

    def values(self, **columns: ArrayLike) -> Array:
        """Return the prediction of every draw, [B, n].

        Raises:
            FittingError: the fit has no draws.
        """
        self._need_draws()
        at = {name: np.atleast_1d(np.asarray(v, float)) for name, v in columns.items()}
        return self.model.by_rows(self.draws, at)

    def simulate(self, **columns: ArrayLike) -> Array:
        """Return what one new run may give at each setting: every draw's prediction moved by a residual, [B, n].

        A draw has the same residual at all settings, so that bands along a line are smooth.

        Raises:
            FittingError: the fit has no draws.
        """
        values = self.values(**columns)
        return self.shifted(values, np.random.default_rng([self.seed, 1]).choice(self.noise, (len(values), 1)))

    def predict(self, level: float = 0.8, **columns: ArrayLike) -> Prediction:
        """Predict one new run at each setting, with the run-to-run noise in the interval.

        With draws the interval holds the central part of `simulate`, widened for small designs (see
        `prediction.run_interval`); without, the spread is the delta method's and the quantile Student's t.

        Args:
            level: nominal coverage of the interval.
            columns: one value or array per column of the model.

        Raises:
            FittingError: a column is missing or unknown, or no interval is possible.
            MisalignedError: the model refuses to say anything beyond these data, and the fit is not `forced`.
        """
        check_level(level)
        flat = self._settings(columns)
        reach = self.model.sizes(flat) / self.sizes.max()
        if self.model.refusal and not self.forced and (reach > 1 + 1e-9).any():
            raise MisalignedError(self.model.refusal)
        with np.errstate(all="ignore"):
            mean = self.value(**flat)
        if not np.isfinite(mean).all():
            at = ", ".join(f"{name}={v[~np.isfinite(mean)][0]:g}" for name, v in flat.items())
            raise FittingError(
                f"{self.model.name} has no finite value at {at}. Give positive numbers in the runs' units."
            )
        if self.draws:
            lower, upper = run_interval(self.simulate(**flat), mean, level, self._spare(), log=self.loss.space == "log")
        elif self.degrees_of_freedom < 2:
            raise FittingError(
                f"no interval possible: {len(self.data)} points for {len(self.free)} parameters leave "
                f"{self.degrees_of_freedom} degrees of freedom (2 are needed). Add runs or fix parameters."
            )
        else:
            error = np.hypot(self.standard_error(**flat), np.sqrt(np.mean(self.noise**2)))
            lower, upper = self._band(mean, error, level)
        outside = tuple(name for name, v in flat.items() if not self.data.inside(name, v).all())
        return Prediction(mean, lower, upper, level, reach, outside)

    def shifted(self, value: Array, shock: Array) -> Array:
        """Move a prediction by a residual of this fit's residual space."""
        if self.loss.space == "log":
            return value * np.exp(shock)
        return value * (1 + shock) if self.loss.space == "relative" else value + shock

    def covariance(self) -> Array:
        """Sandwich covariance of the centred coordinates, clustered by run, [p, p] (see `fitting.covariance`)."""
        return sandwich(self.problem, self.z, self.data.clusters)

    def standard_error(self, **columns: ArrayLike) -> Array:
        """Standard error of the prediction in residual space by the delta method, [n]."""
        return _error(self.slope(**columns), self.covariance())

    def confidence(self, level: float = 0.95, **columns: ArrayLike) -> tuple[Array, Array]:
        """Return the ends of the band of the law itself, [n] each, by the classical delta method for least squares.

        f ± t √(j s² (JᵀJ)⁻¹ jᵀ) in residual space, t the quantile of Student's t with n − p degrees of freedom. One new
        run scatters more widely: see `predict`.

        Raises:
            FittingError: no degrees of freedom.
        """
        check_level(level)
        if self.degrees_of_freedom < 1:
            raise FittingError(f"no band possible: {len(self.data)} points for {len(self.free)} parameters. Add runs.")
        error = _error(self.slope(**columns), classical(self.problem, self.z))
        return self._band(self.value(**self._settings(columns)), error, level)

    def slope(self, **columns: ArrayLike) -> Array:
        """Derivative of the prediction in residual space with respect to the centred coordinates, [p, n]."""
        flat = self._settings(columns)
        at = Program(trace(self.model, fixed=self.fixed, log=self.loss.space == "log"), flat)
        value, jacobian = at.evaluate(self.problem.theta(self.z[None]))
        j = self.problem.transform.T @ jacobian[0]
        return np.asarray(j / value[0] if self.loss.space == "relative" else j)

    @cached_property
    def jackknife(self) -> dict[str, Array]:
        """Parameters with one run left out, [runs] each, from one batch."""
        rows = leave_one_out(self.data.clusters)
        return refit(self.problem.with_rows(weights=rows), self.z, len(rows))

    def derive(self, function: Quantity, level: float = 0.8, *, method: IntervalMethod = "percentile") -> Interval:
        """Return any quantity of the parameters with its interval over the draws.

        Args:
            function: takes a namespace of parameters (numbers or arrays [B]) and returns the quantity.
            level: nominal coverage.
            method: "percentile", or "bca" for the bias-corrected and accelerated interval (Efron 1987).

        Raises:
            FittingError: the fit has no draws, or the method is unknown.
        """
        self._need_draws()
        value = float(np.asarray(function(SimpleNamespace(**self.parameters))))
        draws = function(SimpleNamespace(**self.draws))
        if method == "percentile":
            return Interval.of(draws, value, level)
        if method != "bca":
            raise FittingError(f'unknown interval method "{method}": choose percentile or bca.')
        low, high = bca_interval(draws, value, function(SimpleNamespace(**self.jackknife)), level)
        return Interval(value, float(low), float(high), level)

    def intervals(self, level: float = 0.8, method: IntervalMethod = "percentile") -> dict[str, Ends | None]:
        """Return intervals of the parameters; None where an interval means nothing, and where there are no draws."""
        check_level(level)
        known = [name for name, good in self.identifiability.identified.items() if good and self.draws]
        found = {name: self.derive(attrgetter(name), level, method=method) for name in known}
        ends = {name: (interval.lower, interval.upper) for name, interval in found.items()}
        return {name: ends.get(name) for name in self.model.parameter_names}

    def without_interval(self, name: str) -> str:
        """Say why a parameter has no interval: "fixed", "not identified" or "no bootstrap"."""
        if name in self.fixed:
            return "fixed"
        return "no bootstrap" if self.identifiability.identified[name] else "not identified"

    @cached_property
    def identifiability(self) -> Identifiability:
        """What these data identify and what they do not, in words (see `fitting.identifiability`)."""
        return identifiability(self)

    def summary(self, level: float = 0.8) -> str:
        """Return the parameters with their intervals and what is not identified, as plain text."""
        lines = [self.model.equation or self.model.name, "", f"{'':12}{'estimate':>12}   {level:.0%} interval"]
        intervals = self.intervals(level)
        for name, value in self.parameters.items():
            why = self.without_interval(name).replace("identified", "identified by these runs")
            ends = intervals[name]
            lines.append(f"  {name:10}{value:>12.5g}   {why if ends is None else '{:.4g} – {:.4g}'.format(*ends)}")
        lines += ["", self.starts.summary(), *self.identifiability.words]
        if self.holdout is not None:
            lines.append(self.holdout.summary())
        return "\n".join(lines)

    def plot(self, **options: Any) -> go.Figure:
        """Draw the data, the law and its band (see `fitting.picture`)."""
        from limbeck.fitting.picture import picture

        return picture(self, **options)

    def to_dict(self, level: float = 0.8, *, full: bool = True) -> dict[str, Any]:
        """Return everything as plain numbers; `full=False` leaves out draws, noise and data."""
        from limbeck.fitting.record import to_record

        return to_record(self, level, full=full)

    @staticmethod
    def from_dict(record: Mapping[str, Any], model: Model) -> Fit:
        """Rebuild a fit from `to_dict()` and its model."""
        from limbeck.fitting.record import from_record

        return from_record(record, model)

    def save(self, path: str | Path) -> Path:
        """Write the fit as JSON and return the path."""
        return write_json(path, self.to_dict())

    def _settings(self, columns: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """The model's columns as arrays of one length."""
        self.model.check_names("column", columns, self.model.columns)
        arrays = np.broadcast_arrays(*[np.atleast_1d(np.asarray(v, float)) for v in columns.values()])
        return dict(zip(columns, arrays, strict=True))

    def _band(self, mean: Array, error: Array, level: float) -> tuple[Array, Array]:
        """The mean moved by ∓ t errors in residual space, t the quantile of Student's t."""
        half = stdtrit(self.degrees_of_freedom, (1 + level) / 2) * error
        return self.shifted(mean, -half), self.shifted(mean, half)

    def _spare(self) -> float:
        """Degrees of freedom of the residuals, at least 1: points minus the sum of leverages.

        Draws that did not come from resampling the residuals or the runs are taken as they are.
        """
        if self.method not in get_args(Method):
            return math.inf
        return max(len(self.data) - float(leverage(self.problem, self.z).sum()), 1.0)

    def _need_draws(self) -> None:
        if not self.draws:
            raise FittingError("this fit has no bootstrap draws: fit again with bootstrap=1000.")


def _error(slope: Array, covariance: Array) -> Array:
    """Standard errors √(jᵀ C j), [n], of quantities with slopes j, [p, n]."""
    return np.asarray(np.sqrt(np.einsum("pn,pq,qn->n", slope, covariance, slope)))
