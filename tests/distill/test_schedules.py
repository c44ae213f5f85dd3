"""Learning-rate schedules."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbeck.distill import constant, cosine, decay_start, warmup_stable_decay


def test_warmup_stable_decay_by_hand() -> None:
    """1 M tokens in steps of 1 024: 977 steps, of which 50 warm up and the last 195 decay."""
    factor = [warmup_stable_decay(update, steps=977) for update in range(977)]
    assert factor[0] == 1 / 50
    assert factor[48] == 49 / 50
    assert set(factor[49:783]) == {1.0}
    assert factor[783] == 194 / 195
    assert factor[-1] == 1 / 195
    assert decay_start(977) == 782
    assert sum(factor) == pytest.approx(51 * 50 / 2 / 50 + 732 + 196 / 2)


@given(st.integers(1, 3000), st.integers(0, 60))
def test_equals_the_constant_trunk_bit_for_bit_until_the_decay(steps: int, warmup: int) -> None:
    start = decay_start(steps)
    for update in {0, warmup // 2, warmup, max(0, start - 1)} & set(range(start)):
        assert warmup_stable_decay(update, steps=steps, warmup=warmup) == constant(update, warmup=warmup)
    assert 0 <= warmup_stable_decay(steps - 1, steps=steps, warmup=warmup) <= 1
    if start < steps:
        assert warmup_stable_decay(steps, steps=steps, warmup=warmup) == 0.0


def test_no_decay_and_no_warmup() -> None:
    assert [warmup_stable_decay(update, steps=4, warmup=0, decay=0.0) for update in range(4)] == [1.0] * 4
    assert [warmup_stable_decay(update, steps=4, warmup=0, decay=1.0) for update in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_cosine_by_hand() -> None:
    factor = [cosine(update, steps=30, warmup=10, floor=0.2) for update in range(40)]
    assert factor[:10] == [pytest.approx((update + 1) / 10) for update in range(10)]
    assert factor[15] == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2)
    assert factor[20] == pytest.approx(0.6)
    assert factor[30:] == [pytest.approx(0.2)] * 10
    assert cosine(5, steps=5, warmup=5) == 1.0
