"""The two-step ladder as its authors ran it, and what happens without their table."""

from __future__ import annotations

import numpy as np
import pytest

from limbeck.errors import RunsError
from limbeck.papers import get
from limbeck.papers.fine_line_downstream import LARGEST_FITTED, ladder
from limbeck.planning import trainings
from limbeck.runs import read_runs

OFFICIAL = {"hellaswag": (82.5, 85.3), "piqa": (81.2, 82.1), "csqa": (75.7, 77.6), "socialiqa": (58.7, 59.9)}


def test_the_ladder_says_what_its_authors_code_says(data_folder):
    """Tasks whose validation split the authors used too: predictions for 7B-4T and 13B-5T, percent."""
    folder = data_folder / "olmo_ladder"
    targets = read_runs(folder / "annealed_targets.csv")
    pool, _ = trainings(read_runs(folder / "checkpoints.csv", skip_bad=True))
    small = [one for one in pool if one.params <= LARGEST_FITTED]
    assert len(small) == 16
    at = {name: targets.column(name) for name in ("params", "tokens")}
    for task, official in OFFICIAL.items():
        np.testing.assert_allclose(ladder(small, task, at), official, atol=0.3)


def test_without_its_table_it_says_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    with pytest.raises(RunsError, match="LIMBECK_DATA"):
        get("fine-line-downstream").run(quick=True)
