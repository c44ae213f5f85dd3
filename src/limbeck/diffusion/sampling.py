"""Pictures from a student or a teacher, with the network calls and the time that they took."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.diffusion.denoisers import guided
from limbeck.diffusion.enlarging import apart, enlarge, factor_of, pictures_for
from limbeck.diffusion.features import to_pixels
from limbeck.diffusion.folders import NAMES, Saved, load_model
from limbeck.diffusion.hybrid import believed_sheet, hybrid, traced
from limbeck.diffusion.pictures import contact_sheet, save_grid
from limbeck.diffusion.pretrained import from_diffusers
from limbeck.diffusion.samplers import euler, heun, karras
from limbeck.diffusion.schedules import reach
from limbeck.diffusion.students import Student, noise_for
from limbeck.distill.examples import Labelled, save_data
from limbeck.errors import ConfigError, nearest

BATCH = 256
SamplerName = Literal["heun", "euler", "ddim"]
SAMPLERS: dict[str, Callable[..., Tensor]] = {"heun": heun, "euler": euler, "ddim": euler}
"""DDIM without fresh noise is Euler's method."""


@dataclass(frozen=True)
class Made:
    """Generated pictures.

    Args:
        x: pictures or points, [n, ...].
        calls: of the network, for each.
        seconds: processor time of one, in batches of 256: the cheapest one. On an idle machine and one thread that is
            wall time too.
    """

    x: Tensor
    calls: int
    seconds: float


@torch.no_grad()
def make(
    model: nn.Module,
    shape: Sequence[int],
    count: int,
    cond: Tensor | None = None,
    *,
    steps: int = 18,
    sampler: SamplerName = "heun",
    guidance: float | None = None,
    classes: int = 0,
    seed: int = 0,
) -> Made:
    """Generate pictures with a student, or with a teacher and a sampler.

    Args:
        model: a generator that has `steps` of its own, or a denoiser.
        shape: of one picture.
        count: how many.
        cond: class of each.
        steps, sampler, guidance: of a denoiser, from its largest noise level (80 at most) to its smallest.
        classes: that the denoiser knows.
        seed: of the noise.

    Example:
        >>> from limbeck.diffusion import mixture
        >>> made = make(mixture("ring8"), [2], 5, steps=10)
        >>> made.calls, bool((made.x.norm(dim=1) < 1.3).all())
        (19, True)
    """
    own, random = getattr(model, "steps", None), torch.Generator().manual_seed(seed)
    draw: Callable[..., Tensor] = model
    if own is not None:
        noise, calls = noise_for(model, shape, count, seed), own
    else:
        noise, calls = torch.randn(count, *shape, generator=random), 2 * steps - 1 if sampler == "heun" else steps
        asked: Any = model if guidance is None else guided(model, guidance, classes)
        draw = partial(SAMPLERS[sampler], asked, sigmas=karras(steps, *reach(model)))
    told = [None] * len(noise.split(BATCH)) if cond is None else cond.split(BATCH)
    draw(noise[:1], cond=None if cond is None else cond[:1])  # the first call is slow
    parts, spent = [], []
    for part, labels in zip(noise.split(BATCH), told, strict=True):
        began = time.process_time()
        parts.append(draw(part, cond=labels))
        spent.append((time.process_time() - began) / len(part))
    return Made(torch.cat(parts), calls, min(spent))


def open_model(folder: Path, classes: int | None = None) -> Saved:
    """Read a model that limbeck or diffusers wrote; `classes` are those that a guided one of diffusers is told."""
    if not any((folder / name).is_file() for name in (NAMES[0], "config.json", "model_index.json")):
        raise ConfigError(f"{folder} holds no model: expected {NAMES[0]} or config.json in it (limbeck, diffusers)")
    return load_model(folder) if (folder / NAMES[0]).is_file() else from_diffusers(folder, classes)


def sheet(x: Tensor, columns: int = 12) -> Tensor:
    """Return pictures for one row of a sheet; points as one picture of their density on [-1.4, 1.4]^2."""
    if x.ndim == 4:
        return x[:columns]
    density = np.histogram2d(x[:, 1].numpy(), x[:, 0].numpy(), 56, ((-1.4, 1.4), (-1.4, 1.4)))[0][::-1]
    return torch.from_numpy(1 - 2 * np.sqrt(density / max(1, density.max()))).float()[None, None]


@dataclass(frozen=True)
class Sampled:
    """What a saved model made.

    Args:
        made: the pictures.
        labels: class of each; None where there are none.
        classes: their names.
        who: the model, in words.
        rows: what is shown in place of the pictures alone, by name.
    """

    made: Made
    labels: Tensor | None
    classes: Sequence[str]
    who: str
    rows: Mapping[str, Tensor] | None = None

    def summary(self) -> str:
        """One line."""
        x, calls = self.made.x, self.made.calls
        size = f"{len(x):,} of {list(x.shape[1:])}"
        return f"{size} by {self.who}: {calls} network calls, {1000 * self.made.seconds:.3g} ms of processor time each"

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without the pictures."""
        labels = None if self.labels is None else self.labels.tolist()
        known = {"count": len(self.made.x), "shape": list(self.made.x.shape[1:]), "labels": labels}
        return known | {"calls": self.made.calls, "seconds_each": self.made.seconds, "who": self.who}

    def save(self, out: Path | None = None, grid: Path | None = None) -> None:
        """Write them as arrays that `read_data` reads (.npz), or as one picture (PNG)."""
        x = self.made.x
        if grid is not None and self.rows is not None:
            save_grid(grid, contact_sheet({name: sheet(one) for name, one in self.rows.items()}))
        elif grid is not None:
            shown = sheet(x, len(x))
            save_grid(grid, shown, math.ceil(math.sqrt(len(shown))))
        if out is not None:
            labels = torch.zeros(len(x), dtype=torch.long) if self.labels is None else self.labels
            save_data(Labelled(to_pixels(x) if x.ndim == 4 else x, labels, tuple(self.classes) or ("all",)), out)


def sample_folder(
    folder: Path,
    count: int,
    *,
    steps: int | None = None,
    sampler: SamplerName | None = None,
    guidance: float | None = None,
    chosen: str | None = None,
    base: tuple[Path, int] | None = None,
    believed: Path | None = None,
    data: Path | None = None,
    seed: int = 0,
) -> Sampled:
    """Generate with a saved model: classes evenly, or one of them.

    Args:
        folder: of a student or a teacher.
        count: how many.
        steps, sampler, guidance: of a teacher, see `make`; a student has its own.
        chosen: name of the class wanted.
        base: folder of the teacher that takes so many first steps of a student.
        data: of a model of super-resolution: pictures that are made small, and large again by it; by default those of
            its own data that it did not learn from.
        believed: PNG of what the student, and the two together, believe the first picture to be at each step.
        seed: of the noise.

    Raises:
        ConfigError: no model there, nothing to make, a class or a choice that the model does not have.
    """
    if count < 1 or (steps is not None and steps < 1):
        raise ConfigError(f"ask for at least 1 picture in at least 1 step, got {count} in {steps or 0} steps")
    if guidance is not None and not 0 <= guidance < math.inf:
        raise ConfigError(f"ask for guidance from 0 on, got {guidance:g}")
    if base and base[1] < 1:
        raise ConfigError(f"a base takes at least 1 step, got {base[1]}")
    if abs(seed) >= 2**63:
        raise ConfigError(f"ask for a seed of 63 bits, got {seed}")
    saved = open_model(folder)
    if factor := factor_of(saved):
        others = {"sampler": sampler, "guidance": guidance, "class": chosen, "base": base, "dt": believed}
        if odd := [name for name, one in others.items() if one is not None]:
            raise ConfigError(f"{folder} makes pictures {factor} times larger: leave out {odd[0]}")
        pictures, own = pictures_for(saved, data)
        rows, seconds = enlarge(saved, apart(pictures, own, count)[2], steps or 1, seed)
        who = f"the model in {folder}, {factor} times larger than they were (of {pictures.name})"
        return Sampled(Made(rows["large"], steps or 1, seconds), None, (), who, rows)
    given = [name for name, one in (("steps", steps), ("sampler", sampler), ("guidance", guidance)) if one is not None]
    if saved.kind != "teacher" and given:
        raise ConfigError(f"{folder} is a {saved.kind}, whose steps and guidance are its own: leave out {given[0]}")
    if not saved.classes and (guidance is not None or chosen is not None):
        raise ConfigError(f"{folder} knows no classes: leave out {'class' if guidance is None else 'guidance'}")
    if chosen is not None and chosen not in saved.classes:
        near = nearest(chosen, saved.classes)
        raise ConfigError(f'{folder} has no class "{chosen}".{near} Known: {", ".join(saved.classes)}')
    labels = torch.arange(count) % len(saved.classes) if saved.classes else None
    if chosen is not None:
        labels = torch.full((count,), list(saved.classes).index(chosen))
    how: dict[str, Any] = {"steps": steps or 18, "sampler": sampler or "heun", "guidance": guidance}
    models: dict[str, Any] = {saved.kind: saved.model}
    if (base or believed) and not isinstance(saved.model, Student):
        raise ConfigError(f"{folder} is a {saved.kind}: a base takes steps of a student, and beliefs are shown of one")
    if base:
        other = open_model(base[0])
        if (other.kind, other.shape, other.classes) != ("teacher", saved.shape, saved.classes):
            raise ConfigError(f"{base[0]} must be a teacher with the pictures and classes of {folder}")
        models["hybrid"] = hybrid(models[saved.kind], other.model, range(base[1]))
    if believed:
        first = noise_for(saved.model, saved.shape, 1, seed), None if labels is None else labels[:1]
        save_grid(believed, believed_sheet({name: traced(one, *first) for name, one in models.items()}))
    made = make([*models.values()][-1], saved.shape, count, labels, classes=len(saved.classes), seed=seed, **how)
    helped = f", steps 1 to {base[1]} by {base[0]}" if base else ""
    return Sampled(made, labels, saved.classes, f"the {saved.kind} in {folder}{helped}")
