"""Where the run tables of others are: never part of limbeck, read from a folder that the user names."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]


def run_table(name: str) -> Path | None:
    """Return the path of a table in the folder `LIMBECK_DATA`, or None if it is not there.

    Args:
        name: path inside the folder, which is `../shared/data` beside the checkout by default.
    """
    folder = Path(os.environ.get("LIMBECK_DATA", CHECKOUT.parent / "shared" / "data"))
    path = folder / name
    return path if path.exists() else None
