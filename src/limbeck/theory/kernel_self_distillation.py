"""Self-distillation of kernel ridge regression, exactly: any number of rounds, any weight on the ground truth.

Round τ fits ridge regression to α_τ Y + (1 - α_τ) (predictions of round τ-1). In the eigenbasis of the kernel matrix a
round multiplies numbers, so that one decomposition gives every round, their limit and the best weights. A last layer on
frozen features is such a model.

Source: Even your Teacher Needs Guidance: Ground-Truth Targets Dampen Regularization Imposed by Self-Distillation
(Borup, Andersen, 2021, arXiv 2102.13088).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import brentq, minimize_scalar
from scipy.spatial.distance import cdist

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.fitting.plain import Plain
from limbeck.laws.law import SOURCES

BORUP = SOURCES["borup-2021"]
Kernel = Callable[[Array, Array], Array]


def rbf(gamma: float) -> Kernel:
    """Return the kernel exp(-gamma |x - x'|²).

    Example:
        >>> rbf(2.0)(np.array([[0.0]]), np.array([[0.0], [1.0]])).round(4)
        array([[1.    , 0.1353]])
    """
    return lambda x, z: np.asarray(np.exp(-gamma * cdist(x, z, "sqeuclidean")))


def linear(x: Array, z: Array) -> Array:
    """Return the kernel x · x': ridge regression on features."""
    return np.asarray(x @ z.T)


@dataclass(frozen=True)
class KernelRidge:
    """Kernel ridge regression in the eigenbasis of its kernel matrix K = V D Vᵀ. Build it with `kernel_ridge`.

    A filter c [n] stands for the model f(x) = k(x, X) V c Vᵀ Y; its factors B = D c shrink the components of Y on the
    training points. Plain ridge is c = 1/(D + λ).

    Args:
        inputs, targets: X [n, d] and Y [n, c].
        ridge: λ, without a factor n.
        kernel: k(X, Z).
        eigenvalues: D, descending, [n].
        vectors: V, [n, n].
    """

    inputs: Array
    targets: Array
    ridge: float
    kernel: Kernel
    eigenvalues: Array
    vectors: Array

    def filters(self, alphas: Sequence[float]) -> Array:
        """Return the filter of every round, [rounds, n]: B_τ = D (D + λ)⁻¹ ((1 - α_τ) B_(τ-1) + α_τ), B_0 = 1."""
        d, factors, found = self.eigenvalues, np.ones(len(self.eigenvalues)), []
        for alpha in alphas:
            found.append(((1 - alpha) * factors + alpha) / (d + self.ridge))
            factors = d * found[-1]
        return np.array(found)

    def limit(self, alpha: float) -> Array:
        """Return the filter after infinitely many rounds: ridge regression with λ/α, and zero for α = 0."""
        return np.asarray(alpha / (alpha * self.eigenvalues + self.ridge))

    def ridge_filter(self, ridge: ArrayLike) -> Array:
        """Return the filter of plain ridge regression with other λ [...], [..., n]."""
        return np.asarray(1 / (self.eigenvalues + np.asarray(ridge, float)[..., None]))

    def predict(self, x: ArrayLike, filters: Array) -> Array:
        """Return predictions at x [q, d] of filters [..., n]: [..., q, c]."""
        basis = self.kernel(_rows(x), self.inputs) @ self.vectors
        return np.asarray(basis @ (filters[..., None] * (self.vectors.T @ self.targets)))

    def degrees(self, filters: Array) -> Array:
        """Return the effective degrees of freedom tr B."""
        return np.asarray((self.eigenvalues * filters).sum(-1))

    def leave_one_out(self, filters: Array) -> Array:
        """Return predictions at each training point without it, [..., n, c]: Y - (Y - Ŷ)/(1 - M_ii).

        Exact for plain ridge; for later rounds the smoother M = V B Vᵀ is held, an approximation.
        """
        factors = self.eigenvalues * filters
        fitted = self.vectors @ (factors[..., None] * (self.vectors.T @ self.targets))
        own = factors @ (self.vectors**2).T
        return np.asarray(self.targets - (self.targets - fitted) / (1 - own)[..., None])

    def equivalent_ridge(self, filter: Array) -> tuple[float, float]:
        """Return the λ' of the plain ridge regression nearest to a filter, and |B - D(D + λ')⁻¹| / |B|.

        A small misfit says that the distillation is re-tuned ridge regression and nothing else.
        """
        d, factors = self.eigenvalues, self.eigenvalues * filter

        def misfit(log: float) -> float:
            return float(np.linalg.norm(factors - d / (d + math.exp(log))) / np.linalg.norm(factors))

        centre = math.log(self.ridge)
        best = minimize_scalar(misfit, bounds=(centre - 25, centre + 25), method="bounded", options={"xatol": 1e-10})
        return math.exp(best.x), float(best.fun)

    def greedy(self, rounds: int, x: ArrayLike | None = None, y: ArrayLike | None = None) -> list[float]:
        """Return the weight of the ground truth that is best round by round, within 0 to 1.

        Args:
            rounds: how many.
            x, y: validation set [q, d] and [q, c]; leave-one-out on the training set without one.
        """
        alphas, truth = [1.0], self.targets if y is None else _rows(y)
        for _ in range(rounds - 1):
            pair = self.filters([*alphas, 0.0])[[0, -1]]
            a, b = self.leave_one_out(pair) if x is None else self.predict(x, pair)
            alphas.append(optimal_alpha(a, b, truth).alpha)
        return alphas


def kernel_ridge(x: ArrayLike, y: ArrayLike, ridge: float, kernel: Kernel = linear) -> KernelRidge:
    """Decompose the kernel matrix of training data, once for all rounds.

    Args:
        x: inputs, [n, d] or [n].
        y: targets, [n, c] or [n].
        ridge: λ > 0.
        kernel: `rbf(gamma)`, `linear`, or any k(X, Z) [n, q].

    Raises:
        FittingError: λ is not positive, inputs and targets differ in number, a number is not finite, or the kernel
            matrix is not positive semi-definite.

    Example:
        >>> model = kernel_ridge([0.0, 0.5, 1.0], [0.0, 1.0, 0.0], 0.1, rbf(4.0))
        >>> model.predict([0.5], model.filters([1.0, 0.3, 0.3])).ravel().round(3)
        array([0.883, 0.813, 0.771])
        >>> model.equivalent_ridge(model.limit(0.25))[0].__round__(6)
        0.4
    """
    inputs, targets = _rows(x), _rows(y)
    if not ridge > 0 or len(inputs) != len(targets) or not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
        needed = "kernel ridge regression needs a ridge above 0 and as many finite targets as inputs"
        raise FittingError(f"{needed}; given ridge {ridge:g}, {len(inputs)} inputs, {len(targets)} targets.")
    values, vectors = np.linalg.eigh(kernel(inputs, inputs))
    if values[0] < -1e-6 * max(values[-1], 1e-300):
        raise FittingError(f"the kernel matrix has an eigenvalue of {values[0]:.3g}: it must have none below 0.")
    return KernelRidge(inputs, targets, float(ridge), kernel, np.maximum(values[::-1], 0.0), vectors[:, ::-1])


@dataclass(frozen=True)
class Mixing:
    """The best weight of the ground truth.

    Args:
        alpha: within 0 to 1.
        unclipped: without that constraint (for cross-entropy the same). The weight of the teacher, 1 minus it, has the
            sign of -dR/dλ and may be negative (Dang, Patil, Rinaldo, 2026, arXiv 2602.17565).
    """

    alpha: float
    unclipped: float


def optimal_alpha(
    truth_model: ArrayLike, taught_model: ArrayLike, target: ArrayLike, *, weights: ArrayLike | None = None,
    loss: Literal["squared", "cross_entropy"] = "squared",
) -> Mixing:  # fmt: skip
    """Return the weight α that minimises the validation loss of α a + (1 - α) b.

    α* = ⟨y - b, a - b⟩ / |a - b|², and 1 where a = b. Exact for kernel regression, whose predictions are affine in α.
    For deep nets an estimate (reconstructed) from two trainings in place of a grid: give class probabilities of the
    first model as a, and of a student trained on the teacher alone as b; then train one student with α*.

    Args:
        truth_model: a, validation predictions of the model fitted to the ground truth, [n, ...].
        taught_model: b, of the model fitted to the teacher's predictions alone, same shape.
        target: y, same shape; one-hot for classes.
        weights: of the examples, [n].
        loss: "squared", or "cross_entropy" for probabilities (bisection; no formula).

    Raises:
        FittingError: the shapes differ.

    Example:
        >>> optimal_alpha([1.0, 2.0], [0.0, 0.0], [0.5, 1.0])
        Mixing(alpha=0.5, unclipped=0.5)
    """
    a, b, y = (np.asarray(one, float) for one in (truth_model, taught_model, target))
    if not a.shape == b.shape == y.shape:
        raise FittingError(f"the two predictions and the target differ in shape: {a.shape}, {b.shape}, {y.shape}.")
    w = np.ones(len(a)) if weights is None else np.asarray(weights, float)
    w = w.reshape(-1, *[1] * (a.ndim - 1))
    difference = a - b
    size = float((w * difference**2).sum())
    if size <= 1e-24 * float((w * a**2).sum()) or size == 0:
        return Mixing(1.0, 1.0)
    if loss == "squared":
        alpha = float((w * (y - b) * difference).sum()) / size
        return Mixing(min(max(alpha, 0.0), 1.0), alpha)

    def slope(alpha: float) -> float:
        return -float((w * y * difference / np.maximum(b + alpha * difference, 1e-12)).sum())

    alpha = 0.0 if slope(0.0) >= 0 else 1.0 if slope(1.0) <= 0 else brentq(slope, 0.0, 1.0)
    return Mixing(float(alpha), float(alpha))


@dataclass(frozen=True)
class SelfDistillation(Plain):
    """Rounds of self-distillation beside ridge regression that was simply tuned on the same validation set.

    Args:
        ridge: λ of every round.
        alphas: weight of the ground truth, one a round.
        losses: mean squared validation error, one a round.
        degrees: effective degrees of freedom, one a round.
        best: round with the least loss, counted from 1.
        equivalent, misfit: λ' of the ridge regression nearest to the best round, and how far that is from it.
        tuned, tuned_loss: λ with the least validation error, and that error.
    """

    ridge: float
    alphas: tuple[float, ...]
    losses: tuple[float, ...]
    degrees: tuple[float, ...]
    best: int
    equivalent: float
    misfit: float
    tuned: float
    tuned_loss: float

    def summary(self) -> str:
        """Return what distillation gives, and what tuning λ alone gives."""
        gained = self.losses[self.best - 1]
        return (
            f"ridge {self.ridge:.3g}: error {self.losses[0]:.4g} at first, {gained:.4g} after round {self.best} of "
            f"{len(self.losses)} (α = {self.alphas[self.best - 1]:.2g})\n"
            f"like plain ridge {self.equivalent:.3g} within {100 * self.misfit:.2g} %; "
            f"the best plain ridge is {self.tuned:.3g} with error {self.tuned_loss:.4g}"
        )


def self_distill(
    model: KernelRidge, x: ArrayLike, y: ArrayLike, *, alpha: float | Sequence[float] | None = None, rounds: int = 9
) -> SelfDistillation:
    """Distil a kernel regression into itself, judge every round on a validation set, and tune λ on the same set.

    Args:
        model: from `kernel_ridge`.
        x, y: validation set, [q, d] and [q, c].
        alpha: weight of the ground truth, the same in all rounds or one each; the best, round by round, by default.
        rounds: how many, unless alpha gives them.

    Example:
        >>> x = np.linspace(0, 1, 11)
        >>> y = np.sin(2 * np.pi * x) + 0.5 * np.cos(40 * x)
        >>> found = self_distill(kernel_ridge(x, y, 0.01, rbf(80.0)), x + 0.05, np.sin(2 * np.pi * (x + 0.05)))
        >>> found.losses[found.best - 1] < found.losses[0], found.tuned > 0.01
        (True, True)
    """
    truth = _rows(y)
    if alpha is None:
        alphas = model.greedy(rounds, x, y)
    else:
        alphas = [float(alpha)] * rounds if isinstance(alpha, int | float) else [float(one) for one in alpha]
    grid = model.eigenvalues[0] * np.logspace(-9, 1, 201)
    filters, candidates = model.filters(alphas), model.ridge_filter(grid)
    errors = ((model.predict(x, np.concatenate([filters, candidates])) - truth) ** 2).mean((-1, -2))
    losses, tuning = errors[: len(filters)], errors[len(filters) :]
    best = int(losses.argmin())
    equivalent, misfit = model.equivalent_ridge(filters[best])
    degrees = tuple(model.degrees(filters).tolist())
    return SelfDistillation(
        model.ridge, tuple(alphas), tuple(losses.tolist()), degrees, best + 1, equivalent, misfit,
        tuned=float(grid[tuning.argmin()]), tuned_loss=float(tuning.min()),
    )  # fmt: skip


def _rows(x: ArrayLike) -> Array:
    """An array with one row a point."""
    x = np.asarray(x, float)
    return x[:, None] if x.ndim == 1 else x
