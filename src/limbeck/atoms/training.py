"""Training a potential on frames of one or several data sets, and judging it on frames it has not seen."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limbeck.atoms.cost import flops_of
from limbeck.atoms.descriptor import summed
from limbeck.atoms.frames import Example, batch_of, example_of
from limbeck.atoms.model import Potential, Predicted
from limbeck.distill import Trainer, evaluating, exponential
from limbeck.distill.processes import processes
from limbeck.distill.regime import Regime
from limbeck.errors import ConfigError
from limbeck.runs import RunRecorder

TRAINING = Regime(steps=2000, batch=4, learning_rate=5e-3, optimizer="adamw", weight_decay=1e-3, clip=5.0)
"""What short trainings need; the published rate, 1e-3, is for millions of steps."""


@dataclass(frozen=True)
class Prefactors:
    """Weights of the parts of the loss, each from its first value to its last as the learning rate falls.

    `p(q) = last + (first - last) q` at `q` = learning rate over its first value.

    Args:
        energy, forces, virial: first and last value.
    """

    energy: tuple[float, float] = (0.2, 20.0)
    forces: tuple[float, float] = (100.0, 60.0)
    virial: tuple[float, float] = (0.02, 1.0)

    def at(self, q: float) -> dict[str, float]:
        """The weights at a relative learning rate.

        Example:
            >>> Prefactors().at(0.0)
            {'energy': 20.0, 'forces': 60.0, 'virial': 1.0}
        """
        return {name: last + (first - last) * q for name, (first, last) in asdict(self).items()}


def misfits(said: Predicted, example: Example) -> dict[str, Tensor]:
    """Mean squares of what is wrong, each [] : `(dE / N)²` of frames, `dF²` of components, `dΞ² / N`.

    What an example does not know (NaN) counts as right. deepmd-kit divides the squared energy by N once only, so its
    energy part is N times larger.

    Args:
        said: by a potential.
        example: the truth.
    """
    atoms = torch.bincount(example.graph.frame).double()
    parts = {
        "energy": (said.energy - example.energy) / atoms,
        "forces": said.forces - example.forces,
        "virial": (said.virial - example.virial) / atoms[:, None, None] ** 0.5,
    }
    return {name: _known(one).square().sum() / max(1, int((~one.isnan()).sum())) for name, one in parts.items()}


def _known(values: Tensor) -> Tensor:
    return values.masked_fill(values.isnan(), 0.0)


@dataclass(frozen=True)
class Judged:
    """How far a potential is from the truth on held-out frames, beside what knowing nothing costs.

    Args:
        frames: how many.
        energy_mae, energy_rmse: in meV/atom.
        force_mae, force_rmse: of components, in meV/Å.
        virial_mae: in meV/atom; NaN without labels.
        composition_rmse: energy error of elements alone, in meV/atom.
        force_mean: mean size of a component, in meV/Å: the error of zero forces.
    """

    frames: int
    energy_mae: float
    energy_rmse: float
    force_mae: float
    force_rmse: float
    virial_mae: float
    composition_rmse: float
    force_mean: float

    def summary(self) -> str:
        """Two lines for people."""
        virial = "" if math.isnan(self.virial_mae) else f", virial {self.virial_mae:.3g} meV/atom"
        return (
            f"forces {self.force_mae:.3g} meV/Å ({self.force_mae / self.force_mean:.0%} of their mean size){virial}\n"
            f"energies {self.energy_mae:.3g} meV/atom, RMSE {self.energy_rmse:.3g} (elements alone: "
            f"{self.composition_rmse:.3g}), on {self.frames} held-out frames"
        )


def judge(potential: Potential, examples: Sequence[Example], batch: int = 32) -> Judged:
    """Compare a potential with labels.

    Args:
        potential: evaluated in evaluation mode.
        examples: frames with labels.
        batch: frames at once.
    """
    columns: dict[str, list[Tensor]] = {"energy": [], "forces": [], "virial": [], "flat": [], "size": []}
    with evaluating(potential):
        for begin in range(0, len(examples), batch):
            true = batch_of(examples[begin : begin + batch])
            said, frame, atoms = potential(true.graph), true.graph.frame, torch.bincount(true.graph.frame)
            level = summed(potential.bias[true.graph.dataset[frame], true.graph.species], frame, len(atoms))
            columns["energy"].append((said.energy - true.energy) / atoms)
            columns["flat"].append((level - true.energy) / atoms)
            columns["forces"].append((said.forces - true.forces).flatten())
            columns["size"].append(true.forces.flatten())
            columns["virial"].append(((said.virial - true.virial) / atoms[:, None, None]).flatten())
    wrong = {name: 1e3 * torch.cat(parts).double() for name, parts in columns.items()}

    def mae(name: str) -> float:
        return float(wrong[name].abs().nanmean())

    def rmse(name: str) -> float:
        return float(wrong[name].square().nanmean().sqrt())

    return Judged(
        len(examples), mae("energy"), rmse("energy"), mae("forces"), rmse("forces"), mae("virial"), rmse("flat"),
        mae("size"),
    )  # fmt: skip


@dataclass(frozen=True)
class Trained:
    """A potential that was trained.

    Args:
        potential: in evaluation mode.
        judged: on held-out frames; None without any.
        steps, seconds: of the training.
        evaluations: errors by step.
    """

    potential: Potential = field(repr=False)
    judged: Judged | None
    steps: int
    seconds: float
    evaluations: Mapping[int, Mapping[str, float]] = field(repr=False)

    def summary(self) -> str:
        """What it is worth, in plain text."""
        sizes = self.potential.sizes
        kind = f"{sizes.layers} layer{'s' * (sizes.layers != 1)}, {'with' if sizes.angles else 'without'} angles"
        lines = [f"{kind}, {self.potential.params:,} parameters: {self.steps:,} steps in {self.seconds:.1f} s"]
        return "\n  ".join(lines + (self.judged.summary().splitlines() if self.judged else ["not judged"]))

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the potential by its sizes."""
        judged = asdict(self.judged) if self.judged else None
        about = {"sizes": asdict(self.potential.sizes), "params": self.potential.params, "judged": judged}
        return about | {"steps": self.steps, "seconds": self.seconds, "evaluations": self.evaluations}


def train_potential(
    potential: Potential,
    frames: Sequence[Any],
    test: Sequence[Any] = (),
    *,
    regime: Regime = TRAINING,
    end: float = 0.02,
    prefactors: Prefactors | None = None,
    weights: Sequence[float] = (),
    seed: int = 0,
    out: Path | str | None = None,
    progress: bool = True,
    columns: Mapping[str, Any] | None = None,
) -> Trained:
    """Train a potential on frames: a data set is drawn by its weight, then a batch of its frames.

    The energies of elements are set by least squares first. The learning rate falls exponentially.

    Args:
        potential: trained in place.
        frames: to learn from, see `limbeck.atoms.frames`; `info["dataset"]` tells their data sets apart.
        test: to judge by.
        regime: steps, batch, optimiser; its schedule is not used.
        end: the last learning rate over the first.
        prefactors: of the loss.
        weights: of the data sets; by their numbers of frames if left out.
        seed: of the order of frames.
        out: folder of records and checkpoints; the same call goes on after a stop.
        progress: one line on a terminal.
        columns: more columns of the run records. Their `loss` is the mean error of held-out forces in meV/Å.

    Raises:
        ConfigError: frames that the potential cannot read, weights that do not fit.
        TrainingError: a loss that is not finite; `out` holds another training.

    Example:
        >>> from limbeck.atoms import Sizes, build, read_frames
        >>> frames, sizes = read_frames("emt:CuAl", 3), Sizes(("Cu", "Al"), 1, 8, 6, 0, hidden=(8,))
        >>> brief = Regime(steps=2, batch=2, learning_rate=1e-3)
        >>> train_potential(build(sizes, seed=0), frames[:2], frames[2:], regime=brief, progress=False).judged.frames
        1

    Source: D. Zhang et al., A Graph Neural Network for the Era of Large Atomistic Models (2025), arXiv 2506.01686.
    """
    prefactors = prefactors or Prefactors()
    if processes().num_processes > 1:
        raise ConfigError("potentials are trained in one process: start without torchrun")
    examples, held = [example_of(potential, one) for one in frames], [example_of(potential, one) for one in test]
    potential.set_bias([one.graph for one in examples], [float(one.energy) for one in examples])
    batch = _Batches(examples, regime.batch, weights, seed)
    player = regime.player(potential)
    fall = partial(exponential, steps=regime.steps, floor=end)
    player.schedule = fall

    def loss(_: str, example: Example, step: int) -> dict[str, Tensor]:
        parts, weight = misfits(potential(example.graph), example), prefactors.at(fall(step))
        return parts | {"loss": torch.stack([weight[name] * one for name, one in parts.items()]).sum()}

    def measure(_: int) -> dict[str, float]:
        found = {name: value for name, value in asdict(judge(potential, held)).items() if math.isfinite(value)}
        return {"loss": found["force_mae"]} | found

    known: dict[str, Any] = {"params": potential.params, "seed": seed, "family": "potential"}
    where, flops = Path(out) if out is not None else None, 0
    if where is not None:
        known |= {"run": where.name, "layers": potential.sizes.layers, **(columns or {})}
        flops = flops_of(lambda: loss("", batch(0), 0)["loss"].backward())
        potential.zero_grad()
    trainer = Trainer(
        [player], loss, batch, steps=regime.steps,
        out=None if where is None else where / "checkpoints",
        config={
            "sizes": asdict(potential.sizes), "regime": asdict(regime), "end": end, "seed": seed,
            "prefactors": asdict(prefactors), "data": _digest(examples), "weights": list(weights),
        },
        recorder=None if where is None else partial(RunRecorder, where / "runs.jsonl", **known),
        columns=lambda step: {
            "samples": step * batch.size, "flops": step * flops,
        },
        evaluate=measure if held else None, evaluate_at=regime.evaluate_at if held else (),
        checkpoint_every=max(100, regime.steps // 10) if where is not None else None,
        progress=progress, label=f"potential of {potential.params:,} parameters",
    )  # fmt: skip
    result = trainer.run()
    potential.eval()
    judged = judge(potential, held) if held else None
    return Trained(potential, judged, result.steps, result.seconds, result.evaluations)


class _Batches:
    """A batch as a function of the step: a data set by its weight, then some of its frames."""

    def __init__(self, examples: Sequence[Example], size: int, weights: Sequence[float], seed: int) -> None:
        which = np.array([int(one.graph.dataset) for one in examples])
        self.examples, self.seed, self.size = examples, seed, min(size, len(examples))
        self.sets = [np.flatnonzero(which == m) for m in range(which.max() + 1)]
        chances = np.array(weights or [len(one) for one in self.sets], float)
        if len(chances) != len(self.sets) or (chances < 0).any() or not chances.sum() or not min(map(len, self.sets)):
            raise ConfigError(f"{len(self.sets)} data sets need as many weights ≥ 0, got {list(weights)}")
        self.chances = chances / chances.sum()

    def __call__(self, step: int) -> Example:
        rng = np.random.default_rng([self.seed, step])
        own = self.sets[rng.choice(len(self.sets), p=self.chances)]
        return batch_of([self.examples[k] for k in rng.choice(own, min(self.size, len(own)), replace=False)])


def _digest(examples: Sequence[Example]) -> str:
    found = hashlib.sha256()
    for one in examples:
        for part in (one.graph.positions, one.graph.species, one.graph.cell, one.energy, one.forces, one.virial):
            found.update(part.numpy().tobytes())
    return found.hexdigest()[:16]


def with_dataset(frames: Sequence[Any], dataset: int) -> list[Any]:
    """The same frames as a data set of their own.

    Args:
        frames: of `ase.Atoms`; not changed.
        dataset: number.
    """
    found = []
    for one in frames:
        copy = one.copy()
        copy.calc, copy.info["dataset"] = one.calc, dataset
        found.append(copy)
    return found
