"""Global optimum, or an honest word that it is not sure: a grid of starts as one batch.

Where a model is linear in some parameters (`Model.linear`), the grid runs over the others only and the linear ones
are solved for: variable projection as a start (Golub and Pereyra 1973, SIAM J. Numer. Anal. 10). It brings nearly all
starts to one optimum.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem
from limbeck.fitting.proximal import minimise_linearised
from limbeck.fitting.separable import linear_parameters, solve_linear
from limbeck.fitting.solver import minimise

RUGGED = 0.2
"""Below this share of starts at the optimum the search escalates, and the report warns."""

EXACT = 63
"""Random sets of points that a linear formula is laid through, as starts under log residuals."""


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
        others = f"{self.basins} different optima" if self.basins > 1 else "the others stopped short of it"
        others = others if self.reached else f"none ended there by itself, the best was refined; {others}"
        care = f" ({others}: rugged, treat the parameters with care)" if self.rugged else ""
        return f"optimum reached from {self.reached} of {self.total} starts{care}"


def grid_starts(problem: Problem, *, limit: int = 512, seed: int = 0) -> Array:
    """Return start points in centred coordinates, [B, p].

    The product of the parameters' `start` values; linear parameters are solved for at each combination of the others.
    A product larger than `limit` is thinned at random. A formula that is linear in all parameters has one start where
    that is enough; under log residuals, where it may fall below zero and have several optima, also exact fits of as
    many points as parameters.

    Raises:
        FittingError: a parameter has neither start values nor a linear role.
    """
    free = [p for p in problem.model.parameters if p.name in problem.free]
    axes = [(0.0,) if p.name in problem.model.linear else p.axis for p in free]
    if () in axes:
        name = free[axes.index(())].name
        raise FittingError(f"{problem.model.name}: parameter {name} has no start values; declare start=(...).")
    rng = np.random.default_rng(seed)
    if math.prod(map(len, axes)) > limit:
        z = np.stack([rng.choice(axis, limit) for axis in axes], 1)
    else:
        z = np.array(list(itertools.product(*axes)), float).reshape(-1, len(axes))
    linear = len(linear_parameters(problem))
    z = solve_linear(problem, z, np.zeros(len(z), int)) if linear else z
    if linear < len(free) or problem.loss.space != "log" or all(p.log for p in free):
        return z
    chosen = np.argsort(rng.random((EXACT, problem.program.n)), axis=1) < linear
    exact = problem.with_rows(weights=chosen.astype(float))
    z = np.concatenate([z, solve_linear(exact, np.zeros((EXACT, linear)), np.arange(EXACT))])
    finite = np.isfinite(problem.objective(z, np.zeros(len(z), int)))
    return z[finite] if finite.any() else z


def best_of(problem: Problem, starts: Array) -> tuple[Array, float, Starts]:
    """Minimise from every start and return the best end [p], its objective and the agreement of the starts.

    Where fewer than 20 % of the starts agree, the slower prox-linear method goes on from the best ends. The best 16
    are then polished to full precision; the report counts the starts that came within 1e-6 of the result by
    themselves.

    Raises:
        FittingError: no start gave a finite value.
    """
    ends = minimise(problem, starts, np.zeros(len(starts), int), tolerance=1e-9)
    if not np.isfinite(ends.objective).any():
        raise FittingError(
            f"{problem.model.name}: the formula is not finite at any of {len(starts)} starts. Check the columns' units."
        )
    z, objective = ends.z, ends.objective
    escalated = _reached(problem, objective, objective.min()) < RUGGED * len(starts)
    if escalated:
        surer = minimise_linearised(problem, z[np.argsort(objective)[:64]])
        z, objective = np.concatenate([z, surer.z]), np.concatenate([objective, surer.objective])
    order = np.argsort(objective)[:16]
    polished = minimise(problem, z[order], np.zeros(len(order), int), damping=0.01)
    z, objective = np.concatenate([z, polished.z]), np.concatenate([objective, polished.objective])
    best = int(np.argmin(objective))
    agreeing = _reached(problem, ends.objective, objective[best])
    return z[best], float(objective[best]), Starts(len(starts), agreeing, _basins(problem, z, objective), escalated)


def _reached(problem: Problem, objective: Array, best: float) -> int:
    """Count the ends within 1e-6 (relative) of the best."""
    return int((objective <= best * (1 + 1e-6) + _nothing(problem)).sum())


def _nothing(problem: Problem) -> float:
    """Objective of a fit that is perfect but for residuals of 1e-11 of the target."""
    return 1e7 * float(problem.rounding(np.zeros(1, int))[0])


def _basins(problem: Problem, z: Array, objective: Array, most: int = 64) -> int:
    """Count distinct predictions (root mean square difference above 1e-3 of the target) among the good ends."""
    good = np.flatnonzero(objective <= 2 * objective.min() + _nothing(problem))
    good = good[np.argsort(objective[good])][:most]
    near = 1e-3 if problem.loss.space == "log" else 1e-3 * float(np.sqrt(np.mean(problem.target**2)))
    found: list[Array] = []
    for row in problem.program.evaluate(problem.theta(z[good]))[0].copy():
        if all(np.sqrt(np.mean((row - other) ** 2)) > near for other in found):
            found.append(row)
    return len(found)
