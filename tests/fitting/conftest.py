"""Small laws and data sets that the tests of the fitting room share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from limbeck.fitting import Data, Fit, Model, Parameter, fit

TRUTH = {"E": 1.81722, "A": 477.83, "B": 2143.4, "alpha": 0.34731, "beta": 0.36717}


class TwoPowers(Model):
    """E + A / params^alpha + B / tokens^beta."""

    name = "two-powers"
    columns = ("params", "tokens")
    target = "loss"
    linear = ("E", "A", "B")
    floor = "E"
    equation = "loss = E + A / params^alpha + B / tokens^beta"
    parameters = (
        Parameter("E", log=True),
        Parameter("A", log=True, dimension={"params": "alpha"}),
        Parameter("B", log=True, dimension={"tokens": "beta"}),
        Parameter("alpha", start=(0.1, 0.3, 0.6, 1.0), lower=0.0, upper=5.0),
        Parameter("beta", start=(0.1, 0.3, 0.6, 1.0), lower=0.0, upper=5.0),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """Three terms."""
        return p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta


class PowerFloor(Model):
    """E + A / x^alpha."""

    name = "power-floor"
    columns = ("x",)
    target = "y"
    linear = ("E", "A")
    floor = "E"
    equation = "y = E + A / x^alpha"
    parameters = (
        Parameter("E", log=True),
        Parameter("A", log=True, dimension={"x": "alpha"}),
        Parameter("alpha", start=(0.05, 0.1, 0.2, 0.35, 0.6, 1.0), lower=0.0, upper=5.0),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """Two terms."""
        return p.E + p.A * x.x**-p.alpha


class Power(Model):
    """A / x^alpha."""

    name = "power"
    columns = ("x",)
    target = "y"
    linear = ("A",)
    parameters = (
        Parameter("A", log=True, dimension={"x": "alpha"}),
        Parameter("alpha", start=(0.1, 0.35, 0.6, 1.0)),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """One term."""
        return p.A * x.x**-p.alpha


class Line(Model):
    """offset + slope x."""

    name = "line"
    columns = ("x",)
    target = "y"
    linear = ("offset", "slope")
    parameters = (Parameter("offset"), Parameter("slope"))

    def formula(self, p: Any, x: Any) -> Any:
        """Two terms."""
        return p.offset + p.slope * x.x


@pytest.fixture(scope="session")
def two_powers() -> TwoPowers:
    return TwoPowers()


@pytest.fixture(scope="session")
def power_floor() -> PowerFloor:
    return PowerFloor()


@pytest.fixture(scope="session")
def power() -> Power:
    return Power()


@pytest.fixture(scope="session")
def line() -> Line:
    return Line()


@pytest.fixture(scope="session")
def truth() -> dict[str, float]:
    return dict(TRUTH)


@pytest.fixture(scope="session")
def grid() -> dict[str, np.ndarray]:
    """Thirty settings on a full grid of sizes and budgets."""
    return {"params": np.repeat(np.geomspace(1e8, 3e9, 6), 5), "tokens": np.tile(np.geomspace(2e9, 1e11, 5), 6)}


@pytest.fixture(scope="session")
def noisy(two_powers: TwoPowers, grid: dict[str, np.ndarray]) -> np.ndarray:
    """Losses on the grid with 1 % noise."""
    return two_powers(TRUTH, **grid) * np.exp(0.01 * np.random.default_rng(7).standard_normal(30))


@pytest.fixture(scope="session")
def chinchilla_runs(data_folder: Path) -> Data:
    """The 240 runs that Besiroglu et al. (2024, arXiv 2404.10102) read off a figure of Hoffmann et al. (2022)."""
    runs = pl.read_csv(data_folder / "chinchilla-runs" / "runs.csv").filter(pl.col("outlier") == 0)
    columns = {"params": runs["n_params"].to_numpy(), "tokens": runs["tokens"].to_numpy()}
    return Data.of(TwoPowers(), columns, runs["loss"].to_numpy())


@pytest.fixture(scope="session")
def chinchilla_fit(two_powers: TwoPowers, chinchilla_runs: Data) -> Fit:
    """The law on the 240 runs with 400 resamples and the largest 30 % held out once."""
    return fit(two_powers, chinchilla_runs.columns, chinchilla_runs.target, bootstrap=400, holdout=0.3)
