"""Reverse distillation: one embedding for a family of models, which can be cut at the size of any of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from scipy.linalg import eigh
from sklearn.base import BaseEstimator, TransformerMixin

from limbeck.embeddings.moments import Moments, check_family
from limbeck.embeddings.regression import Map, Regression, regress
from limbeck.errors import ConfigError, LimbeckError
from limbeck.files import write_bytes
from limbeck.fitting.model import Array
from limbeck.fitting.plain import plain

Chain = Literal["consistent", "official"]
FORMAT = "limbeck reverse distillation 1"


@dataclass(frozen=True)
class Level(Map):
    """What a larger model adds to the smaller one's vector r: `(x - mean_y - (r - mean_x) B) Cᵀ`.

    Args:
        coefficients, eigenvalues, kept, noise, threshold: of the regression of x on r (`Map`).
        mean_x, mean_y: of what it was fitted to, [d_s] and [d_l].
        components: C, orthonormal rows, [d_l - d_s, d_l].
        residual: eigenvalues of the residual's covariance, largest first, [d_l].
        told, lost: shares of the larger model's variance: of the regression, and of the d_s directions of the residual
            that are not kept.
    """

    mean_x: Array
    mean_y: Array
    components: Array
    residual: Array
    told: float
    lost: float


class ReverseDistiller(TransformerMixin, BaseEstimator):
    """Keep the smallest model's embedding as it is, and append of each larger one what the smaller do not tell.

    `r_0 = x_0`, `r_l = [r_s; (x_l - g(r_s)) Cᵀ]`: g is a regression, C are the first d_l - d_s principal components of
    its residual. The first d_s coordinates of a larger vector are the smaller one, bit for bit. The map is affine, so
    the mean over tokens may be taken before or after it. Do not standardise the coordinates: the tail is small
    because it says little.

    Every fit is a solution of the moments that `partial_fit` gathers, without a second pass over the rows. The
    residual's covariance is `S_yy - S_yx B - Bᵀ S_xy + Bᵀ S_xx B`, the Schur complement where B is that of least
    squares. Directions of less than 1e-15 d of the largest variance count as constant.

    Args:
        regression: "linear", "ridge" or "pcr" (`regress`).
        penalty: of ridge.
        chain: "consistent" fits every step to the vectors that it will be given; "official" to the raw embeddings of
            the smaller model, as the authors' training does while their inference gives it vectors (from the third
            model on the residual is then none of a projection).

    Raises:
        ConfigError: an unknown chain or regression.
        LimbeckError: matrices that do not fit each other, or no more rows than the largest width.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((50, 4))
        >>> distiller = ReverseDistiller("linear").fit([x[:, :2], x])
        >>> r = distiller.transform([x[:, :2], x])
        >>> r.shape, bool((r[:, :2] == x[:, :2]).all()), [round(lost, 9) for lost in distiller.lost_variance_ratio_]
        ((50, 4), True, [0.0, 0.0])

    Source: Reverse Distillation: Consistently Scaling Protein Language Model Representations (Catrina, Bepler,
    Sledzieski, Singh, 2026, arXiv 2603.07710). The consistent chain is ours.
    """

    moments_: Moments | None = None
    _levels: list[Level] | None = None

    def __init__(self, regression: Regression = "pcr", penalty: float = 1.0, chain: Chain = "consistent") -> None:
        self.regression, self.penalty, self.chain = regression, penalty, chain

    def fit(self, family: Sequence[Any], y: Any = None) -> Self:
        """Fit to one matrix [T, d_l] a model, the smallest model first."""
        self.moments_ = self._levels = None
        self._levels = self.partial_fit(family).levels_
        return self

    def partial_fit(self, family: Sequence[Any], y: Any = None) -> Self:
        """Take in a batch of rows; what is asked next is solved from all batches."""
        if self.regression not in get_args(Regression) or self.chain not in get_args(Chain):
            given = f'regression "{self.regression}", chain "{self.chain}"'
            raise ConfigError(f"{given}: choose linear, ridge or pcr; and consistent or official.")
        if self._levels and self.moments_ is None:
            raise LimbeckError("what was loaded has no moments to add rows to: fit all batches, then save.")
        self.moments_, self._levels = moments, _ = self.moments_ or Moments(), None
        moments.update(family)
        self.widths_, self.rows_ = moments.widths, moments.rows
        return self

    @property
    def levels_(self) -> list[Level]:
        """What each model after the first adds."""
        if self._levels is None:
            if (moments := self.moments_) is None:
                raise LimbeckError("nothing is fitted yet: call fit, or partial_fit with every batch.")
            if moments.rows <= moments.widths[-1] or len(moments.widths) < 2:
                given = f"{moments.rows} rows of widths {moments.widths}"
                raise LimbeckError(
                    f"{given}: a fit needs two models and more rows than the largest width, best 10 times."
                )
            self._levels = self._solve(moments.mean, moments.covariance)
        return self._levels

    def _solve(self, mean: Array, covariance: Array) -> list[Level]:
        """Go up the family; r is held as a linear map of all raw coordinates, r - E r = (x - E x) W."""
        starts, levels = np.cumsum([0, *self.widths_]), list[Level]()
        for j, width in enumerate(self.widths_[1:], 1):
            own, before = slice(starts[j], starts[j + 1]), slice(starts[j - 1], starts[j])
            if j == 1 or self.chain == "official":
                w, centre = np.eye(len(mean))[:, before], mean[before]
            sxx, sxy, syy = w.T @ covariance @ w, w.T @ covariance[:, own], covariance[own, own]
            found = regress((sxx + sxx.T) / 2, sxy, self.rows_, self.regression, self.penalty)
            b = found.coefficients
            residual, components = principal(syy - b.T @ sxy - sxy.T @ b + b.T @ sxx @ b)
            kept, total = components[: width - len(b)], np.trace(syy) or np.inf
            told, lost = 1 - residual.sum() / total, residual[len(kept) :].sum() / total
            levels.append(Level(*vars(found).values(), centre, mean[own], kept, residual, told, lost))  # type: ignore[call-arg]
            added = -w @ b
            added[own] += np.eye(width)
            w, centre = np.hstack([w, added @ kept.T]), np.concatenate([centre, np.zeros(len(kept))])
        return levels

    def transform(self, family: Sequence[Any], level: int | None = None) -> Array:
        """Return the vectors, [T, d_level], in the number format of the smallest model's embedding.

        Args:
            family: one matrix a model; the models after `level` need not be there.
            level: cut at this model, counted from 0; by default the largest that is given.
        """
        models = min(len(family), len(self.levels_) + 1)
        level = models - 1 if level is None else level
        if not 0 <= level < models:
            raise LimbeckError(f"level {level} cannot be made of {models} models: levels count from 0.")
        r, *larger = family = check_family(family[: level + 1], self.widths_)
        for one, x in zip(self.levels_, larger, strict=False):
            r = np.hstack([r, (x - one.mean_y - (r - one.mean_x) @ one.coefficients) @ one.components.T])
        return np.asarray(r, family[0].dtype if family[0].dtype.kind == "f" else float)

    @property
    def lost_variance_ratio_(self) -> list[float]:
        """Share of each model's variance that its vector cannot give back; 0 for the smallest."""
        return [0.0, *(float(one.lost) for one in self.levels_)]

    def to_dict(self) -> dict[str, Any]:
        """Return what was fitted, as plain numbers without the matrices."""
        names = "kept", "noise", "threshold", "told", "lost"
        levels = [{"width": len(x.mean_y), "of": len(x.mean_x)} | {n: vars(x)[n] for n in names} for x in self.levels_]
        return dict(plain(self.get_params() | {"rows": self.rows_, "widths": self.widths_, "levels": levels}))

    def summary(self) -> str:
        """Say what each model added, in a line each."""
        lines = [f"{self.rows_} rows, {self.regression} regression, {self.chain} chain"]
        for one in self.to_dict()["levels"]:
            told = f"the smaller tell {one['told']:.1%} of its variance ({one['kept']} of {one['of']} components)"
            lines.append(f"  width {one['width']:5}  {told}; {one['lost']:.2%} is lost")
        return "\n".join([lines[0], f"  width {self.widths_[0]:5}  kept as it is", *lines[1:]])

    def save(self, path: Path | str) -> Path:
        """Write one safetensors file with the settings as JSON in its head; it appears whole or not at all."""
        from safetensors.numpy import save

        tensors = {f"{j} {n}": np.array(v, order="C") for j, x in enumerate(self.levels_) for n, v in vars(x).items()}
        head = {"params": self.get_params(), "widths_": self.widths_, "rows_": self.rows_}
        return write_bytes(path, save(tensors, {FORMAT: json.dumps(head)}))

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what `save` wrote.

        Raises:
            LimbeckError: no such file, or not one of ours.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="numpy") as file:
                head = json.loads((file.metadata() or {})[FORMAT])
                values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError, KeyError) as error:
            reason = f"{path} is no whole file of a fitted reverse distillation ({error})"
            raise LimbeckError(f"{reason}: write it with save(), or limbeck embed fit.") from error
        found, names = cls(**head.pop("params")), [one.name for one in fields(Level)]
        found.__dict__ |= head
        found._levels = [Level(*(values[f"{j} {n}"] for n in names)) for j in range(len(found.widths_) - 1)]
        return found


def principal(covariance: Array) -> tuple[Array, Array]:
    """Return eigenvalues, largest first, and principal components as rows whose largest entry is positive."""
    values, vectors = eigh((covariance + covariance.T) / 2)
    components = vectors.T[::-1]
    signs = np.sign(components[np.arange(len(components)), np.abs(components).argmax(1)])
    return np.maximum(values[::-1], 0.0), signs[:, None] * components
