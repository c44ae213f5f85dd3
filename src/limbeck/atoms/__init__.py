"""Interatomic potentials: energies, forces and virials of any atoms, and small potentials from large ones.

A `Potential` (DPA3) is trained on frames of one or several data sets by `train_potential`, runs in ASE as
`Potentials(potential)`, and teaches a smaller one with the frames that its own dynamics visit (`visited`).
"""

from limbeck.atoms.calculator import Potentials, dynamics, relaxed
from limbeck.atoms.descriptor import Sizes
from limbeck.atoms.distillation import Dynamics, told, visited
from limbeck.atoms.export import export_energy
from limbeck.atoms.frames import alloys, calculator, labelled, read_frames, split_frames
from limbeck.atoms.geometry import Graph, graph_of, joined
from limbeck.atoms.model import Potential, Predicted, build, load_potential, save_potential
from limbeck.atoms.switches import exponential_switch, quintic_switch, silut
from limbeck.atoms.training import Judged, Prefactors, Trained, judge, train_potential, with_dataset

__all__ = [
    "Dynamics", "Graph", "Judged", "Potential", "Potentials", "Predicted", "Prefactors", "Sizes", "Trained", "alloys",
    "build", "calculator", "dynamics", "exponential_switch", "export_energy", "graph_of", "joined", "judge", "labelled",
    "load_potential", "quintic_switch", "read_frames", "relaxed", "save_potential", "silut", "split_frames", "told",
    "train_potential", "visited", "with_dataset",
]  # fmt: skip
