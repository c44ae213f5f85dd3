"""What the reproduction of rCM concludes from its numbers."""

import numpy as np
import pytest

from limbeck.papers import get
from limbeck.papers.rcm import STEPS, WAYS

KEPT, LOST = [[0.03, 0.2], [0.03, 0.2], [0.02, 0.1]], [[0.2, 0.3], [0.3, 0.3], [0.25, 0.25]]
DIGITS = {way: [[10.0 + k, 30.0], [8.0 + k, 25.0], [3.0 + k, 20.0 + 5 * k]] for k, way in enumerate(WAYS)} | {
    "teacher": [[20.0, 90.0], [9.0, 50.0], [3.0, 30.0], [1.0, 10.0]]
}


def numbers(**changes):
    """One seed's."""
    made = {way: LOST if way == "matching" else KEPT for way in WAYS}
    return (
        made | {"teacher": [[0.01, 0.0], [0.5, 0.9], [0.4, 0.8], [0.15, 0.4], [0.01, 0.0]], "digits": DIGITS} | changes
    )


def concluded(**changes):
    measured = [numbers(), numbers(**changes), numbers()]
    return get("rcm").report(get("rcm").conclude(measured), (0, 1, 2), False, 1.0)


def test_the_effect_is_the_variety_that_matching_alone_loses():
    record = concluded()
    assert record.holds is True
    assert record.effects == pytest.approx([23.0] * 3)
    assert record.details["weights off, points"]["rCM"] == pytest.approx([3, 3, 2])
    assert record.details["weights off, points"]["teacher"] == pytest.approx([50, 40, 15, 1])
    assert record.details["off modes, %"]["matching"] == pytest.approx([30, 30, 25])
    assert "+0.0 ± 0.0 points off the modes, not visible" in record.notes[0]
    assert [one.x for one in record.figure.series] == [[0.01, 0.1, 1.0, 10.0]] * 4
    assert record.figure.series[1].y == pytest.approx([10, 10, 10, 25]) and record.figure.series[2].y == [3, 4, 5, 6]


def test_tables_have_every_way_and_the_teacher_with_errors():
    worse = {**DIGITS, "rCM": [[11.0, 30.0], [9.0, 25.0], [4.3, 25.0]]}
    record = concluded(digits=worse)
    assert len(record.notes) == 3 + 4
    assert "consistency [3. 3. 2.] ± 0.0; rCM [3. 3. 2.] ± 0.0" in record.notes[3]
    assert "rCM [11.   9.   4.1] ± 0.1" in record.notes[5]
    assert record.notes[5].endswith("teacher in 1, 2, 4, more steps [20.  9.  3.  1.]")
    assert record.details["digits, Fréchet distance, standard errors"]["rCM"] == pytest.approx([0, 0, 0.1])
    assert "misses +10 ± 0 points more of the real ones than rCM does, rCM +5 more" in record.notes[2]
    assert all(len(one) == len(STEPS) for one in (record.details["digits, real ones missed, %"][way] for way in WAYS))


@pytest.mark.parametrize(
    ("way", "last", "failed"),
    [("matching", [0.03, 0.2], 0), ("rCM", [0.02, 0.3], 1), ("rCM", [0.07, 0.1], 2)],
)
def test_one_seed_is_enough_to_fail(way, last, failed):
    known = LOST if way == "matching" else KEPT
    record = concluded(**{way: [*known[:2], last]})
    assert not record.holds
    assert list(record.checks.values()).index(False) == failed
    assert sum(record.checks.values()) == 3


def test_digits_whose_distance_does_not_rise_fail():
    record = concluded(digits={**DIGITS, "rCM": [[11.0, 30.0], [9.0, 25.0], [2.9, 25.0]]})
    assert [*record.checks.values()] == [True, True, True, False]


def test_quality_is_called_visible_where_it_is():
    better = [[0.03, 0.2], [0.03, 0.2], [0.02, 0.05]]
    one, other = numbers(rCM=better), numbers(rCM=[*better[:2], [0.02, 0.06]])
    notes = get("rcm").conclude([one, other, one]).notes
    assert ", visible" in notes[0]
    assert np.isclose(float(notes[0].split()[7]), 4.7, atol=0.05)


def test_a_quick_run_has_no_digits():
    record = get("rcm").conclude([numbers(digits=None)] * 3)
    assert record.notes[2] == "quick: without digits" and len(record.notes) == 5 and len(record.checks) == 3
