from __future__ import annotations

import os
import time
from functools import partial

import pytest

from limbeck.errors import TrainingError
from limbeck.study.workers import Workers


def square(x: int) -> tuple[int, int, str]:
    return x * x, os.getpid(), os.environ["OMP_NUM_THREADS"]


def fail(x: int) -> None:
    raise TrainingError(f"step {x}: loss is NaN")


def sleep(x: float) -> float:
    time.sleep(x)
    return x


def test_results_keep_the_order_of_the_jobs_and_run_elsewhere():
    seen: list[int] = []
    with Workers(2) as pool:
        results = pool.run([partial(square, x) for x in (3, 4, 5)], seen.append, every=0.05)
    assert [r[0] for r in results] == [9, 16, 25]
    assert os.getpid() not in {r[1] for r in results}
    assert {r[2] for r in results} == {"1"}
    assert seen[-1] == 3


def test_the_first_error_reaches_the_caller_and_stops_the_rest():
    began = time.monotonic()
    with pytest.raises(TrainingError, match="step 7"), Workers(2) as pool:
        pool.run([partial(fail, 7), partial(sleep, 30.0), partial(sleep, 30.0)])
    assert time.monotonic() - began < 20
