"""How difficult is each example? Scores for pruning, and the choice of what to keep by them.

A high score means difficult: what one keeps from a large pool. Score examples with models that did not learn from them.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.vq import kmeans2

from limbeck.errors import FittingError
from limbeck.fitting.model import Array


def el2n(probabilities: ArrayLike, labels: ArrayLike) -> Array:
    """Return the error L2 norm |p(x) - onehot(y)|, averaged over models that trained for a short time.

    Args:
        probabilities: of the classes, [n, C], or one such table per model, [k, n, C].
        labels: class numbers, [n].

    Source: Deep Learning on a Data Diet: Finding Important Examples Early in Training (Paul, Ganguli, Dziugaite, 2021,
    arXiv 2107.07075).

    Example:
        >>> el2n([[0.9, 0.1], [0.4, 0.6]], [0, 0]).round(3).tolist()
        [0.141, 0.849]
    """
    p, y = np.asarray(probabilities, float), np.asarray(labels)
    return np.asarray(np.linalg.norm(p - np.eye(p.shape[-1])[y], axis=-1).reshape(-1, len(y)).mean(0))


def forgetting(correct: ArrayLike) -> Array:
    """Return how often each example turned from right to wrong in training; one never right has the most, the epochs.

    Args:
        correct: whether the model was right, [epochs, n].

    Source: An Empirical Study of Example Forgetting during Deep Neural Network Learning (Toneva et al., 2019, arXiv
    1812.05159).

    Example:
        >>> forgetting([[1, 0, 1], [0, 0, 1], [1, 0, 1]]).tolist()
        [1.0, 3.0, 0.0]
    """
    right = np.asarray(correct, bool)
    return np.where(right.any(0), (right[:-1] & ~right[1:]).sum(0), float(len(right)))


def memorization(included: ArrayLike, correct: ArrayLike) -> Array:
    """Return P[right on i | i was trained on] - P[right on i | i was left out], from models of random subsets.

    Args:
        included: whether a model trained on an example, [models, n].
        correct: whether it is right on that example, [models, n].

    Source: What Neural Networks Memorize and Why (Feldman, Zhang, 2020, arXiv 2008.03703).

    Example:
        >>> memorization([[1, 0], [0, 1], [1, 1], [0, 0]], [[1, 1], [0, 1], [1, 1], [0, 1]]).tolist()
        [1.0, 0.0]
    """
    return np.asarray((_contrast(included) * np.asarray(correct, float)).sum(0))


def influence(included: ArrayLike, correct: ArrayLike, total: bool = False) -> Array:
    """Return max_j |infl(i, j)| over tests j; infl = P[right on j | i trained on] - P[right on j | i left out].

    Args:
        included: whether a model trained on an example, [models, n].
        correct: whether it is right on a test, [models, tests].
        total: sum over the tests instead of the largest.

    Source: What Neural Networks Memorize and Why (Feldman, Zhang, 2020, arXiv 2008.03703).

    Example:
        >>> influence([[1, 0], [0, 1], [1, 1], [0, 0]], [[1, 0], [0, 0], [1, 0], [0, 0]]).tolist()
        [1.0, 0.0]
    """
    effect = np.abs(_contrast(included).T @ np.asarray(correct, float))
    return np.asarray(effect.sum(1) if total else effect.max(1))


def _contrast(included: ArrayLike) -> Array:
    """Weights [models, n] whose sum with an outcome is its mean with an example minus its mean without."""
    inside = np.asarray(included, bool)
    with_it = inside.sum(0)
    if (with_it == 0).any() or (with_it == len(inside)).any():
        example = int(np.flatnonzero((with_it == 0) | (with_it == len(inside)))[0])
        subsets = f"{with_it[example]} of {len(inside)} subsets"
        raise FittingError(f"example {example} is in {subsets}: it needs some without.")
    return np.asarray(np.where(inside, 1 / with_it, -1 / (len(inside) - with_it)))


def dichotomous_difficulty(correct: ArrayLike) -> Array:
    """Return the share of an ensemble that is wrong on each example.

    Args:
        correct: whether a model is right, [models, n].

    Source: Trivial or Impossible: dichotomous data difficulty masks model differences (Meding et al., 2022, arXiv
    2110.05922).

    Example:
        >>> dichotomous_difficulty([[1, 0], [1, 1]]).tolist()
        [0.0, 0.5]
    """
    return np.asarray(1 - np.asarray(correct, float).mean(0))


def prototype_distance(
    features: ArrayLike, labels: ArrayLike | None = None, *, prototypes: int = 10, seed: int = 0
) -> Array:
    """Return the cosine distance to the nearest prototype: of one's own class with labels, of k-means without.

    Args:
        features: an embedding, [n, d].
        labels: class of each example, [n]; None is the self-supervised score.
        prototypes: clusters, where there are no labels; the number of classes, give or take a factor of ten.
        seed: of k-means.

    Source: Beyond neural scaling laws: beating power law scaling via data pruning (Sorscher et al., 2022, arXiv
    2206.14486).

    Example:
        >>> prototype_distance([[1, 0], [1, 0], [0, 1], [1, 1]], [0, 0, 1, 1]).round(3).tolist()
        [0.0, 0.0, 0.076, 0.076]
    """
    x = np.asarray(features, float)
    if x.ndim != 2 or not np.isfinite(x).all():
        raise FittingError(f"features are a table [n, d] of finite numbers; given shape {x.shape}.")
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    if labels is None:
        if not 0 < prototypes <= len(x):
            raise FittingError(f"{prototypes} prototypes for {len(x)} examples: choose 1 to {len(x)}.")
        centres = kmeans2(x, prototypes, iter=30, minit="++", seed=seed)[0]
        choice: Any = slice(None)
    else:
        classes, choice = np.unique(np.asarray(labels), return_inverse=True)
        centres = np.stack([x[choice == k].mean(0) for k in range(len(classes))])
    centres = centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)
    near = x @ centres.T
    own = near.max(1) if labels is None else near[np.arange(len(x)), choice]
    return np.asarray(np.maximum(1 - own, 0.0))


def out_of_fold(features: ArrayLike, labels: ArrayLike, *, folds: int = 2, seed: int = 0) -> Array:
    """Return class probabilities [n, C] of logistic regressions, each example by one that did not see it.

    Args:
        features: [n, d].
        labels: class numbers 0 to C - 1, [n]; every class at least `folds` times.
        folds: parts; two trains each probe on half of the data.
        seed: of the split.

    Raises:
        FittingError: a class is too rare.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    classes, count = np.unique(np.asarray(labels), return_counts=True)
    if len(classes) < 2 or count.min() < folds:
        raise FittingError(
            f"class {classes[count.argmin()]} has {count.min()} of {count.sum()} examples: "
            f"a probe needs two classes of {folds} or more each."
        )
    split = StratifiedKFold(folds, shuffle=True, random_state=seed)
    probe = LogisticRegression(C=10.0, max_iter=1000)
    return np.asarray(cross_val_predict(probe, features, labels, cv=split, method="predict_proba"))


def prune(
    scores: ArrayLike, fraction: float, keep: str = "hard", *, labels: ArrayLike | None = None,
    min_class_fraction: float = 0.5, seed: int = 0,
) -> NDArray[np.int_]:  # fmt: skip
    """Return the indices of the kept floor(f P) examples, those with the first claim first.

    Every class keeps at least floor(b f n_c) of its n_c examples; the scores decide about the rest. Ties are broken at
    random.

    Args:
        scores: high is difficult, [P].
        fraction: kept share f.
        keep: "hard" keeps high scores, "easy" low ones, "random" any.
        labels: classes, [P]; without them there is no balance.
        min_class_fraction: b.
        seed: of the ties.

    Raises:
        FittingError: a score is NaN, or a fraction is outside 0 to 1.

    Example:
        >>> prune([0.1, 0.9, 0.5, 0.8], 0.5).tolist(), prune([0.1, 0.9, 0.5, 0.8], 0.5, labels=[1, 0, 1, 0]).tolist()
        ([1, 3], [1, 3])
        >>> prune([0.1, 0.9, 0.5, 0.8], 0.5, labels=[1, 0, 1, 0], min_class_fraction=1.0).tolist()
        [1, 2]
    """
    s = np.asarray(scores, float)
    if np.isnan(s).any() or not (0 < fraction <= 1 and 0 <= min_class_fraction <= 1):
        wrong = f"score {int(np.isnan(s).argmax())} is NaN" if np.isnan(s).any() else f"{fraction:g} of the pool"
        raise FittingError(f"{wrong}: pruning needs numbers as scores, and fractions between 0 and 1.")
    signs = {"hard": -1.0, "easy": 1.0, "random": 0.0}
    if keep not in signs:
        raise FittingError(f'keep = "{keep}" is not known: choose {", ".join(signs)}.')
    order = np.lexsort((np.random.default_rng(seed).permutation(len(s)), signs[keep] * s))
    promised = np.zeros(len(s), bool)
    if labels is not None:
        ranked = np.asarray(labels)[order]
        for one in np.unique(ranked):
            own = np.flatnonzero(ranked == one)
            promised[own[: int(min_class_fraction * fraction * len(own) + 1e-9)]] = True
    place = np.argsort(~promised, kind="stable")[: int(fraction * len(s) + 1e-9)]
    return np.asarray(order[np.sort(place)])
