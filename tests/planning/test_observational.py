"""Tasks of larger models from published benchmarks, against compute alone."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from limbeck.errors import PlanningError
from limbeck.planning import observe_task

NOTE = {
    "parsinlu_qa_2_acc": (0.026, 0.031, 0.012),
    "arithmetic_2dm_2_acc": (0.137, 0.381, 0.046),
    "arithmetic_2da_2_acc": (0.003, 0.175, 0.002),
    "arithmetic_3da_2_acc": (0.025, 0.379, 0.043),
    "arithmetic_3ds_2_acc": (0.002, 0.395, 0.033),
    "ipa_transliterate_2_exact_match": (0.533, 0.041, 0.027),
    "word_unscrambling_2_exact_match": (0.018, 0.133, 0.104),
}
"""Mean square error above 84e21 FLOP by compute, by size, by three components."""


@pytest.fixture(scope="module")
def table(data_folder):
    folder = data_folder / "observational_llm"
    models = pl.read_csv(folder / "base_llm_benchmark_eval.csv").filter(pl.col("FLOPs (1E21)").is_not_null())
    both = pl.read_csv(folder / "base_llm_emergent_capability_eval.csv").join(models, on="Model")
    return both.select(models.columns[5:]).to_numpy(), both


@pytest.mark.parametrize("task", NOTE)
def test_errors_are_those_of_the_note(table, task):
    """Its optimum of compute in multiplication (0.137) is a local one; its components saw the larger models."""
    x, both = table
    by_compute, by_size, by_components = NOTE[task]
    found = observe_task(x, both[task].to_numpy(), both["FLOPs (1E21)"].to_numpy(), cutoff=84.0, skills=3)
    assert found.error == pytest.approx(by_components, abs=0.017)
    assert found.error < by_size
    if task != "arithmetic_2dm_2_acc":
        assert found.by_compute == pytest.approx(by_compute, abs=0.025)
    json.dumps(found.to_dict())


def test_a_rise_out_of_sight_is_said(table):
    x, both = table
    found = observe_task(x, both["parsinlu_qa_2_acc"].to_numpy(), both["FLOPs (1E21)"].to_numpy(), cutoff=84.0)
    assert "no known model scores above" in found.summary()
    assert found.order.value > 0.85


def simulated(seed=0):
    """Six families of one capability that differ in how compute becomes capability."""
    rng = np.random.default_rng(seed)
    c = np.exp(rng.uniform(np.log(1e20), np.log(1e24), 60))
    s = 0.3 * np.log(c / 1e22) + np.tile(rng.normal(0, 1.0, 6), 10)
    x = expit_rows(s, [0.5, 1.0, 0.8]) + rng.normal(0, 0.005, (60, 3))
    return c, x, expit_rows(s, [1.5])[:, 0]


def expit_rows(s, weights):
    return 1 / (1 + np.exp(-np.outer(s, weights)))


def test_benchmarks_beat_compute_where_families_differ():
    c, x, y = simulated()
    found = observe_task(x, y, c, cutoff=1e23)
    assert found.error < 0.2 * found.by_compute
    assert found.order.value > found.order_by_compute.value
    again = observe_task(x[::-1], y[::-1], c[::-1], cutoff=1e23)
    assert again.error == pytest.approx(found.error, rel=1e-6)


def test_larger_scores_are_only_compared():
    c, x, y = simulated()
    hidden = observe_task(x, np.where(c > 1e23, np.nan, y), c, cutoff=1e23)
    shown = observe_task(x, y, c, cutoff=1e23)
    assert hidden.score == shown.score and hidden.error is None and hidden.order is None
    assert "measured there" not in hidden.summary()


def test_bad_input_is_refused():
    c, x, y = simulated()
    with pytest.raises(PlanningError, match="ten scored models"):
        observe_task(x, y, c, cutoff=1e19)
    with pytest.raises(PlanningError, match="fractions"):
        observe_task(x, 100 * y, c, cutoff=1e23)
