"""Where a quality stops to follow the loss: a test set on which scale lowers the loss and helps nobody."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import FittingError
from limbeck.fitting import aicc


@dataclass(frozen=True)
class QualityBreak:
    """Where a quality stops to follow the loss.

    Args:
        loss: quality saturates below this loss; None where it follows the loss to the end.
        slope: exponent of the quality in the loss above it: quality falls as loss^-slope.
        aicc: of the line and of the line that ends in a plateau; the lower is better.
    """

    loss: float | None
    slope: float
    aicc: dict[str, float]


def quality_break(loss: ArrayLike, quality: ArrayLike, *, least: int = 3) -> QualityBreak:
    """Fit ln Q = u - v ln L, and the same line with a plateau below a break; choose by AICc.

    The break costs two parameters in AICc: its place is searched for.

    Args:
        loss, quality: positive, [n].
        least: points that a plateau, and a line, must hold.

    Raises:
        FittingError: fewer points than both need, or values that are not positive.

    Source: Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv 2109.07740); the test is
    reconstructed.
    """
    x, y = np.asarray(loss, float), np.asarray(quality, float)
    if len(x) < 2 * least + 1 or not ((x > 0).all() and (y > 0).all()):
        raise FittingError(f"a break needs {2 * least + 1} points with positive loss and quality; {len(x)} are given.")
    ordered, n = np.sort(np.log(x)), len(x)
    breaks = np.concatenate([[-np.inf], np.linspace(ordered[least - 1], ordered[-least - 1], 400)])
    bent = np.maximum(np.log(x), breaks[:, None])
    u, v = bent - bent.mean(1, keepdims=True), np.log(y) - np.log(y).mean()
    slope = (u @ v) / (u**2).sum(1)
    squares = ((v - slope[:, None] * u) ** 2).sum(1)
    best = 1 + int(np.argmin(squares[1:]))
    scores = {"line": aicc(squares[0], n, 2), "plateau": aicc(squares[best], n, 4)}
    broken = scores["plateau"] < scores["line"]
    return QualityBreak(float(np.exp(breaks[best])) if broken else None, float(-slope[best if broken else 0]), scores)
