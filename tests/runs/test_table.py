from __future__ import annotations

import math

import numpy as np
import pytest

from limbeck.errors import RunsError
from limbeck.runs import read_runs

CHECKPOINTS = {
    "run": ["a", "a", "b", "b", "a"],
    "step": [100, 200, 50, 100, 300],
    "params": [1e6, 1e6, 2e6, 2e6, 1e6],
    "tokens": [1e8, 2e8, 1e8, 2e8, 3e8],
    "loss": [4.0, 3.5, 3.8, 3.3, 3.2],
}


def test_checkpoints_of_a_run_are_one_cluster():
    runs = read_runs(CHECKPOINTS)
    assert runs.clusters().tolist() == [0, 0, 1, 1, 0]
    assert runs.summary().startswith(
        "2 runs · 5 checkpoints · 1 M–2 M parameters · 6e14–2e15 FLOP · loss 3.2–4 nats/token"
    )


def test_runs_of_one_name_are_told_apart_by_seed_and_setup():
    table = {"run": ["a"] * 4, "seed": [0, 0, 1, 1], "tokens": [1, 2, 1, 2], "params": [1] * 4, "loss": [2.0] * 4}
    assert read_runs(table).clusters().tolist() == [0, 0, 1, 1]
    del table["seed"]
    table["dataset"] = ["c4", "c4", "pile", "pile"]
    assert read_runs(table, mix_setups=True).clusters().tolist() == [0, 0, 1, 1]


def test_rows_without_a_run_are_runs_of_their_own():
    runs = read_runs({"N": [1e6, 1e6], "D": [1e8, 2e8], "loss": [3.0, 2.9]})
    assert runs.clusters().tolist() == [0, 1]


def test_column():
    runs = read_runs(
        {"N": [1e6, 2e6], "D": [1e8, 1e8], "loss": [3, 2], "teacher_loss": [None, 2.5], "arch": ["x", "y"]}
    )
    column = runs.column("teacher_loss")
    assert column.dtype == np.float64
    assert math.isnan(column[0]) and column[1] == 2.5
    with pytest.raises(RunsError, match=r'the column "arch" holds text \("x"\), not numbers'):
        runs.column("arch")
    with pytest.raises(RunsError, match="has no column tokns"):
        runs.column("tokns")


def test_require_names_what_is_missing_and_what_is_near():
    runs = read_runs({"N": [1e6], "D": [1e8], "loss_c4_val": [3.0], "seed": [1]})
    with pytest.raises(RunsError) as error:
        runs.require("params", "loss")
    assert 'the data frame has no column loss. Did you mean "loss_c4_val"?' in str(error.value)
    assert "It has: params, tokens, seed, loss_c4_val, flops." in str(error.value)
    assert '--map "their column=loss"' in str(error.value)


def test_require_refuses_rows_that_a_law_cannot_read():
    runs = read_runs(
        {
            "N": [1e6] * 3,
            "D": [1e8, 2e8, 3e8],
            "loss": [3.0] * 3,
            "teacher_params": [0, 2e6, 3e6],
            "teacher_loss": [None, 2, 2],
        }
    )
    assert runs.require("params", "loss") is runs
    with pytest.raises(RunsError) as error:
        runs.require("teacher_loss", "teacher_params")
    assert str(error.value).splitlines() == [
        "the data frame: 1 row cannot be used",
        "  row 1  teacher_loss    missing",
        "  row 1  teacher_params  0: must be positive",
        "Nothing was used. Correct them, or drop them with skip_bad=True (--skip-bad).",
    ]
    kept = runs.require("teacher_loss", "teacher_params", skip_bad=True)
    assert kept.column("tokens").tolist() == [2e8, 3e8]
    assert {problem.row for problem in kept.dropped} == {"row 1"}
    assert "1 row dropped" in kept.summary()


def test_filter_keeps_row_labels():
    runs = read_runs(CHECKPOINTS).filter(["run=b", "tokens>1.5e8"])
    assert runs.rows.to_list() == ["row 4"]
    assert runs.column("loss").tolist() == [3.3]


def test_setups():
    table = {"params": [1e6] * 3, "tokens": [1e8, 2e8, 3e8], "loss": [3.0] * 3, "family": ["opt", "opt", "gpt"]}
    assert read_runs(table, mix_setups=True).setups() == [{"family": "opt", "rows": 2}, {"family": "gpt", "rows": 1}]
    assert read_runs(CHECKPOINTS).setups() == [{"rows": 5}]


def test_a_table_reads_as_itself():
    runs = read_runs(CHECKPOINTS)
    assert read_runs(runs) is runs
    assert len(read_runs(runs, where="run=a")) == 3
