"""Sets of computation trees that many graphs of a class have in common.

The transaction of a graph is the SET of its trees; the support of a set of trees is the number of graphs whose
transaction holds all of them. Graphs are bits of a whole number, so that a support is a count of bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from itertools import combinations, islice

import numpy as np

from limbeck.errors import ConfigError

Items = tuple[int, ...]
LIMIT = 100_000
"""Sets that are looked at before mining gives up."""


def bit_masks(transactions: Sequence[Iterable[int]]) -> dict[int, int]:
    """For each item the transactions that hold it, as bits.

    Example:
        >>> bit_masks([{5, 7}, {7}])
        {5: 1, 7: 3}
    """
    masks: dict[int, int] = {}
    for k, items in enumerate(transactions):
        for item in items:
            masks[item] = masks.get(item, 0) | 1 << k
    return dict(sorted(masks.items()))


def threshold(theta: float, count: int) -> int:
    """A whole number stands for itself, a fraction up to 1.0 for a share of all graphs, rounded up.

    Raises:
        ConfigError: neither.

    Example:
        >>> threshold(0.5, 63), threshold(1, 63), threshold(1.0, 63)
        (32, 1, 63)
    """
    if isinstance(theta, int) and theta >= 1:
        return theta
    if not isinstance(theta, int) and 0 < theta <= 1:
        return max(1, int(np.ceil(theta * count - 1e-9)))
    raise ConfigError(f"theta is a number of graphs from 1 or a share of them from 0.0 to 1.0, got {theta}")


def frequent_sets(
    masks: Mapping[int, int], theta: int, *, closed_only: bool = False, cap: int | None = None, limit: int = LIMIT
) -> dict[Items, int]:
    """All sets of items with a support of at least theta, the largest first, and their supports.

    Every subset of a frequent set is frequent, so all are subsets of the maximal ones, which mlxtend's FP-max finds.
    They are listed from the largest down, so that `cap` never has to wait for the others.

    Args:
        masks: see `bit_masks`.
        theta: least support.
        closed_only: leave out sets that could be extended without losing support; no support is lost with them.
        cap: so many at most; equally large ones by their support.
        limit: sets to look at.

    Raises:
        ConfigError: more sets than `limit`.

    Example:
        >>> frequent_sets(bit_masks([{1, 2}, {1, 2}, {1}]), theta=2)
        {(1, 2): 2, (1,): 3, (2,): 2}
        >>> frequent_sets(bit_masks([{1, 2}, {1, 2}, {1}]), theta=2, closed_only=True)
        {(1, 2): 2, (1,): 3}
    """
    often = {item: mask for item, mask in masks.items() if mask.bit_count() >= theta}
    stream = _closed(often, theta) if closed_only else _from_above(_maximal(often, theta))
    found = dict.fromkeys(islice(stream, limit + 1))
    if next(stream, None) is not None and (cap is None or len(found) < cap or closed_only):
        raise ConfigError(
            f"more than {limit:,} sets of trees have a support of {theta}: raise theta, give a cap, or take closed_only"
        )
    supports = {items: reduce(int.__and__, (often[one] for one in items)).bit_count() for items in found}
    return dict(sorted(supports.items(), key=lambda pair: (-len(pair[0]), -pair[1], pair[0]))[:cap])


def _maximal(masks: Mapping[int, int], theta: int) -> list[list[int]]:
    """Frequent sets that are in no other."""
    if not masks:
        return []
    import pandas as pd  # type: ignore[import-untyped]  # what mlxtend reads
    from mlxtend.frequent_patterns import fpmax

    items, count = list(masks), reduce(int.__or__, masks.values()).bit_length()
    held = np.array([[mask >> k & 1 for mask in masks.values()] for k in range(count)], bool)
    sets = fpmax(pd.DataFrame(held), min_support=(theta - 0.5) / count)["itemsets"]
    return sorted(sorted(items[k] for k in one) for one in sets)


def _from_above(maximal: Sequence[Sequence[int]]) -> Iterator[Items]:
    """Subsets of all sizes, the largest first; some come twice."""
    for size in range(max(map(len, maximal), default=0), 0, -1):
        for one in maximal:
            yield from combinations(one, size)


def _closed(masks: Mapping[int, int], theta: int) -> Iterator[Items]:
    """Closed sets, each once: a set is reached only by the smallest items that lead to it.

    Source: Takeaki Uno, Tatsuya Asai, Yuzo Uchida, Hiroki Arimura, An Efficient Algorithm for Enumerating Closed
        Patterns in Transaction Databases (2004), doi 10.1007/978-3-540-30214-8_2.
    """
    todo: list[tuple[int, Items, int]] = [(-1, (), reduce(int.__or__, masks.values(), 0))]
    while todo:
        last, kept, bits = todo.pop()
        for item, mask in masks.items():
            inner = bits & mask
            if item <= last or item in kept or inner.bit_count() < theta:
                continue
            closure = tuple(one for one, its in masks.items() if not inner & ~its)
            if all(one in kept for one in closure if one < item):
                yield closure
                todo.append((item, closure, inner))
