from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Loss
from limbeck.laws import DownstreamError, OvertrainedLoss, Overtraining, chain, informative

RAW = Loss(delta=math.inf, space="linear")
TESTBED = {"c4_original": (5.6, 1.1), "rpj": (5.3, 1.0), "rw_original": (5.3, 0.9)}


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 1e3), st.floats(1, 1e3), st.floats(0.1, 0.8), st.floats(1e6, 1e11), st.floats(1, 1e3))
def test_both_forms_agree(A, B, alpha, n, m):
    law = OvertrainedLoss.from_nd(1.8, A, B, alpha)
    loss = Overtraining()(law.to_nd(), params=n, tokens=m * n)
    assert_allclose(law(flops=6 * n * n * m, multiplier=m), loss, rtol=1e-12)
    assert_allclose(loss, 1.8 + A * n**-alpha + B * (m * n) ** -alpha, rtol=1e-12)


def test_lines_are_parallel_and_the_best_multiplier_is_least():
    law = OvertrainedLoss(1.8, 212.0, 367.0, 0.136)
    c = np.array([1e18, 1e22])
    for m in (5, 20, 640):
        assert_allclose(np.diff(np.log(law(flops=c, multiplier=m) - 1.8)) / np.diff(np.log(c)), -0.136, rtol=1e-9)
    best = law.best_multiplier()
    assert_allclose(best, (367 / 212) ** (1 / 0.272), rtol=1e-12)
    beside = law(flops=1e20, multiplier=best * np.array([0.9, 1.1]))
    assert (beside > law(flops=1e20, multiplier=best)).all()


def test_exponents_that_differ_keep_the_exponent_in_compute():
    n, m = 1e8, np.array([20.0, 640.0])
    p = {"E": 1.7, "A": 400.0, "B": 500.0, "alpha": 0.34, "beta": 0.28}
    c = 6 * n * n * m
    assert_allclose(
        laws.Chinchilla()(p, params=n, tokens=n * m),
        1.7 + 400 * (c / (6 * m)) ** -0.17 + 500 * (c * m / 6) ** -0.14,
        rtol=1e-12,
    )


def test_error_rises_with_loss_towards_epsilon_and_reads_perplexity():
    p = {"epsilon": 0.85, "k": 2.2, "gamma": 0.7}
    losses = np.linspace(1.5, 40, 50)
    error = DownstreamError()(p, loss=losses)
    assert (np.diff(error) > 0).all() and (error <= 0.85).all()
    assert_allclose(error, 0.85 - 2.2 * np.exp(losses) ** -0.7, rtol=1e-12)
    assert informative([0.99, 0.9, 0.5], 0.9).tolist() == [False, False, True]


def runs(data_folder, train_set):
    table = pl.read_csv(data_folder / "overtraining-testbed" / "runs.csv").filter(pl.col("train_set") == train_set)
    table = table.with_columns(M=20 * pl.col("chinchilla_multiplier"))
    return {
        "params": table["n_params"].to_numpy().astype(float),
        "M": table["M"].to_numpy(),
        "loss": table["loss_c4_val"].to_numpy(),
        "error": table["err_avg_17"].to_numpy(),
    }


def fitted(columns, chosen, law="overtraining", **options):
    rows = {k: v[chosen] for k, v in columns.items()}
    return laws.fit(law, {**rows, "tokens": rows["M"] * rows["params"]}, **{"bootstrap": 0, **options})


def small_runs(r):
    """The five training runs of the loss law and the sixth of the error law."""
    base = (r["M"] == 20) & (r["params"] < 1e9)
    far = (r["M"] == 320) & (r["params"] < 2e7)
    return base | far, base | far | ((r["M"] == 20) & (r["params"] < 2e9))


@pytest.mark.parametrize("train_set", TESTBED)
def test_over_trained_runs_are_predicted_three_times_better_than_by_compute_alone(data_folder, train_set):
    r = runs(data_folder, train_set)
    five, _ = small_runs(r)
    assert five.sum() == 5
    over = r["M"] >= 160
    at = {"params": r["params"][over], "tokens": (r["M"] * r["params"])[over]}
    law = fitted(r, five, loss=RAW)
    flops = 6 * r["params"] ** 2 * r["M"]
    line = laws.fit(
        "power-floor:flops",
        {"flops": flops[r["M"] == 20], "loss": r["loss"][r["M"] == 20]},
        loss=RAW,
        bootstrap=0,
    )
    miss = 100 * np.mean(np.abs(law.value(**at) / r["loss"][over] - 1))
    baseline = 100 * np.mean(np.abs(line.value(flops=flops[over]) / r["loss"][over] - 1))
    published_baseline, published = TESTBED[train_set]
    assert abs(miss - published) < 0.06
    assert abs(baseline - published_baseline) < 0.5 and baseline > 3 * miss


def test_published_headlines(data_folder):
    """RedPajama: 1.4 B at M = 640 and 6.9 B at M = 20, loss errors 0.7 %, task errors 3.6 % and 0.05 %."""
    r = runs(data_folder, "rpj")
    five, six = small_runs(r)
    loss, error = fitted(r, five, loss=RAW), fitted(r, six, law="downstream-error")
    for params, m, loss_miss, error_miss in ((1.4e9, 640, 0.7, 3.6), (6.9e9, 20, 0.7, 0.05)):
        at = int(np.argmin(np.abs(np.log(r["params"] / params)) + np.abs(np.log(r["M"] / m))))
        predicted = loss.value(params=r["params"][at], tokens=r["M"][at] * r["params"][at])
        assert abs(100 * abs(predicted / r["loss"][at] - 1) - loss_miss) < 0.05
        chained = error.value(loss=predicted)
        assert abs(100 * abs(chained / r["error"][at] - 1) - error_miss) < 0.05
    without = fitted(r, five, law="downstream-error")
    chained = without.value(loss=predicted)
    assert abs(100 * abs(chained / r["error"][at] - 1) - 10.64) < 0.1


@pytest.mark.parametrize("train_set", TESTBED)
def test_log_and_raw_residuals_tell_the_same_story(data_folder, train_set):
    r = runs(data_folder, train_set)
    five, _ = small_runs(r)
    usual = r["M"] >= 20
    at = {"params": r["params"][usual], "tokens": (r["M"] * r["params"])[usual]}
    raw, log = (fitted(r, five, loss=kind).value(**at) for kind in (RAW, SQUARED))
    assert np.mean(np.abs(log / raw - 1)) < 0.003


def test_chained_interval_holds_the_truth_and_grows_with_the_error_of_the_loss(data_folder):
    r = runs(data_folder, "rpj")
    many = (r["M"] >= 20) & (r["params"] < 1e9)
    loss = fitted(r, many, loss=SQUARED, bootstrap=300)
    error = fitted(r, many, law="downstream-error", bootstrap=300)
    at = int(np.argmax(r["params"]))
    where = {"params": r["params"][at], "tokens": r["M"][at] * r["params"][at]}
    chained = chain(loss, error, level=0.95, **where)
    assert chained.lower[0] < r["error"][at] < chained.upper[0]
    assert_allclose(chained.mean, error.value(loss=loss.value(**where)))
    alone = error.predict(0.95, loss=loss.value(**where))
    assert chained.upper[0] - chained.lower[0] > alone.upper[0] - alone.lower[0]


def test_no_interval_from_one_degree_of_freedom(data_folder):
    r = runs(data_folder, "rpj")
    five, six = small_runs(r)
    with pytest.raises(FittingError, match="no interval possible"):
        chain(fitted(r, five), fitted(r, six, law="downstream-error"), params=1e9, tokens=2e10)
