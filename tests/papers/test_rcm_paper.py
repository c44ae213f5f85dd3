"""What the reproduction of rCM concludes from its numbers."""

import numpy as np
import pytest

from limbeck.papers import get
from limbeck.papers.rcm import STEPS, WAYS

KEPT, LOST = [[0.03, 0.2], [0.03, 0.2], [0.02, 0.1]], [[0.2, 0.3], [0.3, 0.3], [0.25, 0.25]]


def concluded(**changes):
    numbers = {way: LOST if way == "matching" else KEPT for way in WAYS}
    numbers["teacher"] = [[0.01, 0.0]] * 5
    measured = [numbers, {**numbers, **changes}, numbers]
    return get("rcm").report(get("rcm").conclude(measured), (0, 1, 2), False, 1.0)


def test_the_effect_is_the_variety_that_matching_alone_loses():
    record = concluded()
    assert record.holds is True
    assert record.effects == pytest.approx([23.0] * 3)
    assert record.details["weights off, points"]["rCM"] == pytest.approx([3, 3, 2])
    assert record.details["off the modes, percent"]["matching"] == pytest.approx([30, 30, 25])
    assert "+0.0 ± 0.0 points off the modes, not visible" in record.notes[0]
    assert [one.x for one in record.figure.series] == [list(STEPS)] * 5


@pytest.mark.parametrize(
    ("way", "last", "failed"),
    [("matching", [0.03, 0.2], 0), ("rCM", [0.02, 0.3], 1), ("rCM", [0.07, 0.1], 2)],
)
def test_one_seed_is_enough_to_fail(way, last, failed):
    numbers = LOST if way == "matching" else KEPT
    record = concluded(**{way: [*numbers[:2], last]})
    assert not record.holds
    assert list(record.checks.values()).index(False) == failed
    assert sum(record.checks.values()) == 2


def test_quality_is_called_visible_where_it_is():
    better = [[0.03, 0.2], [0.03, 0.2], [0.02, 0.05]]
    numbers = {way: {"rCM": better, "matching": LOST}.get(way, KEPT) for way in WAYS} | {"teacher": [[0.01, 0.0]] * 5}
    other = {**numbers, "rCM": [*better[:2], [0.02, 0.06]]}
    notes = get("rcm").conclude([numbers, other, numbers]).notes
    assert ", visible" in notes[0]
    assert np.isclose(float(notes[0].split()[7]), 4.7, atol=0.05)
