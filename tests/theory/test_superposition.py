from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck.errors import FittingError
from limbeck.theory import (
    ToyModels,
    fit_width_law,
    frequencies,
    learning_rate,
    overlaps,
    strong_exponent,
    tail_loss,
    train_toy,
    welch_bound,
)


def simplex(m):
    """m + 1 unit vectors in m dimensions, equally far from each other."""
    centred = np.eye(m + 1) - 1 / (m + 1)
    return centred @ np.linalg.svd(centred)[2][:m].T


@pytest.mark.parity
def test_reference(parity, walk_sections):
    def train(cases):
        for case in cases:
            n, m, batch = case["n"], case["m"], case["batch"]
            w, b = np.array(case["W0"]).reshape(n, m), np.array(case["b0"])
            toy = ToyModels(w, b, case["weight_decay"])
            for k, x in enumerate(case["x_per_step"]):
                loss = toy.step(np.array(x).reshape(batch, n), case["lr_per_step"][k])
                assert_allclose(loss, case["loss_per_step"][k], rtol=1e-10)
                assert_allclose(toy.weights.ravel(), case["W_after_step"][k], rtol=1e-10, atol=1e-12)
                assert_allclose(toy.biases, case["b_after_step"][k], rtol=1e-10, atol=1e-12)

    def overlap(cases):
        names = {"mean_abs_overlap": "mean", "std_abs_overlap": "std", "mean_sq_overlap": "mean_square"}
        names |= {"norm_mean": "norm_mean", "norm_std_unbiased": "norm_std"}
        names |= {"norm_min": "norm_min", "norm_max": "norm_max"}
        for case in cases:
            assert set(case) == {"n", "m", "W", *names}
            found = overlaps(np.array(case["W"]).reshape(case["n"], case["m"]), block=7)
            assert [getattr(found, ours) for ours in names.values()] == pytest.approx(
                [case[theirs] for theirs in names], rel=1e-10
            )

    def schedule(case):
        assert set(case) == {"n_steps", "base", "warmup", "steps", "lr"}
        ours = [learning_rate(step + 1, case["n_steps"], case["base"], case["warmup"]) for step in case["steps"]]
        assert_allclose(ours, case["lr"], rtol=1e-10)

    data = parity("superposition")
    walk_sections(data, {"train": train, "overlap": overlap, "lr_schedule": schedule}, ignore={"source"})


def test_decay_alone_drives_rows_to_length_one_or_leaves_them():
    w = np.random.default_rng(0).standard_normal((5, 3))
    for gamma, expected in ((-1.0, np.ones(5)), (0.0, np.linalg.norm(w, axis=1))):
        toy = ToyModels(w, np.zeros(5), gamma)
        for _ in range(2000):
            toy.step(np.zeros((1, 5)), 0.01)  # nothing active: the output is ReLU(0), the gradient 0
        assert_allclose(np.linalg.norm(toy.weights, axis=1), expected, rtol=1e-6)


def test_overlaps_of_known_frames():
    assert overlaps(np.eye(4)).largest == overlaps(np.eye(4)).mean_square == 0
    frame = overlaps(simplex(5))
    assert [frame.mean, frame.largest] == pytest.approx([1 / 5, welch_bound(6, 5)], rel=1e-12)
    assert frame.std == pytest.approx(0, abs=1e-7)
    random = overlaps(np.random.default_rng(0).standard_normal((400, 20)))
    # o² has mean 1/m and standard deviation √2/m: the s.e. of m⟨o²⟩ over 79 800 pairs is 0.005
    assert random.relative == pytest.approx(1, abs=0.02)
    assert random.mean == pytest.approx(np.sqrt(2 / (np.pi * 20)), rel=0.03)


def test_blocks_samples_centring_and_zero_rows():
    w = np.random.default_rng(1).standard_normal((300, 8)) + 2.0
    whole = overlaps(w)
    for block in (1, 7, 299, 300, 1000):
        other = overlaps(w, block=block)
        assert_allclose(
            [other.mean, other.std, other.largest, other.mean_square],
            [whole.mean, whole.std, whole.largest, whole.mean_square],
            atol=1e-12,
        )
    some = overlaps(w, sample=100)
    assert some.pairs == 4950 and some.mean_square == whole.mean_square
    assert some.mean == pytest.approx(whole.mean, abs=0.05) and some.largest <= whole.largest
    assert whole.relative > 4 and overlaps(w, centre=True).relative == pytest.approx(1, abs=0.1)
    padded = overlaps(np.vstack([w, np.zeros((4, 8))]))
    assert padded.zero == 4 and padded.mean == whole.mean
    assert overlaps(w.astype(np.float32)).mean == pytest.approx(whole.mean, rel=1e-5)


@given(st.integers(2, 40), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_no_frame_beats_welch_and_a_rotation_changes_nothing(n, m, seed):
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((n, m))
    found = overlaps(w)
    assert found.mean_square >= welch_bound(n, m) ** 2 - 1e-12
    assert found.largest >= welch_bound(n, m) - 1e-9
    turned = overlaps(w @ np.linalg.qr(rng.standard_normal((m, m)))[0])
    assert_allclose([turned.mean, turned.mean_square], [found.mean, found.mean_square], atol=1e-10)


def test_a_rotation_of_the_toy_model_leaves_its_loss():
    rng = np.random.default_rng(2)
    w, b, x = rng.standard_normal((9, 4)), rng.standard_normal(9), rng.random((6, 9))
    turned = w @ np.linalg.qr(rng.standard_normal((4, 4)))[0]
    assert_allclose(ToyModels(w, b, 0).step(x, 0.1), ToyModels(turned, b, 0).step(x, 0.1), rtol=1e-12)


def test_one_hot_features_lose_the_tail_exactly():
    p, m, batch = frequencies(30, 1.5), 10, 200_000
    rng = np.random.default_rng(3)
    x = 2 * rng.random((batch, 30)) * (rng.random((batch, 30)) < p)
    loss = 30 * ToyModels(np.eye(30)[:, :m], np.zeros(30), 0).step(x, 0.0)
    # the loss of a sample is Σ x² over the tail; its s.e. over the batch
    error = (x[:, m:] ** 2).sum(1).std() / np.sqrt(batch)
    assert abs(loss - tail_loss(p, m)) < 4 * error
    assert tail_loss(p, 0) == pytest.approx(4 / 3) and tail_loss(p, 30) == 0


def test_frequencies_and_the_density_sweep():
    p = frequencies(50, 1.2, active=0.8)
    assert p.sum() == pytest.approx(0.8) and (np.diff(p) < 0).all()
    assert frequencies(50, 1.2, density=1.0)[0] == 1
    assert np.ptp(frequencies(5, 0.0)) == 0
    with pytest.raises(FittingError, match="lower it"):
        frequencies(10, 3.0, active=5.0)
    assert strong_exponent(0.5) == 1 and strong_exponent(1.8) == pytest.approx(1.6)


def test_a_model_trains_the_same_alone_and_in_a_batch():
    p = [frequencies(12, 1.5), frequencies(12, 0.5)]
    batch = train_toy(p, [2, 5], [-1.0, 0.5], steps=60, batch=32, dtype=np.float64)
    assert batch.loss.shape == (2, 2, 2)
    narrow = train_toy(p[1:], [2, 5], [0.5], steps=60, batch=32, dtype=np.float64)
    assert_allclose(narrow.loss[0, 0], batch.loss[1, 1], rtol=1e-9)
    assert not batch.weights[:, :, 0, :, 2:].any()


def test_two_regimes():
    sweep = train_toy(frequencies(40, 1.5), [3, 6], [-1.0, 0.5], steps=2000, batch=128)
    assert (sweep.represented[0, 0] > 0.9).all()
    assert (sweep.represented[0, 1] < 0.25).all()
    ratio = sweep.loss[0, 1] / sweep.tail[0, 1]
    assert (ratio > 0.9).all() and (ratio < 1.5).all()
    plain, welch = sweep.exponents(0, 0)
    assert plain.exponent > welch.exponent > 0.5
    for found in sweep.overlaps(0, 0):
        assert found.largest >= welch_bound(40, found.width)
    record, text = json.loads(json.dumps(sweep.to_dict())), sweep.summary().splitlines()
    assert record["trends"][0]["exponent"] == pytest.approx(plain.exponent)
    assert text[1].startswith("table 0, weight decay -1: ") and f"width^-{plain.exponent:.2f}" in text[1]
    figure = sweep.plot()
    assert len(figure.data) == 2 and figure.layout.xaxis.type == "log"


@pytest.mark.parametrize(("widths", "p"), [([0, 2], 0.5), ([2, 10], 0.5), ([2], 1.5), ([2], -0.1)])
def test_toys_that_make_no_sense_are_refused(widths, p):
    with pytest.raises(FittingError, match="widths from 1 to 9"):
        train_toy(np.full(10, p), widths, steps=1)


def test_width_law_gets_exact_data_back():
    rng = np.random.default_rng(4)
    width = np.tile([64.0, 128, 256, 512, 1024], 6)
    group = np.repeat(list("abcdef"), 5)
    floors = dict(zip("abcdef", rng.uniform(1, 4, 6), strict=True))
    loss = 25 * width**-0.91 + np.array([floors[g] for g in group])
    fit = fit_width_law(width, loss, group, bootstrap=50)
    assert fit.parameters["alpha"] == pytest.approx(0.91, rel=1e-6)
    assert fit.parameters["A"] == pytest.approx(25, rel=1e-5)
    assert all(fit.parameters[f"B {g}"] == pytest.approx(v, rel=1e-6) for g, v in floors.items())
    noisy = fit_width_law(width, loss + 0.02 * rng.standard_normal(30), group, bootstrap=200)
    low, high = noisy.intervals(0.95)["alpha"]
    assert low < 0.91 < high
    with pytest.raises(FittingError):
        fit_width_law(width[:2], loss[:2], group[:2])
    with pytest.raises(FittingError, match="rows"):
        overlaps(np.zeros((3, 2)))
    with pytest.raises(FittingError, match="1 are not finite"):
        overlaps(np.array([[1.0, np.nan], [1.0, 2.0], [2.0, 1.0]]))
