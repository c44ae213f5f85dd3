"""Is there a floor? The same law without one, and how much worse it fits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from limbeck.fitting.model import Array
from limbeck.fitting.multistart import grid_starts
from limbeck.fitting.objective import Problem
from limbeck.fitting.solver import minimise

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit


@dataclass(frozen=True)
class Floorless:
    """A fit's law with its floor held at 0.

    Args:
        problem: the law without its floor on the fit's data.
        objective: the minimised sum, to compare with the fit's.
        ends: where all starts ended, [starts, p]. Without a floor another term may level off in its place: the law has
            several basins then, and the best one changes with the data.
    """

    problem: Problem
    objective: float
    ends: Array


def floorless(fit: Fit, most: int = 8) -> Floorless | None:
    """Return the fit's law with the floor held at 0, or None where the model names no floor or it is fixed.

    Args:
        fit: a fit.
        most: starts: the fit's own exponents and the best of the model's grid.
    """
    floor = fit.model.floor
    if floor is None or floor in fit.fixed:
        return None
    problem = fit.problem_on(fit.data, **{floor: 0.0})
    grid = grid_starts(problem, limit=64, seed=fit.seed)
    height = problem.objective(grid, np.zeros(len(grid), int))
    best = grid[np.argsort(np.where(np.isfinite(height), height, np.inf))[:most]]
    starts = np.concatenate([problem.coordinates(fit.parameters)[None], best])
    ends = minimise(problem, starts, np.zeros(len(starts), int), damping=0.1)
    return Floorless(problem, float(ends.objective.min()), ends.z)
