"""Recursive Meta-Distillation: a weight on the base teachers bounds how far generations of students drift.

Digits are learned once by a linear softmax model, the base teacher. Then every generation is a fresh linear model,
fitted to 80 unlabelled images whose targets are half the probabilities of its meta-teacher, half a class sampled from
them. The meta-teacher mixes the last generation with a weight λ of the base. The same with perceptrons, which learn its
probabilities on 200 images in 300 steps, each from a start of its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.fitting.model import Array
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._data import shuffled_digits
from limbeck.theory import plateau, recursive_distill
from limbeck.theory.recursive_operators import FLOURO

ANCHORS, GENERATIONS, IMAGES = (0.0, 0.1, 0.3, 1.0), 15, 80


class RecursiveMetaDistillation(Paper):
    """Fifteen generations of linear softmax models on digits, and the same with counts of a known distribution."""

    source = FLOURO
    claim = "A weight λ on the base teachers keeps a lineage of students below ε/λ; without it errors add up."
    metric = "KL(base ‖ student) after 15 generations on digits, without an anchor minus with λ = 0.3"
    unit = "nats"
    baseline = "no anchor"
    extras = ("vision",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return the divergences of every lineage, [anchor, generation], for counts and for digits."""
        rng = np.random.default_rng(seed)
        known = np.tile(rng.dirichlet(np.ones(50)), (100 if quick else 300, 1))
        base, labels, learn = digits(rng)

        def lineages(q: Array, fit: Any, t: int, labels: Any = None) -> Numbers:
            each = [recursive_distill([q], fit, weight=a, generations=t, labels=labels).to_dict() for a in ANCHORS]
            return {name: [one[name] for one in each] for name in ("forward", "errors", "accuracy")}

        counts = lineages(known, lambda target, t: counted(target, rng), 60)
        found = {"counts": counts, "digits": lineages(base, learn, GENERATIONS, labels)}
        return found | {"networks": networks(seed, *((60, 4) if quick else (300, 10)))}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare ends with each other and with ε/λ."""
        names = "forward", "errors", "accuracy"  # [seed, anchor, generation]
        forward, errors, accuracy = stacked([one["digits"] for one in measured], *names)
        counts, noise = stacked([one["counts"] for one in measured], *names[:2])
        mean, known = forward.mean(0), counts.mean(0)
        far_off, added, right = (one.mean(0) for one in stacked([one["networks"] for one in measured], *names))
        ends, last = mean[:, -1], known[:, -1]
        limits, bounds = (
            np.array([plateau(e, a) for e, a in zip(x.mean((0, 2)), ANCHORS, strict=True)]) for x in (errors, noise)
        )
        far, near = f"{ends[0]:.2f} nats from the base without an anchor", f"{ends[2]:.2f} with λ = 0.3"
        title, below = f"After {GENERATIONS} generations: {far}, {near}", (bounds - last)[1:-1]
        time = range(1, GENERATIONS + 1)
        series = [Series.measured(f"λ = {a:g}", time, forward[:, k]) for k, a in enumerate(ANCHORS)]
        return Outcome(
            effects=forward[:, 0, -1] - forward[:, 2, -1],
            checks={
                "a larger anchor ends closer to the base": np.diff(ends) < 0,
                "without an anchor the divergence still rises after generation 5": mean[0, -1] > mean[0, 4],
                "lineages with λ = 0.1 and 0.3 end below ε/λ": ends[1:-1] < limits[1:-1],
                "counts: a larger anchor ends closer, all below ε/λ": np.diff(last).max() < 0 < below.min(),
                "networks: λ = 0.3 ends closer than no anchor, below ε/λ":
                    far_off[1, -1] < min(far_off[0, -1], plateau(added[1].mean(), ANCHORS[2])),
            },
            details={
                "anchors": ANCHORS, "divergence after 1, 5, 15 generations": mean[:, [0, 4, -1]], "ε/λ": limits[1:],
                "accuracy after 1 and 15 generations": accuracy.mean(0)[:, [0, -1]],
                "networks: divergence by generation, no anchor and 0.3": far_off, "their accuracy": right,
                "counts: divergence after 1, 10, 60 generations": known[:, [0, 9, -1]], "counts: ε/λ": bounds[1:],
            },
            notes=[
                "the fully anchored student (λ = 1, no recursion at all) is best here: generations must bring "
                "something else, such as new data, to pay",
                "the paper states no experiment; operators and bounds are reconstructed from its abstract",
            ],
            figure=Figure(title, "generation", "KL(base ‖ student), nats", series),
        )  # fmt: skip


def counted(target: Array, rng: np.random.Generator) -> Array:
    """Return what 500 samples of a distribution say of it, one half added to every count."""
    counts = rng.multinomial(500, target / target.sum(-1, keepdims=True)) + 0.5
    return np.asarray(counts / counts.sum(-1, keepdims=True))


def digits(rng: np.random.Generator) -> tuple[Array, Array, Any]:
    """Return a base teacher's probabilities on unlabelled digits, their labels, and what fits the next generation."""
    from sklearn.linear_model import LogisticRegression

    images, labels = shuffled_digits(rng)
    others = images[IMAGES:]

    def linear(x: Array, target: Array) -> Array:
        """Fit soft targets as weighted classes and return probabilities on the unlabelled images."""
        classes = target.shape[-1]
        model = LogisticRegression(C=10.0, max_iter=200)
        model.fit(x.repeat(classes, 0), np.tile(np.arange(classes), len(x)), target.ravel())
        return np.asarray(model.predict_proba(others))

    def learn(target: Array, generation: int) -> Array:
        seen = rng.choice(len(others), IMAGES, replace=False)
        drawn = rng.multinomial(1, target[seen] / target[seen].sum(-1, keepdims=True))
        return linear(others[seen], (target[seen] + drawn) / 2)

    return linear(images[:IMAGES], np.eye(10)[labels[:IMAGES]]), labels[IMAGES:], learn


def networks(seed: int, steps: int, generations: int) -> Numbers:
    """Return how far perceptrons come from the first one, without an anchor and with λ = 0.3: [anchor, generation]."""
    from limbeck.vision import Network, Regime, distill, distill_lineage, read_data

    def made(number: int) -> Any:
        return Network((32,)).build([1, 8, 8], 10, 100 * seed + number)

    learn, rest = read_data("digits").split(seed, 0.8, per_class=20)
    valid, test = rest.split(seed, 0.6)
    how: Any = {"regime": Regime(steps, learning_rate=3e-3), "seed": seed, "progress": False}
    base = distill(None, made(99), learn, loss="ce", **how).student
    how |= {"valid": valid, "test": test, "rounds": generations, "tolerance": None}
    each = [distill_lineage([base], made, learn, anchor=a, **how).lineage for a in ANCHORS[::2]]
    return {name: [getattr(one, name) for one in each] for name in ("forward", "errors", "accuracy")}
