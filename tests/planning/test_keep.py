from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose

from limbeck.errors import PlanningError
from limbeck.planning import choose_examples, plan_keep, read_features
from limbeck.theory import pruned_perceptron


def test_a_small_pool_keeps_easy_examples_and_a_large_one_hard_ones():
    small, large = plan_keep(200, 100, 0.02, keep=0.5), plan_keep(2000, 100, 0.02, keep=0.5)
    assert (small.best.policy, large.best.policy) == ("easy", "hard")
    assert small.kept == 100 and large.kept == 1000
    assert large.gain > 1.2 and [o.error for o in large.options] == sorted(o.error for o in large.options)
    assert_allclose(large.error_all, pruned_perceptron(20.0).error)
    assert "Keep 1 k of 2 k examples (50%): the hard ones" in large.summary()
    assert "random" in large.plot().data[2].name


def test_a_poor_ranking_is_used_on_a_part_of_the_pool_or_not_at_all():
    """Below a least fraction pruning harms: the plan ranks fewer examples, and no better than chance, none."""
    poor = plan_keep(50_000, 512, 0.3, keep=5000)
    hard = next(o for o in poor.options if o.policy == "hard")
    assert 5000 < hard.ranked < 50_000
    whole = pruned_perceptron(5000 / 512, 0.1, 0.3 * np.pi).error
    assert hard.error < 0.8 * whole
    blind = plan_keep(50_000, 512, 0.5, keep=5000)
    assert blind.best.policy == "random" and blind.gain == 1.0
    assert {o.ranked for o in blind.options} == {0}


def test_the_least_share_keeps_the_error_within_the_tolerance():
    plan = plan_keep(50_000, 512, 0.0)
    assert 0.02 < plan.kept / plan.pool < 0.3
    assert plan.best.error <= 1.1 * plan.error_all * 1.01
    assert plan_keep(1000, 512, 0.5).kept == 1000  # nothing can be spared
    assert "nothing is pruned" in plan_keep(10, 512, 0.4, keep=1.0).summary()
    assert json.loads(json.dumps(plan.to_dict()))["best"] == "hard"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"pool": 0}, "pool = 0"),
        ({"probe_error": 1.2}, r"probe error = 1\.2"),
        ({"keep": 101}, "101 examples cannot be kept of 100"),
        ({"keep": -1}, "-1 examples"),
        ({"keep": 1.5}, r"1\.5 examples cannot be kept of 100"),
        ({"tolerance": -0.1}, "tolerance"),
    ],
)
def test_what_cannot_be_planned_is_named(arguments, said):
    with pytest.raises(PlanningError, match=said):
        plan_keep(**{"pool": 100, "dimension": 10, "probe_error": 0.1, **arguments})


def clusters(count=400, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    return 1.5 * np.eye(8)[labels] + 0.5 * rng.standard_normal((count, 8)), labels


def test_examples_of_real_features_are_chosen_by_rows():
    pytest.importorskip("sklearn")
    x, labels = clusters()
    plan, rows = choose_examples(x, np.array(list("abcd"))[labels], keep=0.3)
    assert plan.kept == len(rows) == len(set(rows.tolist())) == 120
    assert plan.best.policy == "hard"
    assert 0 < plan.angle < 0.5  # the measured error of the probe
    assert all((labels[rows] == one).sum() >= 0.15 * (labels == one).sum() - 1 for one in range(4))


def test_without_labels_the_error_of_the_ranking_must_be_given():
    x, _ = clusters()
    with pytest.raises(PlanningError, match="without labels"):
        choose_examples(x)
    plan, rows = choose_examples(x, probe_error=0.5, keep=100)
    assert plan.best.policy == "random" and len(rows) == 100
    assert (rows == choose_examples(x, probe_error=0.5, keep=100)[1]).all()


def test_features_are_read_or_refused(tmp_path):
    x, labels = clusters(20)
    np.savez(tmp_path / "both.npz", features=x, labels=labels)
    np.save(tmp_path / "one.npy", x)
    assert (read_features(tmp_path / "both.npz")[1] == labels).all()
    assert read_features(tmp_path / "one.npy")[1] is None
    np.save(tmp_path / "flat.npy", labels)
    np.savez(tmp_path / "other.npz", x=x)
    np.savez(tmp_path / "short.npz", features=x, labels=labels[1:])
    np.save(tmp_path / "objects.npy", np.array([{}, []], object), allow_pickle=True)
    (tmp_path / "text.npz").write_text("features")
    np.save(tmp_path / "hole.npy", np.where(np.arange(len(x))[:, None] == 3, np.nan, x))
    with pytest.raises(PlanningError, match=r"hole.npy: row 3 has a feature that is not finite"):
        read_features(tmp_path / "hole.npy")
    for name in ("flat.npy", "other.npz", "short.npz", "objects.npy", "text.npz", "absent.npy"):
        with pytest.raises(PlanningError, match=name):
            read_features(tmp_path / name)
