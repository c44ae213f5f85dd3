"""Recursive Meta-Distillation: a weight on the base teachers bounds how far generations of students drift.

Digits are learned once by a linear softmax model, the base teacher. Then every generation is a fresh linear model,
fitted to 80 unlabelled images whose targets are half the probabilities of its meta-teacher, half a class sampled from
them. The meta-teacher mixes the last generation with a weight λ of the base.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.fitting.model import Array
from limbeck.papers._figure import Figure, Series
from limbeck.papers._paper import Outcome, Paper
from limbeck.theory import plateau, recursive_distill
from limbeck.theory.recursive_operators import FLOURO

ANCHORS, GENERATIONS, IMAGES = (0.0, 0.1, 0.3, 1.0), 15, 80


class RecursiveMetaDistillation(Paper):
    """Fifteen generations of linear softmax models on digits, and the same with counts of a known distribution."""

    slug = "recursive-meta-distillation"
    source = FLOURO
    claim = "A weight λ on the base teachers keeps a lineage of students below ε/λ; without it errors add up."
    metric = "KL(base ‖ student) after 15 generations on digits, without an anchor minus with λ = 0.3"
    unit = "nats"
    baseline = "no anchor"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> dict[str, Any]:
        """Return the divergences of every lineage, [anchor, generation], for counts and for digits."""
        rng = np.random.default_rng(seed)
        known = np.tile(rng.dirichlet(np.ones(50)), (100 if quick else 300, 1))
        worlds: dict[str, Any] = {"counts": (known, lambda target, t: counted(target, rng), None, 60)}
        base, labels, learn = digits(rng)
        worlds["digits"] = (base, learn, labels, GENERATIONS)
        return {
            name: [
                recursive_distill([q], fit, weight=anchor, generations=steps, labels=truth).to_dict()
                for anchor in ANCHORS
            ]
            for name, (q, fit, truth, steps) in worlds.items()
        }

    def conclude(self, measured: Sequence[dict[str, Any]]) -> Outcome:
        """Compare ends with each other and with ε/λ."""
        forward, errors, accuracy, counts, noise = (
            np.array([[lineage[name] for lineage in one[world]] for one in measured]).mean(0)
            for world, names in (("digits", ("forward", "errors", "accuracy")), ("counts", ("forward", "errors")))
            for name in names
        )  # [anchor, generation]
        every = [np.array([lineage["forward"] for lineage in one["digits"]]) for one in measured]
        ends, known = (x[:, -1] for x in (forward, counts))
        limits, bounds = ([plateau(e, a) for e, a in zip(x.mean(1), ANCHORS, strict=True)] for x in (errors, noise))
        return Outcome(
            effects=[one[0, -1] - one[2, -1] for one in every],
            checks={
                "a larger anchor ends closer to the base": (np.diff(ends) < 0).all(),
                "without an anchor the divergence still rises after generation 5": forward[0, -1] > forward[0, 4],
                "lineages with λ = 0.1 and 0.3 end below ε/λ": (ends[1:-1] < limits[1:-1]).all(),
                "counts: a larger anchor ends closer, all below ε/λ": (np.diff(known) < 0).all()
                and (known[1:-1] < bounds[1:-1]).all(),
            },
            details={
                "anchors": list(ANCHORS),
                "divergence after 1, 5, 15 generations": forward[:, [0, 4, -1]].tolist(),
                "ε/λ": limits[1:],
                "accuracy after 1 and 15 generations": accuracy[:, [0, -1]].tolist(),
                "counts: divergence after 1, 10, 60 generations": counts[:, [0, 9, -1]].tolist(),
                "counts: ε/λ": bounds[1:],
            },
            notes=[
                "the fully anchored student (λ = 1, no recursion at all) is best here: generations must bring "
                "something else, such as new data, to pay",
                "the paper states no experiment; operators and bounds are reconstructed from its abstract",
            ],
            figure=Figure(
                f"After {GENERATIONS} generations: {ends[0]:.2f} nats from the base without an anchor, "
                f"{ends[2]:.2f} with λ = 0.3",
                "generation",
                "KL(base ‖ student), nats",
                tuple(
                    Series.measured(f"λ = {a:g}", list(range(1, GENERATIONS + 1)), [one[k].tolist() for one in every])
                    for k, a in enumerate(ANCHORS)
                ),
            ),
        )


def counted(target: Array, rng: np.random.Generator) -> Array:
    """Return what 500 samples of a distribution say of it, one half added to every count."""
    counts = rng.multinomial(500, target / target.sum(-1, keepdims=True)) + 0.5
    return np.asarray(counts / counts.sum(-1, keepdims=True))


def digits(rng: np.random.Generator) -> tuple[Array, Array, Any]:
    """Return a base teacher's probabilities on unlabelled digits, their labels, and what fits the next generation."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    images, labels = load_digits(return_X_y=True)
    images, order = images / 16, rng.permutation(len(labels))
    own, others = order[:IMAGES], order[IMAGES:]

    def linear(x: Array, target: Array) -> Array:
        """Fit soft targets as weighted classes and return probabilities on the unlabelled images."""
        classes = target.shape[-1]
        model = LogisticRegression(C=10.0, max_iter=200)
        model.fit(x.repeat(classes, 0), np.tile(np.arange(classes), len(x)), target.ravel())
        return np.asarray(model.predict_proba(images[others]))

    def learn(target: Array, generation: int) -> Array:
        seen = rng.choice(len(others), IMAGES, replace=False)
        drawn = rng.multinomial(1, target[seen] / target[seen].sum(-1, keepdims=True))
        return linear(images[others[seen]], (target[seen] + drawn) / 2)

    return linear(images[own], np.eye(10)[labels[own]]), labels[others], learn
