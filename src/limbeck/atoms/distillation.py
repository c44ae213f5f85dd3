"""Frames that a teacher visits and labels, from which a smaller potential learns before long dynamics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field

from limbeck.atoms.calculator import Potentials, dynamics
from limbeck.atoms.frames import labelled
from limbeck.atoms.model import Potential
from limbeck.errors import TrainingError
from limbeck.settings import Count, Number, Settings

LARGEST_FORCE = 20.0
"""A trajectory ends where a component of a force of the teacher (eV/Å) is above this: it knows nothing there."""


class Dynamics(Settings):
    """The group `dynamics`: trajectories of the teacher.

    Args:
        starts: how many, each from another frame.
        temperatures: in K, taken in turns.
        steps, every: length of a trajectory, and steps between the frames that are kept.
        timestep: in fs.
        friction: in 1/fs.
    """

    starts: Count = Field(default=16, gt=0)
    temperatures: tuple[Number, ...] = Field(default=(300.0, 600.0), min_length=1)
    steps: Count = Field(default=160, gt=0)
    every: Count = Field(default=10, gt=0)
    timestep: Number = Field(default=2.0, gt=0)
    friction: Number = Field(default=0.02, gt=0)

    @property
    def frames(self) -> int:
        """How many frames all trajectories together have, if none ends early."""
        return self.starts * (self.steps // self.every)


def visited(
    teacher: Potential, starts: Sequence[Any], how: Dynamics | None = None, *, seed: int = 0, dataset: int = 0
) -> list[Any]:
    """Frames of a teacher's own trajectories with its energies, forces and stress.

    Frames of one trajectory share `info["group"]`, so that a split never puts neighbours in time on both sides.

    Args:
        teacher: labels and moves.
        starts: frames that trajectories begin at, in turns.
        how: of the dynamics.
        seed: of velocities and kicks.
        dataset: whose reference level the teacher is asked for.

    Raises:
        TrainingError: every trajectory ran away.
    """
    how, asked = how or Dynamics(), Potentials(teacher, dataset)
    frames: list[Any] = []
    for k in range(how.starts):
        kelvin = how.temperatures[k % len(how.temperatures)]
        settings: dict[str, Any] = how.model_dump(include={"steps", "every", "timestep", "friction"})
        try:
            found = dynamics(
                starts[k % len(starts)], asked, temperature=kelvin, seed=seed + k, stop=_unknown, **settings
            )
        except TrainingError:
            found = []
        for one in found:
            one.info["group"] = f"trajectory {k}"
        frames += found
    if not frames:
        raise TrainingError("the teacher's dynamics ran away from every start: train it longer, or lower temperatures")
    return frames


def _unknown(atoms: Any) -> bool:
    return bool(abs(atoms.get_forces()).max() > LARGEST_FORCE)


def told(teacher: Potential, frames: Sequence[Any], dataset: int | None = None) -> list[Any]:
    """The same structures with the teacher's labels.

    Args:
        teacher: labels.
        frames: structures.
        dataset: whose reference level it is asked for; None: each structure's own, `info["dataset"]`.
    """
    return labelled(frames, Potentials(teacher, dataset))
