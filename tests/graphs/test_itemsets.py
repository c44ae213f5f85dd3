from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from mlxtend.frequent_patterns import fpgrowth

from limbeck.errors import ConfigError
from limbeck.graphs.mining import _closed, bit_masks, frequent_sets, threshold


def transactions(seed: int, items: int = 8, count: int = 12) -> list[set[int]]:
    held = np.random.default_rng(seed).random((count, items)) < 0.55
    return [set(np.flatnonzero(row).tolist()) for row in held]


def brute_force(rows: list[set[int]], theta: int) -> dict[tuple[int, ...], int]:
    every = [one for size in range(1, 9) for one in combinations(range(8), size)]
    supports = {one: sum(set(one) <= row for row in rows) for one in every}
    return {one: support for one, support in supports.items() if support >= theta}


@pytest.mark.parametrize("theta", [1, 2, 3, 5, 9])
def test_itemsets_are_those_of_brute_force(theta: int) -> None:
    for seed in range(8):
        rows = transactions(seed)
        expected, found = brute_force(rows, theta), frequent_sets(bit_masks(rows), theta)
        assert found == expected
        assert all(found[part] >= support for one, support in found.items() for part in combinations(one, len(one) - 1)
                   if part)  # fmt: skip
        closed = frequent_sets(bit_masks(rows), theta, closed_only=True)
        assert closed == {
            one: support for one, support in expected.items()
            if not any(set(one) < set(other) and support == its for other, its in expected.items())
        }  # fmt: skip
        often = {item: mask for item, mask in bit_masks(rows).items() if mask.bit_count() >= theta}
        assert sorted(_closed(often, theta)) == sorted(closed)  # each is reached once


def test_a_support_of_one_returns_every_subset() -> None:
    assert len(frequent_sets(bit_masks([set(range(8))]), 1)) == 2**8 - 1


def test_itemsets_are_those_of_fp_growth_on_wide_transactions() -> None:
    held = np.random.default_rng(0).random((40, 30)) < np.linspace(0.9, 0.1, 30)
    rows = [set(np.flatnonzero(row).tolist()) for row in held]
    table = fpgrowth(pd.DataFrame(held), min_support=0.3)
    expected = {tuple(sorted(one)): round(40 * share) for one, share in zip(table.itemsets, table.support, strict=True)}
    assert frequent_sets(bit_masks(rows), 12) == expected and len(expected) > 500


def test_the_largest_come_first_and_a_cap_keeps_them() -> None:
    rows = transactions(1)
    every = frequent_sets(bit_masks(rows), 3)
    order = [(-len(one), -support) for one, support in every.items()]
    assert order == sorted(order)
    assert list(frequent_sets(bit_masks(rows), 3, cap=5).items()) == list(every.items())[:5]


def test_an_explosion_is_refused_and_a_cap_goes_round_it() -> None:
    masks = bit_masks([set(range(25))] * 3)
    with pytest.raises(ConfigError, match=r"more than 100,000 sets of trees have a support of 3: raise theta"):
        frequent_sets(masks, 3)
    assert next(iter(frequent_sets(masks, 3, cap=4))) == tuple(range(25))
    assert frequent_sets(masks, 3, closed_only=True) == {tuple(range(25)): 3}


def test_nothing_is_frequent() -> None:
    assert frequent_sets({}, 1) == frequent_sets(bit_masks([{1}, {2}]), 2) == {}
    assert frequent_sets(bit_masks([{1}, {2}]), 2, closed_only=True) == {}


def test_theta_is_a_number_or_a_share() -> None:
    assert [threshold(theta, 188) for theta in (0.5, 0.3, 1.0, 1, 200, 0.001)] == [94, 57, 188, 1, 200, 1]
    assert threshold(0.1, 30) == 3  # although 0.1 * 30 is a little more than 3
    for bad in (0, -1, 0.0, 1.5, -0.5):
        with pytest.raises(ConfigError, match="theta is a number of graphs"):
            threshold(bad, 188)
