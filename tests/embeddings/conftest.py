"""A family of embeddings that share factors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

WIDTHS = (3, 6, 10)


@pytest.fixture(scope="session")
def family() -> Callable[..., list[np.ndarray]]:
    """Return matrices of 3, 6 and 10 coordinates of the same rows, with a large mean."""

    def build(rows: int = 200, seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        z = rng.standard_normal((rows, 4))
        mixed = [z @ rng.standard_normal((4, d)) + 0.5 * rng.standard_normal((rows, d)) for d in WIDTHS]
        return [x + 5.0 for x in mixed]

    return build
