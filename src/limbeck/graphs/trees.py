"""Computation trees: all that a message-passing network of so many layers can see of a node.

`c_v^0 = (x_v)` and `c_v^l = (x_v, multiset {(a_uv, c_u^(l-1)) : u in N(v)})`: the root's label, and the edge label and
tree of every neighbour, the one it came from included. Equal trees get one number over all graphs. A key is a label
and the sorted whole numbers of a multiset, never a concatenation of digits, so different trees get different numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from limbeck.errors import ConfigError
from limbeck.graphs.data import Graph, Ints


class Tree(NamedTuple):
    """A root's label; for each child the label of its edge and the number of its tree in the level below."""

    label: int
    children: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Trees:
    """A dictionary of trees that share their parts.

    Args:
        levels: the distinct trees of depth 0, 1, ..., in the order in which they were met.
    """

    levels: tuple[tuple[Tree, ...], ...]

    @property
    def depth(self) -> int:
        """Of the tallest."""
        return len(self.levels) - 1

    def __len__(self) -> int:
        return len(self.levels[-1])

    def nested(self, tree: int, level: int | None = None) -> list[Any]:
        """A tree as `[x, [[a, subtree], ...]]`, children in the order of lists: equal for equal trees of any graph."""
        level = self.depth if level is None else level
        label, children = self.levels[level][tree]
        return [label, sorted([a, self.nested(child, level - 1)] for a, child in children)]

    @cached_property
    def sizes(self) -> Ints:
        """Number of nodes of each tree of the last level."""
        sizes = np.ones(len(self.levels[0]), np.int64)
        for level in self.levels[1:]:
            sizes = np.array([1 + sum(sizes[child] for _, child in one.children) for one in level], np.int64)
        return sizes

    def forest(self, ids: Sequence[int], counts: Sequence[float] | None = None) -> Graph:
        """The disjoint union of trees as a graph with edges from child to parent; the roots come first.

        Args:
            ids: numbers of the trees.
            counts: how often each root counts in the pool; once by default.
        """
        todo = [(self.depth, one, -1, -1) for one in ids]
        nodes = []
        for place, (level, tree, _, _) in enumerate(todo):  # which grows while it is read
            label, children = self.levels[level][tree]
            nodes.append(label)
            todo += [(level - 1, child, place, a) for a, child in children]
        up = np.array([(place, parent, a) for place, (_, _, parent, a) in enumerate(todo)], np.int64)[len(ids) :]
        root = np.zeros(len(nodes))
        root[: len(ids)] = 1.0 if counts is None else counts
        return Graph(np.array(nodes, np.int64), up[:, :2].T, up[:, 2], root=root)

    def keep(self, ids: Iterable[int]) -> tuple[Trees, dict[int, int]]:
        """A dictionary of these trees and their parts alone, and the new number of each."""
        kept = [sorted(set(ids))]
        for level in self.levels[:0:-1]:
            kept.insert(0, sorted({child for one in kept[0] for _, child in level[one].children}))
        levels, names = [], dict[int, int]()
        for level, wanted in zip(self.levels, kept, strict=True):
            old, names = names, {one: k for k, one in enumerate(wanted)}
            levels.append(tuple(Tree(level[k].label, tuple((a, old[c]) for a, c in level[k].children)) for k in wanted))
        return Trees(tuple(levels)), names


def computation_trees(graphs: Sequence[Graph], depth: int) -> tuple[Trees, list[Ints]]:
    """Number the computation trees of all nodes of all graphs.

    Args:
        graphs: with both directions of every edge; they may have isolated nodes, or none at all.
        depth: layers of the network that will see them.

    Returns:
        the dictionary, and for each graph the number of each node's tree, [n].

    Raises:
        ConfigError: a depth below 1.

    Example:
        >>> from limbeck.graphs.data import undirected
        >>> trees, (ids,) = computation_trees([undirected([0, 0, 0], [(0, 1, 7), (1, 2, 7)])], depth=2)
        >>> ids.tolist(), trees.nested(1)
        ([0, 1, 0], [0, [[7, [0, [[7, [0, []]]]]], [7, [0, [[7, [0, []]]]]]]])

    Source: Gupta et al., Mirage: Model-Agnostic Graph Distillation for Graph Classification (2024), arXiv 2310.09486.
    """
    if depth < 1:
        raise ConfigError(f"depth must be at least 1, the number of layers of the network, got {depth}")
    sizes = [len(one.nodes) for one in graphs]
    starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    labels = np.concatenate([np.zeros(0, np.int64), *(one.nodes for one in graphs)])
    ends = [one.edges + start for one, start in zip(graphs, starts[:-1], strict=True)]
    senders, receivers = np.concatenate([np.zeros((2, 0), np.int64), *ends], axis=1)
    bonds = np.concatenate([np.zeros(0, np.int64), *(one.bonds for one in graphs)])
    bounds = np.concatenate([[0], np.cumsum(np.bincount(receivers, minlength=len(labels)))])

    ids, count, levels = np.zeros(len(labels), np.int64), 1, []
    for level in range(depth + 1):
        codes = bonds * count + ids[senders]
        codes = codes[np.lexsort((codes, receivers))]
        table: dict[tuple[int, bytes], int] = {}
        keys = [
            (label, codes[a:b].tobytes() if level else b"")
            for label, a, b in zip(labels.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
        ]
        ids = np.array([table.setdefault(key, len(table)) for key in keys], np.int64)
        levels.append(tuple(Tree(label, _children(content, count)) for label, content in table))
        count = max(1, len(table))
    return Trees(tuple(levels)), np.split(ids, starts[1:-1]) if graphs else []


def _children(content: bytes, count: int) -> tuple[tuple[int, int], ...]:
    return tuple(divmod(code, count) for code in np.frombuffer(content, np.int64).tolist())
