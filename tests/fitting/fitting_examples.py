"""Models and designs that the tests of the engine share."""

from __future__ import annotations

from typing import Any

import numpy as np

from limbeck.fitting import Loss, Model, Parameter, Problem
from limbeck.fitting.model import Array

EXPONENTS = (0.1, 0.2, 0.35, 0.6, 1.0)


class Sum(Model):
    """E + A/N^alpha + B/D^beta."""

    name, columns, target = "sum", ("params", "tokens"), "loss"
    linear = ("E", "A", "B")
    parameters = (
        Parameter("E", log=True),
        Parameter("A", log=True, dimension={"params": "alpha"}),
        Parameter("B", log=True, dimension={"tokens": "beta"}),
        Parameter("alpha", start=EXPONENTS),
        Parameter("beta", start=EXPONENTS),
    )

    def formula(self, p: Any, x: Any) -> Any:
        return p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta


class FineSum(Sum):
    """The same law with 506 pairs of exponents to start from."""

    parameters = (
        *Sum.parameters[:3],
        Parameter("alpha", start=tuple(np.linspace(0.05, 1.2, 22))),
        Parameter("beta", start=tuple(np.linspace(0.05, 1.2, 23))),
    )


class Joint(Model):
    """[(Nc/N)^(alpha/beta) + Dc/D]^beta: not separable."""

    name, columns, target = "joint", ("params", "tokens"), "loss"
    parameters = (
        Parameter("Nc", log=True, start=(1e-3, 1.0, 1e3), dimension={"params": 1.0}),
        Parameter("Dc", log=True, start=(1e-3, 1.0, 1e3), dimension={"tokens": 1.0}),
        Parameter("alpha", start=(0.05, 0.1, 0.2, 0.4), lower=1e-3, upper=3.0),
        Parameter("beta", start=(0.05, 0.1, 0.2, 0.4), lower=1e-3, upper=3.0),
    )

    def formula(self, p: Any, x: Any) -> Any:
        return ((p.Nc / x.params) ** (p.alpha / p.beta) + p.Dc / x.tokens) ** p.beta


class Interaction(Model):
    """E + A/N^alpha + B/D^beta + C/(N^gamma D^delta)."""

    name, columns, target = "interaction", ("params", "tokens"), "loss"
    linear = ("E", "A", "B", "C")
    parameters = (
        *Sum.parameters[:3],
        Parameter("C", log=True, dimension={"params": "gamma", "tokens": "delta"}),
        *(Parameter(name, start=(0.15, 0.4, 0.8)) for name in ("alpha", "beta", "gamma", "delta")),
    )

    def formula(self, p: Any, x: Any) -> Any:
        single = p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta
        return single + p.C * x.params**-p.gamma * x.tokens**-p.delta


class Wave(Model):
    """tanh of a steep line, many optima in the frequency: a rugged problem."""

    name, columns, target = "wave", ("x",), "y"
    parameters = (
        Parameter("k", start=tuple(np.linspace(-30, 30, 40))),
        Parameter("s", start=tuple(np.linspace(-9, 9, 9))),
    )

    def formula(self, p: Any, x: Any) -> Any:
        folded = np.absolute(np.tanh(p.k * x.x - p.s))
        return np.tanh(9 * folded - 4) + np.tanh(p.s * x.x)


class Line(Model):
    """offset + slope x."""

    name, columns, target = "line", ("x",), "y"
    linear = ("slope", "offset")
    parameters = (Parameter("slope"), Parameter("offset"))

    def formula(self, p: Any, x: Any) -> Any:
        return p.offset + p.slope * x.x


TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def design(n: int = 60, seed: int = 0) -> dict[str, Array]:
    """Sizes and token counts drawn evenly on the logarithmic scale."""
    rng = np.random.default_rng(seed)
    return {"params": np.exp(rng.uniform(18, 23, n)), "tokens": np.exp(rng.uniform(20, 26, n))}


def sum_problem(
    n: int = 60, noise: float = 0.01, loss: Loss | None = None, seed: int = 0, model: Model | None = None
) -> Problem:
    """The sum law on synthetic data with log-normal noise."""
    columns = design(n, seed)
    shock = noise * np.random.default_rng(seed + 1).standard_t(4, n)
    return Problem.build(model or Sum(), columns, Sum()(TRUTH, **columns) * np.exp(shock), loss=loss or Loss())


def resampled(problem: Problem, count: int, seed: int = 0) -> Problem:
    """The problem under bootstrap counts."""
    n = problem.program.n
    return problem.with_rows(weights=np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), count).astype(float))


def start(problem: Problem, count: int = 1) -> Array:
    """The true parameters as start of every row."""
    return np.repeat(problem.coordinates(TRUTH)[None], count, 0)
