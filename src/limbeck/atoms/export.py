"""A potential for programs that do not know limbeck: the energy as a program of torch, for any atoms."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from limbeck.atoms.geometry import Graph
from limbeck.atoms.model import Potential

REALS = ("positions", "cell", "shift")


class _Energy(nn.Module):
    """Total energies from the fields of a graph, in their order."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential

    def forward(self, *fields: Tensor) -> Tensor:
        graph = Graph(*fields)
        return self.potential.energy(graph, graph.vectors())


def export_energy(potential: Potential, example: Graph, path: Path | str) -> Path:
    """Write the energy of a potential with `torch.export`; `torch.export.load(path).module()(*graph)` gives it, in eV.

    Numbers of atoms, edges, angles and structures are free; what is read is differentiable, so forces come from it too.

    Args:
        potential: whose precision is kept.
        example: a structure with edges and angles, of at least two atoms.
        path: the file, .pt2.
    """
    fields = example.to_precision(potential.descriptor.kinds.dtype)
    dim = dict.fromkeys(("atoms", "frames", "edges", "short", "angles"), torch.export.Dim.DYNAMIC)
    free = ["atoms", "atoms", "atoms", "frames", "frames", "edges", "edges", "edges", "short", "angles", "angles"]
    shapes = (tuple({0: dim[name]} for name in free),)
    with torch.no_grad():
        program = torch.export.export(_Energy(potential.eval()), tuple(fields), dynamic_shapes=shapes)
    torch.export.save(program, path)
    return Path(path)
