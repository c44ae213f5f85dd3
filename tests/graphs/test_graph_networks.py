from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_graphs import molecules, some_graph
from torch import nn

from limbeck.errors import ConfigError
from limbeck.graphs import (
    Network,
    balanced,
    batch_of,
    computation_trees,
    judge,
    load_network,
    logits_of,
    save_network,
    undirected,
)  # fmt: skip
from limbeck.graphs.data import Graph


def network(kind: str, depth: int, pooling: str = "mean", seed: int = 0) -> nn.Module:
    return Network(kind=kind, depth=depth, hidden=8, pooling=pooling).build(13, 3, 2, seed).double().eval()  # type: ignore[arg-type]


def embedded(model: nn.Module, graph: Graph) -> torch.Tensor:
    with torch.no_grad():
        return model.embed(batch_of([graph]))  # type: ignore[operator, no-any-return]


def apart(kind: str, depth: int) -> float:
    """Largest difference between what a network says of nodes and of the roots of their trees."""
    model, worst = network(kind, depth, seed=depth), 0.0
    for seed in range(3):
        graph = some_graph(seed, nodes=9, edges=11)
        trees, (ids,) = computation_trees([graph], depth)
        roots = embedded(model, trees.forest(ids.tolist()))[: len(ids)]
        worst = max(worst, float((roots - embedded(model, graph)).abs().max()))
    return worst


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["gin", "sage", "gat"])
def test_what_a_network_says_of_a_node_follows_from_its_tree(kind: str, depth: int) -> None:
    assert apart(kind, depth) < 1e-12


def test_a_normalisation_by_both_ends_sees_more_than_the_tree() -> None:
    assert all(apart("gcn", depth) > 1e-3 for depth in (1, 2, 3))


def test_a_mean_forgets_how_many_neighbours_are_alike_and_a_sum_does_not() -> None:
    stars = [undirected([1] + [8] * count, [(0, k + 1, 0) for k in range(count)]) for count in (2, 4)]
    for kind, alike in (("sage", True), ("gat", False), ("gin", False)):
        two, four = (embedded(network(kind, 1), star)[0] for star in stars)
        assert torch.allclose(two, four, rtol=0, atol=1e-12) == alike


def test_trees_that_are_too_short_are_not_enough() -> None:
    model, graph = network("gin", 3), some_graph(0)
    trees, (ids,) = computation_trees([graph], 2)
    assert (embedded(model, trees.forest(ids.tolist()))[: len(ids)] - embedded(model, graph)).abs().max() > 1e-3


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_a_forest_of_all_trees_is_the_graph(pooling: str) -> None:
    model, graph = network("gin", 2, pooling), molecules().graphs[2]
    trees, (ids,) = computation_trees([graph], 2)
    different, counts = np.unique(ids, return_counts=True)
    assert len(different) < len(ids)
    forests = [trees.forest(ids.tolist()), trees.forest(different.tolist(), counts.astype(float).tolist())]
    whole = model(batch_of([graph]))
    for forest in forests:  # the second has every tree once, and counts its root as often as the graph has it
        torch.testing.assert_close(model(batch_of([forest])), whole, rtol=0, atol=1e-12)
    once = model(batch_of([trees.forest(different.tolist())]))
    assert (once - whole).abs().max() > 1e-3  # what the set of trees loses


def test_an_empty_graph_an_isolated_node_and_a_batch() -> None:
    for kind in ("gin", "sage", "gat", "gcn"):
        model, graphs = network(kind, 2), [undirected([], []), undirected([8], []), some_graph(1), undirected([], [])]
        said = model(batch_of(graphs))
        assert said.shape == (4, 2) and said.isfinite().all() and torch.equal(said[0], said[3])
        alone = torch.cat([model(batch_of([one])) for one in graphs])
        torch.testing.assert_close(said, alone, rtol=0, atol=1e-12)
        torch.testing.assert_close(logits_of(model, graphs, size=3), said, rtol=0, atol=1e-12)


def test_the_order_of_nodes_does_not_matter_and_edge_labels_do() -> None:
    graph = some_graph(2)
    order = np.random.default_rng(0).permutation(len(graph.nodes))
    other = graph._replace(nodes=graph.nodes[order], edges=np.argsort(order)[graph.edges])
    for kind in ("gin", "sage", "gat", "gcn"):
        model = network(kind, 2)
        torch.testing.assert_close(model(batch_of([graph])), model(batch_of([other])), rtol=0, atol=1e-12)
        relabelled = graph._replace(bonds=(graph.bonds + 1) % 3)
        assert (model(batch_of([graph])) - model(batch_of([relabelled]))).abs().max() > 1e-4


def test_a_folder_brings_back_the_network_and_reads_other_data(tmp_path: Path) -> None:
    data, made = molecules(), Network(kind="sage", hidden=8)
    model = made.build(3, 2, 2, 0)
    saved = load_network(save_network(model, data, tmp_path))
    assert saved.network.made == made and saved[1:] == (data.classes, data.nodes, data.bonds)
    assert torch.equal(logits_of(saved.network, data.graphs), logits_of(model, data.graphs))
    turned = data.named(("O", "C", "N"), ("double", "single"))
    assert turned.graphs[0].nodes.tolist() != data.graphs[0].nodes.tolist()
    assert torch.equal(logits_of(model, saved.reads(turned).graphs), logits_of(model, data.graphs))
    strange = replace(data, nodes=("C", "Si", "O"))
    numbers = {int(x) for one in saved.reads(strange).graphs for x in one.nodes}
    assert numbers == {0, 2, 3}  # 3 is the number of what the network does not know
    assert not saved.network.nodes.weight[3].any()
    with pytest.raises(ConfigError, match=r"knows the classes chain, ring, molecules has a, b"):
        saved.reads(replace(data, classes=("a", "b")))
    with pytest.raises(ConfigError, match="not a folder of a network of graphs"):
        load_network(tmp_path / "absent")


def test_areas_under_curves() -> None:
    rng = np.random.default_rng(0)
    logits, labels = torch.from_numpy(rng.standard_normal((60, 3)).round(1)), rng.integers(0, 3, 60)
    said, areas = logits.log_softmax(-1), []
    for k in range(3):
        pairs = [(float(a), float(b)) for a in said[labels == k, k] for b in said[labels != k, k]]
        areas.append(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))
    found = judge(logits, labels.tolist())
    assert found.auc == pytest.approx(np.mean(areas), abs=1e-12) and found.graphs == 60
    assert found.accuracy == pytest.approx(np.mean(logits.argmax(-1).numpy() == labels))
    assert judge(logits, [0] * 60).auc is None and "AUC" not in judge(logits, [0] * 60).summary()


def test_pyg_data_of_a_forest_has_a_mask_of_roots() -> None:
    trees, (ids,) = computation_trees([some_graph(0)], 2)
    batch = batch_of(balanced([trees.forest(ids.tolist()[:3])]))
    assert (batch.root > 0).nonzero()[:, 0].tolist() == [0, 1, 2] and batch.weight.tolist() == [1.0]
    child, parent = batch.edge_index
    assert (child > parent).all() and len(child.unique()) == len(child) == batch.num_nodes - 3
