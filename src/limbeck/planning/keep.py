"""Which examples to keep, and how many: hard ones, easy ones or any, by the theory of the pruned perceptron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import PlanningError
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.planning.estimate import Plan
from limbeck.runs.quantities import si
from limbeck.theory import el2n, out_of_fold, prototype_distance, prune, pruned_perceptron

POLICIES = ("hard", "easy", "random")
NOTES = (
    "Exact for a perceptron on Gaussian inputs; on real data trust the order of the rows, not the errors.",
    "Check the hardest examples for wrong labels first: with label noise, hard means mislabelled (arXiv 2511.03492).",
)


@dataclass(frozen=True)
class KeepOption:
    """One policy at its best fraction.

    Args:
        policy: "hard", "easy" or "random".
        ranked: examples that are scored to choose from; 0 where random ones are best.
        error: expected error on inputs as they come.
    """

    policy: str
    ranked: int
    error: float


@dataclass(frozen=True)
class KeepPlan(Plan):
    """What to keep of a pool.

    Args:
        pool: examples at hand.
        dimension: of the inputs.
        angle: between the ranking and the truth, in radians.
        kept: examples to keep.
        options: one per policy, best first.
        error_all: expected error if nothing is pruned.
        notes: caveats, in words.
    """

    pool: int
    dimension: float
    angle: float
    kept: int
    options: tuple[KeepOption, ...]
    error_all: float
    notes: tuple[str, ...]

    @property
    def best(self) -> KeepOption:
        """The policy with the smallest error."""
        return self.options[0]

    @property
    def gain(self) -> float:
        """Error of as many random examples over the error of the best policy."""
        return next(o.error for o in self.options if o.policy == "random") / self.best.error

    def _lines(self) -> list[str]:
        which = {"random": "any of them"}.get(self.best.policy, f"the {self.best.policy} ones")
        share = f"({self.kept / self.pool:.0%}): {which if self.kept < self.pool else 'nothing is pruned'}"
        answer = f"Keep {si(self.kept, 3)} of {si(self.pool, 3)} examples {share}"
        lines = [answer, "", f"{'':14}{'error':>9}   {'examples ranked':>15}"]
        for option in self.options if self.kept < self.pool else ():
            ranked = si(option.ranked, 3) if option.ranked else "–"
            mark = f"   ← {self.gain:.2g}× below random" if option is self.best and self.gain > 1.005 else ""
            lines.append(f"  {option.policy:12}{option.error:>9.3g}   {ranked:>15}{mark}")
        where = f"{self.pool / self.dimension:.3g} examples per dimension, ranking {math.degrees(self.angle):.0f}° off."
        return [*lines, f"  {'all examples':12}{self.error_all:>9.3g}", "", where]

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words."""
        return super().to_dict() | {"best": self.best.policy, "gain": self.gain, "fraction": self.kept / self.pool}

    def plot(self) -> Any:
        """Draw the error of each policy against the kept share of the pool."""
        shares, given = np.geomspace(0.02, 1, 20), self.pool / self.dimension
        errors = pruned_perceptron(shares * given, shares, self.angle, np.array(POLICIES)[:, None]).error
        title = f"A pool of {si(given)} examples per dimension wants {self.best.policy} examples"
        lines = [{"x": shares, "y": y, "name": one, "mode": "lines"} for one, y in zip(POLICIES, errors, strict=True)]
        figure = chart(title, "kept share of the pool", "expected error", lines, log="xy")
        return figure.add_vline(self.kept / self.pool, line_dash="dot")


def plan_keep(
    pool: float, dimension: float, probe_error: float, *, keep: float | None = None, tolerance: float = 0.1
) -> KeepPlan:
    """Decide which examples of a pool to keep.

    A number to keep is filled by each policy as well as it can: ranking the whole pool, or a random part of it. Without
    a number, the smallest share is taken with which one policy loses no more than the tolerance.

    Args:
        pool: examples at hand.
        dimension: of the inputs that the student sees.
        probe_error: error of the cheap model that ranks them, on examples that it did not see, 0 to 1; the ranking is
            at the angle pi times it from the truth.
        keep: examples to keep; up to 1, a share of the pool.
        tolerance: accepted relative increase of the error, where `keep` is not given.

    Raises:
        PlanningError: a number is outside its range.

    Source: Beyond neural scaling laws: beating power law scaling via data pruning (Sorscher et al., 2022, arXiv
    2206.14486).

    Example:
        >>> small, large = (plan_keep(pool, 100, probe_error=0.02, keep=0.5) for pool in (200, 2000))
        >>> small.best.policy, large.best.policy
        ('easy', 'hard')
    """
    if not (pool >= 1 and dimension > 0 and 0 <= probe_error <= 1 and tolerance >= 0):
        raise PlanningError(
            f"pool = {pool:g}, dimension = {dimension:g}, probe error = {probe_error:g}, tolerance = {tolerance:g}: "
            "expected positive counts, an error from 0 to 1 and a tolerance that is not negative."
        )
    if keep is not None and (not 0 < keep <= pool or (keep > 1 and keep % 1)):
        raise PlanningError(f"{keep:g} examples cannot be kept of {pool:g}: give a number up to that, or a share.")
    angle = min(math.pi * probe_error, math.pi / 2)
    per_dimension, error_all = pool / dimension, float(pruned_perceptron(pool / dimension).error)
    policies = np.array(POLICIES)[:, None]
    if keep is None:
        shares = np.geomspace(min(1, max(1e-3, 1 / pool)), 1, 25)
        good = pruned_perceptron(shares * per_dimension, shares, angle, policies).error <= (1 + tolerance) * error_all
        kept = max(round(float(shares[good.any(0).argmax()]) * pool), 1)
        notes: tuple[str, ...] = (f"The smallest share whose error is within {tolerance:.0%} of that of all examples.",)
    else:
        kept, notes = max(round(keep * pool if keep <= 1 else keep), 1), ()
    shares = np.geomspace(kept / pool, 1, 25 if kept < pool else 1)
    error = pruned_perceptron(kept / dimension, shares, angle, policies).error
    best = [np.flatnonzero(row <= (1 + 1e-6) * row.min())[-1] for row in error]
    options = [
        KeepOption(policy, round(kept / float(shares[k])) if shares[k] < 1 else 0, float(row[k]))
        for policy, row, k in zip(POLICIES, error, best, strict=True)
    ]
    if kept <= 0.3 * pool:
        notes += ("Below a share of 30 % random examples are hard to beat in practice (arXiv 2302.06960).",)
    ordered = tuple(sorted(options, key=lambda option: (option.error, option.policy != "random")))
    return KeepPlan(round(pool), dimension, angle, kept, ordered, error_all, (*notes, *NOTES))


def read_features(path: str | Path) -> tuple[Array, NDArray[Any] | None]:
    """Return the features [n, d] and, where there are any, the labels [n] of an .npy or .npz file.

    Args:
        path: an array, or an archive with `features` and perhaps `labels`.

    Raises:
        PlanningError: the file cannot be read, or holds no features.
    """
    try:
        held = np.load(path, allow_pickle=False)
        arrays = {"features": held} if isinstance(held, np.ndarray) else dict(held)
        features, labels = arrays["features"].astype(float), arrays.get("labels")
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        what = "does not exist" if isinstance(error, FileNotFoundError) else "is no .npy or .npz file with features"
        raise PlanningError(f"{path} {what}. Write it with numpy.savez(path, features=..., labels=...).") from error
    if not np.isfinite(features).all():
        row = int(np.flatnonzero(~np.isfinite(features.reshape(len(features), -1)).all(1))[0])
        raise PlanningError(f"{path}: row {row} has a feature that is not finite. Leave such examples out.")
    if features.ndim != 2 or (labels is not None and labels.shape != features.shape[:1]):
        shape = "none" if labels is None else labels.shape
        raise PlanningError(f"{path}: features of shape {features.shape} and labels {shape}; expected [n, d] and [n].")
    return features, labels


def choose_examples(
    features: ArrayLike, labels: ArrayLike | None = None, *, probe_error: float | None = None,
    keep: float | None = None, tolerance: float = 0.1, seed: int = 0,
) -> tuple[KeepPlan, NDArray[np.int_]]:  # fmt: skip
    """Decide by `plan_keep` from real features, and return the plan and the rows to keep, those with first claim first.

    With labels the ranking is EL2N of logistic regressions, out of fold, and their error is the probe's; every class
    keeps half of its share. Without, it is the distance to the nearest of ten k-means prototypes.

    Args:
        features: embedding of every example, [n, d].
        labels: class numbers, [n].
        probe_error: of the ranking; needed without labels.
        keep, tolerance: as for `plan_keep`.
        seed: of folds, k-means, ties and random choices.

    Raises:
        PlanningError: neither labels nor the error of a probe.
    """
    x = np.asarray(features, float)
    if labels is not None:
        p = out_of_fold(x, labels, seed=seed)
        classes = np.unique(np.asarray(labels), return_inverse=True)[1]
        scores, measured = el2n(p, classes), float(np.mean(p.argmax(1) != classes))
        probe_error = measured if probe_error is None else probe_error
    elif probe_error is None:
        raise PlanningError("without labels nobody knows how good a ranking is: give the error of a probe, or labels.")
    else:
        scores = prototype_distance(x, prototypes=min(10, len(x)), seed=seed)
    plan = plan_keep(len(x), x.shape[1], probe_error, keep=keep, tolerance=tolerance)
    rows = np.random.default_rng(seed).permutation(len(x))[: plan.best.ranked or len(x)]
    some = None if labels is None else np.asarray(labels)[rows]
    chosen = prune(scores[rows], plan.kept / len(rows), plan.best.policy, labels=some, seed=seed)
    return plan, rows[chosen]
