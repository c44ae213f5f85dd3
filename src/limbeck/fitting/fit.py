"""Fit a model to data and keep everything a prediction needs: the optimum, its resamples and the noise of one run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student_t

from limbeck.errors import FittingError
from limbeck.fitting import resampling
from limbeck.fitting.model import Array, Model
from limbeck.fitting.multistart import Starts, best_of, grid_starts
from limbeck.fitting.objective import Loss, Prior, Problem
from limbeck.fitting.prediction import Interval, Prediction, check_level, percentile_interval
from limbeck.fitting.solver import minimise


@dataclass(frozen=True)
class Data:
    """The points of a fit.

    Args:
        columns: arrays [n] by name.
        target: observations [n].
        weights: [n].
        clusters: which run each point belongs to, [n].
    """

    columns: Mapping[str, Array]
    target: Array
    weights: Array
    clusters: NDArray[np.int_]

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.target)

    def subset(self, mask: NDArray[np.bool_]) -> Data:
        """Return the points where mask [n] is true."""
        columns = {name: value[mask] for name, value in self.columns.items()}
        return Data(columns, self.target[mask], self.weights[mask], self.clusters[mask])


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
        noise: leverage-corrected residuals in residual space, [n]: what one new run adds.
        fixed: parameters held at a number.
        priors: beliefs that entered the objective.
        method: how the draws were made.
        degenerate: resamples drawn again because they could not identify the model.
        seed: of the starts and the draws.
        units: unit by column name, for people.
        holdout: `Validation` against the largest runs, when it was asked for.
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

    @cached_property
    def problem(self) -> Problem:
        """The minimised problem, rebuilt from the data."""
        return Problem.build(
            self.model,
            self.data.columns,
            self.data.target,
            loss=self.loss,
            weights=self.data.weights,
            fixed=self.fixed,
            priors=self.priors,
            prior_noise=self.prior_noise,
        )

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

    def value(self, **columns: ArrayLike) -> Array:
        """Return the point prediction at the given columns, broadcast."""
        return self.model(self.parameters, **columns)

    def values(self, **columns: ArrayLike) -> Array:
        """Return the prediction of every draw, [B, n].

        Raises:
            FittingError: the fit has no draws.
        """
        self._need_draws()
        flat = {name: np.atleast_1d(np.asarray(v, float)) for name, v in columns.items()}
        return self.model({name: draw[:, None] for name, draw in self.draws.items()}, **flat)

    def predict(self, level: float = 0.8, **columns: ArrayLike) -> Prediction:
        """Predict one new run at each setting, with the run-to-run noise in the interval.

        With draws, each draw's prediction gets one resampled residual; without, the spread is the delta method's and the quantile
        Student's t.

        Args:
            level: nominal coverage of the interval.
            columns: one value or array per column of the model.

        Raises:
            FittingError: a column is missing or unknown, or no interval is possible.
        """
        check_level(level)
        self.model.check_names("column", columns, self.model.columns)
        flat = dict(
            zip(
                columns,
                np.broadcast_arrays(*[np.atleast_1d(np.asarray(v, float)) for v in columns.values()]),
                strict=True,
            )
        )
        mean = self.value(**flat)
        if self.draws:
            rng = np.random.default_rng([self.seed, 1])
            values = self.values(**flat)
            shock = rng.choice(self.noise, values.shape)
            lower, upper = percentile_interval(self._shift(values, shock), level)
        else:
            if self.degrees_of_freedom < 2:
                raise FittingError(
                    f"no interval possible: {len(self.data)} points for {len(self.free)} parameters leave "
                    f"{self.degrees_of_freedom} degrees of freedom (2 are needed). Add runs or fix parameters."
                )
            half = student_t.ppf((1 + level) / 2, self.degrees_of_freedom) * np.hypot(
                self.standard_error(**flat), np.sqrt(np.mean(self.noise**2))
            )
            lower, upper = self._shift(mean, -half), self._shift(mean, half)
        size = np.asarray(self.model.size(SimpleNamespace(**flat)), float)
        largest = float(np.max(self.model.size(SimpleNamespace(**self.data.columns))))
        outside = tuple(
            name
            for name, v in flat.items()
            if (v > self.data.columns[name].max() * (1 + 1e-9)).any()
            or (v < self.data.columns[name].min() * (1 - 1e-9)).any()
        )
        return Prediction(mean, lower, upper, level, np.broadcast_to(size / largest, mean.shape), outside)

    def _shift(self, value: Array, shock: Array) -> Array:
        """Move a prediction by a residual of this fit's residual space."""
        if self.loss.space == "log":
            return value * np.exp(shock)
        return value * (1 + shock) if self.loss.space == "relative" else value + shock

    def covariance(self) -> Array:
        """Sandwich covariance of the centred coordinates, clustered by run, [p, p] (see `fitting.covariance`)."""
        from limbeck.fitting.covariance import sandwich

        return sandwich(self.problem, self.z, self.data.clusters)

    def standard_error(self, **columns: ArrayLike) -> Array:
        """Standard error of the prediction in residual space by the delta method, [n]."""
        flat = {name: np.atleast_1d(np.asarray(v, float)) for name, v in columns.items()}
        at = Problem.build(
            self.model, flat, np.ones(len(next(iter(flat.values())))), loss=self.loss, fixed=self.fixed
        ).program
        value, jacobian = at.evaluate(self.problem.theta(self.z[None]))
        j = self.problem.transform.T @ jacobian[0]
        if self.loss.space == "relative":
            j = j / value[0]
        return np.sqrt(np.einsum("pn,pq,qn->n", j, self.covariance(), j))

    def derive(self, function: Callable[[SimpleNamespace], ArrayLike], level: float = 0.8) -> Interval:
        """Return any quantity of the parameters with its interval over the draws.

        Args:
            function: takes a namespace of parameters (numbers or arrays [B]) and returns the quantity.
            level: nominal coverage.
        """
        self._need_draws()
        value = float(np.asarray(function(SimpleNamespace(**self.parameters))))
        low, high = percentile_interval(function(SimpleNamespace(**self.draws)), level)
        return Interval(value, float(low), float(high), level)

    def intervals(self, level: float = 0.8) -> dict[str, tuple[float, float] | None]:
        """Return percentile intervals of the parameters; None where such an interval means nothing or there are no draws."""
        check_level(level)
        known = self.identifiability.identified
        result: dict[str, tuple[float, float] | None] = {}
        for name in self.model.parameter_names:
            if name in self.fixed or not self.draws or not known.get(name, False):
                result[name] = None
            else:
                low, high = percentile_interval(self.draws[name], level)
                result[name] = (float(low), float(high))
        return result

    @cached_property
    def identifiability(self) -> Any:
        """What these data identify and what they do not, in words (see `fitting.identifiability`)."""
        from limbeck.fitting.identifiability import identifiability

        return identifiability(self)

    def _need_draws(self) -> None:
        if not self.draws:
            raise FittingError("this fit has no bootstrap draws: fit again with bootstrap=1000.")

    def to_dict(self, level: float = 0.8, *, full: bool = True) -> dict[str, Any]:
        """Return everything as plain numbers; `full=False` leaves out draws, noise and data."""
        known = self.identifiability
        record: dict[str, Any] = {
            "law": self.model.name,
            "options": asdict(self.model),
            "objective": self.objective,
            "parameters": dict(self.parameters),
            "level": level,
            "intervals": {k: None if v is None else list(v) for k, v in self.intervals(level).items()},
            "loss": {
                k: v if not isinstance(v, float) or math.isfinite(v) else "inf" for k, v in asdict(self.loss).items()
            },
            "points": len(self.data),
            "starts": asdict(self.starts),
            "identifiability": known.to_dict(),
            "fixed": self.fixed,
            "priors": {k: asdict(v) for k, v in self.priors.items()},
            "prior_noise": self.prior_noise,
            "method": self.method,
            "degenerate": self.degenerate,
            "seed": self.seed,
            "units": self.units,
        }
        if full:
            record["draws"] = {k: v.tolist() for k, v in self.draws.items()}
            record["noise"] = self.noise.tolist()
            record["data"] = {
                "columns": {k: v.tolist() for k, v in self.data.columns.items()},
                "target": self.data.target.tolist(),
                "weights": self.data.weights.tolist(),
                "clusters": self.data.clusters.tolist(),
            }
        return record

    @staticmethod
    def from_dict(record: Mapping[str, Any], model: Model) -> Fit:
        """Rebuild a fit from `to_dict()` and its model."""
        data = record["data"]
        loss = {k: math.inf if v == "inf" else v for k, v in record["loss"].items()}
        return Fit(
            model=model,
            parameters={k: float(v) for k, v in record["parameters"].items()},
            objective=float(record["objective"]),
            loss=Loss(**loss),
            data=Data(
                {k: np.asarray(v, float) for k, v in data["columns"].items()},
                np.asarray(data["target"], float),
                np.asarray(data["weights"], float),
                np.asarray(data["clusters"], int),
            ),
            starts=Starts(**record["starts"]),
            draws={k: np.asarray(v, float) for k, v in record["draws"].items()},
            noise=np.asarray(record["noise"], float),
            fixed=dict(record["fixed"]),
            priors={k: Prior(**v) for k, v in record["priors"].items()},
            prior_noise=float(record["prior_noise"]),
            method=record["method"],
            degenerate=int(record["degenerate"]),
            seed=int(record["seed"]),
            units=dict(record["units"]),
        )

    def save(self, path: str | Path) -> Path:
        """Write the fit as JSON and return the path."""
        path = Path(path)
        path.write_text(json.dumps(self.to_dict(), indent=1))
        return path

    def summary(self, level: float = 0.8) -> str:
        """Return the parameters with their intervals and what is not identified, as plain text."""
        lines = [f"{self.model.target} = {self.model.equation}", "", f"{'':12}{'estimate':>12}   {level:.0%} interval"]
        intervals = self.intervals(level)
        for name, value in self.parameters.items():
            interval = intervals[name]
            if name in self.fixed:
                right = "fixed"
            elif interval is None:
                right = "not identified by these runs" if self.draws else "no bootstrap"
            else:
                right = f"{interval[0]:.4g} – {interval[1]:.4g}"
            lines.append(f"  {name:10}{value:>12.5g}   {right}")
        lines += ["", self.starts.summary(), *self.identifiability.words]
        return "\n".join(lines)


def fit(
    model: Model,
    columns: Mapping[str, ArrayLike],
    target: ArrayLike,
    *,
    loss: Loss | None = None,
    weights: ArrayLike | None = None,
    clusters: ArrayLike | None = None,
    fixed: Mapping[str, float] | None = None,
    priors: Mapping[str, Prior] | None = None,
    prior_noise: float = 0.01,
    bootstrap: int = 1000,
    method: resampling.Method = "pairs",
    seed: int = 0,
    units: Mapping[str, str] | None = None,
) -> Fit:
    """Fit a model: grid of starts, global optimum, bootstrap.

    Args:
        model: the law.
        columns: one array [n] per column of the model.
        target: observations [n].
        loss: by default Huber δ = 1e-3 on log residuals, summed.
        weights: [n], non-negative.
        clusters: points with the same value come from one run and are resampled together, [n].
        fixed: parameters held at a number.
        priors: normal beliefs about parameters.
        prior_noise: standard deviation of one residual, which weighs data against priors.
        bootstrap: number of resamples; 0 for none.
        method: "pairs" (clusters with replacement), "residual" or "wild".
        seed: of starts and resamples.
        units: unit by column name, for people.

    Returns:
        The fit. Draws that did not converge to a finite value are left out.

    Raises:
        FittingError: fewer points than free parameters, non-finite data, or no finite start.

    Example:
        >>> class Line(Model):
        ...     name = "line"; columns = ("x",); target = "y"; linear = ("slope", "offset")
        ...     parameters = (Parameter("slope"), Parameter("offset"))
        ...     def formula(self, p, x):
        ...         return p.offset + p.slope * x.x
        >>> line = fit(Line(), {"x": [0, 1, 2, 3]}, [1, 3, 5, 7], loss=Loss(space="linear"), bootstrap=0)
        >>> round(line.parameters["slope"], 6), round(line.parameters["offset"], 6)
        (2.0, 1.0)
    """
    model.check_names("column", columns, model.columns)
    loss, fixed, priors = loss or Loss(), dict(fixed or {}), dict(priors or {})
    y = np.asarray(target, float)
    x = {name: np.broadcast_to(np.asarray(columns[name], float), y.shape).copy() for name in model.columns}
    for name, values in {**x, model.target: y}.items():
        if not np.isfinite(values).all():
            bad = int(np.flatnonzero(~np.isfinite(values))[0])
            raise FittingError(f"{name} is not finite at point {bad} ({values[bad]}): remove such points first.")
    free = len(model.parameters) - len(fixed)
    if len(y) < free and not priors:
        raise FittingError(
            f"{model.name} has {free} free parameters and there are {len(y)} points. Add runs or fix parameters (fixed=...)."
        )
    w = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    groups = resampling.cluster_index(None if clusters is None else np.asarray(clusters), len(y))
    data = Data(x, y, w, groups)
    problem = Problem.build(model, x, y, loss=loss, weights=w, fixed=fixed, priors=priors, prior_noise=prior_noise)
    z, objective, starts = best_of(problem, grid_starts(problem, seed=seed))
    noise = resampling.run_noise(problem, z)
    result = Fit(
        model=model,
        parameters={k: float(v[0]) for k, v in problem.natural(z[None]).items()},
        objective=objective,
        loss=loss,
        data=data,
        starts=starts,
        draws={},
        noise=noise,
        fixed=fixed,
        priors=priors,
        prior_noise=prior_noise,
        method=method,
        seed=seed,
        units=dict(units or {}),
    )
    if not bootstrap:
        return result
    resamples = draw_resamples(problem, z, data, method, bootstrap, np.random.default_rng([seed, 0]))
    rows = problem.with_rows(weights=resamples.weights, target=resamples.target)
    ends = minimise(rows, np.repeat(z[None], bootstrap, 0), damping=0.01)
    finite = np.isfinite(ends.objective)
    draws = problem.natural(ends.z[finite])
    return replace(result, draws=draws, degenerate=resamples.degenerate)


def draw_resamples(
    problem: Problem, z: Array, data: Data, method: str, count: int, rng: np.random.Generator
) -> resampling.Resamples:
    """Draw resamples of a fitted problem by the named method.

    Raises:
        FittingError: the method is not known, or the data cannot be resampled.
    """
    if method == "pairs":
        design = np.stack([data.columns[name] for name in problem.model.columns], 1)
        return resampling.pairs(design, data.clusters, count, len(problem.free) + 1, rng)
    fitted = problem.program.evaluate(problem.theta(z[None]))[0][0].copy()
    noise = resampling.run_noise(problem, z)
    if problem.loss.space == "relative":
        noise = noise * fitted
    if method == "residual":
        return resampling.residual(fitted, noise, count, rng)
    if method == "wild":
        return resampling.wild(fitted, noise, data.clusters, count, rng)
    raise FittingError(f'unknown resampling method "{method}": choose pairs, residual or wild.')
