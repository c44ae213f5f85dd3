"""Small graph classifiers of torch_geometric's layers, and folders that keep them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from limbeck.distill import evaluating, load_folder, save_folder
from limbeck.errors import ConfigError
from limbeck.graphs.data import Graph, GraphData, to_pyg
from limbeck.settings import Count, Number, Settings


class Network(Settings):
    """A graph classifier, by its sizes.

    Args:
        kind: "gin", "sage" (mean), "gat" or "gcn". What the first three say of a node follows from its computation
            tree; the normalisation of the last looks at both ends of an edge, and so differs between a tree and the
            graph that it came from.
        depth: layers, and so the depth of the trees that they see.
        hidden: width.
        dropout: after every layer.
        pooling: of nodes, or of the roots of a forest: "mean" or "sum".
    """

    kind: Literal["gin", "sage", "gat", "gcn"] = "gin"
    depth: Count = Field(default=2, gt=0)
    hidden: Count = Field(default=32, gt=0)
    dropout: Number = Field(default=0.0, ge=0, lt=1)
    pooling: Literal["mean", "sum"] = "mean"

    def build(self, nodes: int, bonds: int, classes: int, seed: int) -> Classifier:
        """Return a network for so many labels of nodes and edges, its weights drawn with a seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Classifier(self, nodes, bonds, classes)


class Classifier(nn.Module):
    """Embeddings of node labels, layers that read embeddings of edge labels, a pool, and classes.

    Args:
        made: the sizes.
        nodes, bonds: number of known labels; the next number is that of all unknown ones, whose embedding is 0.
        classes: number of classes.

    Example:
        >>> from limbeck.graphs.data import undirected
        >>> network = Network(kind="sage").build(nodes=3, bonds=1, classes=2, seed=0)
        >>> network(batch_of([undirected([0, 2], [(0, 1, 0)]), undirected([], [])])).shape
        torch.Size([2, 2])
    """

    def __init__(self, made: Network, nodes: int, bonds: int, classes: int) -> None:
        super().__init__()
        self.made, width = made, made.hidden
        self.nodes = nn.Embedding(nodes + 1, width, padding_idx=nodes)
        self.bonds = nn.ModuleList(nn.Embedding(bonds + 1, width, padding_idx=bonds) for _ in range(made.depth))
        self.layers = nn.ModuleList(_layer(made.kind, width) for _ in range(made.depth))
        self.head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def embed(self, batch: Any) -> Tensor:
        """Return what the layers say of every node, [n, hidden]."""
        h: Tensor = self.nodes(batch.x)
        for k, (layer, bonds) in enumerate(zip(self.layers, self.bonds, strict=True)):
            a = bonds(batch.edge_attr)
            if self.made.kind == "gcn":  # whose layer takes one weight an edge
                h = layer(h, batch.edge_index, a.mean(-1).exp())
            else:
                h = layer(h, batch.edge_index, a)
            h = h.relu() if k + 1 < len(self.layers) else h
            h = nn.functional.dropout(h, self.made.dropout, self.training)
        return h

    def forward(self, batch: Any) -> Tensor:
        """Map a batch of `batch_of` to logits [graphs, classes]; nodes count in the pool as `root` says."""
        h, root = self.embed(batch), batch.root.to(self.head[0].weight.dtype)
        pooled = h.new_zeros(batch.num_graphs, h.shape[1]).index_add(0, batch.batch, h * root[:, None])
        if self.made.pooling == "mean":
            pooled = pooled / h.new_zeros(batch.num_graphs).index_add(0, batch.batch, root).clamp(min=1e-9)[:, None]
        logits: Tensor = self.head(pooled)
        return logits


def _layer(kind: str, width: int) -> nn.Module:
    with warnings.catch_warnings():  # what the library says about torch while it loads
        warnings.simplefilter("ignore", DeprecationWarning)
        from torch_geometric.nn import GATConv, GCNConv, GeneralConv, GINEConv
    if kind == "gin":
        layer = GINEConv(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)))
    elif kind == "sage":
        layer = GeneralConv(width, width, in_edge_channels=width, aggr="mean")
    elif kind == "gat":
        layer = GATConv(width, width, edge_dim=width)
    else:
        layer = GCNConv(width, width)
    return layer  # type: ignore[no-any-return]


def batch_of(graphs: Sequence[Graph]) -> Any:
    """Graphs or forests as one `torch_geometric.data.Batch`."""
    parts = [to_pyg(one) for one in graphs]
    from torch_geometric.data import Batch

    return Batch.from_data_list(parts)


def logits_of(network: nn.Module, graphs: Sequence[Graph], size: int = 512) -> Tensor:
    """Logits [N, classes] in evaluation mode, without gradients."""
    with evaluating(network):
        return torch.cat([network(batch_of(graphs[k : k + size])) for k in range(0, len(graphs), size)])


class Saved(NamedTuple):
    """A network of a folder, and the names of classes and of labels of nodes and edges."""

    network: Classifier
    classes: tuple[str, ...]
    nodes: tuple[str, ...]
    bonds: tuple[str, ...]

    def reads(self, data: GraphData) -> GraphData:
        """Data in the numbers of this network.

        Raises:
            ConfigError: other classes.
        """
        if data.classes != self.classes:
            raise ConfigError(
                f"the network knows the classes {', '.join(self.classes)}, {data.name} has {', '.join(data.classes)}: "
                "they must be the same, in the same order"
            )
        return data.named(self.nodes, self.bonds)


def save_network(network: Classifier, data: GraphData, folder: Path) -> Path:
    """Write a network with the names of the data that it was made for, see `save_folder`."""
    names = {"classes": data.classes, "nodes": data.nodes, "bonds": data.bonds}
    return save_folder(network, {"room": "graphs", "made": network.made.model_dump()} | names, folder)


def load_network(folder: Path | str) -> Saved:
    """Read what `save_network` wrote.

    Raises:
        ConfigError: not such a folder.
    """

    def make(about: dict[str, Any]) -> Classifier:
        nodes, bonds, classes = (len(about[name]) for name in ("nodes", "bonds", "classes"))
        return Network(**about["made"]).build(nodes, bonds, classes, seed=0)

    network, about = load_folder(folder, "graphs", make)
    return Saved(network, *(tuple(about[name]) for name in ("classes", "nodes", "bonds")))
