"""Whatever a file holds, the answer is a table or an error that a user can act on."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from limbeck.errors import RunsError
from limbeck.runs import read_runs

quick = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
names = st.sampled_from(
    ["N", "D", "C", "loss", "val_loss", "run", "step", "seed", "family", "note", "", "outlier", "lr"]
)
cells = st.sampled_from(
    ["1", "1e9", "-1", "0", "nan", "inf", "", "x", '"', "true", " 3", "4 ", "7B", "1e999", "-", "é"]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2),
    max_leaves=4,
)


def table_or_error(source, **options):
    try:
        runs = read_runs(source, **options)
    except RunsError as error:
        assert str(error)
        return
    assert len(runs) > 0
    assert runs.summary()
    assert len(runs.clusters()) == len(runs)


@quick
@given(content=st.binary(max_size=200))
@pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.json", "x.parquet", "x.csv.gz"])
def test_bytes(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    table_or_error(path)


@quick
@given(
    head=st.lists(names, min_size=3, max_size=4),
    rows=st.lists(st.lists(cells, min_size=3, max_size=4), max_size=4),
    skip=st.booleans(),
)
def test_cells(tmp_path, head, rows, skip):
    path = tmp_path / "x.csv"
    path.write_text("\n".join(",".join(row) for row in [head, *rows]))
    table_or_error(path, skip_bad=skip, mix_setups=skip)


@quick
@given(records=st.lists(st.dictionaries(names, values, max_size=4), max_size=3), skip=st.booleans())
def test_records(tmp_path, records, skip):
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(json.dumps(record) for record in records))
    table_or_error(path, skip_bad=skip, mix_setups=skip)
    table_or_error(records, skip_bad=skip, mix_setups=skip)


@quick
@given(
    history=st.lists(
        st.dictionaries(st.sampled_from(["step", "loss", "eval_loss", "epoch"]), values) | values, max_size=3
    ),
    total=values,
)
def test_states(tmp_path, history, total):
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps({"log_history": history, "total_flos": total, "global_step": 10}))
    table_or_error(path, skip_bad=True)
