"""Reverse Distillation: where larger embeddings are worse, keep the small one and append what the large one adds.

A made-up family of 8, 16, 32 and 64 dimensions: six factors, their products with a weight that grows with size, and
nuisance whose deviation grows by 1.9 from size to size. The maps are fitted to 1500 rows without labels, ridge probes
to 80 labels. And a family that scales well: masked auto-encoders of 6, 12, 24 and 48 units on digits, with logistic
probes of 60 labels. Matrices that the description leaves open are N(0, 1/d).
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from scipy.stats import sem, spearmanr

from limbeck.fitting.model import Array
from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series
from limbeck.papers._data import shuffled_digits

TITLE = "Reverse Distillation: Consistently Scaling Protein Language Model Representations"
BLOCKS = "reverse, a penalty a block"
WIDTHS, UNITS = (8, 16, 32, 64), (6, 12, 24, 48)


class ReverseDistillation(Paper):
    """Reverse distillation against raw embeddings, concatenated PCA and PCA of the largest, on two families."""

    source = Source(TITLE, "Catrina, Bepler, Sledzieski, Singh", 2026, "2603.07710")
    claim = "Where embeddings get worse with size, reverse distilled ones of larger models are better than raw ones."
    metric = "Spearman correlation of a probe, reverse distilled minus raw, mean of 32 and 64 dimensions"
    baseline = "raw embeddings"
    extras = ("embeddings",)
    seeds = 12

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return the scores on both families by way and width, and whether the labels advise reverse distillation."""
        from sklearn.linear_model import LogisticRegression, RidgeCV

        rng = np.random.default_rng(seed)
        ridge, logistic = RidgeCV(np.logspace(-3, 3, 13)), LogisticRegression(max_iter=10000)
        made = scored(*grown(rng), 1500, 80, ridge, lambda y, said: spearmanr(y, said)[0])
        images = encoded(rng, seed, 10 if quick else 40)
        return {"made up": made, "digits": scored(*images, 1000, 60, logistic, lambda y, said: np.mean(y == said))}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare the ways at every width."""
        made, digits = (
            {way: np.array([one[family][way] for one in measured]) for way in measured[0][family]}  # [seed, width]
            for family in ("made up", "digits")
        )
        gain, mean = (made["reverse"] - made["raw"])[:, 2:], {way: x.mean(0) for way, x in made.items()}

        def ahead(family: dict[str, Array], way: str, other: str) -> str:
            found = (family[way] - family[other])[:, 2:].mean(1)
            return f"{found.mean():+.3f} ± {sem(found):.3f}"

        falls = {way: f"{mean[way][1]:.2f} to {mean[way][3]:.2f}" for way in ("raw", "reverse", BLOCKS)}
        title = f"From 16 to 64 dimensions raw embeddings go from {falls['raw']}, distilled ones from {falls[BLOCKS]}"
        series = [Series.measured(way, WIDTHS, made[way]) for way in made if way != "advised"]
        return Outcome(
            effects=gain.mean(1),
            checks={
                "raw embeddings are worse at 64 dimensions than at 16": mean["raw"][3] < mean["raw"][1],
                "the mean gain is 0.1 or more at 32 and at 64 dimensions": gain.mean(0) >= 0.1,
                "with a penalty a block, 64 dimensions are no worse than 16": mean[BLOCKS][3] >= mean[BLOCKS][1],
            },
            details={
                "widths": WIDTHS, "correlation": mean, "standard error": {way: sem(x) for way, x in made.items()},
                "seeds with a gain": (gain > 0).sum(0), "units": UNITS,
                "accuracy on digits": {way: x.mean(0) for way, x in digits.items()},
            },
            notes=[
                f"at 32 and 64 dimensions naive concatenation is {ahead(made, 'naive', 'reverse')} from it: the gain "
                "there is one vector for all sizes",
                f"with one penalty for all coordinates it too gets worse from 16 to 64 dimensions: {falls['reverse']}",
                f"on digits, which scale well, it changes accuracy by {ahead(digits, 'reverse', 'raw')}, so use raw; "
                f"the official chain is {ahead(digits, 'official chain', 'reverse')} from it",
            ],
            figure=Figure(title, "dimensions", "Spearman correlation", series, log_x=True),
        )  # fmt: skip


def grown(rng: np.random.Generator) -> tuple[list[Array], Array]:
    """Return the made-up family, 2580 rows a model, and its target."""
    z = rng.standard_normal((2580, 6))
    products = np.stack([z[:, i] * z[:, j] for i, j in combinations(range(6), 2)], 1)
    y = z @ rng.standard_normal(6) + 0.35 * products @ rng.standard_normal(15)
    family = []
    for level, width in enumerate(WIDTHS):
        nuisance = 0.3 * 1.9**level * rng.standard_normal((len(z), width))
        parts = np.hstack([z, 0.5 * level * products, nuisance])
        family.append(parts @ rng.standard_normal((parts.shape[1], width)) / np.sqrt(width))
    return family, y


def encoded(rng: np.random.Generator, seed: int, epochs: int) -> tuple[list[Array], Array]:
    """Return digits as auto-encoders see them that fill in masked pixels of the first thousand, and what they are."""
    from sklearn.neural_network import MLPRegressor

    images, digits = shuffled_digits(rng)
    family = []
    for width in UNITS:
        model, x = MLPRegressor(hidden_layer_sizes=(128, width, 128), activation="tanh", random_state=seed), images
        for _ in range(epochs):
            model.partial_fit(images[:1000] * (rng.random((1000, 64)) > 0.3), images[:1000])
        for weights, bias in zip(model.coefs_[:2], model.intercepts_, strict=False):
            x = np.tanh(x @ weights + bias)
        family.append(x)
    return family, digits


def scored(family: list[Array], y: Array, rows: int, labels: int, probe: Any, score: Callable[..., Any]) -> Numbers:
    """Return what probes of labelled rows score on later ones by way and width; maps are fitted to the first rows."""
    from sklearn.decomposition import PCA

    from limbeck.embeddings import BlockRidge, ReverseDistiller, assess, concatenated_pca

    train, some, levels = [x[:rows] for x in family], slice(rows, rows + labels), range(len(family))
    ours, theirs = (ReverseDistiller("linear", chain=chain).fit(train) for chain in ("consistent", "official"))

    def test(x: Array, probe: Any = probe) -> float:
        return float(score(y[some.stop :], probe.fit(x[some], y[some]).predict(x[some.stop :])))

    found: Numbers = {
        "raw": list(map(test, family)), "reverse": [test(ours.transform(family, j)) for j in levels],
        "official chain": [test(theirs.transform(family, j)) for j in levels],
        "naive": [test(concatenated_pca(train[: j + 1], family[: j + 1])) for j in levels],
        "PCA of the largest": [test(PCA(x.shape[1]).fit(train[-1]).transform(family[-1])) for x in family],
        "advised": "use reverse" in assess(ours, [x[some] for x in family], y[some]).advice,
    }  # fmt: skip
    if y.dtype.kind == "f":
        found[BLOCKS] = [test(ours.transform(family, j), BlockRidge(WIDTHS[: j + 1])) for j in levels]
    return found
