"""Papers about generators of one and of few steps: what is concluded from numbers, and short runs."""

import copy
from typing import Any

import numpy as np
import pytest

from limbeck.papers import get
from limbeck.papers.distilling_diversity_control import _planted

MADE: dict[str, dict[str, Any]] = {
    "disback": {
        "ring": [[0.5, 0.4], [0.5, 0.4], [0.4, 0.3]], "ring at": [50, 100], "digits at": [25, 50],
        "digits": [[5.0, 2.0], [5.0, 2.0], [4.0, 1.8]],
    },
    "gdd-innate-one-step": {
        "far": [[40.0, 25.0], [20.0, 14.0], [300.0, 300.0], [3.0, 2.0]], "start": 13.0, "at": [150, 300],
        "trained": 0.7, "digits": True,
    },
    "decoupled-dmd": {
        "radius": [[1.0, 1.0, 1.0], [1.7, 2.7, 4.5], [1.6, 1.85, 1.9], [0.7, 0.6, 0.66]],
        "w2": [[0.1] * 3, [2.5] * 3, [0.7] * 3, [0.3] * 3], "accuracy": [[1.0] * 3] * 4, "spread": [[0.1] * 3] * 4,
        "data": 1.01, "data spread": 0.3, "at": [70, 140, 220],
    },
    "distilling-diversity-control": {
        "planted": [[0.02, 1.69], [0.19, 1.41], [0.05, 1.63], [0.19, 1.37], [0.11, 1.57], [0.13, 1.52], [0.04, 1.6],
                    [0.4, 0.95], [0.32, 1.15]],
        "models": ["student", "base at 1"], "trained": [0.045, 0.064], "accuracy": [0.99, 0.985],
        "ink": [[-0.5, -0.4, -0.32, -0.28], [-0.5, -0.4, -0.33, -0.28]],
    },
    "multi-student-distillation": {
        "rows": [[0.5, 0.5], [0.2, 1.0], [0.18, 1.0], [0.1, 1.0], [0.08, 1.0], [0.3, 0.9], [0.3, 1.0]],
        "params": [578, 578, 1156, 2312, 578, 2312], "calls": [1, 1, 2, 4, 4, 4], "floor": 0.01,
    },
    "phased-dmd": {
        "flow": [0.03, 0.02, 0.16], "jsd": [0.19, 0.2, 0.21], "between": [0.06, 0.3], "entropy": [2.0] * 3,
        "floor": 2.08,
    },
    "snoopi": {
        "digits": [*([r, t, 3 + r, 4 + 2 * r] for r, t in ((0.5, 0.49), (0.54, 0.53), (0.6, 0.57), (0.75, 0.65),
                   (0.85, 0.7), (0.97, 0.72), (1.0, 0.6))), [0.6, 0.57, 3.7, 7.0], [0.65, 0.5, 6.3, 30.0],
                   [1.0, 1.0, 2.9, 4.0], [0.77, 0.73, 4.6, 6.5]],
        "scales": [[0.1, 0.12, 0.11]] * 4,
    },
}  # fmt: skip
BROKEN: list[tuple[str, tuple[Any, ...], float, int]] = [  # what to change, and how many checks fail then
    ("disback", ("digits", 2, 0), 6.0, 1), ("disback", ("digits", 2, 1), 2.2, 1),
    ("gdd-innate-one-step", ("far", 1, 1), 30.0, 1), ("gdd-innate-one-step", ("far", 2, 1), 20.0, 1),
    ("decoupled-dmd", ("radius", 1, 2), 2.0, 1), ("decoupled-dmd", ("radius", 2, 1), 1.2, 1),
    ("decoupled-dmd", ("radius", 3, 2), 1.95, 1), ("multi-student-distillation", ("rows", 0, 0), 0.3, 1),
    ("multi-student-distillation", ("rows", 3, 0), 0.25, 1), ("phased-dmd", ("flow", 2), 0.07, 1),
    ("phased-dmd", ("between", 1), 0.05, 1),
    ("phased-dmd", ("jsd", 2), 0.18, 1),
    ("snoopi", ("digits", 5, 0), 0.89, 1), ("snoopi", ("digits", 0, 0), 0.56, 1), ("snoopi", ("digits", 8, 3), 11.0, 1),
    *(("distilling-diversity-control", place, value, 1) for place, value in (
        (("planted", 2, 1), 1.5), (("planted", 2, 0), 0.12), (("planted", 3, 1), 1.5), (("planted", 6, 0), 0.08),
        (("planted", 5, 0), 0.05), (("ink", 1, 2), -0.37), (("ink", 0, 3), -0.35), (("accuracy", 1), 0.96),
    )),
]  # fmt: skip


def concluded(slug: str, one: dict[str, Any]) -> Any:
    """Three seeds that differ a little."""
    seeds = [copy.deepcopy(one) for _ in range(3)]
    for k, seed in enumerate(seeds):
        for name, value in seed.items():
            if name in ("far", "digits", "radius", "rows", "flow", "jsd") and not isinstance(value, bool):
                seed[name] = (
                    np.array(value) * (1 + 0.001 * k * np.linspace(1, 2, np.size(value)).reshape(np.shape(value)))
                ).tolist()
    return get(slug).conclude(seeds)


@pytest.mark.parametrize("slug", MADE)
def test_the_claim_holds_where_the_numbers_say_so(slug):
    found = concluded(slug, MADE[slug])
    assert all(np.all(passed) for passed in found.checks.values())
    assert all(effect > 0 for effect in found.effects)
    assert found.figure is not None and all(len(one.x) == len(one.y) for one in found.figure.series)


@pytest.mark.parametrize(("slug", "place", "value", "fails"), BROKEN)
def test_each_number_that_contradicts_turns_its_check(slug, place, value, fails):
    one = copy.deepcopy(MADE[slug])
    inner: Any = one
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    found = concluded(slug, one)
    assert sum(not np.all(passed) for passed in found.checks.values()) == fails


def test_a_quick_run_of_decoupled_matching_sees_augmentation_run_away():
    found = get("decoupled-dmd").measure(0, quick=True)
    matching, alone, shared, hybrid = (course[-1] for course in found["radius"])
    assert 0.85 < matching < 1.15 and found["data"] == pytest.approx(1.01, abs=0.02)
    assert alone > 1.15 * shared > 1.3 and hybrid < 0.85


def test_a_quick_run_of_several_students_needs_the_matched_start():
    found = get("multi-student-distillation").measure(0, quick=True)
    far = [row[0] for row in found["rows"]]
    assert far[0] > 1.8 * far[1] and found["floor"] < 0.03
    assert found["calls"][3] == found["calls"][4] == 4 * found["calls"][1]
    assert found["params"][3] == 4 * found["params"][4]


def test_snoopi_says_what_was_removed_and_at_which_price():
    found = concluded("snoopi", MADE["snoopi"])
    assert list(found.effects) == pytest.approx([47.0] * 3, abs=0.2)
    assert found.notes[0] == "the wanted digit in 49 % without, 72 % at alpha = 1, 60 % at 1.5; most at 1"
    assert "both random 0.110 ± 0.000, swing 0.020" in found.notes[2]
    assert found.details["removed"][9] == pytest.approx(1.0, abs=0.01)
    assert [one.y for one in found.figure.series][3] == pytest.approx([0.49, 0.57, 0.5], rel=0.01)
    assert "quick" in concluded("snoopi", MADE["snoopi"] | {"scales": None}).notes[2]


def test_a_quick_run_of_a_planted_collapse_is_repaired_where_it_was_planted():
    found = _planted(0, 300)
    ideal, first, repaired, last = (row[1] for row in found[:4])
    assert ideal == pytest.approx(1.67, abs=0.1) and first == pytest.approx(1.42, abs=0.1)
    assert repaired > first + 0.15 > last + 0.15 and found[8][0] > 0.25
