"""Whether a family scales badly, which a few labels tell, and whether reverse distillation helps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.model_selection import KFold, cross_val_predict

from limbeck.embeddings.distiller import ReverseDistiller
from limbeck.embeddings.probe import BlockRidge
from limbeck.errors import LimbeckError
from limbeck.fitting.model import Array
from limbeck.fitting.paired import Paired, paired
from limbeck.fitting.plain import Plain


@dataclass(frozen=True)
class Assessment(Plain):
    """Linear probes on every size of a family, raw and reverse distilled.

    Args:
        widths: of the models.
        raw, distilled: share of right answers, or R², on examples left out, by width.
        fall: error of the largest raw embedding minus that of the best smaller one, over examples.
        gain: error of the largest raw embedding minus that of the distilled vector of its width.
        advice: what to use; an effect counts if it is more than two standard errors from zero.
    """

    widths: list[int]
    raw: list[float]
    distilled: list[float]
    fall: Paired
    gain: Paired
    advice: str

    def summary(self) -> str:
        """Return the scores in a line a width, and the advice."""
        rows = zip(self.widths, self.raw, self.distilled, strict=True)
        lines = [f"{width:7}{raw:9.3f}{distilled:12.3f}" for width, raw, distilled in rows]
        return "\n".join(["  width      raw   distilled", *lines, "", self.advice])


def assess(distiller: ReverseDistiller, family: Sequence[Any], labels: ArrayLike, *, seed: int = 0) -> Assessment:
    """Compare the raw embeddings of a family with the distilled vectors, by probes on five folds.

    Args:
        distiller: fitted without labels, to as many rows as there are.
        family: embeddings of the labelled examples, [n, d_l] a model.
        labels: numbers with a fraction, to be predicted, or classes (whole numbers or words), [n].
        seed: of the folds.

    Raises:
        LimbeckError: other rows than labels, fewer than ten, labels that are all the same.
    """
    y, vectors, widths = np.asarray(labels), distiller.transform(family), distiller.widths_
    classes, index = np.unique(y, return_inverse=True)
    if y.shape != vectors.shape[:1] or len(y) < 10 or len(classes) < 2 or len(family) != len(widths):
        given = f"{y.shape} labels with {len(classes)} values for {len(vectors)} rows of {len(family)} models"
        raise LimbeckError(f"{given}: expected a label a row, ten or more, not all the same, and {len(widths)} models.")
    numbers = y.dtype.kind == "f"
    target = (y - y.mean()) / y.std() if numbers else np.eye(len(classes))[index]

    def errors(x: Any, *blocks: int) -> Any:
        said = cross_val_predict(BlockRidge(blocks), x, target, cv=KFold(5, shuffle=True, random_state=seed))
        return (said - target) ** 2 if numbers else said.argmax(1) != index

    raw = np.array([errors(x, width) for x, width in zip(family, widths, strict=True)], float)
    new = np.array([errors(vectors[:, :width], *widths[: j + 1]) for j, width in enumerate(widths)], float)
    (raw_score, new_score), best = (1 - np.array([raw, new]).mean(2)), widths[raw.mean(1).argmin()]
    fall, gain = paired(raw[-1] - raw[:-1][raw[:-1].mean(1).argmin()]), paired(raw[-1] - new[-1])
    worse = "The raw embeddings get worse with size"
    if not fall.mean > 2 * fall.error:
        advice = f"The raw embeddings do not get worse with size: use raw, of width {best}."
    elif gain.mean > 2 * gain.error and new_score.max() > raw_score.max():
        advice = f"{worse}: use reverse distillation, cut at width {widths[new_score.argmax()]}."
    else:
        advice = f"{worse}, and reverse distillation does not mend it: use raw, of width {best}."
    return Assessment(widths, raw_score.tolist(), new_score.tolist(), fall, gain, advice)


def concatenated_pca(train: Sequence[Any], family: Sequence[Any]) -> Array:
    """Return the naive vectors `r_l = PCA_{d_l}([r_s; x_l])` of a family, fitted to another's rows; none holds another.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((50, 4))
        >>> concatenated_pca([x[:, :2], x], [x[:9, :2], x[:9]]).shape
        (9, 4)
    """
    r, found = train[0], family[0]
    for x, larger in zip(train[1:], family[1:], strict=True):
        both = np.hstack([r, x])
        pca = PCA(x.shape[1], svd_solver="full").fit(both)
        r, found = pca.transform(both), pca.transform(np.hstack([found, larger]))
    return np.asarray(found)
