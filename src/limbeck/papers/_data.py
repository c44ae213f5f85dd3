"""Where data come from: scikit-learn's digits, and run tables of others, read from a folder that the user names."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from limbeck.errors import RunsError

CHECKOUT = Path(__file__).parents[3]


def run_table(name: str) -> Path | None:
    """Return the path of a table in the folder `LIMBECK_DATA`, or None if it is not there.

    Args:
        name: path inside the folder, which is `../shared/data` beside the checkout by default.
    """
    path = Path(os.environ.get("LIMBECK_DATA", CHECKOUT.parent / "shared" / "data")) / name
    return path if path.exists() else None


def needed_table(name: str) -> Path:
    """Return the path of a table without which there is no experiment.

    Raises:
        RunsError: it is not there.
    """
    path = run_table(name)
    if path is None:
        raise RunsError(f"this needs {name} in the folder that LIMBECK_DATA names.")
    return path


def shuffled_digits(rng: np.random.Generator) -> tuple[Any, Any]:
    """Return 1797 handwritten digits in random order: pixels [n, 64] from 0 to 1, and what they are, [n]."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = rng.permutation(len(labels))
    return images[order] / 16, labels[order]
