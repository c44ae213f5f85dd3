"""Types of files by their bytes: a trained network that ships in a package, as a teacher that only answers.

The network `magika` sees the first and the last 1024 bytes of a file and gives probabilities of 214 types. Its files
are read from the pinned wheel (`make data`).
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from limbeck.distill.examples import Labelled
from limbeck.errors import ConfigError
from limbeck.vision.teachers import Onnx, answers
from limbeck.wheels import read_member

HALF, BLOCK, PADDING = 1024, 4096, 256
MODEL = "magika/models/standard_v3_3"


def file_bytes(content: bytes) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """What the network sees of a file: 2048 numbers from 0 to 255, and 256 where there is nothing.

    The first 1024 bytes after the white space at the start of the first 4096, the last 1024 before the white space at
    the end of the last 4096.

    Example:
        >>> file_bytes(b"  ab ")[[0, 1, 2, 3, -1]].tolist()
        [97, 98, 32, 256, 98]
    """
    seen = np.full(2 * HALF, PADDING, np.int32)
    first, last = content[:BLOCK].lstrip()[:HALF], content[-BLOCK:].rstrip()[-HALF:]
    for text, place in ((first, slice(0, len(first))), (last, slice(2 * HALF - len(last), 2 * HALF))):
        seen[place] = np.frombuffer(text, np.uint8)
    return seen


def magika() -> tuple[Onnx, tuple[str, ...]]:
    """The network, and the types that it knows."""
    names = json.loads(read_member("magika", f"{MODEL}/config.min.json"))["target_labels_space"]
    return Onnx(read_member("magika", f"{MODEL}/model.onnx")), tuple(names)


def read_files(folder: Path | str, at_least: int = 8, most: int = 4000) -> tuple[Labelled, Onnx, tuple[str, ...]]:
    """Files of a folder, each labelled with the type that the network takes it for; the network and all its types.

    Args:
        folder: is searched with all folders in it; links and empty files are left out.
        at_least: types with fewer files are left out.
        most: files that are read.

    Raises:
        ConfigError: fewer than two types remain.
    """
    found = sorted(_files(Path(folder)))[:most]
    if not found:
        raise ConfigError(f"{folder} holds no files that can be read")
    seen = torch.from_numpy(np.stack([file_bytes(path.read_bytes()) for path in found])).float()
    network, names = magika()
    types = answers(network, Labelled(seen, torch.full((len(seen),), -1), names)).argmax(-1)
    counts = torch.bincount(types, minlength=len(names))
    kept = (counts >= at_least).nonzero()[:, 0]
    if len(kept) < 2:
        raise ConfigError(f"{folder}: fewer than two types have {at_least} files each among {len(found)}")
    chosen = torch.isin(types, kept)
    classes = tuple(names[k] for k in kept.tolist())
    return Labelled(seen[chosen], torch.searchsorted(kept, types[chosen]), classes, "files"), network, names


def _files(folder: Path) -> Iterable[Path]:
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder of files")
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size:
            yield path
