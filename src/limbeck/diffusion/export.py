"""Students for use without limbeck: a pipeline of diffusers, an ONNX file."""

import logging
import warnings
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from limbeck.diffusion.denoisers import Preconditioned
from limbeck.diffusion.networks import Diffusers
from limbeck.diffusion.students import Student, noise_for
from limbeck.errors import ConfigError
from limbeck.files import write_text

GRID = 1_000_001
"""Noise levels that the exported scheduler can be asked for, evenly from the student's first to its boundary."""


def export_diffusers(student: nn.Module, folder: Path | str) -> list[int]:
    """Write a `ConsistencyModelPipeline` that diffusers loads and runs without limbeck.

    Its `CMStochasticIterativeScheduler` preconditions as `Preconditioned` does, with the boundary as `sigma_min`. One
    step is `pipeline()`; several are `pipeline(timesteps=...)` with what is returned here and written in `README.md`.
    Its random classes (`class_labels=None`) include "no class", which is the last.

    Args:
        student: one U-Net (`UNet2DModel`) with the clock "log" for all steps, on square pictures; fresh noise between
            its steps. Noise of a boundary above 0 is left out there: sqrt(sigma^2 - boundary^2) is drawn for sigma.
        folder: is made.

    Returns:
        The timesteps, falling.

    Raises:
        ConfigError: another student; `export_onnx` writes those.

    Example:
        >>> from tempfile import mkdtemp
        >>> from limbeck.diffusion import Sizes, one_network
        >>> export_diffusers(one_network(Sizes(8, 1, levels=1).build([1, 4, 4]), [2.5, 0.5]), mkdtemp())
        [800000, 0]

    Source: Song et al., Consistency Models (2023), arXiv 2303.01469.
    """
    from diffusers import CMStochasticIterativeScheduler, ConsistencyModelPipeline, UNet2DModel

    match student, list(getattr(student, "experts", ())):
        case (
            Student(levels=[levels]),
            [Preconditioned(clock="log", network=Diffusers(time_scale=1000.0, model=UNet2DModel() as model)) as expert],
        ) if student.renoise or len(levels) == 1:
            size = model.config.sample_size
            sides = set(size if isinstance(size, list | tuple) else [size])
        case _:
            sides = set()
    if len(sides) != 1:
        raise ConfigError(
            "a pipeline of diffusers holds one U-Net with the clock log for all steps, on square pictures, with fresh "
            f"noise between steps; this is another {type(student).__name__}: use export_onnx (ONNX)"
        )
    plain = deepcopy(model).eval()
    plain.register_to_config(sample_size=sides.pop())
    told = {"sigma_min": expert.boundary, "sigma_max": levels[0], "sigma_data": expert.data_std}
    scheduler = CMStochasticIterativeScheduler(GRID, **told, rho=1.0, clip_denoised=False)
    span = (GRID - 1) / (levels[0] - expert.boundary)
    timesteps = [round((levels[0] - level) * span) for level in reversed(levels)]
    ConsistencyModelPipeline(plain, scheduler).save_pretrained(folder)
    write_text(Path(folder) / "README.md", README.format(timesteps=timesteps, levels=levels))
    return timesteps


README = """A generator of few steps, for diffusers:

    from diffusers import ConsistencyModelPipeline

    pipeline = ConsistencyModelPipeline.from_pretrained("this folder")
    pictures = pipeline(batch_size=4, num_inference_steps=None, timesteps={timesteps}).images

The timesteps stand for the noise levels {levels}, from the last to the first.
"""


def export_onnx(student: nn.Module, file: Path | str, shape: Sequence[int]) -> Path:
    """Write a student as one ONNX graph: noise [B, steps, ...] -> pictures [B, ...].

    A student of classes has a second input, cond, int64 [B].

    Args:
        student: `Student`. The router of a `Bundle` depends on the data: export `bundle.students` one by one.
        file: to write, with the weights inside.
        shape: of one picture or point.

    Raises:
        ConfigError: not a student.

    Example:
        >>> from tempfile import mkdtemp
        >>> from limbeck.diffusion import Sizes, one_network
        >>> student = one_network(Sizes(8, 1).build([2]), [2.5])
        >>> export_onnx(student, Path(mkdtemp()) / "student.onnx", [2]).name
        'student.onnx'
    """
    if not isinstance(student, Student):
        raise ConfigError(
            f"an ONNX graph holds one Student, got {type(student).__name__}: export its students one by one"
        )
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    told = {"noise": noise_for(student, shape, 2, seed=0)}
    if any(getattr(part, "classes", 0) for part in student.modules()):
        told["cond"] = torch.zeros(2, dtype=torch.int64)
    try:
        logging.disable()  # the exporter tells what it did not find and did not fold
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):
            torch.onnx.export(
                deepcopy(student).eval(), (), partial, kwargs=told, input_names=list(told), output_names=["pictures"],
                dynamic_shapes={name: {0: torch.export.Dim("batch")} for name in told},
                dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
    return partial.replace(file)
