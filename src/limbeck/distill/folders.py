"""Folders of networks: how one is made, in JSON, and its weights in safetensors. Nothing in them is run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from limbeck.errors import ConfigError
from limbeck.files import write_bytes, write_json

Module = TypeVar("Module", bound=nn.Module)


def save_folder(network: nn.Module, about: Mapping[str, Any], folder: Path | str) -> Path:
    """Write a network to a folder: `network.safetensors`, then `network.json`.

    Args:
        network: whose tensors are kept.
        about: JSON values from which it can be made again; its key `room` says whose it is.
        folder: is made.
    """
    folder = Path(folder)
    tensors = {name: one.detach().clone().contiguous() for name, one in network.state_dict().items()}
    write_bytes(folder / "network.safetensors", save(tensors))
    return write_json(folder / "network.json", dict(about)).parent


def load_folder(
    folder: Path | str, room: str, make: Callable[[dict[str, Any]], Module]
) -> tuple[Module, dict[str, Any]]:
    """Read what `save_folder` wrote: the network, in evaluation mode, and what was said about it.

    Args:
        folder: that was written.
        room: whose it must be.
        make: gives the network from what was said about it.

    Raises:
        ConfigError: not such a folder.

    Example:
        >>> from tempfile import mkdtemp
        >>> folder = save_folder(nn.Linear(2, 3), {"room": "vision", "width": 3}, mkdtemp())
        >>> network, about = load_folder(folder, "vision", lambda about: nn.Linear(2, about["width"]))
        >>> network.out_features, about["room"]
        (3, 'vision')
    """
    folder = Path(folder)
    try:
        about = json.loads((folder / "network.json").read_text())
        if (found := about.get("room")) != room:
            raise ValueError(f"its room is {found}")
        network = make(about)
        network.load_state_dict(load_file(folder / "network.safetensors"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ConfigError(f"{folder} is not a folder of a network of {room} that limbeck wrote: {error!r}") from error
    return network.eval(), about


def room_of(folder: Path) -> str | None:
    """The room of a folder that `save_folder` wrote; None if it is not one."""
    try:
        return str(json.loads((folder / "network.json").read_text())["room"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
