"""What a data set identifies, in words: before fitting from the design, after it from the optimum."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import chdtri

from limbeck.fitting.design import Design
from limbeck.fitting.floor import floorless
from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem
from limbeck.fitting.plain import plain
from limbeck.fitting.profile import deviance
from limbeck.fitting.solver import Optima, lowest

if TYPE_CHECKING:
    from limbeck.fitting.fit import Fit

WARN, REFUSE = 1e3, 1e5
"""Condition numbers of the scaled Jacobian above which parameters are doubtful, or their intervals mean nothing."""

SIGNIFICANT = float(chdtri(1, 0.05))
"""Deviance beyond which a value of one parameter is refuted at the 95 % level, 3.84."""

SHARE = 0.05
"""Component of a weak direction above which a parameter takes part in it."""

STUCK = 0.05
"""Share of the resamples at a bound above which a parameter's interval shows the bound and not the data."""


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
        condition = self.condition if math.isfinite(self.condition) else None
        return dict(plain(asdict(self) | {"condition": condition}))


def identifiability(fit: Fit) -> Identifiability:
    """Report the directions that the data see least, parameters at their bounds, and a floor that they do not show.

    The Jacobian's columns are scaled to length 1; priors count as data. Above a condition number of 1e3 the weakest
    direction is named; above 1e5 the parameters that take part in such a direction have no interval.
    """
    problem, names = fit.problem, fit.free
    _, jacobian = problem.program.evaluate(problem.theta(fit.z[None]))
    j = np.concatenate([jacobian[0] * np.sqrt(fit.data.weights), np.diag(np.sqrt(problem.prior_precision))], 1)
    j *= np.diag(problem.transform)[:, None]
    size = np.linalg.norm(j, axis=1)
    seen = size > 1e-9 * max(float(size.max()), 1e-300)
    scaled = (j / np.where(seen, size, np.inf)[:, None]).T
    _, singular, right = np.linalg.svd(scaled, full_matrices=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 1e-15 * singular[0] else math.inf
    lost = np.flatnonzero(singular * REFUSE < singular[0])
    identified = {name: bool(seen[k] and not (np.abs(right[lost, k]) > SHARE).any()) for k, name in enumerate(names)}
    design = Design.of(fit.data, fit.model.dependent)
    words = design.words() + fit.model.remarks(fit.data.columns)
    identified |= dict.fromkeys(design.untold(fit.model, [name for name in names if name not in fit.priors]), False)
    if (without := floorless(fit)) is not None:
        words += _floor_words(fit, *without, identified)
    if condition > WARN:
        known = fit.model.floor if any("fits as well" in w for w in words) else None
        words += _weak_words([right[i] for i in lost] or [right[-1]], names, known, refused=condition > REFUSE)
    words += _bound_words(fit, identified)
    if trades := _trades(fit, scaled, identified):
        partners, verb = " and ".join(dict.fromkeys(trades.values())), "trade" if len(trades) > 1 else "trades"
        words.append(f"{' and '.join(trades)} {verb} off with {partners}: read the predictions, not these.")
    weakest = dict(zip(names, (right[-1] / np.abs(right[-1]).max()).tolist(), strict=True))
    return Identifiability(condition, weakest, identified, trades, tuple(words))


def _weak_words(directions: list[Array], names: tuple[str, ...], known: str | None, *, refused: bool) -> list[str]:
    """Name each weak direction but that of a `known` one: which parameters move how, while the predictions stay."""
    reading = "their intervals mean nothing, predictions still hold" if refused else "read the predictions, not these"
    words = []
    for direction in directions:
        relative = direction / direction[np.argmax(np.abs(direction))]
        moving = {name: share for name, share in zip(names, relative, strict=True) if abs(share) > SHARE}
        if len(moving) > 1:
            together = ", ".join(f"{name} {share:+.2g}" for name, share in moving.items())
            words.append(f"{' and '.join(moving)} trade off ({together}): {reading}.")
        elif known not in moving:
            words.append(f"{next(iter(moving))} is not identified by these runs: no prediction here depends on it.")
    return words


def _bound_words(fit: Fit, identified: dict[str, bool]) -> list[str]:
    """Find parameters that ended at a bound, or whose resamples often did, mark them, and say so."""
    words = []
    draws = fit.problem.coordinates(fit.draws) if fit.draws else np.empty((0, len(fit.free)))
    for k, name in enumerate(fit.free):
        bounds = np.array([fit.problem.lower[k], fit.problem.upper[k]])
        near = np.where(np.isfinite(bounds), 1e-6 * np.maximum(1.0, np.abs(bounds)), -1.0)
        share = float(np.mean((np.abs(draws[:, k, None] - bounds) <= near).any(1))) if len(draws) else 0.0
        reason = f"{name} ran into a bound in {share:.0%} of the resamples: its interval means nothing"
        if ended := (np.abs(fit.z[k] - bounds) <= near).any():
            reason = f"{name} ended at its bound ({_short(fit.parameters[name])}): the data would take it further"
        if ended or share > STUCK:
            identified[name] = False
            words.append(f"{reason}. Check the law, or fix it with fixed={{'{name}': ...}} (--fix {name}=...).")
    return words


def _trades(fit: Fit, scaled: Array, identified: dict[str, bool]) -> dict[str, str]:
    """Find parameters whose unit holds another free parameter that nearly determines them (correlation above 0.9)."""
    inverse, at = np.linalg.pinv(scaled.T @ scaled, hermitian=True), fit.free.index
    sd = np.sqrt(np.maximum(np.diag(inverse), 1e-300))
    pairs = [
        (parameter.name, str(power))
        for parameter in fit.model.parameters
        for power in parameter.dimension.values()
        if identified.get(parameter.name) and power in fit.free
    ]
    return {a: b for a, b in pairs if abs(inverse[at(a), at(b)]) > 0.9 * sd[at(a)] * sd[at(b)]}


def _floor_words(fit: Fit, other: Problem, ends: Optima, identified: dict[str, bool]) -> list[str]:
    """Say so where the law without its floor fits as well: the floor's profile is flat below."""
    floor = str(fit.model.floor)
    direction = fit.problem.transform[fit.free.index(floor)]
    if deviance(fit, ends.objective.min(), direction) > SIGNIFICANT:
        return []
    identified[floor] = False
    step = ""
    if (factor := _showing(fit, other.theta(ends.z), direction)) is not None:
        there = ", ".join(f"{name} = {_short(value * factor)}" for name, value in fit.largest.items())
        step = f"add one run at {there} or larger, or "
    value = fit.parameters[floor]
    shown = f"{value:.3g}" if value > 1e-3 * fit.data.target.min() else "what larger runs say"
    return [
        f"{floor} is not identified by these runs: the law with {floor} = 0 fits as well. Next: {step}"
        f"hold it at {shown} (fixed={{'{floor}': ...}}, --fix {floor}=...)."
    ]


def _showing(fit: Fit, theta: Array, direction: Array) -> float | None:
    """Factor on the largest run's columns at which one more run, as the fit predicts it, would show the floor.

    It would if the law without a floor, fitted again with that run, had twice the deviance that counts as significant
    (then four runs in five do, whatever their noise). Every factor is a row of one batch: all its runs are there, one
    has weight 1. It starts from raw coordinates theta [starts, p].
    """
    factors = np.geomspace(1.5, 1e5, 24)
    at = {name: value * factors for name, value in fit.largest.items()}
    joined = fit.data.joined(at, fit.value(**at), float(fit.data.weights.mean()))
    problem = fit.problem_on(joined, **{str(fit.model.floor): 0.0})
    rows = np.concatenate([np.ones((len(factors), len(fit.data))), np.eye(len(factors))], 1)
    without = lowest(problem.with_rows(weights=rows), problem.centred(theta), len(factors))
    shown = np.flatnonzero(deviance(fit, without.objective, direction) > 2 * SIGNIFICANT)
    return float(factors[shown[0]]) if len(shown) else None


def _short(value: float) -> str:
    return f"{value:.2g}".replace("e+0", "e").replace("e+", "e")
