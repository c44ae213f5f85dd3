"""Graphs that the tests of this folder share."""

import numpy as np

from limbeck.graphs.data import Graph, GraphData, undirected

LABELS = (1, 8, 12)


def some_graph(seed: int, nodes: int = 14, edges: int = 20) -> Graph:
    """A random graph with node labels of `LABELS` and three edge labels."""
    rng = np.random.default_rng(seed)
    pairs = {tuple(sorted(rng.choice(nodes, 2, replace=False).tolist())) for _ in range(edges)}
    bonds = [(*pair, int(rng.integers(3))) for pair in sorted(pairs)]
    return undirected(rng.choice(LABELS, nodes).tolist(), bonds)


def molecules(count: int = 40, seed: int = 0) -> GraphData:
    """Rings and chains with a few different ends: rings are of class 1."""
    rng, graphs = np.random.default_rng(seed), []
    for k in range(count):
        size, label = int(rng.integers(4, 8)), k % 2
        edges = [(j, j + 1, 0) for j in range(size - 1)] + [(0, size - 1, 1)] * label
        graphs.append(undirected([*([0] * (size - 1)), int(rng.integers(3))], edges, label))
    return GraphData(tuple(graphs), ("chain", "ring"), ("C", "N", "O"), ("single", "double"), "molecules")
