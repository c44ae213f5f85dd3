"""The reproductions that forecast what a model can do on a task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import LimbeckError
from limbeck.papers import get


def test_log_law_forecasts_rising_tasks_and_refuses_flat_ones(data_folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(data_folder))
    record = get("downstream-transfer-bleu").run(quick=True)
    assert record.holds is True
    assert record.details["better than"]["last value"] == 7
    assert record.details["error"]["hellaswag"]["log-law"] < 2
    assert record.details["share of models aligned"]["hellaswag"] == 1


def test_transfer_without_its_table_says_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    with pytest.raises(LimbeckError, match="in the folder that LIMBECK_DATA names"):
        get("downstream-transfer-bleu").run(quick=True)


def test_pass_rates_are_measured_and_predict_larger_sizes() -> None:
    pytest.importorskip("sklearn")
    pytest.importorskip("torch")
    paper = get("passuntil")
    measured = [paper.measure(0, quick=True)]
    assert measured[0]["counts"].shape == (4, 800, 2) and measured[0]["counts"].max() <= 100_000
    found = paper.conclude(measured)
    assert found.details["error"]["law with a floor"] < found.details["error"]["law"]
    truth = np.array(found.details["pass rate"])[1:4]
    # relative s.e. of the mean of 800 rates from five passes each: below 5 %
    np.testing.assert_allclose(found.details["measured"][1:], truth, rtol=0.2)
    assert truth[0] < 0.01 < truth[-1]
