"""A potential: energies of any atoms, and the forces and virials that are their exact derivatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from limbeck.atoms.descriptor import Descriptor, Fitting, Sizes, summed
from limbeck.atoms.geometry import Graph, graph_of
from limbeck.distill.folders import load_folder, save_folder
from limbeck.errors import ConfigError, nearest


class Predicted(NamedTuple):
    """What a potential says.

    Args:
        energy: in eV, [f], float64.
        forces: in eV/Å, [n, 3].
        virial: `-dE/dε` in eV, [f, 3, 3]; the stress is `-virial / volume`.
    """

    energy: Tensor
    forces: Tensor
    virial: Tensor


class Potential(nn.Module):
    """DPA3: `E = Σ_i F([v_i, c_m]) + b_m[z_i]`, `F_i = -dE/dr_i`, `Ξ = -dE/dε` at positions `r (1 + ε)`.

    `c_m` is the one-hot code of the data set that a structure is to be like, given if there are several; `b_m` are
    energies of elements, see `set_bias`. They are kept in float64 and added last, so that nothing is lost of total
    energies of tens of thousands of eV.

    Args:
        sizes: of the network.

    Example:
        >>> potential = build(Sizes(("H", "O"), layers=1, nodes=8, edges=6, angles=4, hidden=(8,)), seed=0)
        >>> found = potential(potential.graph([[0, 0, 0], [0, 0, 1]], ["H", "O"]))
        >>> found.energy.shape, found.forces.shape, found.virial.shape
        (torch.Size([1]), torch.Size([2, 3]), torch.Size([1, 3, 3]))

    Source: D. Zhang et al., A Graph Neural Network for the Era of Large Atomistic Models (2025), arXiv 2506.01686.
    """

    bias: Tensor

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.sizes, coded = sizes, sizes.datasets if sizes.datasets > 1 else 0
        self.descriptor = Descriptor(sizes)
        self.fitting = Fitting((sizes.nodes + coded, *sizes.hidden), sizes.threshold)
        self.register_buffer("bias", torch.zeros(sizes.datasets, len(sizes.elements), dtype=torch.float64))

    @property
    def params(self) -> int:
        """Trained numbers."""
        return sum(one.numel() for one in self.parameters())

    def species(self, symbols: Sequence[str]) -> list[int]:
        """Indices of elements.

        Raises:
            ConfigError: an element that the potential does not know.
        """
        known = {one: k for k, one in enumerate(self.sizes.elements)}
        if strange := sorted(set(symbols) - set(known)):
            given = ", ".join(strange)
            raise ConfigError(
                f"the potential knows {', '.join(known)}, not {given}.{nearest(strange[0], known)} Train one on data "
                "with these elements"
            )
        return [known[one] for one in symbols]

    def graph(
        self, positions: Any, symbols: Sequence[str], cell: Any = None, periodic: Any = (False,) * 3, dataset: int = 0
    ) -> Graph:
        """One structure as this potential sees it; see `graph_of`.

        Raises:
            ConfigError: unknown elements, atoms on each other, a data set that it was not trained on.
        """
        if not 0 <= dataset < self.sizes.datasets:
            raise ConfigError(f"the potential was trained on {self.sizes.datasets} data sets, there is no {dataset}")
        box = np.zeros((3, 3)) if cell is None else cell
        return graph_of(positions, self.species(symbols), box, periodic, *self.sizes.reach, dataset)

    def energies(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Energies of atoms without those of their elements, in eV, [n].

        Args:
            graph: structures.
            vectors: of its edges in Å, [e, 3].
        """
        seen = self.descriptor(graph, vectors)
        if self.sizes.datasets > 1:
            code = one_hot(graph.dataset, self.sizes.datasets)[graph.frame].to(seen.dtype)
            seen = torch.cat([seen, code], 1)
        energies: Tensor = self.fitting(seen)
        return energies

    def energy(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Total energies in eV, [f]."""
        bias = self.bias[graph.dataset[graph.frame], graph.species]
        return summed(self.energies(graph, vectors).double() + bias, graph.frame, graph.cell.shape[0])

    def forward(self, graph: Graph) -> Predicted:
        """Energies, forces and virials; in training mode their graph stays for a second derivative."""
        graph = graph.to_precision(self.descriptor.kinds.dtype)
        with torch.enable_grad():
            vectors = graph.vectors().detach().requires_grad_()
            energy = self.energy(graph, vectors)
            (pull,) = torch.autograd.grad(energy.sum(), vectors, create_graph=self.training)
        atoms, frames = len(graph.positions), len(graph.cell)
        forces = summed(pull, graph.centre, atoms) - summed(pull, graph.neighbour, atoms)
        virial = -summed(vectors[:, :, None] * pull[:, None, :], graph.frame[graph.centre], frames)
        virial = (virial + virial.mT) / 2
        return Predicted(energy, forces, virial) if self.training else Predicted(*_plain(energy, forces, virial))

    def set_bias(self, graphs: Sequence[Graph], energies: Sequence[float]) -> None:
        """Energies of elements by least squares of total energies on how often each occurs, data set by data set.

        Args:
            graphs: structures.
            energies: theirs in eV, [f].
        """
        kinds = len(self.sizes.elements)
        counts = np.array([np.bincount(one.species, minlength=kinds) for one in graphs], float)
        which = np.array([int(one.dataset) for one in graphs])
        for m in range(self.sizes.datasets):
            if (own := which == m).any():
                found = np.linalg.lstsq(counts[own], np.asarray(energies, float)[own], rcond=None)[0]
                self.bias[m] = torch.as_tensor(found)


def _plain(*tensors: Tensor) -> list[Tensor]:
    return [one.detach() for one in tensors]


def build(sizes: Sizes, seed: int) -> Potential:
    """A potential whose weights are drawn with a seed; torch's own generator stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Potential(sizes)


def save_potential(potential: Potential, folder: Path | str) -> Path:
    """Write a potential to a folder, see `save_folder`."""
    return save_folder(potential, {"room": "atoms"} | asdict(potential.sizes), folder)


def load_potential(folder: Path | str) -> Potential:
    """Read what `save_potential` wrote, as float32.

    Raises:
        ConfigError: not such a folder.
    """

    def make(about: dict[str, Any]) -> Potential:
        return build(Sizes.from_dict({name: one for name, one in about.items() if name != "room"}), seed=0)

    return load_folder(folder, "atoms", make)[0]
