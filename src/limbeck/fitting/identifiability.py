"""What a data set identifies, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit

WARN, REFUSE = 1e3, 1e5
"""Condition numbers of the column-scaled Jacobian above which parameters are doubtful, or their intervals mean nothing."""


@dataclass(frozen=True)
class Identifiability:
    """What these data say about each parameter.

    Args:
        condition: condition number of the column-scaled Jacobian.
        weakest: share of each free parameter in the direction that the data see least.
        identified: whether a parameter's interval means something.
        words: sentences for people.
    """

    condition: float
    weakest: dict[str, float]
    identified: dict[str, bool]
    words: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, names and sentences."""
        return {
            "condition": self.condition,
            "weakest": self.weakest,
            "identified": self.identified,
            "words": list(self.words),
        }


def identifiability(fit: Fit) -> Identifiability:
    """Report the singular values of the scaled Jacobian and the trade-off of its weakest direction."""
    problem = fit.problem
    _, jacobian = problem.program.evaluate(problem.theta(fit.z[None]))
    j = jacobian[0] * np.sqrt(fit.data.weights)
    size = np.linalg.norm(j, axis=1)
    _, singular, right = np.linalg.svd((j / np.maximum(size, 1e-300)[:, None]).T, full_matrices=False)
    condition = float(singular[0] / max(singular[-1], 1e-300))
    direction = right[-1] / np.abs(right[-1]).max()
    weakest = {name: float(v) for name, v in zip(problem.free, direction, strict=True)}
    identified = {name: bool(condition <= REFUSE and size[k] > 0) for k, name in enumerate(problem.free)}
    words: list[str] = []
    if condition > WARN:
        names = [n for n, v in weakest.items() if abs(v) > 0.2]
        words.append(f"{' and '.join(names)} trade off: read the predictions, not these parameters.")
    return Identifiability(condition, weakest, identified, tuple(words))
