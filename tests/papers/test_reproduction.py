"""The verdict, the record and its words."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from limbeck.papers import Figure, Reproduction, Series, table, verdict

RECORD = Reproduction(
    slug="a-paper",
    title="A Paper",
    claim="More helps.",
    baseline="less",
    metric="gain",
    unit="points",
    seeds=(0, 1, 2),
    effects=(1.0, 2.0, 3.0),
    checks={"every seed gains": True},
    seconds=12.5,
    details={"gain": [1.0, 2.0, 3.0]},
    notes=("small",),
    figure=Figure("More helps", "much", "gain", (Series("ours", [1.0, 2.0], [1.0, 3.0], [0.1, 0.1]),), log_x=True),
)


@pytest.mark.parametrize(
    ("mean", "error", "expected"),
    [
        (0.41, 0.2, True),
        (0.40, 0.2, "not visible"),
        (-0.40, 0.2, "not visible"),
        (-0.41, 0.2, False),
        (0.0, 0.0, "not visible"),
        (0.1, 0.0, True),
        (5.0, math.nan, "not visible"),
    ],
)
def test_two_standard_errors_decide(mean: float, error: float, expected: object) -> None:
    assert verdict(mean, error) == expected


def test_mean_and_error_come_from_the_replicates() -> None:
    assert RECORD.mean == 2.0
    assert RECORD.standard_error == pytest.approx(1 / math.sqrt(3))
    assert RECORD.holds is True
    assert replace(RECORD, effects=(-1.0, -2.0, -3.0)).holds is False
    assert replace(RECORD, effects=(-1.0, 1.0, 0.5)).holds == "not visible"
    assert replace(RECORD, effects=(2.0,)).holds == "not visible"


def test_a_failed_check_takes_a_visible_effect_back_but_never_makes_one() -> None:
    failed = {"every seed gains": False}
    assert replace(RECORD, checks=failed).holds is False
    assert replace(RECORD, checks=failed, effects=(-1.0, 1.0, 0.5)).holds == "not visible"


def test_a_crash_has_no_verdict() -> None:
    crashed = replace(RECORD, effects=(), error="ValueError: no")
    assert (crashed.mean, crashed.standard_error, crashed.holds) == (None, None, None)
    assert "ValueError: no" in crashed.summary()
    assert Reproduction.from_dict(json.loads(json.dumps(crashed.to_dict()))).holds is None


def test_json_round_trip_keeps_everything_and_computes_the_verdict() -> None:
    record = json.loads(json.dumps(RECORD.to_dict(), allow_nan=False))
    assert (record["mean"], record["holds"]) == (2.0, True)
    assert json.loads(json.dumps(Reproduction.from_dict(record).to_dict())) == record
    assert Reproduction.from_dict({**record, "effects": [-1.0, -2.0, -3.0]}).holds is False


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        ((1.0, 2.0, 3.0), "+2.0 ± 0.6 points"),
        ((0.41, 0.40, 0.42), "+0.410 ± 0.006 points"),
        ((-140.0, -260.0), "-200 ± 60 points"),
        ((0.25,), "+0.25 points"),
    ],
)
def test_the_error_decides_the_digits(effects: tuple[float, ...], words: str) -> None:
    assert replace(RECORD, effects=effects).effect == words


def test_summary_says_claim_effect_baseline_checks_and_caveats() -> None:
    text = RECORD.summary()
    for part in (
        "a-paper: yes",
        "More helps.",
        "+2.0 ± 0.6 points: gain",
        "baseline  less",
        "every seed gains",
        "small",
    ):
        assert part in text
    assert "not evidence" in replace(RECORD, quick=True).summary()


def test_the_table_has_a_line_each_counts_and_crashes() -> None:
    hidden = replace(RECORD, slug="b-paper", effects=(1.0, -1.0))
    crashed = replace(RECORD, slug="c-paper", effects=(), error="ValueError: no")
    lines = table([RECORD, hidden, crashed]).splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["a-paper", "b-paper", "c-paper"]
    assert [line.split("less")[1].strip() for line in lines[1:4]] == ["yes", "not visible", "crashed"]
    assert lines[-2] == "c-paper: ValueError: no"
    assert lines[-1] == "of 3: 1 hold, 1 not visible at this scale, 1 crashed · 38 s of one core"
    assert "not evidence" in table([replace(RECORD, quick=True)])


def test_the_picture_has_the_points_and_their_errors() -> None:
    drawn = RECORD.plot()
    assert list(drawn.data[0].y) == [1.0, 3.0]
    assert list(drawn.data[0].error_y.array) == [0.1, 0.1]
    assert drawn.layout.xaxis.type == "log"
    assert replace(RECORD, figure=None).plot() is None


def test_a_measured_series_is_mean_and_standard_error() -> None:
    series = Series.measured("ours", [1.0, 2.0], [[1.0, 5.0], [3.0, 5.0], [5.0, 5.0]])
    assert series.y == [3.0, 5.0]
    assert series.error == pytest.approx([2 / math.sqrt(3), 0.0])
    assert Series.measured("ours", [1.0], [[1.0]]).error == []
