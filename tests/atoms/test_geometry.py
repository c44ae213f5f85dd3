import numpy as np
import pytest
import torch
from small_atoms import cluster

from limbeck.atoms.geometry import angle_pairs, graph_of, joined, neighbours
from limbeck.errors import ConfigError


def by_hand(positions: np.ndarray, cell: np.ndarray, cutoff: float, images: int) -> set[tuple[int, ...]]:
    """Every edge by three loops."""
    found, span = set(), range(-images, images + 1)
    for i in range(len(positions)):
        for j in range(len(positions)):
            for shift in [(a, b, c) for a in span for b in span for c in span]:
                r = np.linalg.norm(positions[j] - positions[i] + np.array(shift) @ cell)
                if (i != j or any(shift)) and r < cutoff:
                    found.add((i, j, *shift))
    return found


@pytest.mark.parametrize("images", [1, 3])
def test_edges_are_those_of_loops_also_in_cells_thinner_than_the_cutoff(images: int) -> None:
    positions, _ = cluster(3, seed=0, size=3.0)
    cell = np.array([[3.0, 0.0, 0.0], [0.4, 3.2, 0.0], [0.1, -0.3, 3.4]]) if images > 1 else 5.0 * np.eye(3)
    cutoff = 5.0 if images > 1 else 4.0
    pairs, shifts = neighbours(positions, cell, [True] * 3, cutoff)
    assert {(*map(int, p), *map(int, s)) for p, s in zip(pairs.T, shifts, strict=True)} == by_hand(
        positions, cell, cutoff, images
    )
    assert (np.diff(pairs[0]) >= 0).all()
    assert (abs(shifts).max() > 1) == (images > 1)
    back = {(j, i, -a, -b, -c) for i, j, a, b, c in by_hand(positions, cell, cutoff, images)}
    assert back == by_hand(positions, cell, cutoff, images)  # both directions


def test_angles_are_all_ordered_pairs_of_short_edges() -> None:
    positions, _ = cluster(6, seed=1)
    graph = graph_of(positions, [0] * 6, np.zeros((3, 3)), [False] * 3, 4.0, 2.5)
    r = graph.vectors().norm(dim=1)
    assert graph.short.tolist() == [k for k in range(len(r)) if r[k] < 2.5]
    centre = graph.centre[graph.short]
    pairs = [(a, b) for a in range(len(centre)) for b in range(len(centre)) if centre[a] == centre[b]]
    assert list(zip(graph.first.tolist(), graph.second.tolist(), strict=True)) == pairs
    assert angle_pairs(np.array([], int)).shape == (2, 0)


def test_joined_structures_keep_their_own_indices() -> None:
    one, other = (graph_of(*cluster_of(n, n), 4.0, 3.0, dataset=n % 2) for n in (4, 5))
    both = joined([one, other])
    assert torch.equal(both.vectors(), torch.cat([one.vectors(), other.vectors()]))
    assert both.frame.tolist() == [0] * 4 + [1] * 5 and both.dataset.tolist() == [0, 1]
    edges = both.short[both.first]
    assert torch.equal(both.centre[edges], both.centre[both.short[both.second]])
    assert int(both.short.max()) < len(both.centre) and len(both.first) == len(one.first) + len(other.first)


def cluster_of(atoms: int, seed: int) -> tuple[np.ndarray, list[int], np.ndarray, list[bool]]:
    return cluster(atoms, seed)[0], [0] * atoms, np.zeros((3, 3)), [False] * 3


def test_what_cannot_be_a_structure_is_refused() -> None:
    box, free = np.zeros((3, 3)), [False] * 3
    with pytest.raises(ConfigError, match=r"atoms 0 and 1 are 0.050 Å apart"):
        graph_of([[0, 0, 0], [0, 0, 0.05]], [0, 0], box, free, 4.0, 3.0)
    with pytest.raises(ConfigError, match="finite"):
        graph_of([[0, 0, np.nan]], [0], box, free, 4.0, 3.0)
    with pytest.raises(ConfigError, match="a cell with a volume"):
        graph_of([[0, 0, 0]], [0], box, [True] * 3, 4.0, 3.0)
    alone = graph_of([[0, 0, 0]], [0], box, free, 4.0, 3.0)
    assert len(alone.centre) == len(alone.first) == 0
