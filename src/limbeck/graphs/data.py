"""Graphs with whole numbers for labels, and sets of them with classes."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from limbeck.distill.examples import labelled

Ints = NDArray[np.int64]


class Graph(NamedTuple):
    """One graph, or one forest of computation trees.

    Args:
        nodes: label of each node, [n].
        edges: from (first row) and to (second row), [2, m]; a graph has both directions of every edge, a forest only
            that from child to parent.
        bonds: label of each edge, [m].
        label: its class.
        weight: how much it counts in training.
        root: how often each node counts in the pool, [n]: 0 below a root; None counts every node once.
    """

    nodes: Ints
    edges: Ints
    bonds: Ints
    label: int = 0
    weight: float = 1.0
    root: NDArray[np.float64] | None = None

    @property
    def bytes(self) -> int:
        """Size at 8 bytes an integer: a label for each node, two ends and a label for each directed edge."""
        return 8 * len(self.nodes) + 24 * len(self.bonds)


def undirected(nodes: Sequence[int], edges: Sequence[Sequence[int]], label: int = 0) -> Graph:
    """Make a graph of edges that are named once.

    Args:
        nodes: their labels.
        edges: one node, another, and the label of the edge.
        label: class of the graph.

    Example:
        >>> undirected([6, 8], [(0, 1, 2)]).edges.tolist()
        [[0, 1], [1, 0]]
    """
    rows = np.array([edge[:3] for edge in edges], np.int64).reshape(-1, 3)
    both = np.unique(np.concatenate([rows, rows[:, [1, 0, 2]]]), axis=0)
    return Graph(np.array(nodes, np.int64), both[:, :2].T, both[:, 2], label)


def balanced(graphs: Sequence[Graph], frequency: bool = True) -> list[Graph]:
    """Weigh graphs so that all classes count alike.

    `w = f / sum of f in the class`, f the weight that a graph comes with.

    Args:
        graphs: of any classes.
        frequency: use their weights; otherwise all of a class count alike.

    Example:
        >>> graphs = [undirected([0], [], label)._replace(weight=w) for label, w in ((0, 3.0), (0, 1.0), (1, 5.0))]
        >>> [one.weight for one in balanced(graphs)]
        [0.75, 0.25, 1.0]
    """
    raw = np.array([one.weight if frequency else 1.0 for one in graphs])
    total = np.bincount([one.label for one in graphs], raw)
    return [one._replace(weight=float(w / total[one.label])) for one, w in zip(graphs, raw, strict=True)]


def to_pyg(graph: Graph) -> Any:
    """Return a `torch_geometric.data.Data` with `x`, `edge_index`, `edge_attr`, `y`, `weight` and `root`.

    Example:
        >>> to_pyg(undirected([6, 8], [(0, 1, 2)])).root.tolist()
        [1.0, 1.0]
    """
    import torch

    with warnings.catch_warnings():  # what the library says about torch while it loads
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.data import Data
    root = np.ones(len(graph.nodes)) if graph.root is None else graph.root
    return Data(
        x=torch.from_numpy(graph.nodes), edge_index=torch.from_numpy(np.ascontiguousarray(graph.edges)),
        edge_attr=torch.from_numpy(graph.bonds), y=torch.tensor([graph.label]), weight=torch.tensor([graph.weight]),
        root=torch.from_numpy(root).float(),
    )  # fmt: skip


@dataclass(frozen=True)
class GraphData:
    """Graphs and what their numbers stand for.

    Args:
        graphs: with classes from 0.
        classes: their names.
        nodes, bonds: names of the labels of nodes and edges; a label beyond them is one that nobody knows.
        name: what to call the data.
    """

    graphs: tuple[Graph, ...]
    classes: tuple[str, ...]
    nodes: tuple[str, ...]
    bonds: tuple[str, ...]
    name: str = "graphs"

    def __len__(self) -> int:
        return len(self.graphs)

    @property
    def labels(self) -> Ints:
        """Classes, [N]."""
        return np.array([one.label for one in self.graphs], np.int64)

    @property
    def bytes(self) -> int:
        """Size of all graphs, see `Graph.bytes`."""
        return sum(one.bytes for one in self.graphs)

    def at(self, rows: Sequence[int] | Ints) -> Self:
        """The graphs of these rows."""
        return replace(self, graphs=tuple(self.graphs[int(row)] for row in rows))

    def split(self, seed: int, test: float) -> tuple[Self, Self]:
        """Graphs to learn from and to judge by, a share of every class, drawn with a seed.

        Raises:
            ConfigError: a class has too few graphs.
        """
        index = labelled(np.zeros((len(self), 1), np.float32), self.labels, self.classes, self.name)
        learn, judge = index.split(seed, test)
        return self.at(learn.places.numpy()), self.at(judge.places.numpy())

    def named(self, nodes: Sequence[str], bonds: Sequence[str]) -> Self:
        """The same graphs in other numbers: places in these names, and their count for what is not among them."""
        of_nodes = np.array([nodes.index(one) if one in nodes else len(nodes) for one in [*self.nodes, ""]])
        of_bonds = np.array([bonds.index(one) if one in bonds else len(bonds) for one in [*self.bonds, ""]])
        graphs = [one._replace(nodes=of_nodes[one.nodes], bonds=of_bonds[one.bonds]) for one in self.graphs]
        return replace(self, graphs=tuple(graphs), nodes=tuple(nodes), bonds=tuple(bonds))

    def used(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the labels of nodes and edges that occur."""
        seen = [np.unique(np.concatenate([one[k] for one in self.graphs])) for k in (0, 2)]
        return tuple(self.nodes[k] for k in seen[0]), tuple(self.bonds[k] for k in seen[1])

    def summary(self) -> str:
        """One line."""
        counts = np.bincount(self.labels, minlength=len(self.classes))
        each = ", ".join(f"{count} {name}" for name, count in zip(self.classes, counts, strict=True))
        nodes, edges = sum(len(one.nodes) for one in self.graphs), sum(len(one.bonds) for one in self.graphs)
        return f"{self.name}: {len(self)} graphs ({each}), {nodes:,} nodes, {edges // 2:,} edges, {self.bytes:,} bytes"


def digest(graphs: Sequence[Graph]) -> str:
    """What these very graphs, classes and weights hash to."""
    content = hashlib.sha256()
    for one in graphs:
        root = None if one.root is None else one.root.tolist()
        content.update(repr((one.nodes.tolist(), one.edges.tolist(), one.bonds.tolist(), *one[3:5], root)).encode())
    return content.hexdigest()[:16]
