"""Is there a floor? The same law without one, and how much worse it fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limbeck.fitting.multistart import grid_starts
from limbeck.fitting.objective import Problem
from limbeck.fitting.solver import Optima, minimise

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit


def floorless(fit: Fit, most: int = 8) -> tuple[Problem, Optima] | None:
    """Return the fit's law with the floor held at 0 and where all starts ended.

    None where the model names no floor or it is fixed. Without a floor another term may level off in its place: the law
    has several basins then, and the best one changes with the data.

    Args:
        fit: a fit.
        most: starts: the fit's own exponents and the best of the model's grid.
    """
    floor = fit.model.floor
    if floor is None or floor in fit.fixed:
        return None
    problem = fit.problem_on(fit.data, **{floor: 0.0})
    grid = grid_starts(problem, limit=64, seed=fit.seed)
    best = grid[np.argsort(problem.objective(grid))[:most]]
    return problem, minimise(problem, np.concatenate([problem.coordinates(fit.parameters)[None], best]), damping=0.1)
