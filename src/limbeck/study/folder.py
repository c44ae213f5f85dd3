"""The folder of a study: it belongs to one study, and keeps what the work took."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from limbeck import __version__
from limbeck.errors import ConfigError
from limbeck.files import write_json


def claim(path: Path, settings: Mapping[str, Any]) -> None:
    """Note what a folder is for, or refuse to mix it with another study.

    Args:
        path: the note.
        settings: JSON values.

    Raises:
        ConfigError: the folder holds something else.
    """
    if not path.is_file():
        write_json(path, dict(settings))
        return
    theirs = json.loads(path.read_text())
    for key, value in settings.items():
        if (before := theirs.get(key)) != value:
            if isinstance(before, dict) and isinstance(value, dict):
                key = next(name for name in {**before, **value} if before.get(name) != value.get(name))
                before, value = before.get(key), value.get(key)
            raise ConfigError(
                f"{path.parent} holds a {path.stem} with {key} = {before}; now it is {value}. "
                "Choose another --out, or delete the folder."
            )


def longest(path: Path, seconds: Mapping[str, float]) -> dict[str, float]:
    """Wall time of each stage: a call that only reads finished work does not hide what the work took."""
    before = json.loads(path.read_text())["seconds"] if path.is_file() else {}
    return {name: max(round(value, 1), before.get(name, 0.0)) for name, value in seconds.items()}


def versions() -> dict[str, str]:
    """What a study ran with."""
    return {"limbeck": __version__, "python": sys.version.split()[0], "platform": platform.platform()}
