from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest

from limbeck.errors import FittingError, PlanningError, RunsError
from limbeck.planning import compare_splits

SIZE, DATA = 1e9, 1e10


def ladder(noise: float = 0.005, seed: int = 0) -> pl.DataFrame:
    """Sizes at the largest corpus, corpora at the largest size; size helps both splits, data the first only."""
    sizes, data = np.geomspace(1e4, SIZE, 7), np.geomspace(1e7, DATA, 6)[:-1]
    params, samples = np.r_[sizes, np.full(5, SIZE)], np.r_[np.full(7, DATA), data]
    rng = np.random.default_rng(seed)
    law = lambda a, b: 2 * (params / SIZE) ** -a * (samples / DATA) ** -b * np.exp(noise * rng.normal(size=12))  # noqa: E731
    return pl.DataFrame({"params": params, "samples": samples, "id": law(0.03, 0.09), "ood": law(0.03, 0.02)})


def test_verdicts_and_advice_per_split():
    plan = compare_splits(ladder(), ["id", "ood"])
    verdicts = {(row.scale, row.split): row.verdict for row in plan.rows}
    assert verdicts["params", "ood"] == "scales alike" and verdicts["samples", "ood"] == "specialises"
    assert plan.advice == {"id": "samples", "ood": "params"}
    assert [row.law.trend.points for row in plan.rows] == [7, 7, 6, 6]
    text = plan.summary()
    assert "id: double the samples" in text and max(map(len, text.splitlines())) <= 88
    record = json.loads(json.dumps(plan.to_dict()))
    assert record["rows"][0]["alpha"]["value"] == pytest.approx(0.03, abs=0.005)


def test_doubt_is_an_answer():
    runs = ladder(noise=0.5)
    plan = compare_splits(runs, ["id", "ood"])
    assert plan.advice["ood"] is None and "cannot be told apart" in plan.summary()


def test_missing_cells_and_short_scales_are_named():
    runs = ladder().with_columns(ood=pl.when(pl.col("params") < SIZE).then(None).otherwise("ood"))
    plan = compare_splits(runs, ["id", "ood"])
    assert plan.notes == ("params, ood: fewer than three runs that differ in params alone",)
    assert [row.split for row in plan.rows] == ["id", "id", "ood"]


def test_a_loss_that_never_moves_is_said_and_the_others_go_on():
    runs = ladder().with_columns(flat=pl.lit(1.5))
    plan = compare_splits(runs, ["id", "flat", "ood"])
    assert "params, flat: the same loss everywhere, nothing to extrapolate" in plan.notes
    assert {row.split for row in plan.rows} == {"id", "ood"}
    with pytest.raises(PlanningError, match="params, flat: the same loss everywhere"):
        compare_splits(runs, ["flat"])
    with pytest.raises(RunsError, match="no column params and no column samples"):
        compare_splits({"a": [1.0, 2.0, 3.0]}, ["a"])


def test_tables_that_cannot_answer():
    with pytest.raises(PlanningError, match="three or more runs are needed along a scale"):
        compare_splits(ladder()[[0, 1]], ["id", "ood"])
    with pytest.raises(RunsError, match="no column other"):
        compare_splits(ladder(), ["id", "other"])
    with pytest.raises(FittingError, match="losses above zero"):
        compare_splits(ladder().with_columns(ood=pl.col("ood") - 5.0), ["id", "ood"])
    with pytest.raises(PlanningError, match="three or more"):
        compare_splits({"params": [1e3, 1e4, 1e5], "id": [2.0, 1.9, math.nan], "ood": [2.0, 1.9, 1.8]}, ["id", "ood"])
