"""Superposition: why loss falls like one over the width when a layer holds more features than dimensions.

A toy autoencoder squeezes n sparse features through m < n dimensions. Weight decay decides whether it keeps the m most
frequent ones (weak superposition: loss is the tail of the frequencies) or all of them, overlapping (strong
superposition: loss is the interference, which falls like 1/m whatever the frequencies are).

Source: Superposition Yields Robust Neural Scaling (Liu, Liu, Gore, 2025, arXiv 2505.10465).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limbeck.errors import FittingError
from limbeck.fitting import Fit, Loss, Model, Parameter
from limbeck.fitting import fit as fit_model
from limbeck.fitting.model import Array
from limbeck.fitting.picture import chart
from limbeck.laws import Source, Trend
from limbeck.theory.overlaps import Overlaps, overlaps

SQUARED_RAW = Loss(delta=math.inf, space="linear")
LIU = Source("Superposition Yields Robust Neural Scaling", "Liu, Liu, Gore", 2025, "2505.10465")
SECOND_MOMENT = 4 / 3
"""⟨v²⟩ of an active feature, v ~ U(0, 2)."""
LLM_EXPONENT, LLM_EXPONENT_SE = 0.91, 0.04
"""Exponent of loss in width over four families of language models and four data sets (LLM figure)."""


def frequencies(n: int, exponent: float = 1.0, *, active: float = 1.0, density: float = 0.0) -> Array:
    """Return how often each of n features is active, p_i ∝ i^(-exponent) with Σ p = active.

    Args:
        n: features.
        exponent: of the power law; 0 for equal frequencies.
        active: expected number of active features.
        density: moves all of them up, p (1 + density (1/p_1 - 1)); at 1 the first is always active.

    Raises:
        FittingError: a probability would exceed 1.

    Example:
        >>> frequencies(4, 1.0).round(2)
        array([0.48, 0.24, 0.16, 0.12])
    """
    weight = np.arange(1.0, n + 1) ** -exponent
    p = active * weight / weight.sum()
    p = p * (1 + density * (1 / p[0] - 1))
    if p[0] > 1 + 1e-12:
        raise FittingError(f"{active:g} active features of {n} give the first a probability of {p[0]:.3g}: lower it.")
    return np.asarray(np.minimum(p, 1.0))


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Return the rate of a step counted from 1: linear warm-up, then a cosine down to 5 % of the peak.

    Example:
        >>> learning_rate(50, 1000, 1.0, 100), learning_rate(100, 1000, 1.0, 100), learning_rate(1000, 1000, 1.0, 100)
        (0.5, 1.0, 0.05)
    """
    if step < warmup:
        return peak * step / warmup
    return peak * (0.05 + 0.95 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2)


class ToyModels:
    """A batch of autoencoders y = ReLU(W Wᵀ x + b) under Adam, with decoupled weight decay of either sign on W.

    A decay γ > 0 shrinks W by η γ; γ < 0 moves every row by η γ W_i (1 - 1/|W_i|), towards length 1. A column of zeros
    stays zero, so models of different widths train together.

    Args:
        weights: W, [..., n, m].
        biases: b, [..., n].
        weight_decay: γ, broadcast over the models [...].
    """

    def __init__(self, weights: ArrayLike, biases: ArrayLike, weight_decay: ArrayLike) -> None:
        self.weights, self.biases = np.array(weights), np.array(biases)
        self.decay = np.asarray(weight_decay, self.weights.dtype)[..., None, None]
        self.moments = [np.zeros_like(x) for x in (self.weights, self.weights, self.biases, self.biases)]
        self.steps = 0

    def step(self, x: Array, rate: float) -> Array:
        """Learn from a batch x [..., batch, n] and return the loss before, the mean of (y - x)² [...]."""
        w, b = self.weights, self.biases
        h = x @ w
        g = h @ w.swapaxes(-1, -2)
        g += b[..., None, :]
        np.maximum(g, 0, out=g)
        active = g > 0
        g -= x
        loss = np.einsum("...bi,...bi->...", g, g) / (g.shape[-1] * g.shape[-2])
        g *= active
        g *= 2 / (g.shape[-1] * g.shape[-2])
        gradient = g.swapaxes(-1, -2) @ h + x.swapaxes(-1, -2) @ (g @ w)
        pull = 1 - 1 / (np.linalg.norm(w, axis=-1, keepdims=True) + 1e-8)
        w *= 1 + rate * self.decay * np.where(self.decay < 0, pull, -1)
        self.steps += 1
        first, second = rate / (1 - 0.9**self.steps), 1 / (1 - 0.999**self.steps)
        for value, slope, (m, v) in ((w, gradient, self.moments[:2]), (b, g.sum(-2), self.moments[2:])):
            m += 0.1 * (slope - m)
            v += 0.001 * (slope**2 - v)
            value -= first * m / (np.sqrt(v * second) + 1e-8)
        return np.asarray(loss, float)


@dataclass(frozen=True)
class ToySweep:
    """Toy models over frequency tables, weight decays and widths, trained.

    Args:
        frequencies: p, [tables, n].
        weight_decay: γ, [decays].
        widths: m, [widths].
        loss: mean over the last steps of Σ_i (y_i - x_i)², [tables, decays, widths].
        weights: W, [tables, decays, widths, n, largest m], zero beyond a model's width.
    """

    frequencies: Array
    weight_decay: Array
    widths: NDArray[np.int_]
    loss: Array
    weights: Array

    @property
    def represented(self) -> Array:
        """Share of features with |W_i| > 1/2, [tables, decays, widths]: m/n without superposition, 1 in the strong."""
        return np.asarray((np.linalg.norm(self.weights, axis=-1) > 0.5).mean(-1))

    @property
    def tail(self) -> Array:
        """Loss that weak superposition predicts from what is represented, same shape as the loss."""
        n = self.frequencies.shape[-1]
        kept = np.rint(self.represented * n).astype(int)
        return np.stack([tail_loss(p, k) for p, k in zip(self.frequencies, kept, strict=True)])

    def exponents(self, table: int = 0, decay: int = 0) -> tuple[Trend, Trend]:
        """Return the trend of loss in 1/m, and in the Welch factor 1/m - 1/n, which allows for m close to n."""
        m, n = self.widths.astype(float), self.frequencies.shape[-1]
        loss = self.loss[table, decay]
        return Trend.through(1 / m, loss), Trend.through(1 / m - 1 / n, loss)

    def _rows(self) -> list[tuple[int, int, Trend]]:
        """Every frequency table and weight decay with its trend of loss in 1/m."""
        places = np.ndindex(self.loss.shape[:2])
        return [(table, decay, self.exponents(table, decay)[0]) for table, decay in places]

    def summary(self) -> str:
        """Return, for every frequency table and weight decay, what is represented and how the loss falls with width."""
        lines = [f"widths {self.widths[0]} to {self.widths[-1]}, {self.frequencies.shape[-1]} features"]
        for table, decay, trend in self._rows():
            kept = self.represented[table, decay]
            known = f"{kept.min():.0%} – {kept.max():.0%} of the features represented"
            steep = f"loss ~ width^-{trend.exponent:.2f} ± {trend.exponent_se:.2f}"
            lines.append(f"table {table}, weight decay {self.weight_decay[decay]:g}: {known}, {steep}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers; the weights stay out."""
        trends = [{"table": table, "weight_decay": float(self.weight_decay[decay]), "exponent": trend.exponent,
                   "exponent_se": trend.exponent_se} for table, decay, trend in self._rows()]  # fmt: skip
        plain = {name: getattr(self, name).tolist() for name in ("frequencies", "widths", "loss", "represented")}
        return plain | {"trends": trends}

    def plot(self) -> Any:
        """Draw the loss against the width for every frequency table and weight decay."""
        traces = [{"x": self.widths, "y": self.loss[table, decay], "mode": "markers+lines",
                   "name": f"table {table}, weight decay {self.weight_decay[decay]:g}: exponent {trend.exponent:.2f}"}
                  for table, decay, trend in self._rows()]  # fmt: skip
        ends = sorted(trend.exponent for *_, trend in self._rows())
        title = f"Loss falls with the width to the power {-ends[0]:.2f} to {-ends[-1]:.2f}".replace("-", "−")
        return chart(title, "width", "loss", traces, log="xy")

    def overlaps(self, table: int = 0, decay: int = 0) -> list[Overlaps]:
        """Return the overlaps of the features of every width."""
        return [overlaps(w[:, :m]) for w, m in zip(self.weights[table, decay], self.widths, strict=True)]


def tail_loss(p: ArrayLike, kept: ArrayLike) -> Array:
    """Return the loss of weak superposition, (4/3) Σ p_i over all features but the first `kept`.

    For p ∝ i^-a, a > 1, it falls like kept^-(a - 1).

    Example:
        >>> float(tail_loss([0.6, 0.3, 0.15], 1).round(6))
        0.6
    """
    left = np.append(np.cumsum(np.asarray(p, float)[::-1])[::-1], 0.0)
    return np.asarray(SECOND_MOMENT * left[np.asarray(kept)])


def strong_exponent(exponent: float) -> float:
    """Return the exponent of loss in 1/m that strong superposition predicts for p ∝ i^-a: 1, or 2 (a - 1) once larger.

    The second part is reconstructed from the paper's summary.

    Example:
        >>> strong_exponent(1.2), strong_exponent(2.0)
        (1.0, 2.0)
    """
    return max(1.0, 2 * (exponent - 1))


def train_toy(
    frequencies: ArrayLike, widths: Sequence[int], weight_decay: Sequence[float] = (-1.0,), *, steps: int = 1500,
    batch: int = 256, rate: float = 1e-2, warmup: float = 0.1, tail: float = 0.05, seed: int = 0,
    dtype: Any = np.float32,
) -> ToySweep:  # fmt: skip
    """Train the toy model for every frequency table, weight decay and width at once, on fresh samples every step.

    x_i = u_i v_i with u_i ~ Bernoulli(p_i) and v_i ~ U(0, 2). All models see the same random numbers.

    Args:
        frequencies: p, [n] or [tables, n].
        widths: m, each below n.
        weight_decay: γ; negative ones bring strong superposition, positive ones weak.
        steps, batch: of training. The paper's small study: 20 000 steps of 2048 with n = 1000.
        rate: peak learning rate.
        warmup: share of the steps before the peak.
        tail: share of the steps, at the end, over which the loss is averaged.
        seed: of initial weights and samples.
        dtype: of the computation.

    Raises:
        FittingError: a width is not between 1 and n - 1, or a probability not between 0 and 1.

    Example:
        >>> sweep = train_toy(frequencies(20, 1.5), [2, 4, 8], steps=200)
        >>> sweep.loss.shape, bool((np.diff(sweep.loss) < 0).all())
        ((1, 1, 3), True)
    """
    p, m = np.atleast_2d(np.asarray(frequencies, dtype)), np.asarray(widths, int)
    n, decay = p.shape[-1], np.asarray(weight_decay, float)
    if m.min() < 1 or m.max() >= n or not ((p >= 0) & (p <= 1)).all():
        raise FittingError(
            f"the toy model needs widths from 1 to {n - 1} (one below the features) and probabilities from 0 to 1; "
            f"given widths {m.tolist()}, probabilities {p.min():.3g} to {p.max():.3g}."
        )
    rng = np.random.default_rng(seed)
    shape, width = (len(p), len(decay), len(m)), m[:, None, None]
    start = np.where(np.arange(m.max()) < width, rng.standard_normal((n, m.max())) / np.sqrt(width), 0.0)
    weights = np.broadcast_to(np.asarray(start, dtype), (*shape, n, m.max()))
    biases = np.broadcast_to(np.asarray(rng.standard_normal(n), dtype), (*shape, n))
    models = ToyModels(weights, biases, decay[:, None])
    total: Array = np.zeros(shape)
    last = max(round(tail * steps), 1)
    np.empty(30 << 20, np.uint8)  # freed at once: glibc then keeps memory between steps, which saves 40 % of the time
    for step in range(1, steps + 1):
        x: Array = 2 * rng.random((batch, n), dtype) * (rng.random((batch, n), dtype) < p[:, None, None, None])
        loss = models.step(x, learning_rate(step, steps, rate, round(warmup * steps)))
        if step > steps - last:
            total += n * loss / last
    return ToySweep(p, decay, m, total, models.weights)


def fit_width_law(width: ArrayLike, loss: ArrayLike, group: ArrayLike, *, bootstrap: int = 1000, seed: int = 0) -> Fit:
    """Fit L = A/m^alpha + B_g: one power of the width for all groups (family and data), one floor each.

    Over four families of language models and four data sets the paper finds alpha = 0.91 ± 0.04.

    Args:
        width: m, [points].
        loss: nats/token, [points].
        group: label of each point's family and data set, [points].
        bootstrap, seed: of the intervals.

    Raises:
        FittingError: fewer distinct points than parameters.

    Example:
        >>> m, g = np.array([64.0, 128, 256, 512] * 2), np.repeat(["code", "prose"], 4)
        >>> fit = fit_width_law(m, 30 / m + np.where(g == "code", 1.5, 3.0), g, bootstrap=0)
        >>> {name: round(value, 3) for name, value in fit.parameters.items()}
        {'A': 30.0, 'alpha': 1.0, 'B code': 1.5, 'B prose': 3.0}
    """
    labels = np.asarray(group).astype(str)
    floors = tuple(f"B {name}" for name in np.unique(labels))

    class WidthLaw(Model):
        """A/m^alpha + B_g; the columns after the width say which group a point is of."""

        name = "width"
        columns = ("width", *floors)
        target = "loss"
        linear = ("A", *floors)
        parameters = (
            Parameter("A", "width term at m = 1", log=True, dimension={"width": "alpha"}),
            Parameter("alpha", "exponent of width", start=(0.3, 1.0, 2.0), log=True),
            *(Parameter(floor, "floor of a group") for floor in floors),
        )

        def formula(self, p: Any, x: Any) -> Any:
            return p.A * x.width**-p.alpha + sum(getattr(p, floor) * getattr(x, floor) for floor in floors)

    columns = {"width": width} | {floor: labels == floor[2:] for floor in floors}
    return fit_model(WidthLaw(), columns, loss, loss=SQUARED_RAW, bootstrap=bootstrap, seed=seed)
