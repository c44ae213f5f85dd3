"""The reproductions that forecast what a model can do on a task."""

from __future__ import annotations

from pathlib import Path

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
