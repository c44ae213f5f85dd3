"""Files that are whole or not there: written under a temporary name, forced to the disk, renamed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def write_text(path: Path | str, text: str) -> Path:
    """Write a text file so that a kill or a power cut leaves the old one or the new one; return its path."""
    return write_bytes(path, text.encode())


def write_bytes(path: Path | str, content: bytes) -> Path:
    """As `write_text`, for bytes."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)
    return path


def write_json(path: Path | str, content: Any) -> Path:
    """Write a value as JSON, as `write_text` does."""
    return write_text(path, json.dumps(content, indent=1))


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, so that a rename in it survives a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
