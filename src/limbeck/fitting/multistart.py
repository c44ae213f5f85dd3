"""Global optimum, or an honest word that it is not sure: a grid of starts as one batch.

Where a model is linear in some parameters (`Model.linear`), the grid runs over the others only and the linear ones are solved for:
variable projection as a start (Golub and Pereyra 1973, SIAM J. Numer. Anal. 10). It brings nearly all starts to one optimum.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem
from limbeck.fitting.proximal import minimise_linearised
from limbeck.fitting.solver import Optima, minimise

RUGGED = 0.2
"""Below this share of starts at the optimum the search escalates, and the report warns."""


@dataclass(frozen=True)
class Starts:
    """How sure the optimum is.

    Args:
        total: starts tried.
        reached: starts that ended within 1e-6 (relative) of the best objective.
        basins: distinct predictions among the ends whose objective is within a factor 2 of the best.
        escalated: whether the slower, surer method was needed.
    """

    total: int
    reached: int
    basins: int
    escalated: bool = False

    @property
    def rugged(self) -> bool:
        """Whether fewer than 20 % of the starts agree."""
        return self.reached < RUGGED * self.total

    def summary(self) -> str:
        """Return the agreement in words."""
        text = f"optimum reached from {self.reached} of {self.total} starts"
        if self.rugged:
            text += f" ({self.basins} different optima: rugged, treat the parameters with care)"
        return text


def grid_starts(problem: Problem, *, limit: int = 512, seed: int = 0) -> Array:
    """Return start points in centred coordinates, [B, p].

    The product of the parameters' `start` values; linear parameters are solved for at each combination of the others. A product
    larger than `limit` is thinned at random.

    Raises:
        FittingError: a parameter has neither start values nor a linear role.
    """
    free = [p for p in problem.model.parameters if p.name in problem.free]
    linear = [i for i, p in enumerate(free) if p.name in problem.model.linear]
    axes: list[tuple[float, ...]] = []
    for i, parameter in enumerate(free):
        if i in linear:
            axes.append((0.0,))
        elif not parameter.start:
            raise FittingError(
                f"{problem.model.name}: parameter {parameter.name} has no start values; declare start=(...)."
            )
        else:
            axes.append(tuple(np.log(parameter.start)) if parameter.log else parameter.start)
    count = int(np.prod([len(a) for a in axes]))
    if count > limit:
        rng = np.random.default_rng(seed)
        z = np.stack([rng.choice(axis, limit) for axis in axes], 1)
    else:
        z = np.array(list(itertools.product(*axes)), float).reshape(count, len(axes))
    return solve_linear(problem, z, linear) if linear else z


def solve_linear(problem: Problem, z: Array, linear: list[int]) -> Array:
    """Fill in the linear parameters of every row by weighted least squares on the untransformed target.

    With basis columns φ_k = f(c = e_k) − f(c = 0) the coefficients solve (Φᵀ W Φ) c = Φᵀ W y, W = w / y² where the loss is
    on log or relative residuals. A coefficient that must be positive and is not gets a hundredth of the target's scale.
    """
    model, log_space = problem.model, problem.loss.space == "log"
    free = [p for p in model.parameters if p.name in problem.free]
    data = {n: np.asarray(problem.program.columns[n])[None] for n in model.columns}
    target = np.exp(problem.target) if log_space else problem.target
    target, weights = np.atleast_2d(target)[:1], np.atleast_2d(problem.weights)[:1]
    if log_space:
        weights = weights / target**2
    natural = {n: v[:, None] for n, v in problem.natural(z).items()}
    zero = {n: np.zeros_like(v) if n in model.linear and n in problem.free else v for n, v in natural.items()}
    with np.errstate(all="ignore"):
        base = np.broadcast_to(model(zero, **data), (len(z), target.shape[1]))
        basis = np.stack(
            [model({**zero, free[i].name: np.ones((len(z), 1))}, **data) - base for i in linear], 1
        )  # [B, L, n]
        size = np.sqrt((weights[:, None] * basis**2).sum(2))
        scaled = basis / np.maximum(size, 1e-300)[:, :, None]
        gram = (scaled * weights[:, None]) @ scaled.swapaxes(1, 2) + 1e-10 * np.eye(len(linear))
        right = (scaled * (weights * (target - base))[:, None]).sum(2)
        coefficients = np.linalg.solve(gram, right[:, :, None])[:, :, 0]
        floor = 0.01 * np.sqrt((weights * target**2).sum(1))[:, None] / len(linear)
        positive = np.array([free[i].log for i in linear])
        coefficients = np.where(positive & (coefficients < floor), floor, coefficients) / np.maximum(size, 1e-300)
    theta = problem.theta(z)
    for k, i in enumerate(linear):
        theta[:, i] = np.log(coefficients[:, k]) if free[i].log else coefficients[:, k]
    return problem.centred(theta)


def best_of(problem: Problem, starts: Array) -> tuple[Array, float, Starts]:
    """Minimise from every start and return the best end [p], its objective and the agreement of the starts.

    Where fewer than 20 % of the starts agree, the slower prox-linear method is run from the best ones too.

    Raises:
        FittingError: no start gave a finite value.
    """
    one = np.zeros(len(starts), int)
    ends = minimise(problem, starts, one, tolerance=1e-9)
    if not np.isfinite(ends.objective).any():
        raise FittingError(
            f"{problem.model.name}: the formula is not finite at any of {len(starts)} starts. Check the columns' units."
        )
    escalated = reached(ends.objective) < RUGGED * len(starts)
    z, objective = ends.z, ends.objective
    if escalated:
        order = np.argsort(objective)[: min(64, len(starts))]
        surer = minimise_linearised(problem, z[order])
        z, objective = np.concatenate([z, surer.z]), np.concatenate([objective, surer.objective])
    order = np.argsort(objective)[:16]
    polished: Optima = minimise(problem, z[order], np.zeros(len(order), int), damping=0.01, tolerance=1e-14)
    best = int(np.argmin(polished.objective))
    objective = np.concatenate([objective, polished.objective])
    z = np.concatenate([z, polished.z])
    report = Starts(
        len(starts), reached(objective[: len(starts)], objective.min()), _basins(problem, z, objective), escalated
    )
    return polished.z[best], float(polished.objective[best]), report


def reached(objective: Array, best: float | None = None) -> int:
    """Count the ends within 1e-6 (relative) of the best."""
    best = float(np.min(objective)) if best is None else best
    return int((objective <= best * (1 + 1e-6) + 1e-20).sum())


def _basins(problem: Problem, z: Array, objective: Array, most: int = 64) -> int:
    """Count distinct predictions (root mean square difference above 1e-3) among the good ends."""
    good = np.flatnonzero(objective <= 2 * objective.min() + 1e-20)
    good = good[np.argsort(objective[good])][:most]
    predictions = problem.program.evaluate(problem.theta(z[good]))[0]
    found: list[Array] = []
    for row in predictions:
        if all(np.sqrt(np.mean((row - other) ** 2)) > 1e-3 for other in found):
            found.append(row.copy())
    return len(found)
