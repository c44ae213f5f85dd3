from __future__ import annotations

import pytest

from limbeck.papers import get
from limbeck.theory import pruned_perceptron


def test_hard_digits_teach_more_than_easy_ones_from_a_large_pool() -> None:
    pytest.importorskip("sklearn")
    from limbeck.papers.data_pruning import WAYS, digits

    error = dict(zip(WAYS, digits(0, 1300), strict=True))
    assert error == dict(zip(WAYS, digits(0, 1300), strict=True))
    # s.e. over 497 test images below 0.015
    assert error["EL2N easy"] - error["EL2N hard"] > 0.02
    assert error["prototypes easy"] - error["prototypes hard"] > 0.02
    assert error["all"] < error["random"]


def test_simulated_perceptrons_meet_the_exact_error() -> None:
    from limbeck.papers.data_pruning import simulate

    mean = sum(simulate(seed, 1, 0.3, 0, "easy", draws=2) for seed in range(5)) / 5
    assert mean == pytest.approx(float(pruned_perceptron(1, 0.3, 0, "easy").error), abs=0.03)  # s.e. about 0.005


@pytest.mark.slow
def test_the_claim_of_data_pruning_holds() -> None:
    record = get("data-pruning").run()
    assert record.holds is True
    assert all(record.checks.values())
