"""A distillation of seconds: everything is known of its teacher, one Gaussian in two dimensions."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.diffusion.adversary import Adversary, PixelCritic
from limbeck.diffusion.matching import Levels
from limbeck.diffusion.mixtures import Mixture
from limbeck.diffusion.networks import Sizes
from limbeck.diffusion.sources import Exact
from limbeck.diffusion.students import Student, one_network
from limbeck.diffusion.training import Distilled, Regime, distill

MEAN, STD = (1.0, -0.5), 0.3
LAW = Mixture([MEAN], STD)
SOURCE = Exact(LAW)
CLASSES = Exact(Mixture([[1.0, 0.0], [-1.0, 0.0]], STD), conditional=True)
"""Two classes, a Gaussian each."""


def network(seed: int = 0, classes: int = 0) -> nn.Module:
    """It knows a Gaussian of the same width around 0: that is what EDM's preconditioning says of a silent network."""
    return Sizes(16, 1).build([2], classes, STD, seed)


def small(out: Path | None = None, *, levels: Any = (2.5,), critic: bool = False, **changes: Any) -> Distilled:
    """Distil: 12 updates of a student, 36 of its fake score; with a critic if asked."""
    regime = {"updates": 12, "batch": 32, "turns": 3, "lr": 3e-3, "fake_lr": 5e-3, "average": 0.9}
    regime |= {name: changes.pop(name) for name in list(changes) if name in Regime.__dataclass_fields__}
    student = changes.pop("student", None) or one_network(network(), levels)
    if critic:
        changes["adversary"] = Adversary(PixelCritic([2], 0, 8), 0.1, r1=0.1, r1_every=4, levels=Levels(sigma_max=1.0))
    known = {"fake": deepcopy(network()), "seed": 3, "progress": False, "out": out}
    return distill(student, LAW, SOURCE, regime=Regime(**regime), **known | changes)


def moments(student: Student, count: int = 4000) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of its pictures, [2] each."""
    noise = torch.randn(count, student.steps, 2, generator=torch.Generator().manual_seed(99))
    with torch.no_grad():
        x = student(noise)
    return x.mean(0), x.std(0)
