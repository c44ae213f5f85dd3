from __future__ import annotations

import polars as pl
import pytest

from limbeck.errors import RunsError
from limbeck.runs import parse_conditions
from limbeck.runs.conditions import choose

FRAME = pl.DataFrame(
    {
        "family": ["opt", "gpt3", "7B", None],
        "tokens": ["1e9", "2000000000", "3e9", ""],
        "outlier": [0.0, 1.0, 0.0, 0.0],
        "note": ["a, b", "c", "a", "d"],
    }
)


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        (None, [0, 1, 2, 3]),
        ({"outlier": 0}, [0, 2, 3]),
        ({"outlier": False}, [0, 2, 3]),
        ("outlier=0", [0, 2, 3]),
        ("outlier == 1", [1]),
        ("outlier!=0", [1]),
        ("tokens=2B", [1]),
        ("tokens>=2e9", [1, 2]),
        ("tokens<2e9", [0]),
        (["tokens>1e9", "outlier=0"], [2]),
        ({"family": "7B"}, [2]),
        ({"family": ["opt", "gpt3"]}, [0, 1]),
        ("family=opt,gpt3", [0, 1]),
        ("family!=opt,gpt3", [2, 3]),
        ("note=a, b", [0, 2]),
        ({"D": "3e9", "outlier": 0}, [2]),
    ],
)
def test_choose(where, rows):
    kept = choose(FRAME, where, "t.csv")
    assert [i for i, keep in enumerate(kept) if keep] == rows


def test_names_of_the_file_work_too():
    assert choose(FRAME, {"their": "1"}, "t.csv", {"their": "outlier"}).sum() == 1


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("outlir=0", 't.csv has no column "outlir". Did you mean "outlier"'),
        ("family=op", "no row has family=op. There family is one of: opt, gpt3, 7B"),
        ("outlier", 'cannot read the condition "outlier"'),
        ("tokens>many", "a number is expected, not 'many'"),
    ],
)
def test_mistakes(where, message):
    with pytest.raises(RunsError) as error:
        choose(FRAME, where, "t.csv")
    assert message in str(error.value)


def test_parse():
    (condition,) = parse_conditions({"seed": (0, 1)})
    assert (condition.column, condition.comparison, condition.values) == ("seed", "=", (0, 1))
