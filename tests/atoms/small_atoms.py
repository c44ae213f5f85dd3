"""Small structures and potentials of float64 for the tests of atoms."""

from typing import Any

import numpy as np
import torch

from limbeck.atoms.descriptor import Sizes
from limbeck.atoms.model import Potential, build

SMALL: dict[str, Any] = {"layers": 2, "nodes": 8, "edges": 6, "angles": 4, "axes": 3, "hidden": (10, 10)}
SMALL |= {"edge_norm": 8.0, "angle_norm": 3.0}
SHORT = {"cutoff": 4.0, "smooth": 3.4, "angle_cutoff": 3.0, "angle_smooth": 2.5}


def potential(elements: tuple[str, ...] = ("Cu", "Al"), seed: int = 0, **changes: Any) -> Potential:
    """A potential of float64 with steps that are no longer small, as after a training."""
    made = build(Sizes(elements, **{**SMALL, **SHORT, **changes}), seed).double()
    draw = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for name, one in made.named_parameters():
            if "steps" in name:
                one.copy_(0.6 * torch.randn(one.shape, generator=draw))
    return made.eval()


def cluster(atoms: int, seed: int, size: float = 3.5) -> tuple[np.ndarray, list[str]]:
    """Places at least 1.2 Å apart, and elements."""
    rng = np.random.default_rng(seed)
    places: list[np.ndarray] = []
    while len(places) < atoms:
        one = rng.uniform(0, size, 3)
        if all(np.linalg.norm(one - other) > 1.2 for other in places):
            places.append(one)
    return np.array(places), [("Cu", "Al")[k % 2] for k in rng.permutation(atoms)]
