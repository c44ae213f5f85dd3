"""Structures with their energies and forces: read from files, or made and labelled on demand.

A frame is an `ase.Atoms` whose calculator holds results: energy in eV, forces in eV/Å, stress in eV/Å³. Its
`info["dataset"]` tells data sets with other reference levels apart, `info["group"]` which frames belong together (one
trajectory, one system) and are kept on the same side of a split.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from limbeck.atoms.geometry import Graph, joined
from limbeck.atoms.model import Potential
from limbeck.errors import ConfigError, nearest

LATTICE = {"Cu": 3.61, "Al": 4.05, "Ni": 3.52, "Ag": 4.09, "Au": 4.08, "Pd": 3.89, "Pt": 3.92}
"""Cubic lattice constants (Å) of what EMT knows."""


def calculator(name: str) -> Any:
    """A calculator of true labels: `emt` (metals), `lj` (Lennard-Jones) or `xtb` (GFN2-xTB of tblite).

    Raises:
        ConfigError: another name.
        ModuleNotFoundError: tblite is not installed.

    Example:
        >>> type(calculator("emt")).__name__
        'EMT'
    """

    def xtb() -> Any:
        from tblite.ase import TBLite

        return TBLite(method="GFN2-xTB", verbosity=0)

    def emt() -> Any:
        from ase.calculators.emt import EMT

        return EMT()

    def lj() -> Any:
        from ase.calculators.lj import LennardJones

        return LennardJones(sigma=2.3, epsilon=0.4, rc=5.0, smooth=True)

    known: dict[str, Callable[[], Any]] = {"emt": emt, "lj": lj, "xtb": xtb}
    if name not in known:
        raise ConfigError(f'no calculator is called "{name}".{nearest(name, known)} Known: {", ".join(known)}')
    return known[name]()


def frozen(atoms: Any) -> Any:
    """A copy of a structure that keeps the results its calculator has now.

    Args:
        atoms: an `ase.Atoms` with a calculator.
    """
    from ase.calculators.singlepoint import SinglePointCalculator

    copy, stressed = atoms.copy(), atoms.pbc.all()
    copy.set_constraint()
    stress = {"stress": atoms.get_stress()} if stressed else {}
    copy.calc = SinglePointCalculator(
        copy, energy=atoms.get_potential_energy(), forces=atoms.get_forces(apply_constraint=False), **stress
    )
    return copy


def labelled(structures: Sequence[Any], teacher: Any) -> list[Any]:
    """Structures with what a calculator says about them.

    Args:
        structures: of `ase.Atoms`.
        teacher: a calculator of ASE, or the name of one, see `calculator`.
    """
    teacher, found = calculator(teacher) if isinstance(teacher, str) else teacher, []
    for one in structures:
        copy = one.copy()
        copy.calc = teacher
        found.append(frozen(copy))
    return found


def alloys(elements: Sequence[str], count: int, seed: int) -> list[Any]:
    """Crystals of eight atoms at random, without labels: fcc, each atom one of the elements, strained and shaken.

    The lattice constant is that of the mixture times 0.97 to 1.05, the strain of the cell normal of 0.01, the shaking
    normal of 0.03 to 0.15 Å.

    Args:
        elements: metals that EMT knows.
        count: how many.
        seed: of all choices.

    Raises:
        ConfigError: another element.

    Example:
        >>> [str(one.symbols) for one in alloys(("Cu", "Al"), 2, seed=0)]
        ['Al3Cu5', 'AlCuAl2Cu2Al2']
    """
    from ase.build import bulk

    if strange := set(elements) - set(LATTICE):
        raise ConfigError(f"EMT knows {', '.join(LATTICE)}, not {', '.join(sorted(strange))}")
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        symbols = rng.choice(list(elements), 8)
        constant = float(np.mean([LATTICE[one] for one in symbols])) * rng.uniform(0.97, 1.05)
        one = bulk("Cu", "fcc", a=constant).repeat(2)
        one.symbols[:] = symbols
        one.set_cell(one.cell @ (np.eye(3) + rng.normal(0, 0.01, (3, 3))), scale_atoms=True)
        one.positions += rng.normal(0, rng.uniform(0.03, 0.15), (8, 3))
        found.append(one)
    return found


def read_frames(source: Path | str, limit: int | None = None, elements: Sequence[str] = (), seed: int = 0) -> list[Any]:
    """Frames of a file, or `emt:CuAl`, made and labelled on the spot.

    Args:
        source: `emt:` and metals; a file that ASE reads (extxyz, traj, ...); or .npz of positions [f, n, 3] in Å,
            energy [f] in eV, forces [f, n, 3] in eV/Å, cell [f, 3, 3], types [n] and perhaps system [f], see
            data/deepmd-water.
        limit: so many, spread evenly over a file; 256 are made.
        elements: symbols of the types of an .npz file.
        seed: of frames that are made.

    Raises:
        ConfigError: no such file, not readable, frames without energies or forces.

    Example:
        >>> frames = read_frames("emt:CuAl", 4)
        >>> len(frames), round(float(frames[0].get_potential_energy()), 2)
        (4, 1.5)
    """
    name = Path(source).name
    if name.startswith("emt:"):
        from ase.symbols import string2symbols

        try:
            metals = string2symbols(name.removeprefix("emt:"))
        except (ValueError, KeyError) as error:
            raise ConfigError(f"{name}: write elements, as in emt:CuAl") from error
        return labelled(alloys(sorted(set(metals), key=metals.index), limit or 256, seed), "emt")
    path = Path(source)
    if not path.is_file():
        raise ConfigError(f"{path} does not exist: name a file of frames, or emt:CuAl")
    frames = _npz(path, elements) if path.suffix == ".npz" else _ase(path)
    if limit is not None and limit < len(frames):
        frames = [frames[int(k)] for k in np.linspace(0, len(frames) - 1, limit)]
    for k, one in enumerate(frames):
        known = {} if one.calc is None else one.calc.results
        if not {"energy", "forces"} <= set(known) or not np.isfinite(known["energy"]):
            raise ConfigError(f"{path}: frame {k} has no energy or no forces: give frames with both, in eV and eV/Å")
    return frames


def _ase(path: Path) -> list[Any]:
    from ase.io import read

    try:
        found = read(path, index=":")
    except Exception as error:  # the readers of ASE raise whatever went wrong
        raise ConfigError(f"{path} is no file of structures that ASE can read: {error}") from error
    return list(found)


def _npz(path: Path, elements: Sequence[str]) -> list[Any]:
    from ase import Atoms
    from ase.calculators.singlepoint import SinglePointCalculator

    try:
        with np.load(path, allow_pickle=False) as content:
            known = {name: np.asarray(content[name]) for name in content.files}
        count, atoms = known["positions"].shape[:2]
        symbols = [tuple(elements)[k] for k in known["types"]]
        energy, forces = known["energy"].astype(float).reshape(count), known["forces"].reshape(count, atoms, 3)
        cell = known["cell"].reshape(count, 3, 3) if "cell" in known else [None] * count
    except (KeyError, ValueError, OSError, EOFError, AttributeError, TypeError) as error:
        raise ConfigError(f"{path} must hold positions, energy, forces, types and perhaps cell: {error}") from error
    except IndexError as error:
        given = ", ".join(elements) or "none"
        highest = int(known["types"].max())
        raise ConfigError(f"{path} has types 0 to {highest}: name their elements in order, got {given}") from error
    frames = []
    for k in range(count):
        one = Atoms(symbols, known["positions"][k], cell=cell[k], pbc=cell[k] is not None)
        one.info["group"] = int(known["system"][k]) if "system" in known else k
        one.calc = SinglePointCalculator(one, energy=energy[k], forces=forces[k].astype(float))
        frames.append(one)
    return frames


def split_frames(frames: Sequence[Any], share: float, seed: int) -> tuple[list[Any], list[Any]]:
    """Frames to learn from and to judge by; what belongs together (`info["group"]`) stays together.

    Args:
        frames: all.
        share: to judge by, about.
        seed: which ones.

    Raises:
        ConfigError: nothing would be left on one side.

    Example:
        >>> learn, test = split_frames(alloys(("Cu",), 10, seed=0), 0.3, seed=0)
        >>> len(learn), len(test)
        (7, 3)
    """
    groups = [one.info.get("group", f"alone {k}") for k, one in enumerate(frames)]
    names = list(dict.fromkeys(groups))
    order = [names[k] for k in np.random.default_rng(seed).permutation(len(names))]
    held = set(order[: max(1, round(share * len(names)))])
    learn = [one for one, group in zip(frames, groups, strict=True) if group not in held]
    test = [one for one, group in zip(frames, groups, strict=True) if group in held]
    if not learn or not test:
        raise ConfigError(f"{len(frames)} frames of {len(names)} groups cannot be split: give more, or other test data")
    return learn, test


class Example(NamedTuple):
    """One or several frames as tensors; what is not known is NaN.

    Args:
        graph: structures.
        energy: in eV, [f].
        forces: in eV/Å, [n, 3].
        virial: in eV, [f, 3, 3].
    """

    graph: Graph
    energy: Tensor
    forces: Tensor
    virial: Tensor


def example_of(potential: Potential, atoms: Any) -> Example:
    """A frame as a potential sees it.

    Raises:
        ConfigError: see `Potential.graph`.
    """
    known = {} if atoms.calc is None else atoms.calc.results
    graph = potential.graph(
        atoms.positions, list(atoms.symbols), atoms.cell.array, atoms.pbc, int(atoms.info.get("dataset", 0))
    )
    virial = np.full((3, 3), np.nan)
    if "stress" in known:
        virial = -atoms.get_stress(voigt=False) * atoms.get_volume()
    energy, forces = known.get("energy", np.nan), np.asarray(known.get("forces", np.full((len(atoms), 3), np.nan)))
    return Example(
        graph,
        torch.tensor([float(energy)], dtype=torch.float64),
        torch.from_numpy(forces).double(),
        torch.from_numpy(virial)[None],
    )


def batch_of(examples: Sequence[Example]) -> Example:
    """Several frames as one batch."""
    graph = joined([one.graph for one in examples])
    parts = zip(*(one[1:] for one in examples), strict=True)
    return Example(graph, *(torch.cat(list(part)) for part in parts))
