from __future__ import annotations

import numpy as np
import pytest

from limbeck.papers import get
from limbeck.papers.reverse_distillation import BLOCKS, WIDTHS, encoded, grown


def test_raw_embeddings_of_the_made_up_family_get_worse_and_distilled_ones_do_not() -> None:
    paper = get("reverse-distillation")
    measured = [paper.measure(seed, quick=True) for seed in (1, 2)]
    record = paper.report(paper.conclude(measured), (1, 2), True, 0.0)
    raw, reverse, blocks = (np.array(record.details["correlation"][way]) for way in ("raw", "reverse", BLOCKS))
    assert raw[3] < raw[1] and raw[0] == reverse[0]
    assert min(record.effects) > 0.2 and blocks[3] > raw[3] + 0.2
    digits = record.details["accuracy on digits"]
    assert np.diff(digits["raw"]).min() > 0 and digits["advised"] == 0
    assert record.checks["the mean gain is 0.1 or more at 32 and at 64 dimensions"]
    assert "naive" in record.notes[0] and "digits" in record.notes[2]


def test_the_made_up_family_is_what_it_says() -> None:
    family, y = grown(np.random.default_rng(0))
    assert [x.shape for x in family] == [(2580, d) for d in WIDTHS] and y.shape == (2580,)
    spread = [x.var() for x in family]
    for level in (1, 2, 3):  # factors 6/d, products 15 (level/2)² /d, nuisance (0.3 · 1.9^level)²
        expected = (6 + 15 * level**2 / 4) / WIDTHS[level] + (0.3 * 1.9**level) ** 2
        assert spread[level] == pytest.approx(expected, rel=0.3)


def test_digits_have_the_widths_of_the_encoders() -> None:
    family, digits = encoded(np.random.default_rng(0), 0, 1)
    assert [x.shape for x in family] == [(1797, width) for width in (6, 12, 24, 48)]
    assert max(np.abs(x).max() for x in family) <= 1 and len(set(digits.tolist())) == 10
