from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from limbeck.errors import LimbeckError
from limbeck.papers import get
from limbeck.papers.robust_comparison_clip_mammut import coverage
from limbeck.papers.scaling_law_crossover import simulate


@pytest.fixture
def with_data(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(data_folder))


@pytest.mark.usefixtures("with_data")
def test_curves_cross_where_small_scales_mislead() -> None:
    record = get("robust-comparison-clip-mammut").run(quick=True, seeds=[0, 1])
    checks = {name: passed for name, passed in record.checks.items() if "band" not in name}
    assert len(checks) == 4 and all(checks.values())
    case = record.details["datacomp_1b, imagenet1k"]
    assert case["crossing"]["value"] == pytest.approx(9.7e10, rel=0.05)
    assert case["held out"]["clip"]["floor"] == pytest.approx(0.0129, abs=1e-4)
    assert case["held out"]["mammut"]["no floor"] == pytest.approx(0.0196, abs=1e-4)
    assert min(record.effects) > 1.0


@pytest.mark.usefixtures("with_data")
def test_small_runs_alone_give_no_verdict() -> None:
    record = get("scaling-law-crossover").run(quick=True, seeds=[0, 2])
    assert all(record.checks.values())
    assert {case["verdict"] for case in record.details.values() if isinstance(case, dict)} == {"undecided"}


@pytest.mark.parametrize("slug", ["robust-comparison-clip-mammut", "scaling-law-crossover"])
def test_without_its_table_a_paper_names_it(slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))
    with pytest.raises(LimbeckError, match="this needs laion_clip_mammut"):
        get(slug).run(quick=True)


def test_coverage_and_calibration_of_what_is_simulated() -> None:
    ours, published = coverage(0, 60)  # s.e. 3 % and 6 %
    assert ours >= 0.83 and published <= 0.8
    p, right, regret, naive = np.array(simulate(1), float).T
    assert ((p >= 0.5) & (p <= 1)).all() and (regret >= 0).all() and (naive >= 0).all()
    assert (regret > 0).mean() == pytest.approx(1 - right.mean())
