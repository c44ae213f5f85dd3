"""Resamples of a data set as rows of weights or of targets, so that one batch of the solver fits them all."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from limbeck.errors import FittingError, nearest
from limbeck.fitting.data import Data, numbered
from limbeck.fitting.model import Array
from limbeck.fitting.objective import Problem

Method = Literal["pairs", "residual", "wild", "mammen", "block"]
"""How resamples are made: whole runs with replacement, residuals with replacement, residuals with turned signs, or
residuals in blocks of neighbours."""


@dataclass(frozen=True)
class Resamples:
    """Rows for `Problem.with_rows`.

    Args:
        weights: how often each point was drawn, [B, n], or None where the design is kept.
        target: new observations in residual space, [B, n], or None where they are kept.
        degenerate: resamples drawn again because they held too few distinct designs to identify the model.
    """

    weights: Array | None
    target: Array | None
    degenerate: int = 0


def resample(problem: Problem, z: Array, data: Data, method: Method, count: int, rng: np.random.Generator) -> Resamples:
    """Draw resamples of a fitted problem.

    Args:
        problem: bound to `data`.
        z: its optimum in centred coordinates, [p].
        data: the points and their clusters.
        method: see `Method`.
        count: number of resamples.
        rng: source of randomness.

    Raises:
        FittingError: the method is not known, or the data cannot be resampled by it.
    """
    if method not in (known := get_args(Method)):
        choices = f"{nearest(method, known)} Choose one of: {', '.join(known)}."
        raise FittingError(f'unknown resampling method "{method}".{choices}')
    if method == "pairs":
        return pairs(data.design, data.clusters, count, len(problem.free) + 1, rng)
    if method == "residual" and data.runs < len(data):
        raise FittingError(
            f"the residual bootstrap needs independent points; these {len(data)} come from {data.runs} runs. "
            'Use method="pairs" or "wild", which keep the points of one run together.'
        )
    fitted = problem.program.evaluate(problem.theta(z[None]))[0][0].copy()
    noise = run_noise(problem, z) * (fitted if problem.loss.space == "relative" else 1.0)
    if method == "residual":
        return residual(fitted, noise, count, rng)
    if method == "block":
        return blocks(fitted, noise, data.clusters, count, rng)
    return wild(fitted, noise, data.clusters, count, rng, method == "mammen")


def pairs(design: Array, clusters: NDArray[np.int_], count: int, distinct: int, rng: np.random.Generator) -> Resamples:
    """Draw whole clusters with replacement (points of one training run are not independent).

    Args:
        design: the columns, [n, columns]; a resample with fewer than `distinct` distinct rows is drawn again.
        clusters: cluster of each point, [n], numbered from 0.
        count: number of resamples.
        distinct: designs that the model needs (its free parameters plus one).
        rng: source of randomness.

    Raises:
        FittingError: the data themselves hold fewer distinct designs or clusters, or nearly every resample does.
    """
    groups, kind = int(clusters.max()) + 1, numbered(design)
    kinds = int(kind.max()) + 1
    if kinds < distinct or groups < 2:
        raise FittingError(
            f"a bootstrap needs at least {distinct} distinct configurations from 2 independent runs; "
            f"there are {kinds} from {groups}. Add runs, fix parameters, or use bootstrap=0."
        )
    member = np.zeros((groups, kinds))
    np.add.at(member, (clusters, kind), 1.0)
    drawn, degenerate = np.empty((0, groups)), 0
    while len(drawn) < count:
        fresh = rng.multinomial(groups, np.full(groups, 1 / groups), size=count - len(drawn)).astype(float)
        enough = ((fresh @ member) > 0).sum(1) >= distinct
        degenerate += int((~enough).sum())
        if degenerate > 50 * count:
            raise FittingError(
                f"nearly every resample of the {groups} runs holds fewer than {distinct} distinct configurations. "
                "Add runs, fix parameters, or use bootstrap=0."
            )
        drawn = np.concatenate([drawn, fresh[enough]])
    return Resamples(drawn[:, clusters], None, degenerate)


def leave_one_out(clusters: NDArray[np.int_]) -> Array:
    """Return the jackknife's weight rows: row g is 1 everywhere but in cluster g, [clusters, n]."""
    return np.asarray(clusters != np.arange(int(clusters.max()) + 1)[:, None], float)


def residual(fitted: Array, noise: Array, count: int, rng: np.random.Generator) -> Resamples:
    """Keep the design and add residuals drawn with replacement: y* = ŷ + e*. Needs equal noise everywhere."""
    return Resamples(None, np.asarray(fitted + rng.choice(noise, (count, len(fitted)))))


def wild(
    fitted: Array, noise: Array, clusters: NDArray[np.int_], count: int, rng: np.random.Generator, mammen: bool = False
) -> Resamples:
    """Keep the design and turn the signs of each cluster's residuals: y* = ŷ + v e (Wu 1986; Mammen 1993).

    v is ±1 (Rademacher), or −(√5−1)/2 with probability (√5+1)/(2√5) and (√5+1)/2 otherwise (Mammen).
    """
    shape, root = (count, int(clusters.max()) + 1), math.sqrt(5.0)
    if mammen:
        v = np.where(rng.random(shape) < (root + 1) / (2 * root), -(root - 1) / 2, (root + 1) / 2)
    else:
        v = rng.choice([-1.0, 1.0], shape)
    return Resamples(None, fitted + v[:, clusters] * noise)


def blocks(fitted: Array, noise: Array, clusters: NDArray[np.int_], count: int, rng: np.random.Generator) -> Resamples:
    """Keep the design and add residuals in moving blocks: neighbours along a training curve err together.

    Every run is filled with overlapping blocks of ⌈m^(1/3)⌉ neighbouring residuals of one run, whichever, where m is
    the mean number of points of a run and points stand in their order (Künsch 1989, Annals of Statistics 17; the length
    is that of Hall, Horowitz and Jing 1995, Biometrika 82).
    """
    order = np.argsort(clusters, kind="stable")
    run, sizes = clusters[order], np.bincount(clusters)
    length = math.ceil(sizes.mean() ** (1 / 3))
    firsts = np.flatnonzero(run[: len(run) - length + 1] == run[length - 1 :])
    target = np.tile(fitted, (count, 1))
    for group, n in enumerate(sizes):
        drawn = rng.choice(firsts, (count, math.ceil(n / length)))[:, :, None] + np.arange(length)
        target[:, order[run == group]] += noise[order[drawn.reshape(count, -1)[:, :n]]]
    return Resamples(None, target)


def prior_centres(problem: Problem, prior_noise: float, count: int, rng: np.random.Generator) -> Array:
    """Draw the priors' centres from the priors, [count, p]: draws then hold the doubt that only a prior bounds."""
    precision = problem.prior_precision
    sd = np.divide(prior_noise, np.sqrt(precision), out=np.zeros_like(precision), where=precision > 0)
    return np.asarray(problem.prior_mean + sd * rng.standard_normal((count, len(sd))))


def leverage(problem: Problem, z: Array) -> Array:
    """Leverage h_i of each point at the optimum z [p]: diag of √w J (Jᵀ W J)⁻¹ Jᵀ √w, [n].

    Points of weight 0 and points where the model is not finite have none.
    """
    _, jacobian, weights, precision = problem.local(z)
    j = np.sqrt(weights) * np.nan_to_num(jacobian)
    inverse = np.linalg.pinv(j @ j.T + precision, hermitian=True)
    return np.asarray(np.clip(np.einsum("pn,pq,qn->n", j, inverse, j), 0.0, 1 - 1e-6))


def run_noise(problem: Problem, z: Array) -> Array:
    """Residuals corrected for leverage, e / √(1 − h), and centred, [n]: what a new run adds to the law.

    They live in residual space; in the relative space they are fractions of the prediction. Points of weight 0 do not
    enter the centre.
    """
    residuals, _, weights, _ = problem.local(z)
    if problem.loss.space == "relative":
        residuals = residuals / np.atleast_2d(problem.target)[0]
    noise = -residuals / np.sqrt(1 - leverage(problem, z))
    return np.asarray(noise - noise[weights > 0].mean(), float)
