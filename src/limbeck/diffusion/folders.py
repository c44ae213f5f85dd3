"""Folders of diffusion models: what a model is in JSON, its weights in safetensors. Nothing in them is run."""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from limbeck.diffusion.continuous import TwoTimes
from limbeck.diffusion.denoisers import Preconditioned, Translated
from limbeck.diffusion.multi_student import Bundle
from limbeck.diffusion.networks import Diffusers, ResidualPerceptron, Sizes
from limbeck.diffusion.schedules import DDPM, EDM, Cosine, RectifiedFlow, TrigFlow
from limbeck.diffusion.students import Student
from limbeck.diffusion.super_resolution import Conditioned
from limbeck.errors import ConfigError
from limbeck.files import write_bytes, write_json

NAMES = "model.json", "model.safetensors"
PARTS = {
    part.__name__: part
    for part in (
        *(Student, Bundle, Preconditioned, Translated, TwoTimes, Conditioned, ResidualPerceptron, Diffusers, Sizes),
        *(DDPM, EDM, Cosine, RectifiedFlow, TrigFlow),
    )
}
"""What a model may be made of. Each keeps the arguments that made it under their names."""
MODELS = ("UNet2DModel", "DiTTransformer2DModel")
"""Networks of diffusers that a model may be made of."""


@dataclass(frozen=True)
class Saved:
    """A model that was read from a folder.

    Args:
        model: frozen, in evaluation mode.
        kind: a teacher is a `Denoiser`; a student and a bundle make pictures of noise, see `generate`.
        shape: of one picture or point.
        classes: names of those that it is told.
        data_std: standard deviation of the data's values; None if the model does not know it.
        params: how many it has.
        note: what was written with it.
    """

    model: nn.Module
    kind: Literal["teacher", "student", "bundle"]
    shape: list[int]
    classes: tuple[str, ...]
    data_std: float | None
    params: int
    note: Any = None

    @classmethod
    def of(cls, model: nn.Module, shape: Sequence[int], classes: Sequence[str], note: Any = None) -> "Saved":
        """Return a model with what it says about itself."""
        model = model.eval().requires_grad_(False)
        data_std = next((part.data_std for part in model.modules() if isinstance(part, Preconditioned)), None)
        kind: Any = {Student: "student", Bundle: "bundle"}.get(type(model), "teacher")
        params = sum(one.numel() for one in model.parameters())
        return cls(model, kind, list(shape), tuple(classes), data_std, params, note)


def save_model(
    model: nn.Module, folder: Path | str, *, shape: Sequence[int], classes: Sequence[str], note: Any = None
) -> Path:
    """Write a model to a folder: `model.safetensors`, then `model.json`, which knows the checksum of the first.

    Args:
        model: `Preconditioned` or `Translated`, a `Student`, a `Bundle`.
        folder: is made.
        shape: of one picture or point.
        classes: names of those that it is told.
        note: anything that JSON can say, for whoever reads the folder.

    Raises:
        ConfigError: a part that a folder cannot describe: a function, a network of one's own, one with adapters.

    Example:
        >>> from tempfile import mkdtemp
        >>> teacher = Sizes(width=8, blocks=1).build([2], classes=3, data_std=0.7)
        >>> saved = load_model(save_model(teacher, mkdtemp(), shape=[2], classes=["a", "b", "c"]))
        >>> saved.kind, saved.shape, saved.data_std
        ('teacher', [2], 0.7)
    """
    folder, described = Path(folder), _described(model)
    tensors = {name: one.detach().clone().contiguous() for name, one in model.state_dict().items()}
    _fill(_made(described), tensors, "what is saved")
    content = save(tensors)
    write_bytes(folder / NAMES[1], content)
    about = {"model": described, "shape": list(shape), "classes": list(classes), "note": note}
    return write_json(folder / NAMES[0], about | {"sha256": hashlib.sha256(content).hexdigest()}).parent


def load_model(folder: Path | str) -> Saved:
    """Read what `save_model` wrote.

    Raises:
        ConfigError: not such a folder; weights that are not those of the network, which are named.
    """
    folder = Path(folder)
    try:
        about, content = json.loads((folder / NAMES[0]).read_text()), (folder / NAMES[1]).read_bytes()
        model, tensors = _made(about["model"]), load(content)
        saved = Saved.of(model, about["shape"], about["classes"], about["note"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder} is not a folder of a diffusion model that limbeck wrote ({error!r})") from error
    _fill(model, tensors, folder)
    if hashlib.sha256(content).hexdigest() != about["sha256"]:
        raise ConfigError(f"{folder}: {NAMES[1]} is not the file that {NAMES[0]} was written with: copy both again")
    return saved


def _described(value: Any) -> Any:
    """What JSON says of a part: its name and the arguments that made it."""
    name = type(value).__name__
    if PARTS.get(name) is type(value):
        made_with = inspect.signature(type(value)).parameters
        return {"is": name} | {key: _described(getattr(value, key)) for key in made_with}
    if name in MODELS:
        return {"is": name} | {key: _described(one) for key, one in value.config.items() if key[0] != "_"}
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, list | tuple | nn.ModuleList):
        return [_described(one) for one in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    known = ", ".join([*PARTS, *MODELS])
    raise ConfigError(f"a folder cannot describe {name}: models that are saved are made of {known}")


def _made(value: Any) -> Any:
    """The part that `_described` described; its random first weights leave no trace."""
    if isinstance(value, list):
        return tuple(map(_made, value))
    if not isinstance(value, dict):
        return value
    given = {key: _made(one) for key, one in value.items() if key != "is"}
    with torch.random.fork_rng():
        if value["is"] not in MODELS:
            return PARTS[value["is"]](**given)
        import diffusers

        return getattr(diffusers, value["is"])(**given)


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], where: Path | str) -> None:
    """Load weights, every one and no other.

    Raises:
        ConfigError: with the first names.
    """
    own = module.state_dict()
    wrong = {
        "missing": own.keys() - tensors.keys(),
        "unknown": tensors.keys() - own.keys(),
        "of another shape": {key for key in own.keys() & tensors.keys() if own[key].shape != tensors[key].shape},
    }
    if any(wrong.values()):
        said = [f"{len(keys)} {what} ({', '.join(sorted(keys)[:3])})" for what, keys in wrong.items() if keys]
        raise ConfigError(f"the weights of {where} are not those of the network that it describes: {'; '.join(said)}")
    module.load_state_dict(tensors)
