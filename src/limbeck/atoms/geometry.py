"""Atoms as a graph: edges between atoms closer than one cut-off, angles between edges shorter than another.

Nothing is padded: edges and angles are flat lists, and several structures are one graph whose indices are shifted.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import ConfigError, MissingExtraError

TOO_CLOSE = 0.1
"""Atoms at a smaller distance (Å) lie on each other: a mistake of the input."""


class Graph(NamedTuple):
    """One or several structures.

    Args:
        positions: in Å, [n, 3].
        species: index of each atom's element, [n].
        frame: structure of each atom, [n].
        cell: row vectors in Å, [f, 3, 3]; zeros where nothing is periodic.
        dataset: of each structure, [f].
        centre, neighbour: atoms of each edge, both directions, sorted by centre, [e].
        shift: how many cells the neighbour's image is away, [e, 3].
        short: edges that have angles, [s].
        first, second: edges ij and ik of each angle as indices into `short`, every ordered pair of a centre, j = k
            included, sorted by the first, [a].
    """

    positions: Tensor
    species: Tensor
    frame: Tensor
    cell: Tensor
    dataset: Tensor
    centre: Tensor
    neighbour: Tensor
    shift: Tensor
    short: Tensor
    first: Tensor
    second: Tensor

    def vectors(self) -> Tensor:
        """`d_ij = r_j - r_i + shift · cell` in Å, [e, 3]."""
        images = (self.shift[:, None] @ self.cell[self.frame[self.centre]])[:, 0]
        return self.positions[self.neighbour] - self.positions[self.centre] + images

    def to_precision(self, dtype: torch.dtype) -> Graph:
        """The same with real numbers of another precision."""
        reals = {name: getattr(self, name).to(dtype) for name in ("positions", "cell", "shift")}
        return self._replace(**reals)


def neighbours(positions: Any, cell: Any, periodic: Any, cutoff: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges of one structure and the shifts of their neighbours, all periodic images closer than a cut-off.

    Args:
        positions: in Å, [n, 3]; inside the cell or not.
        cell: row vectors in Å, [3, 3].
        periodic: along each of them, [3].
        cutoff: in Å.

    Returns:
        centre and neighbour [2, e] sorted by centre, shifts [e, 3].

    Raises:
        ConfigError: two atoms at the same place, or positions that are not finite.
        MissingExtraError: vesin is not installed.
    """
    positions, cell, periodic = np.asarray(positions, float), np.asarray(cell, float), np.asarray(periodic, bool)
    if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
        raise ConfigError("positions and cell must be finite numbers, in Å")
    if periodic.any() and abs(np.linalg.det(cell)) < 1e-6:
        raise ConfigError(f"a structure that repeats needs a cell with a volume, got {cell.tolist()}")
    i, j, shifts, distances = _finder(cutoff).compute(positions, cell, periodic.tolist(), "ijSd")
    if len(distances) and distances.min() < TOO_CLOSE:
        worst = int(distances.argmin())
        raise ConfigError(
            f"atoms {i[worst]} and {j[worst]} are {distances[worst]:.3f} Å apart: no two atoms may lie on each other"
        )
    order = np.lexsort((*shifts.T, j, i))  # one order whatever the search's own, so that sums repeat bit for bit
    return np.stack([i, j]).astype(np.int64)[:, order], shifts[order].astype(np.int64)


@cache
def _finder(cutoff: float) -> Any:
    try:
        from vesin import NeighborList
    except ImportError as error:
        raise MissingExtraError("vesin", "atoms") from error
    return NeighborList(cutoff=cutoff, full_list=True, n_threads=1)


def angle_pairs(centre: NDArray[np.int64]) -> NDArray[np.int64]:
    """Every ordered pair of edges of the same centre, an edge with itself included, [2, a].

    Args:
        centre: of each edge, sorted, [s].

    Example:
        >>> angle_pairs(np.array([4, 4, 7])).tolist()
        [[0, 0, 1, 1, 2], [0, 1, 0, 1, 2]]
    """
    _, begin, count = np.unique(centre, return_index=True, return_counts=True)
    partners = np.repeat(count, count)  # of each edge
    first = np.repeat(np.arange(len(centre)), partners)
    within = np.arange(len(first)) - np.repeat(partners.cumsum() - partners, partners)
    return np.stack([first, np.repeat(np.repeat(begin, count), partners) + within])


def graph_of(
    positions: Any, species: Any, cell: Any, periodic: Any, cutoff: float, angle_cutoff: float, dataset: int = 0
) -> Graph:
    """One structure as a graph of float64.

    Args:
        positions, cell, periodic: see `neighbours`.
        species: index of each atom's element, [n].
        cutoff, angle_cutoff: in Å; the second 0 for no angles.
        dataset: whose reference level it has.

    Raises:
        ConfigError: atoms at the same place.

    Example:
        >>> one = graph_of([[0, 0, 0]], [0], 2.0 * np.eye(3), [True] * 3, 2.5, 2.1)
        >>> len(one.centre), len(one.short), len(one.first)  # six images, every ordered pair of them
        (6, 6, 36)
    """
    pairs, shifts = neighbours(positions, cell, periodic, cutoff)
    place, box = torch.as_tensor(np.array(positions, float)), torch.as_tensor(np.array(cell, float))[None]
    empty = torch.zeros(0, dtype=torch.long)
    graph = Graph(
        place, torch.as_tensor(np.array(species, np.int64)), torch.zeros(len(place), dtype=torch.long),
        box if np.any(periodic) else 0 * box, torch.tensor([dataset]), torch.from_numpy(pairs[0]),
        torch.from_numpy(pairs[1]), torch.from_numpy(shifts).double(), empty, empty, empty,
    )  # fmt: skip
    if angle_cutoff:
        short = torch.nonzero(graph.vectors().norm(dim=1) < angle_cutoff).flatten()
        angles = torch.from_numpy(angle_pairs(graph.centre[short].numpy()))
        graph = graph._replace(short=short, first=angles[0], second=angles[1])
    return graph


def joined(graphs: Sequence[Graph]) -> Graph:
    """Several graphs as one.

    Example:
        >>> one = graph_of([[0, 0, 0], [0, 0, 1]], [0, 1], np.zeros((3, 3)), [False] * 3, 2.0, 0.0)
        >>> joined([one, one]).centre
        tensor([0, 1, 2, 3])
    """
    counts = {"frame": [1] * len(graphs), "first": [len(one.short) for one in graphs]}
    counts["centre"], counts["short"] = [len(one.positions) for one in graphs], [len(one.centre) for one in graphs]
    counts |= {"neighbour": counts["centre"], "second": counts["first"]}
    parts = {}
    for name in Graph._fields:
        columns = [getattr(one, name) for one in graphs]
        begin = np.cumsum([0, *counts.get(name, [0] * len(graphs))])
        parts[name] = torch.cat([one + int(b) if b else one for one, b in zip(columns, begin, strict=False)])
    return Graph(**parts)
