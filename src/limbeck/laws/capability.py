"""Capabilities of public models: principal components of their benchmarks, and skills that all families share."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares
from scipy.special import expit, logit

from limbeck.errors import FittingError, nearest
from limbeck.fitting import Model, Parameter
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.laws.trend import Trend


@dataclass(frozen=True)
class CapabilityScale:
    """Principal components of benchmark scores, S = (x - mean) V. Build it with `CapabilityScale.of`.

    Args:
        mean: of each benchmark, [b].
        components: rows of V^T, the widest first, [b, b].
        explained: share of the variance by component, [b].

    Source: Observational Scaling Laws and the Predictability of Language Model Performance (Ruan, Maddison,
    Hashimoto, 2024, arXiv 2405.10938).

    Example:
        >>> scale = CapabilityScale.of([[0.2, 0.1], [0.4, 0.3], [0.6, 0.5], [0.8, np.nan]])
        >>> scale.explained.round(6).tolist(), scale.measure([[0.8, np.nan]], 1).round(3).tolist()
        ([1.0, 0.0], [[0.424]])
    """

    mean: Array
    components: Array
    explained: Array

    @classmethod
    def of(cls, scores: ArrayLike) -> CapabilityScale:
        """Return the components; empty cells are those of the first component, repeated until nothing moves.

        Args:
            scores: fractions, NaN where a model was not measured, [models, b].

        Raises:
            FittingError: a benchmark that no model has, or fewer than three models.
        """
        known = np.asarray(scores, float)
        missing = np.isnan(known)
        if len(known) < 3 or missing.all(0).any():
            raise FittingError(
                f"components need three models and a score of every benchmark; given {len(known)} models, "
                f"{int(missing.all(0).sum())} empty benchmarks. Leave empty benchmarks out."
            )
        full = np.where(missing, np.nanmean(known, 0), known)
        for _ in range(1000):
            mean = full.mean(0)
            left, spread, components = np.linalg.svd(full - mean, full_matrices=False)
            filled = np.where(missing, mean + spread[0] * left[:, :1] * components[0], full)
            moved, full = np.abs(filled - full).max(), filled
            if moved < 1e-10:
                break
        sign = np.where(components.sum(1) < 0, -1.0, 1.0)[:, None]
        return cls(mean, sign * components, spread**2 / (spread**2).sum())

    def measure(self, scores: ArrayLike, skills: int = 3) -> Array:
        """Return S of models, [models, skills]; empty cells are those of the first component, by least squares."""
        known = np.asarray(scores, float) - self.mean
        have, first = ~np.isnan(known), self.components[0]
        level = (np.where(have, known, 0) @ first) / (have @ first**2)
        return np.asarray(np.where(have, known, level[:, None] * first) @ self.components[:skills].T)


def family_line(flops: ArrayLike, capability: ArrayLike) -> Trend:
    """Return a family's line S_1 = theta ln C + nu, as the power law exp(S_1) = e^nu C^theta.

    The compute at which the family would have a model's capability is `line.inverse(exp(S_1))`.

    Args:
        flops: of the family's models, [n].
        capability: their first component, [n].

    Raises:
        FittingError: fewer than two distinct computes.

    Source: Observational Scaling Laws and the Predictability of Language Model Performance (Ruan, Maddison,
    Hashimoto, 2024, arXiv 2405.10938).

    Example:
        >>> line = family_line([1e21, 1e22, 1e23], np.log([1e21, 1e22, 1e23]) * 0.1 - 5)
        >>> round(line.exponent, 6), f"{line.inverse(np.exp(0.1 * np.log(3e22) - 5)):.3g}"
        (0.1, '3e+22')
    """
    return Trend.through(flops, np.exp(np.asarray(capability, float)))


@dataclass(frozen=True)
class CapabilityScore(Model):
    """A task's score from capabilities: y = h sigmoid(w1 s1 + ... + wk sk + c), 0 <= h <= 1.

    Args:
        skills: k.

    Source: Observational Scaling Laws and the Predictability of Language Model Performance (Ruan, Maddison,
    Hashimoto, 2024, arXiv 2405.10938).

    Example:
        >>> float(CapabilityScore(1)({"h": 0.8, "w1": 2.0, "c": -1.0}, s1=0.5))
        0.4
    """

    name = "capability-score"
    target = "score"
    linear = ("h",)
    skills: int = 1

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """s1, ..., sk."""
        return tuple(f"s{k + 1}" for k in range(self.skills))

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """The ceiling h, the weights and c."""
        weights = (Parameter(f"w{k + 1}", "weight of a capability", (-1.0, 1.0)) for k in range(self.skills))
        ceiling = Parameter("h", "score of the best model", lower=0.0, upper=1.0)
        return (ceiling, *weights, Parameter("c", "offset", (-3.0, 0.0)))

    def formula(self, p: Any, x: Any) -> Any:
        """H sigmoid(w S + c)."""
        total = sum(getattr(p, f"w{k + 1}") * getattr(x, f"s{k + 1}") for k in range(self.skills))
        return p.h / (1 + np.exp(-(total + p.c)))

    def size(self, x: Any) -> Any:
        """The first capability is the logarithm of a compute."""
        return np.exp(x.s1)


DELTA = 0.01
"""Where the Huber loss of a score turns linear."""
RIDGE = 1e-3
"""Weight of the parameters' own size: skills are defined up to a linear map, and a lone model leaves some open."""


@dataclass(frozen=True)
class LatentSkills:
    """Scores y_j = g_j + (1 - g_j) sigmoid(b_j + W_j theta), theta_k = alpha_kf + beta_k (ln N, ln D, ln N ln D).

    Build it with `LatentSkills.of`. Only the intercepts alpha belong to a family f; N and D are in units of the mean
    over all models.

    Args:
        families: names, [F].
        guess: scores g of a model that knows nothing, [benchmarks].
        offset: b, [benchmarks].
        weights: W, [skills, benchmarks].
        intercepts: alpha, [F, skills].
        slopes: beta, [3, skills].
        unit: of N and D, [2].
        aic: n ln(sum of squares / n) + 2 p; lower is better.

    Source: Sloth: scaling laws for LLM skills to predict multi-benchmark performance across families (Maia Polo et
    al., 2024, arXiv 2412.06540). The fit is ours: from a reduced-rank regression of logits, by least squares.

    Example:
        >>> n, d = np.tile([1e8, 1e9, 1e10, 1e11], 2), np.geomspace(1e10, 1e12, 8)
        >>> family = ["a"] * 4 + ["b"] * 4
        >>> theta = 0.3 * np.log(n / 1e9) + 0.1 * np.log(d / 1e11) + np.repeat([0.0, 0.5], 4)
        >>> found = LatentSkills.of(family, n, d, expit(theta[:, None] * [1.0, 0.5]), skills=1)
        >>> bool(abs(found.predict("b", 1e9, d[5]) - expit(theta[5] * np.array([1.0, 0.5]))).max() < 1e-3)
        True
    """

    families: tuple[str, ...]
    guess: Array
    offset: Array
    weights: Array
    intercepts: Array
    slopes: Array
    unit: Array
    aic: float

    @classmethod
    def of(
        cls, family: ArrayLike, params: ArrayLike, tokens: ArrayLike, scores: ArrayLike, *, guess: ArrayLike = 0.0,
        skills: int = 2,
    ) -> LatentSkills:  # fmt: skip
        """Fit the models of many families at once.

        Args:
            family, params, tokens: of each model, [models].
            scores: fractions, NaN where unknown, [models, benchmarks].
            guess: score of a model that knows nothing, one or [benchmarks].
            skills: how many; fits are compared by `aic`, or by families left out.

        Raises:
            FittingError: more skills than benchmarks, or fewer scores than parameters.
        """
        y = np.asarray(scores, float)
        known, g = np.isfinite(y), np.broadcast_to(np.asarray(guess, float), y.shape[1:])
        names, member = np.unique(np.asarray(family, str), return_inverse=True)
        scale = np.stack([np.asarray(params, float), np.asarray(tokens, float)])
        x = np.hstack([np.eye(len(names))[member], _scales(scale / scale.mean(1, keepdims=True))])
        (count, width), marks = (x.shape[1], skills), y.shape[1]
        free = (count + marks - width - 1) * width + marks
        if skills > marks or known.sum() <= free:
            raise FittingError(
                f"{skills} skills of {len(names)} families and {marks} benchmarks have {free} free parameters; given "
                f"{known.sum()} scores. Take fewer skills, or add models."
            )
        logits = logit(np.clip((np.where(known, y, g) - g) / (1 - g), 0.01, 0.99))
        b = (logits * known).sum(0) / known.sum(0)
        rough = np.linalg.solve(x.T @ x + 0.01 * np.eye(count), x.T @ np.where(known, logits - b, 0.0))
        w = np.linalg.svd(x @ rough, full_matrices=False)[2][:width]

        def split(p: Array) -> tuple[Array, Array, Array]:
            a, rest = p[: count * width], p[count * width :]
            return a.reshape(count, width), rest[:-marks].reshape(width, marks), rest[-marks:]

        def residuals(p: Array) -> Array:
            a, w, b = split(p)
            return np.concatenate([(g + (1 - g) * expit(b + x @ a @ w) - y)[known], RIDGE * p])

        def jacobian(p: Array) -> Array:
            a, w, b = split(p)
            s, eye = expit(b + x @ a @ w), np.eye(marks)
            by_a = np.einsum("ni,kj->njik", x, w).reshape(*y.shape, -1)
            by_w = np.einsum("nk,jm->njkm", x @ a, eye).reshape(*y.shape, -1)
            both = np.concatenate([by_a, by_w, np.broadcast_to(eye, (*y.shape, marks))], 2)
            return np.concatenate([(((1 - g) * s * (1 - s))[:, :, None] * both)[known], RIDGE * np.eye(len(p))])

        start = np.concatenate([(rough @ w.T).ravel(), w.ravel(), b])
        best = least_squares(residuals, start, jacobian, loss="huber", f_scale=DELTA, max_nfev=500)
        (a, w, b), n = split(best.x), int(known.sum())
        aic = n * np.log((residuals(best.x)[:n] ** 2).mean()) + 2 * free
        return cls(tuple(names.tolist()), g, b, w, a[:-3], a[-3:], scale.mean(1), float(aic))

    def summary(self) -> str:
        """Return the skills as plain text: what size and data do to each, and the benchmarks that read it most."""
        lines = [f"{len(self.weights)} skills of {len(self.families)} families, AIC {self.aic:.1f}"]
        for k, (slopes, weights) in enumerate(zip(self.slopes.T, self.weights, strict=True), 1):
            most = ", ".join(str(b) for b in np.argsort(-np.abs(weights))[:3])
            lines.append(f"skill {k}: {slopes[0]:+.2g} ln N {slopes[1]:+.2g} ln D; read most by benchmarks {most}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers and words."""
        return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}

    def plot(self) -> Any:
        """Draw how much every benchmark reads every skill."""
        bars = [{"type": "bar", "y": row, "name": f"skill {k}"} for k, row in enumerate(self.weights, 1)]
        title = f"{len(self.weights)} skills read by {self.weights.shape[1]} benchmarks"
        return chart(title, "benchmark", "weight of the skill", bars)

    def predict(self, family: str, params: float, tokens: float) -> Array:
        """Return the scores of another model of a family, [benchmarks].

        Raises:
            FittingError: the fit has no model of this family.
        """
        if family not in self.families:
            hint = nearest(family, self.families)
            raise FittingError(f'no model of the family "{family}" was fitted.{hint} Add one.')
        scales = _scales(np.array([[params], [tokens]]) / self.unit[:, None])[0]
        theta = self.intercepts[self.families.index(family)] + scales @ self.slopes
        return np.asarray(self.guess + (1 - self.guess) * expit(self.offset + theta @ self.weights))


def _scales(scale: Array) -> Array:
    """The logarithms of N and D and their product, [models, 3]."""
    n, d = np.log(scale)
    return np.stack([n, d, n * d], 1)
