"""Results as plain numbers, lists and words: what JSON can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

import numpy as np


class Plain:
    """A dataclass that can be written as JSON."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers, lists and words."""
        return cast(dict[str, Any], plain(asdict(cast(Any, self))))


def plain(value: Any) -> Any:
    """Return arrays, tuples and NumPy numbers as lists and numbers, also inside of dictionaries; keys become text.

    Example:
        >>> plain({0.8: np.array([1.0, 2.0]), "outside": ("x",)})
        {'0.8': [1.0, 2.0], 'outside': ['x']}
    """
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else f"{key:g}": plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
