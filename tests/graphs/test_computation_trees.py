from collections import Counter
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest
from small_graphs import LABELS, some_graph

from limbeck.errors import ConfigError
from limbeck.graphs.data import Graph, undirected
from limbeck.graphs.mining import bit_masks, frequent_sets
from limbeck.graphs.trees import computation_trees

Rooted = tuple[int, tuple[Any, ...]]


def permuted(graph: Graph, seed: int) -> Graph:
    order = np.random.default_rng(seed).permutation(len(graph.nodes))
    return graph._replace(nodes=graph.nodes[order], edges=np.argsort(order)[graph.edges])


@pytest.mark.parity
def test_trees_and_itemsets_are_those_of_the_reference(parity, walk_sections) -> None:
    def check(cases: list[dict[str, Any]]) -> None:
        for case in cases:
            graphs = [undirected(one["node_labels"], one["edges"], one["y"]) for one in case["graphs"]]
            trees, ids = computation_trees(graphs, case["hops"])
            assert [one.tolist() for one in ids] == [one["tree_id"] for one in case["graphs"]]
            assert {str(k): trees.nested(k) for k in range(len(trees))} == case["trees"]
            transactions = [sorted(set(one.tolist())) for one in ids]
            assert transactions == case["transactions"]
            found = frequent_sets(bit_masks(transactions), case["min_support"])
            for key in ("frequent", "pyfpgrowth"):
                assert found == {tuple(one["items"]): one["support"] for one in case[key]}
            labels = [label for one in case["graphs"] for label in one["official_label"]]
            pairs = set(zip(np.concatenate(ids).tolist(), labels, strict=True))
            assert len(pairs) == len(trees) == len(set(labels))  # one official label for each tree

    walk_sections(parity("mirage-graph-distillation"), {"cases": check}, ignore=["reference"])


def test_the_names_of_nodes_do_not_matter() -> None:
    for seed in range(20):
        graph = some_graph(seed)
        _, (one, two) = computation_trees([graph, permuted(graph, seed)], depth=3)
        assert Counter(one.tolist()) == Counter(two.tolist()) and one.tolist() != two.tolist()


@cache
def rooted(size: int) -> list[Rooted]:
    """All rooted trees of so many nodes with three labels, each once."""
    return [(label, children) for label in LABELS for children in forests(size - 1, size - 1)]


@cache
def forests(size: int, largest: int) -> list[tuple[Rooted, ...]]:
    """All multisets of trees with so many nodes together."""
    if not size:
        return [()]
    if not largest:
        return []
    return [
        (*some, *rest)
        for number in range(size // largest + 1)
        for some in combinations_with_replacement(rooted(largest), number)
        for rest in forests(size - number * largest, largest - 1)
    ]


def as_forest(trees: list[Rooted], seed: int) -> tuple[Graph, list[int]]:
    """The trees as a graph with edges from child to parent, siblings in random order."""
    rng, nodes, edges, roots = np.random.default_rng(seed), [], [], []

    def add(tree: Rooted) -> int:
        place = len(nodes)
        nodes.append(tree[0])
        for k in rng.permutation(len(tree[1])):
            edges.append((add(tree[1][k]), place))
        return place

    roots = [add(tree) for tree in trees]
    return Graph(np.array(nodes), np.array(edges).T, np.zeros(len(edges), np.int64)), roots


def test_different_trees_never_get_one_number() -> None:
    every = [tree for size in range(1, 7) for tree in rooted(size)]
    assert len(every) == 3 + 9 + 45 + 246 + 1485 + 9432
    (one, roots), (two, others) = as_forest(every, 1), as_forest(every, 2)
    trees, (a, b) = computation_trees([one, two], depth=5)
    assert len(set(a[roots].tolist())) == len(every)
    assert a[roots].tolist() == b[others].tolist()
    assert trees.sizes[a[roots]].tolist() == [size for size in range(1, 7) for _ in rooted(size)]


def test_edge_labels_and_order_tell_trees_apart() -> None:
    stars = [undirected([0, 1, 1], [(0, 1, a), (0, 2, b)]) for a, b in ((1, 2), (2, 1), (11, 2), (1, 12))]
    _, ids = computation_trees(stars, depth=1)
    assert ids[0][0] == ids[1][0] and len({int(one[0]) for one in ids}) == 3


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_there_are_as_many_trees_as_colours_after_so_many_rounds_of_refinement(depth: int) -> None:
    for seed in range(10):
        graph = some_graph(seed, nodes=30, edges=32)
        colours = graph.nodes.tolist()
        for _ in range(depth):
            near = [[] for _ in colours]
            for (u, v), a in zip(graph.edges.T.tolist(), graph.bonds.tolist(), strict=True):
                near[v].append((a, colours[u]))
            seen = [(colour, tuple(sorted(one))) for colour, one in zip(colours, near, strict=True)]
            colours = [sorted(set(seen)).index(one) for one in seen]
        trees, _ = computation_trees([graph], depth)
        assert len(trees) == len(set(colours))


def test_a_path_of_three_has_two_trees_and_cycles_cannot_be_told_apart() -> None:
    path = undirected([0] * 3, [(0, 1, 0), (1, 2, 0)])
    trees, (ids,) = computation_trees([path], depth=2)
    assert Counter(ids.tolist()) == {0: 2, 1: 1} and trees.sizes.tolist() == [4, 5]
    ring = undirected([0] * 6, [(k, (k + 1) % 6, 0) for k in range(6)])
    two = undirected([0] * 6, [(3 * c + k, 3 * c + (k + 1) % 3, 0) for c in range(2) for k in range(3)])
    _, (one, other) = computation_trees([ring, two], depth=4)
    assert one.tolist() == other.tolist() == [0] * 6


def test_isolated_nodes_and_empty_graphs_have_their_place() -> None:
    graphs = [undirected([], []), undirected([5, 5, 7], [(0, 0, 1)]), undirected([], []), undirected([5], [])]
    trees, ids = computation_trees(graphs, depth=2)
    assert [one.tolist() for one in ids] == [[], [0, 1, 2], [], [1]]
    assert trees.nested(0) == [5, [[1, [5, [[1, [5, []]]]]]]] and trees.nested(2) == [7, []]
    assert computation_trees([], depth=1)[1] == []
    with pytest.raises(ConfigError, match="depth must be at least 1"):
        computation_trees(graphs, depth=0)


def test_a_forest_holds_its_trees() -> None:
    graphs = [some_graph(3), some_graph(4)]
    trees, ids = computation_trees(graphs, depth=3)
    chosen = ids[0].tolist()[:5]
    forest = trees.forest(chosen, counts=[1.0, 2.0, 3.0, 4.0, 5.0])
    assert len(forest.nodes) == trees.sizes[chosen].sum() == len(forest.bonds) + 5
    assert forest.root is not None and forest.root[:5].tolist() == [1, 2, 3, 4, 5] and not forest.root[5:].any()
    assert sorted(set(forest.edges[0].tolist())) == list(range(5, len(forest.nodes)))  # every node below has one parent
    assert (forest.edges[0] > forest.edges[1]).all()
    again, (numbers,) = computation_trees([forest], depth=3)
    assert [again.nested(one) for one in numbers[:5].tolist()] == [trees.nested(one) for one in chosen]
    kept, names = trees.keep(chosen)
    assert [kept.nested(names[one]) for one in chosen] == [trees.nested(one) for one in chosen]
    assert len(kept) == len(set(chosen)) and len(kept.levels[0]) <= len(trees.levels[0])
