"""DPA3: atoms, bonds and angles tell each other what they are, layer by layer (a graph network on line graphs).

Source: D. Zhang et al., A Graph Neural Network for the Era of Large Atomistic Models (2025), arXiv 2506.01686, with the
order of concatenations and the constants that its text leaves open as in deepmd-kit 3.2.0. Every linear map of a
concatenation is done by its parts, each where it is cheapest (on atoms, edges or angles), and gathered then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from limbeck.atoms.geometry import Graph
from limbeck.atoms.switches import SWITCHES, silut
from limbeck.errors import ConfigError

SPREAD = 0.3
"""Divides the vector of an edge."""
STEP = 0.1
"""What the steps of a layer begin at."""


@dataclass(frozen=True)
class Sizes:
    """A potential by its sizes; the defaults are the published ones.

    Args:
        elements: symbols that it knows.
        layers: of messages.
        nodes, edges, angles: widths of what an atom, an edge, an angle carries; without angles (0) K is 1, else 2.
        axes: columns of the matrix that is multiplied with itself.
        cutoff, smooth: Å at which edges end, and where they begin to fade.
        angle_cutoff, angle_smooth: the same of edges that have angles.
        edge_norm, angle_norm: constants that divide sums over neighbours, in place of their number.
        threshold: of the activation, see `silut`.
        hidden: widths of the network that reads energies off atoms.
        datasets: with reference levels of their own; more than one is told to the network.
        switch: exponential or quintic.
        compress: an angle sees the first components of its atom and edges only.
        sequential: a layer's later updates see the earlier ones.

    Raises:
        ConfigError: sizes that cannot work.
    """

    elements: tuple[str, ...]
    layers: int = 6
    nodes: int = 128
    edges: int = 64
    angles: int = 32
    axes: int = 4
    cutoff: float = 6.0
    smooth: float = 5.3
    angle_cutoff: float = 4.0
    angle_smooth: float = 3.5
    edge_norm: float = 120.0
    angle_norm: float = 30.0
    threshold: float = 3.0
    hidden: tuple[int, ...] = (240, 240, 240)
    datasets: int = 1
    switch: Literal["exponential", "quintic"] = "exponential"
    compress: bool = True
    sequential: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.smooth < self.cutoff or not 0 < self.angle_smooth < self.angle_cutoff <= self.cutoff:
            raise ConfigError(
                f"cut-offs must be ordered, 0 < smooth {self.smooth} < cutoff {self.cutoff} and 0 < angle_smooth "
                f"{self.angle_smooth} < angle_cutoff {self.angle_cutoff} ≤ cutoff (Å)"
            )
        widths = (self.nodes, self.edges, self.datasets, *self.hidden)
        if min(*widths, self.edge_norm, self.angle_norm) <= 0 or min(self.layers, self.angles) < 0 or not self.elements:
            raise ConfigError(f"widths and norms must be positive, and there must be elements, got {self}")
        if not 1 <= self.axes <= min(self.nodes, self.edges):
            raise ConfigError(f"axes must be from 1 to the widths of atoms and edges, got {self.axes}")
        if self.angles and self.compress and self.angles > min(self.nodes, self.edges):
            raise ConfigError(f"angles see the first {self.angles} components of atoms and edges: they must have them")

    @property
    def seen(self) -> tuple[int, int]:
        """How many components of its atom, and of each of its edges, an angle sees."""
        return (self.angles, self.angles) if self.compress else (self.nodes, self.edges)

    @property
    def reach(self) -> tuple[float, float]:
        """Cut-offs of edges and angles in Å, as `graph_of` takes them."""
        return self.cutoff, self.angle_cutoff if self.angles else 0.0

    @classmethod
    def from_dict(cls, about: Mapping[str, Any]) -> Sizes:
        """Rebuild sizes from `dataclasses.asdict`, through JSON or not."""
        return cls(**{**about, "elements": tuple(about["elements"]), "hidden": tuple(about["hidden"])})


class Shape:
    """What the layers need of the geometry.

    Args:
        graph: who is next to whom.
        weight: switch of each edge, [e].
        vector: `s(r) h` of each edge, [e, 3].
        pair: product of both switches of each angle, [a].
    """

    def __init__(self, graph: Graph, weight: Tensor, vector: Tensor, pair: Tensor) -> None:
        self.graph, self.weight, self.pair = graph, weight, pair
        count = summed(torch.ones_like(graph.centre), graph.centre, graph.positions.shape[0])
        within = torch.arange(weight.shape[0], device=weight.device) - (count.cumsum(0) - count)[graph.centre]
        self.size: tuple[int, Any] = count.shape[0], count.max().item()  # as `int` it would be a constant of exports
        self.place = graph.centre * self.size[1] + within
        self.vectors = self.table(vector)

    def table(self, rows: Tensor) -> Tensor:
        """Rows of edges by atom and neighbour, for one product per atom; zeros where there are fewer, [n, most, w]."""
        atoms, most = self.size
        flat = rows.new_zeros(atoms * most, rows.shape[1]).index_copy(0, self.place, rows)
        return flat.view(atoms, most, rows.shape[1])


def summed(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sums of rows that have the same index, [count, ...]."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, index, values)


class Layer(nn.Module):
    """One layer of messages: an atom hears its edges and neighbours, an edge its atoms and angles, an angle its edges.

    With `act` = `silut`, E and A the norms, and `[...]` a concatenation:

    - `v_i += d0 act(L v_i) + d1 act(L [symm(e_ij), symm(v_j)]) + d2 / E Σ_j s(r_ij) act(L [v_i, v_j, e_ij])`
    - `e_ij += d3 act(L [v_i, v_j, e_ij]) + d4 act(L A^-1/2 Σ_k s2(r_ij) s2(r_ik) act(L [a_ijk, v_i, e_ik, e_ij]))`
    - `a_ijk += d5 act(L [a_ijk, v_i, e_ik, e_ij])`

    `symm(g) = Hᵀ H / 3` of `H = E^-1/2 Σ_j s(r_ij) h_ij g_ij`, its first columns only. An edge without angles hears
    act of a bias.

    Args:
        sizes: of the potential.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        n, e, a = sizes.nodes, sizes.edges, sizes.angles
        self.sizes = sizes
        self.own = nn.Linear(n, n)
        self.symmetric = nn.Linear(sizes.axes * (e + n), n)
        self.around = nn.Linear(2 * n + e, n + e)  # an edge and its atoms: rows to the atom, rows to the edge
        self.steps = nn.ParameterList([nn.Parameter(torch.full((w,), STEP)) for w in (n, n, n, e)])
        if a:
            at, along = sizes.seen
            self.angle = nn.Linear(a + at + 2 * along, e + a)  # rows to the edge, rows to the angle
            self.heard = nn.Linear(e, e)
            self.angle_steps = nn.ParameterList([nn.Parameter(torch.full((w,), STEP)) for w in (e, a)])

    def forward(
        self, v: Tensor, e: Tensor, a: Tensor, shape: Shape, last: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Map atoms [n, nodes], edges [e, edges] and angles [a, angles] to the next ones; the last layer atoms only."""
        n, width = self.sizes.nodes, self.sizes.edges
        if self.sizes.sequential:
            edge = e + self.steps[3] * self._around(v, e, shape, slice(n, None))
            if self.sizes.angles:
                a = a + self.angle_steps[1] * self._angle(v, edge, a, shape, slice(width, None))
                edge = edge + self.angle_steps[0] * self._heard(self._angle(v, edge, a, shape, slice(width)), shape)
            told = self._around(v, edge, shape, slice(n))
            return self._node(v, edge, told, shape), edge, a
        if last:
            return self._node(v, e, self._around(v, e, shape, slice(n)), shape), e, a
        told, said = self._around(v, e, shape, slice(None)).split([n, width], 1)
        edge = e + self.steps[3] * said
        if self.sizes.angles:
            heard, turned = self._angle(v, e, a, shape, slice(None)).split([width, self.sizes.angles], 1)
            edge = edge + self.angle_steps[0] * self._heard(heard, shape)
            a = a + self.angle_steps[1] * turned
        return self._node(v, e, told, shape), edge, a

    def _node(self, v: Tensor, e: Tensor, told: Tensor, shape: Shape) -> Tensor:
        """The atoms after a layer, from what their edges told them [e, nodes]."""
        graph, sizes = shape.graph, self.sizes
        carried = shape.table(torch.cat([e, v.index_select(0, graph.neighbour)], 1))
        h = shape.vectors.mT @ carried / math.sqrt(sizes.edge_norm)  # [n, 3, edges + nodes]
        parts = [
            torch.einsum("nqs,nqp->nsp", one[:, :, : sizes.axes], one).flatten(1) / 3
            for one in h.split([sizes.edges, sizes.nodes], 2)
        ]
        mean = summed(shape.weight[:, None] * told, graph.centre, v.shape[0]) / sizes.edge_norm
        act = sizes.threshold
        own, symmetric = silut(self.own(v), act), silut(self.symmetric(torch.cat(parts, 1)), act)
        new: Tensor = v + self.steps[0] * own + self.steps[1] * symmetric + self.steps[2] * mean
        return new

    def _around(self, v: Tensor, e: Tensor, shape: Shape, rows: slice) -> Tensor:
        """`act(L [v_i, v_j, e_ij])` of every edge, these rows of L."""
        n, graph = self.sizes.nodes, shape.graph
        centre, neighbour, edge = self.around.weight[rows].split([n, n, self.sizes.edges], 1)
        mixed = linear(v, centre).index_select(0, graph.centre) + linear(v, neighbour).index_select(0, graph.neighbour)
        return silut(mixed + linear(e, edge, self.around.bias[rows]), self.sizes.threshold)

    def _angle(self, v: Tensor, e: Tensor, a: Tensor, shape: Shape, rows: slice) -> Tensor:
        """`act(L [a_ijk, v_i, e_ik, e_ij])` of every angle, these rows of L."""
        graph, (at, along) = shape.graph, self.sizes.seen
        angle, atom, other, own = self.angle.weight[rows].split([self.sizes.angles, at, along, along], 1)
        short = e[:, :along].index_select(0, graph.short)
        here = linear(v[:, :at], atom).index_select(0, graph.centre[graph.short])
        here = here + linear(short, own, self.angle.bias[rows])
        mixed = here.index_select(0, graph.first) + linear(short, other).index_select(0, graph.second)
        mixed = linear(a, angle) + mixed
        return silut(mixed, self.sizes.threshold)

    def _heard(self, told: Tensor, shape: Shape) -> Tensor:
        """What every edge hears from its angles [e, edges]; those without any, the bias alone."""
        graph, act = shape.graph, self.sizes.threshold
        total = summed(shape.pair[:, None] * told, graph.first, graph.short.shape[0]) / math.sqrt(self.sizes.angle_norm)
        alone = silut(self.heard.bias, act).expand(graph.centre.shape[0], -1)
        return alone.index_copy(0, graph.short, silut(self.heard(total), act))


class Descriptor(nn.Module):
    """What every atom's surroundings are, invariant to turning, mirroring, moving and renaming.

    Args:
        sizes: of the potential.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.kinds = nn.Parameter(torch.randn(len(sizes.elements), sizes.nodes))
        self.edge = nn.Linear(1, sizes.edges)
        self.angle = nn.Linear(1, sizes.angles, bias=False) if sizes.angles else None
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(sizes.layers))

    def forward(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Map a graph and the vectors of its edges in Å [e, 3] to [n, nodes]."""
        sizes, r = self.sizes, vectors.norm(dim=1)
        switch = SWITCHES[sizes.switch]
        weight = switch(r, sizes.smooth, sizes.cutoff)
        v, e = silut(self.kinds, sizes.threshold).index_select(0, graph.species), self.edge(r[:, None])
        a, pair = vectors.new_zeros(0, 0), vectors.new_zeros(0)
        if self.angle is not None:
            short = r.index_select(0, graph.short)
            fade = switch(short, sizes.angle_smooth, sizes.angle_cutoff)
            unit = vectors.index_select(0, graph.short) / (short + 1e-6)[:, None]
            one, other = (torch.cat([fade[:, None], unit], 1).index_select(0, k) for k in (graph.first, graph.second))
            product = one * other
            pair = product[:, 0]
            a = self.angle((1 - 1e-6) / math.sqrt(math.pi) * product[:, 1:].sum(1, keepdim=True))
        shape = Shape(graph, weight, (weight.square() / r.square() / SPREAD)[:, None] * vectors, pair)
        for k, layer in enumerate(self.layers, 1):
            v, e, a = layer(v, e, a, shape, last=k == len(self.layers))
        return v


class Fitting(nn.Module):
    """Energies of atoms from their descriptors: a perceptron with steps between layers of equal width.

    Args:
        widths: of the input and the hidden layers.
        threshold: of the activation.
    """

    def __init__(self, widths: tuple[int, ...], threshold: float) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out, self.threshold = nn.Linear(widths[-1], 1), threshold

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, width] to [n]."""
        for layer in self.hidden:
            new = silut(layer(x), self.threshold)
            x = x + new if new.shape == x.shape else new
        energies: Tensor = self.out(x)[:, 0]
        return energies
