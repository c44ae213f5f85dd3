from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from limbeck.errors import FittingError
from limbeck.laws import Chinchilla, ComputeFrontier, Trend, isoflop, parabola_bias

LAW = {"E": 1.7, "A": 400.0, "B": 500.0, "alpha": 0.34, "beta": 0.28}
BUDGETS = np.geomspace(6e18, 3e21, 9)


def grid(parameters, spread, shift=1.0):
    centre = ComputeFrontier.of(parameters).params(BUDGETS)
    return {c: n * shift * np.geomspace(1 / spread, spread, 9) for c, n in zip(BUDGETS, centre, strict=True)}


def columns(sizes):
    params = np.concatenate(list(sizes.values()))
    return params, np.repeat(list(sizes), [len(s) for s in sizes.values()])


def test_exact_parabolas_give_exact_vertices():
    params, flops = columns(grid(LAW, 8))
    optimum = 3e8 * (flops / 1e20) ** 0.5
    found = isoflop(params, flops, 2 + 0.05 * np.log(params / optimum) ** 2)
    assert_allclose([p.optimum for p in found.profiles], 3e8 * (BUDGETS / 1e20) ** 0.5, rtol=1e-9)
    assert_allclose(found.size.exponent, 0.5, rtol=1e-9)
    assert_allclose(found.data.value(1e20) * found.size.value(1e20) * 6, 1e20, rtol=1e-9)


def test_vertices_outside_the_sizes_are_flagged_not_used():
    params, flops = columns(grid(LAW, 8))
    optimum = np.where(flops > 1e21, 1e14, 3e8 * (flops / 1e20) ** 0.5)
    found = isoflop(params, flops, 2 + 0.05 * np.log(params / optimum) ** 2)
    flagged = [p for p in found.profiles if p.optimum is None]
    assert [p.flops > 1e21 for p in found.profiles] == [p.optimum is None for p in found.profiles]
    assert all(p.flag == "optimum outside the sizes tried (above)" for p in flagged)
    assert_allclose(found.size.exponent, 0.5, rtol=1e-9)
    with pytest.raises(FittingError, match=r"0 of 9 budgets bracket their optimum.*opens downwards"):
        isoflop(params, flops, 2 - 0.05 * np.log(params / optimum) ** 2)


def test_parabolas_are_biased_without_any_noise():
    """Centred sizes: no bias where the exponents agree, a shifted optimum where not; drifting sizes: a tilt too."""
    symmetric = parabola_bias({**LAW, "beta": 0.34}, grid({**LAW, "beta": 0.34}, 16))
    assert_allclose(symmetric.ratio, 1.0, rtol=1e-9)
    bias = parabola_bias(LAW, grid(LAW, 16))
    assert (np.abs(bias.ratio - 1) > 0.02).all()
    assert abs(bias.exponent) < 1e-6
    wider = parabola_bias(LAW, grid(LAW, 64))
    assert (np.abs(wider.ratio - 1) > np.abs(bias.ratio - 1)).all()
    drifting = {c: n * (c / 1e20) ** 0.15 for c, n in grid(LAW, 16).items()}
    assert abs(parabola_bias(LAW, drifting).exponent) > 0.003
    assert "without any noise" in bias.summary()


def test_bias_of_the_users_own_runs():
    params, flops = columns(grid(LAW, 16))
    loss = Chinchilla()(LAW, params=params, tokens=flops / (6 * params))
    found = isoflop(params, flops, loss)
    measured = np.array([p.optimum for p in found.profiles]) / ComputeFrontier.of(LAW).params(BUDGETS)
    assert_allclose(found.bias(LAW).ratio, measured, rtol=1e-9)


def test_noise_and_interpolate_is_nearer_to_the_truth():
    truth = ComputeFrontier.of(LAW).params(BUDGETS)
    params = (truth[:, None] * np.geomspace(1 / 16, 16, 25)).ravel()
    flops = np.repeat(BUDGETS, 25)
    loss = Chinchilla()(LAW, params=params, tokens=flops / (6 * params))
    akima = isoflop(params, flops, loss, method="akima", noise=1e-4)
    parabola = isoflop(params, flops, loss)
    miss = [np.abs(np.log([p.optimum for p in f.profiles] / truth)).mean() for f in (akima, parabola)]
    assert miss[0] < miss[1] / 2
    assert all(0 < p.log_sd < 0.3 for p in akima.profiles)


@pytest.mark.parametrize(
    ("setting", "exponent"),
    [
        (("base", "long", "kaplan", "kaplan"), 0.834),
        (("base", "long", "kaplan", "standard"), 0.701),
        (("base", "short", "kaplan", "standard"), 0.604),
        (("base", "short", "chinchilla", "standard"), 0.571),
        (("tuned", "short", "const", "standard"), 0.497),
    ],
)
def test_published_optima_give_the_published_exponents(data_folder, setting, exponent):
    table = pl.read_csv(data_folder / "isoflop-optima" / "optima.csv")
    keys = ("hparams", "warmup", "decay", "param_count")
    rows = table.filter([pl.col(k) == v for k, v in zip(keys, setting, strict=True)]).drop_nulls(["n"])
    trend = Trend.through(rows["flops"].to_numpy(), rows["n"].to_numpy())
    assert abs(trend.exponent - exponent) < 0.01
