"""A distilled set: what many graphs of each class have in common, as pseudo-graphs, and how it is found."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from limbeck.errors import ConfigError
from limbeck.files import write_bytes
from limbeck.graphs.data import Graph, GraphData, Ints, balanced
from limbeck.graphs.mining import LIMIT, bit_masks, frequent_sets, threshold
from limbeck.graphs.trees import Trees, computation_trees


class Pattern(NamedTuple):
    """Trees that graphs of a class have in common.

    Args:
        trees: their numbers in the dictionary.
        label: the class.
        support: number of its graphs that have all of them.
        counts: how often such a graph has each of them, on average.
    """

    trees: tuple[int, ...]
    label: int
    support: int
    counts: tuple[float, ...]


@dataclass(frozen=True)
class Summary:
    """A distilled set of graphs: trees once, in a dictionary, and patterns as lists of their numbers.

    Args:
        trees: the dictionary.
        patterns: of all classes.
        classes, nodes, bonds: names, see `GraphData`.
        theta: least support of each class.
        source_graphs, source_bytes: of the data that it stands for.
        seconds: that distilling took.
    """

    trees: Trees
    patterns: tuple[Pattern, ...]
    classes: tuple[str, ...]
    nodes: tuple[str, ...]
    bonds: tuple[str, ...]
    theta: tuple[int, ...]
    source_graphs: int
    source_bytes: int
    seconds: float = field(default=0.0, compare=False)

    @property
    def bytes(self) -> int:
        """Size of all forests written out, at 8 bytes an integer: see `Graph.bytes`."""
        return sum(_bytes(self.trees.sizes, one.trees) for one in self.patterns)

    @property
    def stored_bytes(self) -> int:
        """Size of the dictionary and the lists, at 8 bytes an integer.

        A tree is a label, a number of children, and two integers for each; a pattern is a class, a support, a length
        and its trees.
        """
        trees = sum(2 + 2 * len(tree.children) for level in self.trees.levels for tree in level)
        return 8 * (trees + sum(3 + len(one.trees) for one in self.patterns))

    def graphs(self, frequency: bool = True, counts: bool = False) -> list[Graph]:
        """Return the pseudo-graphs to train on, all classes alike in weight.

        Args:
            frequency: weigh a pattern by its support; otherwise all of a class count alike.
            counts: let a root count in the pool as often as graphs have its tree (an extension: the published method
                counts it once, while every node of an ordinary graph counts).
        """
        raw = [
            self.trees.forest(one.trees, one.counts if counts else None)._replace(
                label=one.label, weight=float(one.support)
            )
            for one in self.patterns
        ]
        return balanced(raw, frequency)

    def summary(self) -> str:
        """One line."""
        ratio = self.source_bytes / self.bytes
        size = f"{ratio:.1f} times smaller" if ratio > 1 else f"{1 / ratio:.1f} times LARGER (raise theta)"
        each = np.bincount([one.label for one in self.patterns], minlength=len(self.classes)).tolist()
        return (
            f"{' + '.join(map(str, each))} patterns of {len(self.trees)} trees of depth {self.trees.depth}, "
            f"{self.bytes:,} bytes ({self.stored_bytes:,} stored) for {self.source_graphs} graphs of "
            f"{self.source_bytes:,}: {size}, in {self.seconds:.2f} s"
        )

    def save(self, path: Path | str) -> Path:
        """Write the set as JSON."""
        return write_bytes(path, TypeAdapter(Summary).dump_json(self, indent=1))

    @classmethod
    def load(cls, path: Path | str) -> Summary:
        """Read what `save` wrote.

        Raises:
            ConfigError: not such a file.
        """
        try:
            found = TypeAdapter(cls).validate_json(Path(path).read_bytes())
            levels = ((), *found.trees.levels)
            numbers = [(c, len(below)) for below, at in pairwise(levels) for tree in at for _, c in tree.children]
            numbers += [(tree, len(levels[-1])) for one in found.patterns for tree in one.trees]
            numbers += [(one.label, len(found.classes)) for one in found.patterns]
            if not all(0 <= k < size for k, size in numbers):
                raise ValueError("a number points beyond its list")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is not a distilled set of graphs that limbeck wrote ({error})") from error
        return found


def _bytes(sizes: Ints, trees: Sequence[int]) -> int:
    """Size of a forest: every node has a label, every node but the roots an edge to its parent."""
    nodes = int(sizes[list(trees)].sum())
    return 8 * nodes + 24 * (nodes - len(trees))


def condense(
    data: GraphData,
    *,
    depth: int = 2,
    theta: float | Sequence[float] | None = None,
    budget: int | None = None,
    closed_only: bool = False,
    exclusive: bool = False,
    cap: int | None = None,
) -> Summary:
    """Distil graphs into the sets of computation trees that are frequent in their class; no network is trained.

    Args:
        data: graphs with classes.
        depth: number of layers of the networks that will learn from it.
        theta: graphs of a class that must have a set of trees in common, a number or a share; one for each class, or
            one for all.
        budget: bytes that all forests together may have, in place of theta: every class gets an equal part, and the
            least theta that keeps to it.
        closed_only: leave out sets that are part of a larger one with the same support.
        exclusive: leave out sets that are frequent in several classes.
        cap: sets of each class at most, the largest first.

    Raises:
        ConfigError: neither or both of theta and budget; a class in which nothing is so frequent; a budget too small.

    Example:
        >>> from limbeck.graphs.data import undirected
        >>> graphs = [undirected([0, label], [(0, 1, 0)], label) for label in (0, 0, 1, 1)]
        >>> found = condense(GraphData(tuple(graphs), ("a", "b"), ("C", "N"), ("single",)), depth=1, theta=1.0)
        >>> [(one.trees, one.support) for one in found.patterns], found.bytes
        ([((0,), 2), ((1, 2), 2), ((1,), 2), ((2,), 2)], 200)

    Source: Mridul Gupta, Sahil Manchanda, Hariprasad Kodamana, Sayan Ranu, Mirage: Model-Agnostic Graph Distillation
        for Graph Classification (2024), arXiv 2310.09486.
    """
    began = perf_counter()
    if (theta is None) == (budget is None):
        raise ConfigError("give either theta (the least support) or a budget in bytes")
    trees, ids = computation_trees(data.graphs, depth)
    found: list[dict[tuple[int, ...], int]] = []
    members = [np.flatnonzero(data.labels == k) for k in range(len(data.classes))]
    masks = [bit_masks([set(ids[g].tolist()) for g in own]) for own in members]
    given = theta if isinstance(theta, Sequence) else [theta] * len(members)
    if len(given) != len(members):
        raise ConfigError(f"{len(given)} values of theta for {len(members)} classes: give one for each, or one for all")
    least = []
    for name, own, mask, wanted in zip(data.classes, members, masks, given, strict=True):
        top = max((bits.bit_count() for bits in mask.values()), default=0)
        if not top:
            raise ConfigError(f'class "{name}" has no graph with a node: leave it out')
        mine = _Miner(mask, trees.sizes, {"closed_only": closed_only, "cap": cap})
        if wanted is None:
            share = (budget or 0) // len(members)
            count = 1 + bisect_left(range(1, top + 1), True, key=lambda t: mine.size(t, share) <= share)
            if count > top:
                raise ConfigError(
                    f'a budget of {budget:,} bytes is too small: class "{name}" needs {mine.size(top):,} for the sets '
                    f"that most of its graphs share, and gets {share:,}"
                )
        else:
            count = threshold(wanted, len(own))
        if count > top:
            raise ConfigError(
                f'nothing in class "{name}" is in {count} of its {len(own)} graphs: the largest usable theta is {top} '
                f"({np.floor(1000 * top / len(own)) / 1000:.3f})"
            )
        least.append(count)
        found.append(mine(count))
    if exclusive:
        found = [{p: s for p, s in own.items() if sum(p in one for one in found) == 1} for own in found]
        if empty := [name for name, own in zip(data.classes, found, strict=True) if not own]:
            raise ConfigError(f'class "{empty[0]}" has no set of its own: leave out exclusive, or lower theta')
    kept, names = trees.keep(tree for own in found for one in own for tree in one)
    often = _often(ids, len(trees), names)
    patterns = []
    for label, (own, sets) in enumerate(zip(members, found, strict=True)):
        for one, support in sets.items():
            new = tuple(names[tree] for tree in one)
            having = often[own][:, new]
            counts = having[(having > 0).all(1)].mean(0).tolist()
            patterns.append(Pattern(new, label, support, tuple(counts)))
    about = (data.classes, data.nodes, data.bonds, tuple(least), len(data), data.bytes)
    return Summary(kept, tuple(patterns), *about, seconds=perf_counter() - began)


class _Miner:
    """The frequent sets of one class, and their size in bytes."""

    def __init__(self, masks: Mapping[int, int], sizes: Ints, how: Mapping[str, Any]) -> None:
        self.masks, self.sizes, self.how = masks, sizes, how

    def __call__(self, theta: int, limit: int = LIMIT) -> dict[tuple[int, ...], int]:
        return frequent_sets(self.masks, theta, limit=limit, **self.how)

    def size(self, theta: int, most: int = 8 * LIMIT) -> float:
        """Bytes; infinite if there are so many sets that they must be larger than `most`."""
        try:
            return sum(_bytes(self.sizes, one) for one in self(theta, min(LIMIT, most // 8 + 1)))
        except ConfigError:
            return np.inf


def _often(ids: Sequence[Ints], count: int, names: Mapping[int, int]) -> Ints:
    """How often each graph has each of the trees that have a new number, [graphs, trees]."""
    new = np.full(count, -1)
    new[list(names)] = list(names.values())
    place, tree = np.repeat(np.arange(len(ids)), [len(one) for one in ids]), new[np.concatenate(ids)]
    codes = (place * len(names) + tree)[tree >= 0]
    return np.bincount(codes, minlength=len(ids) * len(names)).reshape(len(ids), len(names))


def random_graphs(data: GraphData, budget: int, seed: int) -> list[Graph]:
    """The baseline of every condensation: real graphs at random, as many as fit into equally many bytes.

    Args:
        data: graphs with classes.
        budget: bytes; every class gets an equal part, and at least one graph.
        seed: of the draw.
    """
    order, chosen, share = np.random.default_rng(seed).permutation(len(data)), [], budget / len(data.classes)
    for label in range(len(data.classes)):
        own = [int(row) for row in order if data.graphs[row].label == label]
        total = np.cumsum([data.graphs[row].bytes for row in own])
        chosen += own[: max(1, int(np.searchsorted(total, share, side="right")))]
    return balanced(data.at(chosen).graphs)
