"""Data pruning in a perceptron that is solved exactly: which examples to keep, and what error that leaves.

A teacher T labels Gaussian inputs. A probe J_p at the angle theta from T ranks them by |J_p . x|, a fraction is kept,
and the max-margin student J learns from what was kept. Let x have the components tau along T, whose sign is the label,
and nu across it in the plane of T and J_p. In units of the student's length outside that plane, J is (t, v) with the
margin b(t, v) that solves

    alpha E_kept Q(b - t |tau| - v sign(tau) nu) = 1,   Q(m) = E_g (m - g)_+^2 = (m^2 + 1) Phi(m) + m phi(m).

b is concave, and the student is where b / sqrt(1 + t^2 + v^2) is largest: a single maximum. Points are rows of one
batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.special import ndtr, ndtri

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.laws.law import SOURCES

SORSCHER = SOURCES["sorscher-2022"]
POLICIES = ("hard", "easy", "random")
FAR = 9.0  # standard deviations beyond which nothing is left of a normal density
TAU, NU = 64, 40  # nodes of the quadrature
BLOCK = {False: 1024, True: 64}  # points in one batch, by whether each needs a grid of two dimensions


@dataclass(frozen=True)
class PrunedPerceptron:
    """The student at each point; all arrays have the shape of the broadcast arguments.

    Args:
        error: share of wrong answers on inputs as they come, before pruning: arccos(R)/pi.
        margin: kappa, of the kept examples, for a student of length 1.
        overlap: R = J . T.
        probe_overlap: rho = J . J_p.
    """

    error: Array
    margin: Array
    overlap: Array
    probe_overlap: Array


def pruned_perceptron(
    alpha: ArrayLike, fraction: ArrayLike = 1.0, angle: ArrayLike = 0.0, keep: ArrayLike = "hard"
) -> PrunedPerceptron:
    """Return the student that learns from the kept fraction, in the limit of many dimensions. Arguments broadcast.

    Args:
        alpha: kept examples per dimension: fraction times the size of the pool over the dimension.
        fraction: kept share of the pool, above 0 and up to 1.
        angle: theta between probe and teacher, from 0 (exact ranking) to pi/2 (random order), in radians.
        keep: "hard" (smallest |J_p . x|), "easy" (largest) or "random".

    Raises:
        FittingError: a value is outside its range, or the policy is unknown.

    Source: Beyond neural scaling laws: beating power law scaling via data pruning (Sorscher et al., 2022, arXiv
    2206.14486); the variational form is reconstructed and agrees with its saddle-point equations.

    Example:
        >>> pruned_perceptron(4.0, 0.3, keep=["hard", "easy", "random"]).error.round(4).tolist()
        [0.0373, 0.0548, 0.1137]
    """
    given = np.broadcast_arrays(*(np.asarray(a, float) for a in (alpha, fraction, angle)), np.asarray(keep))
    shape = given[0].shape
    a, f, theta, policy = (array.ravel() for array in given)
    _check_range("alpha", a, (a > 0) & (a < np.inf), "a positive number of kept examples per dimension")
    _check_range("fraction", f, (f > 0) & (f <= 1), "a share above 0 and up to 1")
    _check_range("angle", theta, (theta >= 0) & (theta <= np.pi / 2 + 1e-12), "0 to pi/2 radians")
    _check_range("keep", policy, np.isin(policy, POLICIES), " or ".join(POLICIES))
    blind = (policy == "random") | (f == 1) | (theta > np.pi / 2 - 1e-9)
    rows = _Rows(a, np.where(blind, 1.0, f), np.where(blind, 0.0, theta), (policy == "easy") & ~blind)
    state = np.empty((len(a), 3))
    for plane, size in BLOCK.items():
        points = np.flatnonzero((rows.angle > 0) == plane)
        for first in range(0, len(points), size):
            block = points[first : first + size]
            state[block] = _maximise(rows[block])
    t, v, b = state.T
    length = np.sqrt(1 + t * t + v * v)
    along = t * np.cos(theta) - v * np.sin(theta)
    found = np.arctan2(np.hypot(1, v), t) / np.pi, b / length, t / length, along / length
    return PrunedPerceptron(*(array.reshape(shape) for array in found))


@dataclass(frozen=True)
class Frontier:
    """The best pruning for each number of kept examples.

    Args:
        error: the smallest error over the fractions, [n].
        fraction: where it is reached, [n].
    """

    error: Array
    fraction: Array


def pruning_frontier(alpha: ArrayLike, fractions: ArrayLike, angle: float = 0.0, keep: str = "hard") -> Frontier:
    """Return the lower envelope over fractions: a small fraction of a large pool, or all of a small one.

    Args:
        alpha: kept examples per dimension, [n].
        fractions: kept shares to choose from, [m].
        angle, keep: as for `pruned_perceptron`.

    Source: Beyond neural scaling laws: beating power law scaling via data pruning (Sorscher et al., 2022, arXiv
    2206.14486).

    Example:
        >>> pruning_frontier([1.0, 8.0], [0.01, 0.1, 1.0]).fraction.tolist()
        [1.0, 0.01]
    """
    shares = np.asarray(fractions, float)
    error = pruned_perceptron(np.asarray(alpha, float)[:, None], shares, angle, keep).error
    return Frontier(error.min(1), shares[error.argmin(1)])


def max_margin(examples: Array) -> Array:
    """Return the separator of length 1, through the origin, with the largest margin: the student of a simulation.

    The direction of the point of the convex hull that is nearest to the origin (Lawson and Hanson, 1974, chapter 23).

    Args:
        examples: inputs times their labels, [P, N]; separable.

    Example:
        >>> max_margin(np.array([[1.0, 0.0], [0.0, 1.0], [3.0, 1.0]])).round(4).tolist()
        [0.7071, 0.7071]
    """
    system = np.vstack([examples.T, np.ones(len(examples))])
    student = examples.T @ nnls(system, np.eye(len(system))[-1])[0]
    return np.asarray(student / np.linalg.norm(student))


def _check_range(name: str, values: NDArray[Any], good: NDArray[np.bool_], expected: str) -> None:
    if not good.all():
        raise FittingError(f"{name} = {values[~good][0]}: expected {expected}.")


@dataclass(frozen=True)
class _Rows:
    """Points: kept examples per dimension, kept share, angle, and whether the easy ones are kept; [n] each."""

    alpha: Array
    fraction: Array
    angle: Array
    easy: NDArray[np.bool_]

    def __getitem__(self, rows: NDArray[np.int_]) -> _Rows:
        return _Rows(self.alpha[rows], self.fraction[rows], self.angle[rows], self.easy[rows])

    @property
    def cut(self) -> Array:
        """Distance from the probe's plane at which examples are cut off."""
        return np.asarray(-ndtri(np.where(self.easy, self.fraction, 1 - self.fraction) / 2))

    @property
    def ends(self) -> tuple[Array, Array]:
        """Range of |tau| in which examples are kept."""
        sin, cos = np.sin(self.angle), np.cos(self.angle)
        low = np.where(self.easy, np.maximum(0, (self.cut - FAR * sin) / cos), 0.0)
        return low, np.where(self.easy, low + FAR, np.minimum(FAR, (self.cut + FAR * sin) / cos))

    def nodes(self, t: Array, v: Array, b: Array) -> tuple[Array, Array, Array]:
        """Nodes |tau| [n, i, 1] and sign(tau) nu [n, i, j], and weights of the average over kept examples."""
        low, high = self.ends
        reach = (b + FAR * np.hypot(1, v)) / np.maximum(t, 1e-99) - low
        high = np.minimum(high, low + np.maximum(reach, 1 / np.maximum(t, 1)))
        tau, weight = _legendre(low, high, TAU)
        weight = (2 * _density(tau) * weight / self.fraction[:, None])[..., None]
        if not self.angle.any():
            return tau[..., None], np.zeros((1, 1, 1)), weight
        sin, cos, cut = np.sin(self.angle)[:, None], np.cos(self.angle)[:, None], self.cut[:, None]
        left, right = (np.clip((cos * tau + side * cut) / sin, -FAR, FAR) for side in (-1, 1))
        easy, far = self.easy[:, None], np.full_like(left, FAR)
        parts = [_legendre(np.where(easy, -far, left), np.where(easy, left, right), NU)]
        if self.easy.any():
            parts.append(_legendre(np.where(easy, right, far), far, NU))
        nu, share = (np.concatenate(part, -1) for part in zip(*parts, strict=True))
        return tau[..., None], nu, weight * share * _density(nu)

    def margin(self, t: Array, v: Array, b: Array) -> tuple[Array, Array, Array]:
        """b(t, v) by Newton's method from a start [n], its gradient [n, 2] and its Hessian [n, 2, 2]."""
        drawn = np.full_like(b, np.inf)
        for _ in range(60):
            if (np.abs(b - drawn) > np.hypot(1, v)).any():
                (tau, nu, share), drawn = self.nodes(t, v, b), b
            m = b[:, None, None] - t[:, None, None] * tau - v[:, None, None] * nu
            below, density = ndtr(m), _density(m)
            weight = 2 * self.alpha[:, None, None] * share
            slope = weight * (m * below + density)
            value, rise = 0.5 * (weight * ((m * m + 1) * below + m * density)).sum((1, 2)) - 1, slope.sum((1, 2))
            step = np.maximum(value / np.maximum(rise, 1e-300), -np.maximum(1, np.abs(b)))
            b = b - step
            if (np.abs(step) < 1e-9 * (1 + np.abs(b))).all():
                break
        slope, curvature = slope / rise[:, None, None], weight * below / rise[:, None, None]
        points = np.stack(np.broadcast_arrays(tau, nu), 1)
        gradient = np.einsum("nij,nkij->nk", slope, points)
        away = gradient[..., None, None] - points
        return b, gradient, -np.einsum("nij,nkij,nlij->nkl", curvature, away, away)


def _maximise(rows: _Rows) -> Array:
    """(t, v, b) [n, 3] of the largest margin. Rows leave the batch as they arrive.

    Damped Newton steps on ln sqrt(1 + t^2 + v^2) - ln b in ln |(t, v)| and, unless v = 0, the direction from T. The
    start, far out along T, has a positive margin.
    """
    start = np.maximum(rows.alpha / np.where(rows.easy, 1, rows.fraction), 1)
    place = np.stack([np.log(start), np.zeros(len(start))], 1)
    b, free = start * rows.ends[0] + 1, 2 if rows.angle.any() else 1
    state, live = np.empty((len(b), 3)), np.arange(len(b))
    best, reach = np.full((len(b), 12), np.inf), np.full(len(b), 1.0)
    for _ in range(80):
        now = _evaluate(rows, place, b)
        better = now[:, 0] <= best[:, 0] + 1e-12
        best = np.where(better[:, None], now, best)
        reach = np.where(better, np.minimum(2 * reach, 2), reach / 4)
        gradient, hessian = best[:, 6 : 6 + free], best[:, 8:].reshape(-1, 2, 2)[:, :free, :free]
        values, vectors = np.linalg.eigh(hessian)
        along = np.einsum("nji,nj->ni", vectors, gradient) / np.maximum(np.abs(values), 1e-12)
        step = -np.einsum("nij,nj->ni", vectors, along)
        step *= np.minimum(1, reach / np.maximum(np.abs(step).max(1), 1e-99))[:, None]
        moving = (-(gradient * step).sum(1) > 1e-14) & (reach > 1e-6)
        at = _cartesian(best[:, 1:3])
        state[live] = np.column_stack([at, best[:, 3]])
        if not moving.any():
            break
        rows, live, best, reach = rows[moving], live[moving], best[moving], reach[moving]
        step = np.pad(step[moving], ((0, 0), (0, 2 - free)))
        place = best[:, 1:3] + step
        b = best[:, 3] + (best[:, 4:6] * (_cartesian(place) - at[moving])).sum(1)  # above b, which is concave
    return state


def _cartesian(place: Array) -> Array:
    return np.asarray(np.exp(place[:, :1]) * np.stack([np.cos(place[:, 1]), np.sin(place[:, 1])], 1))


def _evaluate(rows: _Rows, place: Array, b: Array) -> Array:
    """Columns [n, 12]: objective, place (ln |(t, v)|, direction), b, its slope in t and v, gradient, Hessian."""
    t, v = _cartesian(place).T
    b, gradient, hessian = rows.margin(t, v, b)
    turn = np.array([[t, v], [-v, t]]).transpose(2, 0, 1)
    rise = np.einsum("nij,nj->ni", turn, gradient)
    bend = turn @ hessian @ turn.transpose(0, 2, 1)
    bend += np.array([[rise[:, 0], rise[:, 1]], [rise[:, 1], -rise[:, 0]]]).transpose(2, 0, 1)
    positive = np.where(b > 0, b, np.inf)
    relative, square = rise / positive[:, None], np.exp(2 * place[:, 0])
    objective = np.where(b > 0, 0.5 * np.log1p(square) - np.log(positive), np.inf)
    curvature = relative[:, :, None] * relative[:, None, :] - bend / positive[:, None, None]
    curvature[:, 0, 0] += 2 * square / (1 + square) ** 2
    slope = np.stack([square / (1 + square), np.zeros(len(b))], 1) - relative
    return np.column_stack([objective, place, b, gradient, slope, curvature.reshape(-1, 4)])


def _density(x: Array) -> Array:
    return np.asarray(np.exp(-x * x / 2) / np.sqrt(2 * np.pi))


_rule = cache(np.polynomial.legendre.leggauss)


def _legendre(low: Array, high: Array, count: int) -> tuple[Array, Array]:
    """Nodes and weights of the Gauss-Legendre rule on intervals, [..., count]."""
    x, w = _rule(count)
    half = (high - low)[..., None] / 2
    return low[..., None] + half * (x + 1), half * w
