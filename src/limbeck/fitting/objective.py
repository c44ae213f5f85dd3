"""What is minimised: residuals of a model on data, a robust loss and priors, in well-conditioned coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError
from limbeck.fitting.model import Array, Model, Parameter
from limbeck.fitting.tape import Program, trace

Space = Literal["log", "linear", "relative"]

CACHED = 2**18
"""Numbers that one block of rows may keep in the processor's second-level cache (2 MiB of them at most)."""


@dataclass(frozen=True)
class Loss:
    """Sum over points of w·h(r), h(r) = r²/2 where |r| ≤ delta, else delta·(|r| − delta/2).

    Args:
        delta: where the loss turns from squared to absolute, in units of the residual. `math.inf` is least squares;
            1e-3 in log space (Hoffmann et al. 2022, arXiv 2203.15556) is nearly an L1 fit.
        space: residual r = ln f − ln y ("log"), f − y ("linear") or f/y − 1 ("relative").
        overestimate: factor on the weight of points whose prediction lies above the observation. Large values make a
            one-sided fit that stays below the data.
    """

    delta: float = 1e-3
    space: Space = "log"
    overestimate: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be minimised."""
        if not self.delta > 0 or not self.overestimate > 0:
            given = f"delta={self.delta:g}, overestimate={self.overestimate:g}"
            raise FittingError(f"a loss needs delta > 0 and overestimate > 0, got {given}.")
        if self.space == "relative" and math.isfinite(self.delta):
            raise FittingError(
                f"relative residuals take least squares only (delta=math.inf), got delta={self.delta:g}; "
                "a Huber loss belongs to log residuals."
            )

    def describe(self) -> str:
        """Return the loss in words."""
        where = {"log": "log ", "linear": "", "relative": "relative "}[self.space] + "residuals"
        form = "least squares" if math.isinf(self.delta) else f"Huber δ = {self.delta:g}"
        side = "" if self.overestimate == 1.0 else f", overestimates × {self.overestimate:g}"
        return f"{form} on {where}{side}"


SQUARED = Loss(delta=math.inf)
"""Least squares on log residuals."""


@dataclass(frozen=True)
class Prior:
    """A normal belief about a parameter, N(mean, sd); of its logarithm, N(ln mean, sd), where it is fitted as such."""

    mean: float
    sd: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and self.sd > 0):
            raise FittingError(f"a prior needs a finite mean and a positive s.d.; got {self.mean:g} and {self.sd:g}.")


@dataclass(frozen=True)
class Problem:
    """A model bound to data, ready for the solver. Build it with `Problem.build`.

    The solver moves in centred coordinates z; the tape reads raw coordinates θ = T z + offset, which are the free
    parameters or their logarithms. T subtracts the column means from the logarithms that a parameter's dimension
    names, and gives linear parameters of either sign steps that suit the data (`unit_steps`).

    Args:
        model: the model.
        program: the traced formula on this data.
        target: observations in residual space, [n] or one row per resample [B, n].
        weights: [n] or [B, n], non-negative.
        loss: see `Loss`.
        transform, offset: T [p, p] and offset [p]; or one of each per data set, see `stack`.
        lower, upper: bounds on z, [p].
        prior_mean: [p] or [B, p]; prior_precision: [p], 0 where there is no prior.
        fixed: parameters held at a number.
    """

    model: Model
    program: Program
    target: Array
    weights: Array
    loss: Loss
    transform: Array
    offset: Array
    lower: Array
    upper: Array
    prior_mean: Array
    prior_precision: Array
    fixed: Mapping[str, float]

    @staticmethod
    def build(
        model: Model, columns: Mapping[str, Array], target: Array, *, loss: Loss, weights: Array | None = None,
        fixed: Mapping[str, float] | None = None, priors: Mapping[str, Prior] | None = None, prior_noise: float = 0.01,
    ) -> Problem:  # fmt: skip
        """Trace the model, choose coordinates and bind the data.

        Args:
            model: the model.
            columns: float64 arrays [n], one per column of the model.
            target: observations [n], positive in log and relative space.
            loss: what is minimised.
            weights: [n]; 1 by default.
            fixed: parameters held at a number, natural units.
            priors: beliefs about free parameters.
            prior_noise: standard deviation of one residual, which sets how much the data weigh against the priors.

        Raises:
            FittingError: unknown parameter names, or a target that the loss cannot use.
        """
        fixed, priors = dict(fixed or {}), dict(priors or {})
        known = model.parameter_names
        model.check_names("parameter", {**dict.fromkeys(known), **fixed, **priors}, known)
        if twice := next((name for name in priors if name in fixed), None):
            raise FittingError(f"{twice} is fixed at {fixed[twice]:g} and has a prior too: choose one.")
        for p in model.parameters:
            low = 0.0 if p.log else p.lower
            if p.name in fixed and not low <= fixed[p.name] <= p.upper:
                raise FittingError(f"{p.name} is fixed at {fixed[p.name]:g}; it must lie in {low:g} to {p.upper:g}.")
        if loss.space != "linear" and not (target > 0).all():
            raise FittingError(
                f"{model.target} must be positive for a loss on {loss.space} residuals; "
                f'the smallest value is {target.min():g}. Use space="linear".'
            )
        program = Program(trace(model, fixed=fixed, log=loss.space == "log"), columns)
        weights = np.ones(len(target)) if weights is None else np.asarray(weights, float)
        weights = weights / target**2 if loss.space == "relative" else weights
        observed = np.log(target) if loss.space == "log" else target
        free = [p for p in model.parameters if p.name not in fixed]
        transform, offset = _centres(free, fixed, columns)
        steps = unit_steps(model, fixed, free, columns, target, transform, offset, loss.space)
        with np.errstate(divide="ignore"):
            box = np.array([np.log([max(p.lower, 0.0), p.upper]) if p.log else (p.lower, p.upper) for p in free])
        lower, upper = box.reshape(-1, 2).T / np.diag(steps)
        mean, precision = np.zeros(len(free)), np.zeros(len(free))
        for k, p in enumerate(free):
            if p.name in priors:
                mean[k] = math.log(priors[p.name].mean) if p.log else priors[p.name].mean
                precision[k] = (prior_noise / priors[p.name].sd) ** 2
        transform = transform @ steps
        return Problem(model, program, observed, weights, loss, transform, offset, lower, upper, mean, precision, fixed)

    @property
    def free(self) -> tuple[str, ...]:
        """Names of the free parameters, in the order of every coordinate row."""
        return self.program.tape.free

    @cached_property
    def plain(self) -> Program:
        """The formula itself on this data: the program, without the logarithm that log residuals put around it."""
        if self.loss.space != "log":
            return self.program
        return Program(trace(self.model, fixed=self.fixed), self.program.columns)

    def with_rows(
        self, *, weights: Array | None = None, target: Array | None = None, prior_mean: Array | None = None
    ) -> Problem:
        """Return the same problem with one row of weights, targets or prior means per resample."""
        given = {"target": target, "prior_mean": prior_mean}
        rows: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return replace(self, weights=self.weights if weights is None else self.weights * weights, **rows)

    @staticmethod
    def stack(problems: Sequence[Problem]) -> Problem:
        """Return problems of one model, one loss and equal bounds as rows of one, filled up with weightless points."""
        first, n = problems[0], np.array([problem.program.n for problem in problems])
        place = np.minimum(np.arange(n.max()), n[:, None] - 1)

        def rows(arrays: Iterable[Array]) -> Array:
            return np.stack([array[at] for array, at in zip(arrays, place, strict=True)])

        columns = {name: rows(problem.program.columns[name] for problem in problems) for name in first.program.columns}
        weights = rows(problem.weights for problem in problems) * (np.arange(n.max()) < n[:, None])
        target = rows(problem.target for problem in problems)
        transform, offset = (np.stack([getattr(one, name) for one in problems]) for name in ("transform", "offset"))
        program = Program(first.program.tape, columns)
        return replace(first, program=program, weights=weights, target=target, transform=transform, offset=offset)

    def theta(self, z: Array, index: NDArray[np.int_] | None = None) -> Array:
        """Raw coordinates [B, p] of centred coordinates [B, p]."""
        index = np.arange(len(z)) if index is None else index
        transform, offset = self.rows(self.transform, index, 2), self.rows(self.offset, index)
        return np.asarray((transform @ z[:, :, None])[:, :, 0] + offset)

    def centred(self, theta: Array) -> Array:
        """Centred coordinates of raw coordinates, the inverse of `theta`."""
        return np.asarray(np.linalg.solve(self.transform, (theta - self.offset).T).T)

    def natural(self, z: Array, index: NDArray[np.int_] | None = None) -> dict[str, Array]:
        """All parameters in natural units, [B] each; fixed ones repeated."""
        raw = dict(zip(self.free, self.theta(z, index).T, strict=True))
        raw |= {p.name: np.exp(raw[p.name]) for p in self.model.parameters if p.log and p.name in raw}
        fixed = {name: np.full(len(z), float(value)) for name, value in self.fixed.items()}
        return {name: (raw | fixed)[name] for name in self.model.parameter_names}

    def parameters(self, z: Array) -> dict[str, float]:
        """All parameters in natural units at one point, [p]."""
        return {name: float(value[0]) for name, value in self.natural(z[None]).items()}

    def coordinates(self, parameters: Mapping[str, ArrayLike]) -> Array:
        """Centred coordinates, [p] or [B, p], of parameters in natural units, numbers or [B]."""
        given = [(p.log, parameters[p.name]) for p in self.model.parameters if p.name in self.free]
        return self.centred(np.array([np.log(value) if log else value for log, value in given], float).T)

    def local(self, z: Array) -> tuple[Array, Array, Array, Array]:
        """Return residuals [n], Jacobian [p, n] in z, weights [n] and the priors' precision [p, p] at one point z, [p].

        The problem must have one data set.
        """
        value, jacobian = self.program.evaluate(self.theta(z[None]))
        target, weights = np.atleast_2d(self.target)[0], np.atleast_2d(self.weights)[0]
        precision = self.transform.T @ (self.prior_precision[:, None] * self.transform)
        return value[0] - target, self.transform.T @ jacobian[0], weights, precision

    def rows(self, array: Array, index: NDArray[np.int_], shared: int = 1) -> Array:
        """Rows of an array; with `shared` dimensions it is that of all rows."""
        return np.asarray(array[index]) if array.ndim > shared else array

    def residuals(self, z: Array, index: NDArray[np.int_] | None = None) -> Array:
        """Residuals r [B, n] at centred coordinates [B, p] (f − y for the relative space)."""
        index = np.arange(len(z)) if index is None else index
        value, _ = self.program.evaluate(self.theta(z, index), index)
        return value - self.rows(self.target, index)

    def objective(self, z: Array, index: NDArray[np.int_] | None = None) -> Array:
        """Sum of losses plus prior terms, [B]."""
        return self.quadratic(z, np.arange(len(z)) if index is None else index)[0]

    def rounding(self, index: NDArray[np.int_]) -> Array:
        """Objective that rounding leaves at a perfect fit, [B]: residuals of 16 machine epsilons of the target."""
        size = np.abs(self.rows(self.target, index)) + (1.0 if self.loss.space == "log" else 0.0)
        total = np.einsum("...n,...n->...", self.rows(self.weights, index), size**2)
        return np.full(index.shape, 0.5 * (16 * np.finfo(float).eps) ** 2 * total)

    def quadratic(self, z: Array, index: NDArray[np.int_]) -> tuple[Array, Array, Array, Array]:
        """Objective [B], gradient [B, p], majoriser H_I and Newton part H_N of the Hessian [B, p, p], all in z.

        With q = w min(1, δ/|r|) and q_N = w 1[|r| ≤ δ]: gradient J(q r); H_I = J diag(q) Jᵀ bounds the loss from
        above to second order; H_N = J diag(q_N) Jᵀ is the curvature where the loss is quadratic. Rows are worked on
        in blocks that stay in the processor's cache.
        """
        theta, t, p = self.theta(z, index), self.rows(self.transform, index, 2), z.shape[1]
        rows = max(1, CACHED // ((3 * p + self.program.n_buffers + 1) * self.program.n))
        with np.errstate(all="ignore"):
            blocks = [self._block(theta[k : k + rows], index[k : k + rows]) for k in range(0, len(z), rows)]
            objective, curvature = (np.concatenate(part) for part in zip(*blocks, strict=True))
            gradient, majoriser, newton = curvature[:, :p, p], curvature[:, :p, :p], curvature[:, -p:, :p]
            if self.prior_precision.any():
                pull, precision = theta - self.rows(self.prior_mean, index), self.prior_precision
                objective, gradient = objective + 0.5 * (precision * pull**2).sum(1), gradient + precision * pull
                majoriser, newton = majoriser + np.diag(precision), newton + np.diag(precision)
            turned = t.swapaxes(-1, -2)
            return objective, (gradient[:, None] @ t)[:, 0], turned @ majoriser @ t, turned @ newton @ t

    def _block(self, theta: Array, index: NDArray[np.int_]) -> tuple[Array, Array]:
        """Objective [B] and [J diag(q); J diag(q_N)] [Jᵀ, r], [B, 2 p, p + 1] (only one half where q_N = q)."""
        table = self.program.sweep(theta, index)
        jacobian, r = table[:-1], table[-1]
        np.subtract(r, self.rows(self.target, index), out=r)
        weights = self.rows(self.weights, index)
        if self.loss.overestimate != 1.0:
            weights = np.where(r > 0, self.loss.overestimate, 1.0) * weights
        if math.isinf(self.loss.delta):
            scaled = jacobian * weights
            objective = 0.5 * np.einsum("bn,bn,bn->b", np.broadcast_to(weights, r.shape), r, r)
        else:
            p, share = len(jacobian), np.abs(r)
            np.maximum(share, self.loss.delta, out=share)
            np.divide(self.loss.delta, share, out=share)
            q = share * weights
            scaled = np.empty((2 * p, *r.shape))
            np.multiply(jacobian, q, out=scaled[:p])
            np.multiply(scaled[:p], np.floor(share), out=scaled[p:])
            objective = np.einsum("bn,bn->b", q * r, r - 0.5 * share * r)
        return objective, scaled.swapaxes(0, 1) @ table.transpose(1, 2, 0)


def _centres(
    free: Sequence[Parameter], fixed: Mapping[str, float], columns: Mapping[str, Array]
) -> tuple[Array, Array]:
    """T and offset with which a parameter's logarithm is that in units of its columns' geometric means."""
    transform, offset = np.eye(len(free)), np.zeros(len(free))
    place = {p.name: k for k, p in enumerate(free)}
    for row, parameter in enumerate(free):
        for column, power in parameter.dimension.items():
            centre = float(np.log(columns[column]).mean())
            if power in place:
                transform[row, place[str(power)]] += centre
            else:
                offset[row] += centre * (fixed[power] if isinstance(power, str) else power)
    return transform, offset


def unit_steps(
    model: Model, fixed: Mapping[str, float], free: Sequence[Parameter], columns: Mapping[str, Array], target: Array,
    transform: Array, offset: Array, space: Space,
) -> Array:  # fmt: skip
    """Return the coordinates of linear parameters of either sign, [p, p], in which a step of 1 is as large as the data.

    It moves the prediction by the observations' root mean square; those without bounds move it at right angles.
    Whatever the units are, the solver then sees the same problem. The other coordinates stay as they are; they stand at
    the middle of their starts.
    """
    steps = np.eye(len(free))
    raw = np.array([p.name in model.linear and not p.log for p in free], bool)
    if not raw.any():
        return steps
    z = np.array([0.0 if p.name in model.linear or not p.start else np.median(p.axis) for p in free])
    jacobian = Program(trace(model, fixed=fixed), columns).evaluate((transform @ z + offset)[None])[1][0]
    size = np.sqrt(np.mean(target**2)) if space == "linear" else target
    moves = np.nan_to_num(jacobian / np.where(size > 0, size, 1.0), posinf=0.0, neginf=0.0)
    length = np.sqrt((moves**2).mean(1))
    length[~raw | (length == 0)] = 1.0
    loose = np.flatnonzero(raw & np.isinf([min(p.upper, -p.lower) for p in free]))
    unit = moves[loose].T / (length[loose] * math.sqrt(moves.shape[1]))
    root = np.linalg.qr(np.concatenate([unit, 1e-8 * np.eye(len(loose))]))[1]
    steps[np.ix_(loose, loose)] = np.linalg.inv(root) * np.sign(np.diag(root))
    return np.asarray(steps / length[:, None])
