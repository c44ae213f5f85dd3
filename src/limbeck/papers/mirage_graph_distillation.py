"""Mirage: a graph classifier learns from a few frequent computation trees in place of all graphs.

MUTAG, split 80/10/10; the sets of depth-2 trees that half of a class have in common become pseudo-graphs, and a
two-layer network trained on their roots is compared with one trained on random real graphs of equally many bytes, and
on all graphs. A full run adds a lower threshold, variants of the method, a second network, and solubilities.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from limbeck.errors import LimbeckError
from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

MIRAGE = Source(
    "Mirage: Model-Agnostic Graph Distillation for Graph Classification", "Gupta, Manchanda, Kodamana, Ranu", 2024,
    "2310.09486",
)  # fmt: skip
DRAWS = 3
"""Random sets of real graphs for each split, whose AUC is averaged."""


def made_up(seed: int = 0) -> Any:
    """Chains with a few labels, one end of which tells the class: what stands in for a missing wheel."""
    from limbeck.graphs import GraphData, undirected

    rng, graphs = np.random.default_rng(seed), []
    for k in range(160):
        size, label = int(rng.integers(8, 20)), k % 2
        edges = [(j, j + 1, int(rng.integers(2))) for j in range(size - 1)] + [(0, size - 1, 0)] * int(
            rng.random() < 0.5
        )
        nodes = [*rng.choice(3, size - 2, p=[0.8, 0.1, 0.1]).tolist(), int(rng.random() < 0.3 + 0.4 * label), 2]
        graphs.append(undirected(nodes, edges, label))
    return GraphData(tuple(graphs), ("a", "b"), ("C", "N", "O"), ("single", "double"), "made up")


def shipped(name: str) -> Any:
    """The data of a wheel; made-up graphs where it is not there."""
    from limbeck.graphs import read_graphs

    try:
        return read_graphs(name)
    except LimbeckError:
        return made_up()


def skew(data: Any) -> list[float]:
    """For each class the share of all nodes that the most frequent tenth of its trees covers."""
    from limbeck.graphs import computation_trees

    _, ids = computation_trees(data.graphs, 2)
    shares = []
    for label in range(len(data.classes)):
        own = np.concatenate([one for one, y in zip(ids, data.labels, strict=True) if y == label])
        counts = np.sort(np.unique(own, return_counts=True)[1])[::-1]
        shares.append(float(counts[: max(1, len(counts) // 10)].sum() / counts.sum()))
    return shares


class MirageGraphDistillation(Paper):
    """Frequent trees against random graphs of equally many bytes."""

    source = MIRAGE
    claim = "Frequent computation trees, found without training, teach more than equally many bytes of graphs."
    metric = "test AUC, frequent trees minus random real graphs of equal bytes (GIN, half of a class)"
    unit = "points"
    baseline = "random real graphs"
    extras = ("graphs",)
    seeds = 5

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return AUC and bytes by way of condensing (and network), and what mining took."""
        from limbeck.distill import Regime
        from limbeck.graphs import Network, balanced, condense, judge, logits_of, random_graphs, train

        found: Numbers = {"auc": {}, "bytes": {}}

        def ways(name: str, shares: tuple[float, float], sizes: tuple[float, float], steps: int) -> None:
            data = shipped(name)
            rest, test = data.split(seed, sizes[0])
            learn, choose = rest.split(seed, sizes[1] / (1 - sizes[0]))
            at = {"choose": choose.graphs, "seed": seed, "regime": Regime(steps, 10**6, evaluate_every=1)}

            def tried(way: str, graphs: Any, kind: Any = "gin") -> None:
                network = Network(kind=kind).build(len(data.nodes), len(data.bonds), len(data.classes), seed)
                train(network, graphs, **at)
                auc = judge(logits_of(network, test.graphs), test.labels).auc
                found["auc"].setdefault(f"{name} {kind} {way}", []).append(auc)
                found["bytes"][f"{name} {way}"] = sum(one.bytes for one in graphs)

            for kind in ["gin"] if quick or name != "mutag" else ["gin", "sage"]:
                tried("full", balanced(learn.graphs), kind)
                for k, share in enumerate(shares[: 1 if quick else 2]):
                    mined, which = condense(learn, theta=share), ("high", "low")[k]
                    tried(f"mirage {which}", mined.graphs(), kind)
                    for draw in range(1 if quick else DRAWS):
                        tried(f"random {which}", random_graphs(learn, mined.bytes, 100 * draw + seed), kind)
                    if name == "mutag" and not quick and not k:
                        tried("unweighted", mined.graphs(frequency=False), kind)
                        tried("counts", mined.graphs(counts=True), kind)
                        tried("closed low", condense(learn, theta=shares[1], closed_only=True).graphs(), kind)
                    if name == "mutag" and not k:
                        found.update(seconds=mined.seconds, stored=mined.stored_bytes, skew=skew(learn))
                        found.update(patterns=len(mined.patterns), real=data.name != "made up")

        ways("mutag", (0.5, 0.3), (0.1, 0.1), 60 if quick else 100)
        if not quick:
            ways("solubility", (0.12, 0.06), (0.25, 0.15), 60)
        found["auc"] = {name: float(np.mean(values)) for name, values in found["auc"].items()}
        return found

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare at equal bytes; full data beside both."""
        names, places = list(measured[0]["auc"]), list(measured[0]["bytes"])
        auc = {name: np.array([100 * one["auc"][name] for one in measured]) for name in names}
        size = {name: float(np.mean([one["bytes"][name] for one in measured])) for name in places}
        share, seconds = stacked(measured, "skew", "seconds")
        error = {
            name: float(values.std(ddof=1) / len(values) ** 0.5) for name, values in auc.items() if len(values) > 1
        }
        effect = auc["mutag gin mirage high"] - auc["mutag gin random high"]
        series = [
            Series.measured(
                f"{data}, {way}", [size[f"{data} {one}"] for one in ones],
                np.array([auc[f"{data} gin {one}"] for one in ones]).T,
            )
            for data in ("mutag", "solubility")
            for way, every in (("frequent trees", ("mirage high", "mirage low")),
                               ("random graphs", ("random high", "random low")), ("all graphs", ("full",)))
            if (ones := [one for one in every if f"{data} gin {one}" in auc])
        ]  # fmt: skip
        mean = {name: float(values.mean()) for name, values in auc.items()}
        title = (
            f"Frequent trees of {size['mutag mirage high'] / 1e3:.0f} kB give an AUC of "
            f"{mean['mutag gin mirage high']:.0f}, as many bytes of real graphs {mean['mutag gin random high']:.0f}, "
            f"all {mean['mutag gin full']:.0f}"
        )
        notes = [
            "what is compared are bytes of forests written out; no network saw all graphs but the one named full",
            f"mining takes {seconds.mean():.2f} s; kept as a dictionary the patterns are "
            f"{np.mean([one['stored'] for one in measured]):,.0f} bytes",
        ]
        if not all(one["real"] for one in measured):
            notes.append("the wheels with MUTAG and solubilities are not there (make data): the graphs are made up")
        return Outcome(
            effects=effect,
            checks={
                "the most frequent tenth of the trees covers more than half of the nodes of each class": share > 0.5,
                "the AUC of frequent trees is above 60": mean["mutag gin mirage high"] > 60,
            },
            details={
                "AUC": mean, "standard error": error, "bytes": size, "skew": share.mean(0),
                "patterns": float(np.mean([one["patterns"] for one in measured])), "seconds to mine": seconds.mean(),
            },
            notes=notes,
            figure=Figure(title, "bytes to learn from", "test AUC, %", series, log_x=True),
        )  # fmt: skip
