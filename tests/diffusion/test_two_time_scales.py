"""Why the fake score moves more often than the student (DMD2): a slow one decides, a fast one does not care."""

from copy import deepcopy

import pytest

from limbeck.diffusion import Regime, distill, one_network
from limbeck.papers._generators import digits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained():
    return digits(0, False)


@pytest.mark.parametrize(("fake_lr", "least", "most"), [(2e-5, 2.0, 10.0), (4e-4, 0.7, 1.8)])
def test_turns_of_the_fake_score_matter_where_it_is_slow(trained, fake_lr, least, most):
    source, teacher, judge = trained
    far = []
    for turns in (1, 5):
        regime = Regime(150, lr=2e-4, fake_lr=fake_lr, turns=turns)
        how = {"fake": deepcopy(teacher).requires_grad_(True), "judge": judge, "judge_at": [150], "progress": False}
        far.append(distill(one_network(teacher, [2.5]), teacher, source, regime=regime, **how).judged[150]["frechet"])
    assert least < far[0] / far[1] < most
    assert far[1] < 3.2
