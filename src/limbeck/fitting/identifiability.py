"""What a data set identifies, in words: before fitting from the design, after it from the optimum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import chdtri

from limbeck.errors import FittingError
from limbeck.fitting.data import Data
from limbeck.fitting.floor import Floorless, floorless
from limbeck.fitting.model import Array, Model
from limbeck.fitting.profile import deviance

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit

WARN, REFUSE = 1e3, 1e5
"""Condition numbers of the scaled Jacobian above which parameters are doubtful, or their intervals mean nothing."""

SHARE = 0.05
"""Component of a weak direction above which a parameter takes part in it."""


@dataclass(frozen=True)
class Identifiability:
    """What these data say about each parameter.

    Args:
        condition: condition number of the column-scaled Jacobian; infinite where a direction is not seen at all.
        weakest: share of each free parameter in the direction that the data see least, largest 1.
        identified: whether a free parameter's interval means something.
        trades_with: the exponent that nearly determines a parameter of its unit: A with alpha in A / x^alpha.
        words: sentences for people, each a reason and a next step.
    """

    condition: float
    weakest: dict[str, float]
    identified: dict[str, bool]
    trades_with: dict[str, str]
    words: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, names and sentences; an infinite condition number is None."""
        return {
            "condition": self.condition if math.isfinite(self.condition) else None,
            "weakest": self.weakest,
            "identified": self.identified,
            "trades_with": self.trades_with,
            "words": list(self.words),
        }


def check_distinct(model: Model, data: Data, free: int) -> None:
    """Refuse data with fewer distinct configurations than free parameters: infinitely many optima fit them exactly.

    Raises:
        FittingError: so it is.
    """
    distinct = len(np.unique(data.design[data.weights > 0], axis=0))
    if distinct < free:
        raise FittingError(
            f"{model.name} has {free} free parameters and there are {distinct} distinct configurations "
            f"({', '.join(model.columns)}) in {len(data)} points. Add runs, fix parameters (fixed=...) or give priors."
        )


def design_words(model: Model, data: Data) -> list[str]:
    """Return what the design alone cannot tell, before any fit: constant columns, and columns that move together.

    Example:
        >>> class Plane(Model):
        ...     name = "plane"; columns = ("params", "tokens"); target = "loss"; parameters = ()
        >>> print(*design_words(Plane(), Data.of(Plane(), {"params": [1, 2, 4], "tokens": [4, 2, 1]}, [1, 1, 1])))
        params · tokens is the same in all runs: params and tokens cannot be told apart; add runs off this line.
    """
    logs = {name: np.log(v) if (v > 0).all() else v for name, v in data.columns.items()}
    words = [
        f"{name} is {v[0]:.4g} in all runs: its effect is not identified; add runs with another {name}."
        for name, v in data.columns.items()
        if np.ptp(v) <= 1e-9 * max(1.0, float(np.abs(v).max()))
    ]
    names = [name for name in logs if not any(w.startswith(f"{name} is ") for w in words)]
    if len(names) < 2:
        return words
    centred = np.stack([logs[name] - logs[name].mean() for name in names], 1)
    _, singular, right = np.linalg.svd(centred / np.linalg.norm(centred, axis=0), full_matrices=False)
    if singular[-1] <= 1e-6 * singular[0]:
        powers = right[-1] / np.linalg.norm(centred, axis=0)
        powers = powers / powers[np.argmax(np.abs(powers))]
        moving = [(name, power) for name, power in zip(names, powers, strict=True) if abs(power) > 1e-3]
        line = " · ".join(name if abs(power - 1) < 1e-6 else f"{name}^{power:.3g}" for name, power in moving)
        together = " and ".join(name for name, _ in moving)
        words.append(f"{line} is the same in all runs: {together} cannot be told apart; add runs off this line.")
    return words


def identifiability(fit: Fit) -> Identifiability:
    """Report the directions that the data see least, parameters at their bounds, and a floor that they do not show.

    The Jacobian's columns are scaled to length 1; priors count as data. Above a condition number of 1e3 the weakest
    direction is named; above 1e5 the parameters that take part in such a direction have no interval.
    """
    problem, names = fit.problem, fit.free
    _, jacobian = problem.program.evaluate(problem.theta(fit.z[None]))
    j = np.concatenate([jacobian[0] * np.sqrt(fit.data.weights), np.diag(np.sqrt(problem.prior_precision))], 1)
    size = np.linalg.norm(j, axis=1)
    seen = size > 1e-9 * max(float(size.max()), 1e-300)
    scaled = (j / np.where(seen, size, np.inf)[:, None]).T
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 1e-15 * singular[0] else math.inf
    lost = np.flatnonzero(singular * REFUSE < singular[0])
    identified = {name: bool(seen[k] and not (np.abs(right[lost, k]) > SHARE).any()) for k, name in enumerate(names)}
    words = design_words(fit.model, fit.data)
    if fit.model.floor in names:
        words += _floor_words(fit, identified)
    if condition > WARN:
        known = fit.model.floor if any("fits as well" in w for w in words) else None
        words += _weak_words([right[i] for i in lost] or [right[-1]], names, known, refused=condition > REFUSE)
    words += _bound_words(fit, identified)
    trades = _trades(fit, scaled, identified)
    if trades:
        partners = " and ".join(dict.fromkeys(trades.values()))
        verb = "trade" if len(trades) > 1 else "trades"
        words.append(f"{' and '.join(trades)} {verb} off with {partners}: read the predictions, not these.")
    direction = right[-1] / np.abs(right[-1]).max()
    weakest = {name: float(v) for name, v in zip(names, direction, strict=True)}
    return Identifiability(condition, weakest, identified, trades, tuple(words))


def _weak_words(directions: list[Array], names: tuple[str, ...], known: str | None, *, refused: bool) -> list[str]:
    """Name each weak direction but that of a `known` one: which parameters move how, while the predictions stay."""
    words = []
    for direction in directions:
        relative = direction / direction[np.argmax(np.abs(direction))]
        moving = [(name, share) for name, share in zip(names, relative, strict=True) if abs(share) > SHARE]
        together = ", ".join(f"{name} {share:+.2g}" for name, share in moving)
        if len(moving) == 1 and moving[0][0] == known:
            continue
        if len(moving) == 1:
            words.append(f"{moving[0][0]} is not identified by these runs: no prediction here depends on it.")
            continue
        reading = (
            "their intervals mean nothing, predictions still hold" if refused else "read the predictions, not these"
        )
        words.append(f"{' and '.join(name for name, _ in moving)} trade off ({together}): {reading}.")
    return words


def _bound_words(fit: Fit, identified: dict[str, bool]) -> list[str]:
    """Find parameters that ended at a bound, mark them, and say so."""
    words = []
    for k, name in enumerate(fit.free):
        for bound in (fit.problem.lower[k], fit.problem.upper[k]):
            if math.isfinite(bound) and abs(fit.z[k] - bound) <= 1e-9 * max(1.0, abs(bound)):
                identified[name] = False
                words.append(
                    f"{name} ended at its bound ({fit.parameters[name]:.4g}): the data would take it further. "
                    f"Check the law, or fix it with fixed={{'{name}': ...}} (--fix {name}=...)."
                )
    return words


def _trades(fit: Fit, scaled: Array, identified: dict[str, bool]) -> dict[str, str]:
    """Find parameters whose unit holds another free parameter that nearly determines them (correlation above 0.9)."""
    inverse = np.linalg.pinv(scaled.T @ scaled, hermitian=True)
    sd = np.sqrt(np.maximum(np.diag(inverse), 1e-300))
    trades = {}
    for parameter in fit.model.parameters:
        for power in parameter.dimension.values():
            if isinstance(power, str) and identified.get(parameter.name) and power in fit.free:
                a, b = fit.free.index(parameter.name), fit.free.index(power)
                if abs(inverse[a, b]) > 0.9 * sd[a] * sd[b]:
                    trades[parameter.name] = power
    return trades


def _floor_words(fit: Fit, identified: dict[str, bool]) -> list[str]:
    """Say so where the law without its floor fits as well: the floor's profile is flat below."""
    other = floorless(fit)
    floor = str(fit.model.floor)
    if other is None:
        return []
    direction = fit.problem.transform[fit.free.index(floor)]
    if deviance(fit, other.objective, direction) > chdtri(1, 0.05):
        return []
    identified[floor] = False
    factor = _parting(fit, other)
    step = ""
    if factor is not None:
        largest = int(np.argmax(fit.model.size(SimpleNamespace(**fit.data.columns))))
        there = ", ".join(f"{name} = {v[largest] * factor:.3g}" for name, v in fit.data.columns.items())
        step = f"add one run at {there} or larger, or "
    value = fit.parameters[floor] if fit.parameters[floor] > 1e-3 * fit.data.target.min() else 0.0
    return [
        f"{floor} is not identified by these runs: the law with {floor} = 0 fits as well. Next: {step}"
        f"fix it with fixed={{'{floor}': {value:.3g}}} (--fix {floor}={value:.3g})."
    ]


def _parting(fit: Fit, other: Floorless, reach: float = 1e6) -> float | None:
    """Factor on the largest run's columns at which the laws with and without a floor part by three times the noise."""
    largest = int(np.argmax(fit.model.size(SimpleNamespace(**fit.data.columns))))
    factors = np.geomspace(1.0, reach, 241)
    at = {name: v[largest] * factors for name, v in fit.data.columns.items()}
    with_floor, without = fit.value(**at), fit.model(other.parameters, **at)
    noise = 3 * float(np.sqrt(np.mean(fit.noise**2)))
    apart = np.flatnonzero(with_floor > fit.shifted(without, np.asarray(noise)))
    return float(factors[apart[0]]) if len(apart) else None
