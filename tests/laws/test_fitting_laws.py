from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import FittingError, RunsError
from limbeck.laws import BESIROGLU_2024
from limbeck.runs import read_runs

RNG = np.random.default_rng(0)
N, D = np.exp(RNG.uniform(np.log(1e7), np.log(1e9), 30)), np.exp(RNG.uniform(np.log(1e9), np.log(1e11), 30))
LOSS = BESIROGLU_2024.value(params=N, tokens=D) * np.exp(0.01 * RNG.standard_normal(30))
COLUMNS = {"params": N, "tokens": D, "loss": LOSS}


def test_every_kind_of_table_gives_the_same_fit(tmp_path):
    frame = pl.DataFrame(COLUMNS)
    frame.write_csv(tmp_path / "runs.csv")
    sources = [COLUMNS, frame, frame.to_pandas(), tmp_path / "runs.csv", str(tmp_path / "runs.csv"), read_runs(frame)]
    fits = [laws.fit("chinchilla", source, bootstrap=0) for source in sources]
    for fit in fits[1:]:
        assert_allclose(list(fit.parameters.values()), list(fits[0].parameters.values()), rtol=1e-9)
    assert fits[0].units == {"params": "parameters", "tokens": "tokens", "loss": "nats/token"}


def test_a_law_and_its_name_are_the_same():
    by_name, by_law = (laws.fit(law, COLUMNS, bootstrap=0) for law in ("chinchilla", laws.Chinchilla()))
    assert by_name.parameters == by_law.parameters
    line = laws.fit("power-floor:params", COLUMNS, bootstrap=0)
    assert line.model == laws.PowerFloor("params")


def test_checkpoints_of_a_run_are_one_cluster():
    runs = {**COLUMNS, "run": [f"r{i // 3}" for i in range(30)], "step": np.arange(30) % 3 + 1}
    fit = laws.fit("chinchilla", runs, bootstrap=0)
    assert np.bincount(fit.data.clusters).tolist() == [3] * 10


def test_a_law_brings_its_own_loss():
    losses = np.linspace(2, 4, 12)
    fit = laws.fit("downstream-error", {"loss": losses, "error": 0.85 - 2 * np.exp(-0.7 * losses)}, bootstrap=0)
    assert fit.loss == laws.DownstreamError.preferred_loss and fit.loss.space == "linear"
    assert laws.fit("chinchilla", COLUMNS, bootstrap=0).loss.delta == 1e-3


def test_rows_and_columns_that_cannot_be_used():
    with pytest.raises(RunsError, match="teacher_loss"):
        laws.fit("distillation", COLUMNS)
    bad = {**COLUMNS, "loss": [float("nan"), *LOSS[1:]]}
    with pytest.raises(RunsError, match="loss"):
        laws.fit("chinchilla", bad)
    assert len(laws.fit("chinchilla", bad, bootstrap=0, skip_bad=True).data) == 29
    partly = {**COLUMNS, "teacher_loss": [None, *np.linspace(1.9, 2.5, 29)]}
    fixed = {k: laws.DISTILLATION_2025.parameters[k] for k in ("c0", "c1", "f1", "d1", "gamma")}
    assert len(laws.fit("distillation", partly, fixed=fixed, bootstrap=0, skip_bad=True).data) == 29


def test_files_that_are_no_fits(tmp_path):
    with pytest.raises(FittingError, match=r"none\.json does not exist\. Write one with"):
        laws.load_fit(tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(FittingError, match="is not a saved fit"):
        laws.load_fit(tmp_path / "a.json")
    fit = laws.fit("chinchilla", COLUMNS, bootstrap=5)
    record = fit.to_dict()
    (tmp_path / "b.json").write_text(json.dumps({**record, "law": "gone"}))
    with pytest.raises(FittingError, match='unknown law "gone"'):
        laws.load_fit(tmp_path / "b.json")
    again = laws.load_fit(fit.save(tmp_path / "c.json"))
    at = {"params": 1e9, "tokens": 1e11}
    assert_allclose(again.predict(**at).lower, fit.predict(**at).lower)


def test_the_better_law_wins_on_the_largest_runs():
    comparison = laws.compare(["power", laws.Chinchilla()], COLUMNS, bootstrap=50)
    assert [c.name for c in comparison.candidates] == ["chinchilla", "power"]
    assert comparison.candidates[0].validation.error < 0.5 * comparison.candidates[1].validation.error
    assert comparison.candidates[1].fit.model.columns == ("flops",)
    with pytest.raises(FittingError, match="must predict the same column"):
        laws.compare(["chinchilla", "downstream-error"], COLUMNS)
    with pytest.raises(FittingError, match="none given"):
        laws.compare([], COLUMNS)


def test_holdout_and_delta_reach_the_engine():
    fit = laws.fit("chinchilla", COLUMNS, bootstrap=20, holdout=0.3, delta="auto")
    assert len(fit.holdout.cuts) == 1 and fit.holdout.cuts[0].fraction == 0.7
    assert 0.002 < fit.loss.delta < 0.05


def test_catalogue_is_plain_and_complete():
    records = laws.catalogue()
    assert [r["law"] for r in records] == laws.names()
    kaplan = next(r for r in records if r["law"] == "kaplan")
    assert kaplan["columns"] == ["params", "tokens"] and kaplan["parameters"]["N_c"] == "size scale"
    assert "2001.08361" in kaplan["source"]
    json.dumps(records)


def test_a_law_that_the_runs_cannot_carry_is_left_out_with_the_reason():
    """Six runs of one size: a law of two columns cannot be resampled, one of data alone can."""
    tokens = np.geomspace(1e9, 3e11, 6)
    runs = {"params": np.full(6, 1e9), "tokens": tokens, "loss": 1.8 + 2100 * tokens**-0.37}
    compared = laws.compare(["chinchilla", "power"], runs, bootstrap=50)
    assert [c.name for c in compared.candidates] == ["power"]
    assert "distinct configurations" in compared.to_dict()["left_out"]["chinchilla"]
    assert "chinchilla left out: " in compared.summary()
