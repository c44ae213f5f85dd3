"""Loss as a function of scale: power laws in one column, and the joint laws of model size and data."""

from __future__ import annotations

import re
from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from limbeck.fitting.model import Parameter
from limbeck.laws.law import SOURCES, Law, published

HESTNESS = SOURCES["hestness-2017"]
KAPLAN = SOURCES["kaplan-2020"]
HENIGHAN = SOURCES["henighan-2020"]
HOFFMANN = SOURCES["hoffmann-2022"]
BESIROGLU = SOURCES["besiroglu-2024"]
MUENNIGHOFF = SOURCES["muennighoff-2023"]
CABALLERO = SOURCES["caballero-2022"]

EXPONENTS = (0.05, 0.1, 0.2, 0.35, 0.6, 1.0)


def exponent(name: str, meaning: str, start: tuple[float, ...] = EXPONENTS) -> Parameter:
    """Return the declaration of a scaling exponent."""
    return Parameter(name, meaning, start=start, lower=0.0, upper=5.0)


def scale(name: str, meaning: str, column: str, start: tuple[float, ...]) -> Parameter:
    """Return the declaration of a scale in the unit of a column."""
    return Parameter(name, meaning, start=start, log=True, dimension={column: 1.0})


E = Parameter("E", "irreducible loss", log=True)
A = Parameter("A", "size term at params = 1", log=True, dimension={"params": "alpha"})
B = Parameter("B", "data term at tokens = 1", log=True, dimension={"tokens": "beta"})
"""The terms that joint laws of size and data share."""


@dataclass(frozen=True)
class OneColumn(Law):
    """A law of one column that the user names.

    Args:
        column: the column it reads, for example `params`, `tokens`, `samples` or `flops`.
        quantity: the column it predicts.
    """

    column: str = "tokens"
    quantity: str = "loss"

    shape: ClassVar[str]
    declared: ClassVar[tuple[Parameter, ...]]
    """The parameters, with dimensions in a column named x."""

    @property
    def equation(self) -> str:  # type: ignore[override]
        """The right-hand side, with the column's name in it."""
        return re.sub(r"\bx\b", self.column, self.shape)

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """The column it reads."""
        return (self.column,)

    @property
    def target(self) -> str:  # type: ignore[override]
        """The column it predicts."""
        return self.quantity

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """The parameters, with dimensions in its own column."""
        own = {"x": self.column}
        return tuple(replace(p, dimension={own[x]: power for x, power in p.dimension.items()}) for p in self.declared)

    @abstractmethod
    def curve(self, p: Any, x: Any) -> Any:
        """Return the formula of one column."""

    def formula(self, p: Any, x: Any) -> Any:
        """Return the curve at the column that the law reads."""
        return self.curve(p, getattr(x, self.column))


@dataclass(frozen=True)
class Power(OneColumn):
    """Power law without a floor: y = A x^-alpha; of compute, unless another column is named.

    Source: Deep Learning Scaling is Predictable, Empirically (Hestness et al., 2017, arXiv 1712.00409).

    Example:
        >>> float(Power("tokens")({"A": 8.0, "alpha": 0.5}, tokens=16.0))
        2.0
    """

    column: str = "flops"

    name = "power"
    source = HESTNESS
    shape = "A / x^alpha"
    linear = ("A",)

    declared = (Parameter("A", "level at x = 1", log=True, dimension={"x": "alpha"}), exponent("alpha", "exponent"))

    def curve(self, p: Any, x: Any) -> Any:
        """A x^-alpha."""
        return p.A * x**-p.alpha


@dataclass(frozen=True)
class PowerFloor(OneColumn):
    """Power law that levels off: y = E + A x^-alpha.

    Hestness et al. write it alpha m^beta_g + gamma, so beta_g = -alpha here; `Henighan` is the same curve with a scale
    x0.

    Source: Deep Learning Scaling is Predictable, Empirically (Hestness et al., 2017, arXiv 1712.00409).

    Example:
        >>> float(PowerFloor("samples", "error")({"E": 0.1, "A": 4.0, "alpha": 0.5}, samples=100.0))
        0.5
    """

    name = "power-floor"
    source = HESTNESS
    shape = "E + A / x^alpha"
    linear = ("E", "A")
    floor = "E"

    declared = (
        Parameter("E", "irreducible part", log=True),
        Parameter("A", "reducible part at x = 1", log=True, dimension={"x": "alpha"}),
        exponent("alpha", "exponent"),
    )

    def curve(self, p: Any, x: Any) -> Any:
        """E + A x^-alpha."""
        return p.E + p.A * x**-p.alpha


@dataclass(frozen=True)
class Henighan(OneColumn):
    """Power law plus constant with a scale: L = L_inf + (x0/x)^alpha (eq. 1.1). L_inf reads as the entropy of the data.

    Source: Scaling Laws for Autoregressive Generative Modeling (Henighan et al., 2020, arXiv 2010.14701).

    Example:
        >>> float(Henighan("params")({"L_inf": 3.0, "x0": 100.0, "alpha": 0.5}, params=1e4))
        3.1
    """

    name = "henighan"
    source = HENIGHAN
    shape = "L_inf + (x0 / x)^alpha"
    linear = ("L_inf",)
    floor = "L_inf"

    declared = (
        Parameter("L_inf", "irreducible loss", log=True),
        scale("x0", "where the reducible loss is 1", "x", (1e-6, 1e-3, 0.1, 1.0, 10.0, 1e3)),
        exponent("alpha", "exponent"),
    )

    def curve(self, p: Any, x: Any) -> Any:
        """L_inf + (x0/x)^alpha."""
        return p.L_inf + (p.x0 / x) ** p.alpha


@dataclass(frozen=True)
class BrokenPower(OneColumn):
    """Power law whose exponent changes once, smoothly: y = a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1).

    Source: Broken Neural Scaling Laws (Caballero, Gupta, Rish, Krueger, 2022, arXiv 2210.14891), one break.

    Example:
        >>> law = BrokenPower("tokens")
        >>> float(law({"a": 1.0, "b": 2.0, "c0": 0.5, "c1": 1.0, "d1": 1e9, "f1": 0.1}, tokens=1e4))
        1.02
    """

    name = "broken-power"
    source = CABALLERO
    shape = "a + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1)"
    linear = ("a", "b")
    floor = "a"

    declared = (
        Parameter("a", "irreducible part", log=True),
        Parameter("b", "level", log=True, dimension={"x": "c0"}),
        exponent("c0", "exponent before the break", (0.05, 0.2, 0.5)),
        Parameter("c1", "change of the exponent at the break", start=(0.0, 0.2, 0.5), lower=-5.0, upper=5.0),
        scale("d1", "place of the break", "x", (0.1, 1.0, 10.0)),
        Parameter("f1", "width of the break in ln x", start=(0.1, 0.5), lower=0.02, upper=5.0, log=True),
    )

    def curve(self, p: Any, x: Any) -> Any:
        """A + b x^-c0 (1 + (x/d1)^(1/f1))^(-c1 f1), by softplus."""
        softplus = np.logaddexp(0.0, np.log(x / p.d1) / p.f1)
        return p.a + p.b * x**-p.c0 * np.exp(-p.c1 * p.f1 * softplus)


class Kaplan(Law):
    """Joint law of size and data: L = ((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D (eq. 1.5). It has no floor.

    N counts non-embedding parameters.

    Source: Scaling Laws for Neural Language Models (Kaplan et al., 2020, arXiv 2001.08361).

    Example:
        >>> float(KAPLAN_2020.value(params=1.5e9, tokens=22e9).round(2))
        2.31
    """

    name = "kaplan"
    source = KAPLAN
    columns = ("params", "tokens")
    equation = "((N_c / params)^(alpha_N / alpha_D) + D_c / tokens)^alpha_D"
    parameters = (
        scale("N_c", "size scale", "params", (1e2, 1e4, 1e6)),
        scale("D_c", "data scale", "tokens", (1.0, 1e2, 1e4)),
        Parameter("alpha_N", "exponent of size", start=(0.05, 0.1, 0.25), log=True),
        Parameter("alpha_D", "exponent of data", start=(0.05, 0.1, 0.25), log=True),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """((N_c/N)^(alpha_N/alpha_D) + D_c/D)^alpha_D, in logarithms."""
        size = p.alpha_N / p.alpha_D * np.log(p.N_c / x.params)
        data = np.log(p.D_c / x.tokens)
        return np.exp(p.alpha_D * np.logaddexp(size, data))


class Chinchilla(Law):
    """Parametric law of size and data: L = E + A/N^alpha + B/D^beta (approach 3, eq. 10).

    N counts all parameters, embeddings included, in the source. The optimum for a compute budget is in closed form: see
    `laws.ComputeFrontier`.

    Source: Training Compute-Optimal Large Language Models (Hoffmann et al., 2022, arXiv 2203.15556).

    Example:
        >>> float(HOFFMANN_2022.value(params=70e9, tokens=1.4e12).round(3))
        1.921
    """

    name = "chinchilla"
    source = HOFFMANN
    columns = ("params", "tokens")
    equation = "E + A / params^alpha + B / tokens^beta"
    linear = ("E", "A", "B")
    floor = "E"
    parameters = (E, A, B, exponent("alpha", "exponent of size"), exponent("beta", "exponent of data"))

    def formula(self, p: Any, x: Any) -> Any:
        """E + A/N^alpha + B/D^beta."""
        return p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta


@dataclass(frozen=True)
class DataConstrained(Law):
    """Chinchilla's law in effective size and data: L = E + A/N'^alpha + B/D'^beta.

    D' = U (1 + R* (1 - exp(-R/R*))), with U = tokens/epochs unique tokens seen R = epochs - 1 times again, R* = R_D*;
    N' likewise from U_N = min(N, (D G)^(beta/alpha) G), the size that the tokens are worth, and R_N = N/U_N - 1, with G
    = (alpha A / (beta B))^(1/(alpha + beta)). One epoch of no fewer tokens than N is worth is Chinchilla's law. U_N is
    that of the authors' code; the paper takes the unique tokens U in place of D.

    Args:
        repeats, excess: R_D* and R_N*.

    Source: Scaling Data-Constrained Language Models (Muennighoff et al., 2023, arXiv 2305.16264).

    Example:
        >>> p = {"E": 1.9, "A": 520.0, "B": 1490.0, "alpha": 0.35, "beta": 0.35}
        >>> [float(DataConstrained()(p, params=1e9, tokens=1e11, epochs=e).round(3)) for e in (1, 4, 44)]
        [2.479, 2.484, 2.572]
    """

    repeats: float = 15.387756
    excess: float = 5.309743

    name = "data-constrained"
    source = MUENNIGHOFF
    columns = ("params", "tokens", "epochs")
    equation = "E + A / N'^alpha + B / D'^beta, N' and D' worth params and tokens after epochs"
    floor = "E"
    parameters = tuple(replace(one, start=one.start or (0.3, 1.0, 3.0)) for one in Chinchilla.parameters)

    def formula(self, p: Any, x: Any) -> Any:
        """Return E + A/N'^alpha + B/D'^beta."""
        unique = x.tokens / x.epochs
        balance = (p.alpha * p.A / (p.beta * p.B)) ** (1.0 / (p.alpha + p.beta))
        worth = np.minimum(x.params, (x.tokens * balance) ** (p.beta / p.alpha) * balance)
        size = worth * (1.0 - self.excess * np.expm1(-(x.params / worth - 1.0) / self.excess))
        data = unique * (1.0 - self.repeats * np.expm1(-(x.epochs - 1.0) / self.repeats))
        return p.E + p.A * size**-p.alpha + p.B * data**-p.beta


HOFFMANN_2022 = published("hoffmann-2022")
BESIROGLU_2024 = published("besiroglu-2024", BESIROGLU)
MUENNIGHOFF_2023 = published("muennighoff-2023", MUENNIGHOFF)
KAPLAN_2020 = published("kaplan-2020")
KAPLAN_2020_PARAMS = published("kaplan-2020-params", KAPLAN)
KAPLAN_2020_TOKENS = published("kaplan-2020-tokens", KAPLAN)
