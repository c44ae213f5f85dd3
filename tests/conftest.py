"""Fixtures shared by all tests: reference vectors, data tables."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def parity_folder() -> Path:
    """Folder of the reference vectors: `LIMBECK_PARITY`, or this suite's own copy."""
    return Path(os.environ.get("LIMBECK_PARITY", HERE / "parity"))


@pytest.fixture(scope="session")
def reference_folder() -> Path:
    """Folder that the `parity` fixture reads."""
    return parity_folder()


@pytest.fixture(scope="session")
def parity() -> Callable[[str], dict[str, Any]]:
    """Return a loader of one file of reference vectors by its slug."""

    def load(slug: str) -> dict[str, Any]:
        return json.loads((parity_folder() / f"{slug}.json").read_text())

    return load


@pytest.fixture(scope="session")
def walk_sections() -> Callable[..., None]:
    """Return a walker that hands every section of a file to its check; an unknown section fails, none skips."""

    def walk(data: Mapping[str, Any], checks: Mapping[str, Callable[[Any], None]], ignore: Iterable[str] = ()) -> None:
        unknown = set(data) - set(checks) - set(ignore)
        assert not unknown, f"sections without a check: {sorted(unknown)}"
        present = [name for name in checks if name in data]
        assert present, f"the file has none of the sections {sorted(checks)}"
        for name in present:
            checks[name](data[name])

    return walk


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of the external run tables (`LIMBECK_DATA`, default `../shared/data` beside the checkout)."""
    folder = Path(os.environ.get("LIMBECK_DATA", HERE.parent.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"run tables not found in {folder}: set LIMBECK_DATA"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
