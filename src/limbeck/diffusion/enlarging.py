"""Saved models of super-resolution: how much they enlarge, pictures that they did not learn from, what they make."""

from pathlib import Path
from time import process_time

import torch
from torch import Tensor

from limbeck.diffusion.features import to_signal
from limbeck.diffusion.folders import Saved
from limbeck.diffusion.students import Student
from limbeck.diffusion.super_resolution import Conditioned, Conditioning, super_resolve
from limbeck.distill.examples import Labelled, read_data
from limbeck.errors import ConfigError


def factor_of(saved: Saved) -> int | None:
    """Return how many times larger a saved model makes pictures; None if it makes them of noise alone.

    Raises:
        ConfigError: it makes them larger, and its folder does not say how much.
    """
    if not any(isinstance(part, Conditioned) for part in saved.model.modules()):
        return None
    if not isinstance(saved.note, dict) or "factor" not in saved.note:
        raise ConfigError(
            "a model of super-resolution whose folder does not say by which factor: save it with "
            'note={"factor": 4, "data": "digits", "seed": 0}, or distil it again'
        )
    return int(saved.note["factor"])


def apart(pictures: Labelled, seed: int, count: int) -> tuple[Labelled, Tensor, Tensor]:
    """Return what a ladder learns from, four fifths; some of it, and as many that it never sees, from -1 to 1.

    Args:
        pictures: all.
        seed: of the ladder.
        count: of each, at most as many as are kept apart.
    """
    both = pictures.split(seed, 0.2)
    count = min(count, len(both[1]))
    orders = [torch.randperm(len(one), generator=torch.Generator().manual_seed(seed)) for one in both]
    learnt, other = (to_signal(one.inputs[order[:count]]) for one, order in zip(both, orders, strict=True))
    return both[0], learnt, other


def pictures_for(saved: Saved, data: Path | None = None) -> tuple[Labelled, int]:
    """Return data for a saved model of super-resolution, by default its own, and the seed that kept a fifth apart.

    Raises:
        ConfigError: pictures of another size, or none.
    """
    pictures = read_data(data or Path(saved.note["data"]), saved.shape[-1], flat=True)
    if list(pictures.inputs.shape[1:]) != saved.shape:
        found = list(pictures.inputs.shape[1:])
        raise ConfigError(f"the model makes pictures of {saved.shape}, {pictures.name} has {found}: give others")
    return pictures, int(saved.note.get("seed", 0))


def enlarge(saved: Saved, x: Tensor, steps: int = 1, seed: int = 0) -> tuple[dict[str, Tensor], float]:
    """Make pictures small and large again.

    Args:
        saved: a model of super-resolution.
        x: pictures, [n, C, H, W].
        steps: network calls.
        seed: of the noise.

    Returns:
        Rows: what the model is told (small), what it made (large), the truth; processor seconds of one picture.
    """
    factor, task = factor_of(saved) or 1, Conditioning()
    model = saved.model.experts[0] if isinstance(saved.model, Student) else saved.model
    began = process_time()
    large = super_resolve(model, task.down(x, factor), factor, steps=steps, seed=seed)
    return {"small": task.told(x, factor), "large": large, "truth": x}, (process_time() - began) / len(x)
