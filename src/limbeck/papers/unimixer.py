"""UniMixer: a structured matrix that is learned mixes the tokens of a click network, in place of a fixed permutation.

MovieLens-100k, one epoch of batches of 512: eight tokens of width 16 (user, age, gender, occupation, film, genre, film
before, mean past rating), two blocks, seven ways to mix them, two more that start at the permutation, deeper networks
with and without SiameseNorm, and a ladder of four sizes. A quick run, or one without the wheel of the data, takes a
made-up log.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.errors import LimbeckError
from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

ALL = {"anneal": True}
START = {"start": "permutation", "block": 2}
WAYS: dict[str, dict[str, Any]] = {
    "permutation": {"mixing": "permutation"},
    "none": {"mixing": "none"},
    "UniMixing": ALL,
    "UniMixing, τ = 1": {"cold": 1.0},
    "UniMixing, τ = 0.05": {},
    "Lite": {"mixing": "lite", **ALL},
    "no Sinkhorn": {"mixing": "free"},
    "from the permutation": {**START, **ALL},
    "from the permutation, τ = 0.05": START,
    "4 blocks": {"blocks": 4, **ALL},
    "SiameseNorm": {"siamese": True, **ALL},
    "SiameseNorm, 4 blocks": {"siamese": True, "blocks": 4, **ALL},
}
PERMUTATION, NONE, UNI, WARM, COLD, LITE, FREE, START_WARM, START_COLD, DEEP, TWIN, TWIN_DEEP = range(len(WAYS))
GRADES: list[dict[str, Any]] = [
    {"tokens": 4, "width": 8, "blocks": 1}, {"blocks": 1}, {}, {"width": 32},
]  # fmt: skip
FAMILIES = ("permutation", "UniMixing", "Lite")


def slopes(sizes: Any, values: Any) -> Any:
    """Exponents of power laws through `values` [..., grade] at `sizes` [grade], by least squares on logarithms."""
    x = np.log(sizes) - np.log(sizes).mean()
    return np.log(values) @ x / (x @ x)


class UniMixer(Paper):
    """Ways to mix tokens, and how the error of three of them falls with size."""

    source = Source(
        "UniMixer: A Unified Architecture for Scaling Laws in Recommendation Systems",
        "Ha, Wang, Chen, Rao, Shi, Ma, Liu, Fan, Lu, Niu, Li, Gai", 2026, "2604.00590",
    )  # fmt: skip
    claim = "Learned doubly stochastic mixing of tokens, its temperature annealed, ranks better than a permutation."
    metric = "AUC of annealed UniMixing minus that of RankMixer's permutation"
    unit = "thousandths"
    baseline = "fixed permutation"
    extras = ("recsys",)
    seeds = 4

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return AUC of every way and of every family and grade, weights, and what rounding UniMixing costs."""
        from limbeck.recsys import UniMixer as Sizes
        from limbeck.recsys import one_epoch, read_clicks, rounding, synthetic, train_clicks

        try:
            log = synthetic(users=30, events=40) if quick else read_clicks("movielens")
        except LimbeckError:
            log = synthetic(users=1000)
        regime = one_epoch(log, 64 if quick else 512)

        def trained(sizes: dict[str, Any]) -> Any:
            anneal = regime.steps if sizes.get("anneal") else 0
            network = Sizes(**{**sizes, "anneal": anneal}).build(log.schema, seed)
            return train_clicks(network, log, regime=regime, seed=seed, progress=False)

        found = {name: trained(sizes) for name, sizes in WAYS.items()}
        rungs = [[found[one] if not g else trained({**WAYS[one], **g}) for g in GRADES] for one in FAMILIES]
        whole = [rounding(found[name].student, log) for name in ("UniMixing", "from the permutation")]
        return {
            "log": log.name, "auc": [one.judged.auc for one in found.values()],
            "params": [one.cost.params for one in found.values()],
            "base": trained({"mixing": "none", **GRADES[0]}).judged.auc,
            "ladder": [[one.judged.auc for one in row] for row in rungs],
            "sizes": [[one.cost.params for one in row] for row in rungs],
            "rounded": [one.rounded / one.blocks for one in whole], "rounding": [one.change for one in whole],
            "residual": [one.residual for one in whole],
        }  # fmt: skip

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare ways by pairs of one seed, and exponents of families by resampling the seeds."""
        auc, ladder, base = stacked(measured, "auc", "ladder", "base")
        whole = ("rounded", "rounding", "residual")
        rounds = [one.mean(0) for one in stacked(measured, *whole)]
        points, sizes = 1000 * auc, np.array(measured[0]["sizes"], float)  # [seed, way], [family, grade]

        def over(a: int, b: int) -> list[float]:
            """Mean and standard error of a difference of two ways."""
            gap = points[:, a] - points[:, b]
            return [gap.mean(), gap.std(ddof=min(1, len(gap) - 1)) / len(gap) ** 0.5]

        picks = np.random.default_rng(0).integers(len(auc), size=(1000, len(auc)))
        falling = {"1 - AUC": 1 - ladder, "gain over the smallest without mixing": ladder - base[:, None, None]}
        bands = {}
        for form, values in falling.items():
            draws = values[picks].mean(1)  # [draw, family, grade]
            if (draws > 0).all():
                fits = np.stack([slopes(sizes[k], draws[:, k]) for k in range(len(FAMILIES))], 1)
                fits[:, 1:] -= fits[:, :1]
                bands[form] = dict(zip(FAMILIES, np.percentile(fits, [10, 50, 90], axis=0).T, strict=True))
        gap = points[:, UNI] - points[:, PERMUTATION]
        mixing, cold = over(PERMUTATION, NONE), over(COLD, WARM)
        title = f"Learned mixing ranks {gap.mean():+.1f} thousandths of AUC from a fixed permutation"
        notes = ["a made-up log, not MovieLens"] if measured[0]["log"] == "synthetic" else []
        if len(bands) < len(falling):
            notes.append("no exponents of gains: some networks do not beat the smallest one without mixing")
        return Outcome(
            effects=gap,
            checks={
                "mixing matters: the permutation beats none by two standard errors": mixing[0] > 2 * mixing[1],
                "a low temperature matters: τ = 0.05 beats τ = 1 by two": cold[0] > 2 * cold[1],
            },
            details={
                "AUC": dict(zip(WAYS, auc.mean(0), strict=True)), "AUC by seed": dict(zip(WAYS, auc.T, strict=True)),
                "parameters": dict(zip(WAYS, measured[0]["params"], strict=True)),
                "over the permutation": {name: over(k, PERMUTATION) for k, name in enumerate(WAYS) if k},
                "permutation over none": mixing, "τ = 0.05 over τ = 1": cold,
                "annealing over τ = 0.05": over(UNI, COLD), "4 blocks over 2": over(DEEP, UNI),
                "4 over 2 with SiameseNorm": over(TWIN_DEEP, TWIN),
                "ladder": {n: [sizes[k], ladder[:, k].mean(0)] for k, n in enumerate(FAMILIES)},
                "exponent of the permutation, others minus it: 10, 50, 90 %": bands,
                "rounding": dict(zip(whole, map(np.ndarray.tolist, rounds), strict=True)),
            },
            notes=notes,
            figure=Figure(
                title, "parameters without tables", "1 - AUC",
                [Series.measured(name, sizes[k], 1 - ladder[:, k]) for k, name in enumerate(FAMILIES)],
                log_x=True, log_y=True,
            ),
        )  # fmt: skip
