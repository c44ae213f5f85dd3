from __future__ import annotations

import polars as pl
import pytest

from limbeck.errors import LimbeckError
from limbeck.runs.conditions import choose

FRAME = pl.DataFrame(
    {
        "family": ["opt", "gpt3", "7B", None],
        "tokens": [1e9, 2e9, 3e9, None],
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
        ("outlier == 1", [1]),
        ("outlier!=0", [1]),
        ("tokens=2B", [1]),
        ("tokens!=2B", [0, 2, 3]),
        ("tokens>=2e9", [1, 2]),
        ("tokens<2e9", [0]),
        (["tokens>1e9", "outlier=0"], [2]),
        ({"family": "7B"}, [2]),
        ({"family": ["opt", "gpt3"]}, [0, 1]),
        ("family!=opt,gpt3", [2, 3]),
        ({"note": "a, b"}, [0]),
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
        ("family=op", "no row has family=op. There family is one of: opt, gpt3, 7B."),
        ("tokens>5B", "no row has tokens>5B. There tokens is one of: 1e+09, 2e+09, 3e+09."),
        ("outlier", 'cannot read the condition "outlier"'),
        ("tokens>many", '"many" is not a number'),
        ("family>a", '"family" holds text'),
    ],
)
def test_mistakes(where, message):
    with pytest.raises(LimbeckError) as error:
        choose(FRAME, where, "t.csv")
    assert message in str(error.value)
