"""A potential as a calculator of ASE: dynamics, relaxation and everything else that ASE does with one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from ase import units
from ase.calculators.calculator import Calculator, all_changes

from limbeck.atoms.frames import frozen
from limbeck.atoms.model import Potential, load_potential
from limbeck.distill import evaluating
from limbeck.errors import ConfigError, TrainingError


class Potentials(Calculator):
    """Energies (eV), forces (eV/Å) and stress (eV/Å³) of a potential; the last of structures that repeat.

    Args:
        potential: or a folder that `save_potential` wrote.
        dataset: whose reference level is meant, where the potential knows several; None: what `info["dataset"]` of the
            structure says, the first if nothing.

    Example:
        >>> from ase.build import bulk
        >>> from limbeck.atoms import Sizes, build
        >>> copper = bulk("Cu")
        >>> copper.calc = Potentials(build(Sizes(("Cu",), 1, 8, 6, 4, hidden=(8,)), seed=0))
        >>> bool(abs(copper.get_forces()).max() < 1e-5)
        True
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, potential: Potential | Path | str, dataset: int | None = None) -> None:
        super().__init__()
        self.potential = potential if isinstance(potential, Potential) else load_potential(potential)
        self.dataset = dataset

    def calculate(
        self, atoms: Any = None, properties: Sequence[str] = ("energy",), system_changes: Sequence[str] = all_changes
    ) -> None:
        """Fill `results`."""
        super().calculate(atoms, properties, system_changes)
        now = self.atoms
        dataset = int(now.info.get("dataset", 0)) if self.dataset is None else self.dataset
        graph = self.potential.graph(now.positions, list(now.symbols), now.cell.array, now.pbc, dataset)
        with evaluating(self.potential):
            said = self.potential(graph)
        energy = float(said.energy)
        self.results = {"energy": energy, "free_energy": energy, "forces": said.forces.double().numpy()}
        if now.pbc.all():
            stress = -said.virial[0].double().numpy() / now.get_volume()
            self.results["stress"] = stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]


def dynamics(
    start: Any, calculator: Any, *, temperature: float = 300.0, steps: int = 200, every: int = 10,
    timestep: float = 2.0, friction: float = 0.02, seed: int = 0, stop: Callable[[Any], bool] | None = None,
) -> list[Any]:  # fmt: skip
    """Frames of a trajectory, with what the calculator says about them: Langevin dynamics, or NVE without friction.

    Args:
        start: structure, not changed.
        calculator: of ASE; a `Potentials`, or the truth.
        temperature: in K; velocities begin with twice its energy where there is no friction, half of which turns into
            potential energy.
        steps, every: length, and steps between frames.
        timestep: in fs.
        friction: in 1/fs; 0 keeps the energy.
        seed: of velocities and kicks.
        stop: asked of each frame whether the trajectory is to end before it.

    Raises:
        TrainingError: the dynamics ran away.
    """
    from ase.constraints import FixCom
    from ase.md.langevin import Langevin
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
    from ase.md.verlet import VelocityVerlet

    if steps < 1 or every < 1 or timestep <= 0 or temperature < 0:
        raise ConfigError("dynamics need positive steps, every and timestep, and a temperature of at least 0 K")
    atoms, rng = start.copy(), np.random.default_rng(seed)
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=temperature * (1 if friction else 2), rng=rng)
    Stationary(atoms)
    atoms.set_constraint(FixCom())
    mover = (
        Langevin(
            atoms, timestep * units.fs, temperature_K=temperature, friction=friction / units.fs, fixcm=False, rng=rng
        )
        if friction
        else VelocityVerlet(atoms, timestep * units.fs)
    )
    found: list[Any] = []
    for _ in range(steps // every):
        try:
            mover.run(every)
        except ConfigError as error:
            raise TrainingError(f"the dynamics ran away at {temperature:g} K: {error}") from error
        if not np.isfinite(atoms.positions).all() or not np.isfinite(atoms.get_forces()).all():
            raise TrainingError(f"the dynamics ran away at {temperature:g} K: take a smaller timestep or temperature")
        if stop is not None and stop(atoms):
            break
        found.append(frozen(atoms))
        found[-1].set_velocities(atoms.get_velocities())
    return found


def relaxed(start: Any, calculator: Any, *, force: float = 0.02, steps: int = 200, cell: bool = False) -> Any:
    """The nearest structure at rest, with its energy and forces; the start is not changed.

    Args:
        start: structure.
        calculator: of ASE.
        force: largest force that is left, in eV/Å.
        steps: at most.
        cell: the cell moves too.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import FIRE

    atoms = start.copy()
    atoms.calc = calculator
    FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=force, steps=steps)
    return frozen(atoms)
