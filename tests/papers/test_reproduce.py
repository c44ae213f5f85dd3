"""Running papers: the pool, crashes, resuming, and mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from _experiments import Dies, NeedsMore, Raises, Steady, Unwritable

from limbeck.errors import ConfigError
from limbeck.papers import Reproduction, reproduce


def test_records_come_in_the_order_asked_with_one_thread_each() -> None:
    told: list[tuple[int, int, str | None]] = []

    def note(done: int, total: int, record: Reproduction | None) -> None:
        told.append((done, total, record and record.slug))

    crashed, steady = reproduce([Raises(), Steady()], progress=note)
    assert crashed.error == "ZeroDivisionError: no such effect"
    assert "no such effect" in crashed.details["traceback"]
    assert crashed.holds is None
    assert (steady.mean, steady.seeds, steady.holds) == (2.0, (0, 1, 2), True)
    assert steady.details["threads"] == "1"
    assert [done for done, _, _ in told] == [1, 2, 3, 4, 5, 6]
    assert {total for _, total, _ in told} == {6}
    assert sorted(slug for _, _, slug in told if slug) == ["raises", "steady"]


def test_a_process_that_dies_takes_no_other_paper_with_it() -> None:
    dead, steady, missing, unwritable = reproduce([Dies(), Steady(), NeedsMore(), Unwritable()], seeds=[0, 1, 0])
    assert dead.error == "the worker process died (out of memory, or killed)"
    assert (steady.mean, steady.seeds) == (1.5, (0, 1))
    assert "pip install 'limbeck[vision]'" in str(missing.error)
    assert str(unwritable.error).startswith("ValueError")


def test_finished_records_are_kept_and_crashed_ones_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count, out = tmp_path / "count", tmp_path / "records"
    monkeypatch.setenv("COUNT", str(count))
    first = reproduce([Steady(), Raises()], seeds=[0, 1], out=out)
    assert sorted(count.read_text().split()) == ["raises-0", "steady-0", "steady-1"]
    count.unlink()
    again = reproduce([Steady(), Raises()], seeds=[0, 1], out=out)
    assert count.read_text().split() == ["raises-0"]
    assert again[0] == first[0]
    assert {path.name for path in out.iterdir()} == {"steady.json", "raises.json"}
    count.unlink()
    reproduce([Steady()], seeds=[0], out=out, workers=1)  # other seeds: another experiment
    reproduce([Steady()], seeds=[0], out=out, workers=1, again=True)
    assert count.read_text().split() == ["steady-0", "steady-0"]
    assert Reproduction.from_dict(json.loads((out / "steady.json").read_text())).seeds == (0,)


def test_a_quick_record_is_not_taken_for_a_full_one(tmp_path: Path) -> None:
    (quick,) = reproduce([Steady()], quick=True, out=tmp_path)
    assert quick.quick
    assert [path.name for path in tmp_path.iterdir()] == ["steady.quick.json"]


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r'unknown paper "hestness-predict"\. Did you mean "hestness-predictable"'):
        reproduce(["hestness-predict"])
    with pytest.raises(ConfigError, match="at least one worker and one seed are needed; given 0 workers"):
        reproduce([Steady()], workers=0)
    with pytest.raises(ConfigError, match=r"seeds \[\]"):
        reproduce([Steady()], seeds=[])
