"""Forecasts of task accuracy: exact ladders, the choice by back-test, gates, leaks and bad tables."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from limbeck.errors import PlanningError, RunsError
from limbeck.planning.task_forecast import forecast_tasks, trainings
from limbeck.runs import read_runs

SIZES = (1e8, 2e8, 4e8, 8e8, 1.6e9)
TARGET = {"params": [7e9], "tokens": [4e12]}


def loss(params, tokens, E=0.5):
    return E + 300 * params**-0.33 + 400 * tokens**-0.3


def ladder(noise=0.0, seed=0, checkpoints=60):
    """Four sizes at four lengths; `easy_acc` follows its own loss, `prose_acc` the held-out one, `coin_acc` nothing."""
    rng = np.random.default_rng(seed)
    rows = []
    for params in SIZES:
        for length in (20, 40, 100, 200):
            tokens = params * length * np.arange(1, checkpoints + 1) / checkpoints
            own, c4 = loss(params, tokens), 2 + 2000 * params**-0.4 + 60 * tokens**-0.2
            bent = own + 0.3 * (np.log10(params) - 8.7) ** 2  # a loss that scale does not move steadily
            scatter = noise * rng.normal(size=(3, checkpoints))
            columns = {
                "run": [f"{params:g}-{length}"] * checkpoints,
                "params": [params] * checkpoints,
                "tokens": tokens,
                "easy_bpb": own,
                "prose_bpb": bent,
                "coin_bpb": own,
                "c4_ce": c4,
                "easy_acc": 0.25 + 0.7 / (1 + np.exp(6 * (own - 1.0))) + scatter[0],
                "prose_acc": 0.25 + 0.75 / (1 + np.exp(2 * (c4 - 3.2))) + scatter[1],
                "coin_acc": 0.5 + 0.02 * rng.normal(size=checkpoints),
            }
            rows.append(pl.DataFrame(columns))
    return pl.concat(rows)


@pytest.fixture(scope="module")
def forecast():
    return forecast_tasks(read_runs(ladder()), read_runs(TARGET))


def task(forecast, name):
    return next(one for one in forecast.tasks if one.task == name)


def test_an_exact_ladder_is_forecast_exactly_through_the_right_loss(forecast):
    truth = 0.25 + 0.7 / (1 + np.exp(6 * (loss(7e9, 4e12) - 1.0)))
    easy = task(forecast, "easy")
    best = easy.routes[0]
    assert (best.through, best.ceiling) == ("easy_bpb", None)
    assert best.accuracy[0] == pytest.approx(truth, abs=0.01)  # five checkpoints are averaged where the curve bends
    assert best.error < 2e-3 and easy.error < 0.2 * easy.last_value
    assert easy.accuracy[0].value == pytest.approx(truth, abs=0.01)  # the routes that did badly hardly count
    assert task(forecast, "prose").routes[0].through == "c4_ce"
    assert sum(route.weight for route in easy.routes) == pytest.approx(1.0)
    assert easy.accuracy[0].lower <= easy.accuracy[0].value <= easy.accuracy[0].upper


def test_a_score_that_only_scatters_gets_no_number(forecast):
    coin = task(forecast, "coin")
    assert coin.dynamics.verdict == "noise" and coin.doubt.startswith("noise: gain")
    line = next(line for line in forecast.summary().splitlines() if line.startswith("coin"))
    assert "–" in line and "noise" in line


def test_the_interval_grows_with_the_noise_and_the_level():
    noisy = read_runs(ladder(noise=0.03))
    wide, narrow = (forecast_tasks(noisy, read_runs(TARGET), tasks=["easy"], level=p).tasks[0] for p in (0.9, 0.5))
    assert wide.accuracy[0].upper - wide.accuracy[0].lower > narrow.accuracy[0].upper - narrow.accuracy[0].lower
    quiet = forecast_tasks(read_runs(ladder(noise=0.001)), read_runs(TARGET), tasks=["easy"], level=0.9).tasks[0]
    assert wide.error > quiet.error


def test_what_targets_score_is_never_looked_at():
    """Neither accuracies in the table of targets nor checkpoints of models as large as they are move a forecast."""
    clean = ladder(noise=0.01)
    leak = clean.filter(pl.col("params") == 1.6e9).with_columns(
        run=pl.lit("giant"), params=pl.lit(7e9), easy_acc=pl.lit(0.1), tokens=pl.col("tokens") * 50
    )
    leak = leak.filter(pl.int_range(pl.len()) < 60)
    plain = forecast_tasks(read_runs(clean), read_runs(TARGET), tasks=["easy"])
    told = forecast_tasks(read_runs(pl.concat([clean, leak])), read_runs(TARGET | {"easy_acc": [0.1]}), tasks=["easy"])
    assert plain.tasks[0].accuracy == told.tasks[0].accuracy
    assert told.tasks[0].measured == (0.1,) and plain.tasks[0].measured == (None,)
    assert "as large as a target: giant" in told.notes[0]


def test_repeats_and_reversed_checkpoints_are_left_out_and_the_rest_goes_on():
    table = ladder().with_columns(step=pl.col("tokens").rank("ordinal").over("run").cast(pl.Float64))
    again = table.filter(pl.col("run") == "2e+08-20").with_columns(run=pl.lit("again"))
    back = table.filter(pl.col("run") == "4e+08-20").with_columns(run=pl.lit("back"), step=61 - pl.col("step"))
    pool, notes = trainings(read_runs(pl.concat([table, again, back])))
    assert len(pool) == 20
    assert [note.split(": ")[0] for note in notes] == [
        "left out, repeats of another run",
        "left out, reversed checkpoints",
    ]
    assert "back" in notes[1]


def test_final_results_without_run_names_are_enough():
    table = ladder(checkpoints=1).drop("run", "coin_acc", "coin_bpb")
    easy = task(forecast_tasks(read_runs(table), read_runs(TARGET)), "easy")
    assert easy.dynamics.verdict == "insufficient" and not easy.doubt
    truth = 0.25 + 0.7 / (1 + np.exp(6 * (loss(7e9, 4e12) - 1.0)))
    assert easy.routes[0].accuracy[0] == pytest.approx(truth, abs=1e-4)


def test_one_bad_task_does_not_stop_the_others():
    table = ladder().with_columns(
        percent_acc=100 * pl.col("easy_acc"), solved_acc=pl.lit(0.999), empty_acc=pl.lit(None, pl.Float64)
    )
    found = forecast_tasks(read_runs(table), read_runs(TARGET))
    assert "write fractions" in task(found, "percent").problem
    assert "saturated" in task(found, "solved").doubt
    assert "missing" in task(found, "empty").problem
    assert not task(found, "easy").doubt
    assert all(name in found.summary() for name in ("percent", "solved", "empty", "easy"))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda t: t.drop("easy_acc", "prose_acc", "coin_acc"), PlanningError, "name such columns TASK_acc"),
        (
            lambda t: t.drop("easy_acc", "prose_acc", "coin_acc").with_columns(easy_err=pl.lit(0.5)),
            PlanningError,
            "easy_err holds errors: accuracy is 1 - error",
        ),
        (lambda t: t.filter(pl.col("params") < 7e8), PlanningError, "three sizes below it"),
        (lambda t: t.drop("tokens", "run"), RunsError, "no column tokens"),
    ],
)
def test_tables_that_cannot_be_used(change, error, words):
    with pytest.raises(error, match=words):
        forecast_tasks(read_runs(change(ladder())), read_runs(TARGET))


def test_unknown_names_get_a_hint():
    with pytest.raises(PlanningError, match='Did you mean "easy"'):
        forecast_tasks(read_runs(ladder()), read_runs(TARGET), tasks=["easi"])
    with pytest.raises(RunsError, match="no column c4_loss"):
        forecast_tasks(read_runs(ladder()), read_runs(TARGET), through=["c4_loss"])


def test_the_record_is_plain(forecast):
    record = json.loads(json.dumps(forecast.to_dict(), allow_nan=False))
    assert record["tasks"][0]["routes"][0]["through"] == "easy_bpb"
    assert len(forecast.plot().data) == 2
