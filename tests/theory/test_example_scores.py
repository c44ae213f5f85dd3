from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck.errors import FittingError
from limbeck.theory import (
    dichotomous_difficulty,
    el2n,
    forgetting,
    influence,
    memorization,
    out_of_fold,
    prototype_distance,
    prune,
)

RNG = np.random.default_rng(0)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.floats(0.01, 1.0), st.sampled_from(["hard", "easy"]), st.integers(0, 9))
def test_pruning_keeps_exactly_so_many_whatever_the_order_and_the_scale(count, fraction, keep, seed):
    rng = np.random.default_rng(seed)
    scores, mixed = rng.standard_normal(count), rng.permutation(count)
    kept = prune(scores, fraction, keep, seed=seed)
    assert len(kept) == len(set(kept.tolist())) == int(fraction * count + 1e-9)
    assert set(mixed[prune(scores[mixed], fraction, keep)]) == set(kept)
    assert (prune(np.exp(scores) + 3, fraction, keep, seed=seed) == kept).all()
    left = np.setdiff1d(np.arange(count), kept)
    if len(kept) and len(left):
        assert (scores[kept].min() > scores[left].max()) if keep == "hard" else scores[kept].max() < scores[left].min()


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(0.0, 1.0), st.integers(0, 9))
def test_every_class_keeps_its_share(fraction, balance, seed):
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, 300, p=[0.6, 0.3, 0.08, 0.02])
    scores = rng.random(300) - labels
    kept = prune(scores, fraction, labels=labels, min_class_fraction=balance, seed=seed)
    assert len(kept) == int(fraction * 300 + 1e-9)
    for one in range(4):
        assert (labels[kept] == one).sum() >= int(balance * fraction * (labels == one).sum() + 1e-9)


def test_ties_are_broken_at_random_and_not_by_place():
    kept = prune(np.zeros(1000), 0.2, seed=1)
    assert abs(kept.mean() - 500) < 4 * 1000 / 12**0.5 / 200**0.5  # s.e. of the mean place
    assert (kept == prune(np.zeros(1000), 0.2, seed=1)).all()
    assert set(kept) != set(prune(np.zeros(1000), 0.2, seed=2))


def test_pruning_refuses_what_it_cannot_rank():
    with pytest.raises(FittingError, match="score 1 is NaN"):
        prune([0.0, np.nan], 0.5)
    with pytest.raises(FittingError, match=r"1\.5 of the pool"):
        prune([0.0, 1.0], 1.5)


def test_el2n_of_several_models_is_their_mean():
    p, labels = RNG.dirichlet(np.ones(3), (4, 50)), RNG.integers(0, 3, 50)
    assert_allclose(el2n(p, labels), np.mean([el2n(one, labels) for one in p], 0))
    assert_allclose(el2n(np.eye(3)[labels], labels), 0)
    assert_allclose(el2n(np.eye(3)[(labels + 1) % 3], labels), 2**0.5)


def test_memorization_is_influence_on_oneself():
    included, correct = RNG.random((40, 12)) < 0.5, RNG.random((40, 12)) < 0.7
    own = memorization(included, correct)
    for i in range(12):
        inside = included[:, i]
        assert_allclose(own[i], correct[inside, i].mean() - correct[~inside, i].mean())
        assert_allclose(influence(included[:, i : i + 1], correct[:, i : i + 1]), abs(own[i]))
    assert (influence(included, correct, total=True) >= influence(included, correct)).all()
    assert_allclose(dichotomous_difficulty(correct), 1 - correct.mean(0))
    with pytest.raises(FittingError, match="example 2 is in 4 of 4 subsets"):
        memorization(np.array([[1, 0, 1], [0, 1, 1], [1, 0, 1], [0, 1, 1]]), np.ones((4, 3)))


def test_forgetting_counts_falls_only():
    correct = np.array([[0, 1, 1, 0], [1, 0, 1, 0], [0, 1, 1, 0], [1, 0, 1, 0]])
    assert forgetting(correct).tolist() == [1.0, 2.0, 0.0, 4.0]


def test_prototypes_are_found_without_labels():
    centres = np.eye(6)[:4] * 5
    labels = np.repeat(np.arange(4), 50)
    x = centres[labels] + 0.3 * RNG.standard_normal((200, 6))
    found = prototype_distance(x, prototypes=4)
    assert_allclose(found, prototype_distance(x, labels), atol=2e-3)
    assert_allclose(found, prototype_distance(7 * x, prototypes=4), atol=1e-9)
    odd = np.append(x, [[3, 3, 0, 0, 0, 0]], 0)
    assert prototype_distance(odd, prototypes=4).argmax() == 200
    with pytest.raises(FittingError, match="500 prototypes for 200"):
        prototype_distance(x, prototypes=500)
    with pytest.raises(FittingError, match="finite"):
        prototype_distance(np.full((3, 2), np.nan))


def test_no_example_scores_itself():
    pytest.importorskip("sklearn")
    labels = RNG.integers(0, 2, 200)
    x = RNG.standard_normal((200, 150))  # separable by memory alone
    wrong = (out_of_fold(x, labels).argmax(1) != labels).mean()
    assert abs(wrong - 0.5) < 4 * 0.5 / 200**0.5
    with pytest.raises(FittingError, match="class 1 has 1 of 4 examples"):
        out_of_fold(np.ones((4, 1)), [0, 0, 0, 1])
