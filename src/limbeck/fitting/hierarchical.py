"""Noise that comes in two parts: what a whole run shares, and what each of its points adds.

Several points of one training run (branches of one trunk, checkpoints) move together, so the scatter around a fitted
curve understates what another run will do: the curve bends to follow the run. Replicated runs tell the two parts apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from limbeck.errors import FittingError
from limbeck.fitting.data import numbered
from limbeck.fitting.fit import Fit
from limbeck.fitting.plain import Plain
from limbeck.fitting.resampling import prior_centres
from limbeck.fitting.solver import refit

STRIPS = 199


@dataclass(frozen=True)
class NoiseComponents(Plain):
    """Standard deviations of log loss.

    Args:
        run: what all points of one run share.
        point: what each point adds.
        degrees: degrees of freedom of the estimate; 0 for values taken from elsewhere.
    """

    run: float
    point: float
    degrees: int = 0

    @property
    def total(self) -> float:
        """Standard deviation of one point of a new run, √(run² + point²)."""
        return float(np.hypot(self.run, self.point))


def noise_components(target: ArrayLike, configuration: ArrayLike, run: ArrayLike, group: ArrayLike) -> NoiseComponents:
    """Estimate run and point noise from replicated runs by the method of moments.

    With d = ln y minus its mean over the runs of the same configuration, the variance of d within runs gives point²,
    and the variance of the runs' means gives run² + point²/k (k points a run).

    Args:
        target: positive observations, [n].
        configuration: what is repeated exactly (size and budget), [n].
        run: the run of each point, [n].
        group: what the runs of a group have in common (their size), [n]; runs of one group replicate each other.

    Raises:
        FittingError: no group has two runs.
    """
    y = np.log(np.asarray(target, float))
    cell, runs, groups = numbered(configuration), numbered(run), numbered(group)
    deviation = y - (np.bincount(cell, y) / np.bincount(cell))[cell]
    points = np.bincount(runs)
    mean = np.bincount(runs, deviation) / points
    group_of_run = np.zeros(len(points), int)
    group_of_run[runs] = groups
    degrees = int((np.bincount(group_of_run) - 1).sum())
    if degrees < 1:
        raise FittingError("run-to-run noise needs two runs of the same configuration; repeat one with another seed.")
    within = float(((deviation - mean[runs]) ** 2).sum())
    within_degrees = len(y) - len(np.unique(cell)) - degrees
    point = within / within_degrees if within_degrees > 0 else 0.0
    between = float((mean**2).sum()) / degrees
    shared = max(between - point / float(points.mean()), 0.0)
    return NoiseComponents(float(np.sqrt(shared)), float(np.sqrt(point)), degrees)


def hierarchical_draws(fit: Fit, noise: NoiseComponents, count: int, *, form: float = 0.0, seed: int = 0) -> Fit:
    """Return the fit with draws of a parametric hierarchical bootstrap and with the noise of one new run.

    y* = ŷ · exp(s_run z_run + s_point z_point), prior centres redrawn from the priors, refitted. The standard
    deviations are redrawn too, from their scaled inverse-χ² distribution with `noise.degrees` degrees of freedom, so
    that few replicates give a wide interval.

    Args:
        fit: a fit in log space; its clusters are the runs.
        noise: run and point noise.
        count: number of draws.
        form: standard deviation of log loss by which the law's form was wrong in earlier extrapolations; added to the
            noise.
        seed: of the draws.

    Raises:
        FittingError: the fit is not in log space.
    """
    if fit.loss.space != "log":
        space = fit.loss.space
        raise FittingError(f"hierarchical noise is a noise of log {fit.model.target}; the fit used {space} residuals.")
    rng = np.random.default_rng([seed, 2])
    problem, z, clusters = fit.problem, fit.z, fit.data.clusters
    fitted = problem.program.evaluate(problem.theta(z[None]))[0][0].copy()
    scale = np.sqrt(noise.degrees / rng.chisquare(noise.degrees, (count, 1))) if noise.degrees else np.ones((count, 1))
    shared = rng.normal(size=(count, int(clusters.max()) + 1))[:, clusters]
    own = rng.normal(size=(count, len(fitted)))
    target = fitted + scale * (noise.run * shared + noise.point * own)
    centres = prior_centres(problem, fit.prior_noise, count, rng)
    draws = refit(problem.with_rows(target=target, prior_mean=centres), z, count)
    # Equally likely values of the normal: mid-points of strips of equal probability.
    scores = np.hypot(noise.total, form) * ndtri((np.arange(STRIPS) + 0.5) / STRIPS)
    return replace(fit, draws=draws, noise=scores, method="hierarchical", seed=seed)
