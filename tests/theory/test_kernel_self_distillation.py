from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck.errors import FittingError
from limbeck.theory import kernel_ridge, linear, optimal_alpha, rbf, self_distill

NOTEBOOK = [
    *(0.38476636465198066, 1.2333967683416893, 1.33232242218057, 0.6920159488889518, -0.29756145531871736),
    *(-0.24189291901377769, -0.7964485769175675, -0.9616480167034174, -0.49672509496909934, -0.3469066003991437),
    0.5589512650600734,
]


def problem(seed=0, n=14, outputs=2, ridge=0.05):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 3))
    return kernel_ridge(x, rng.standard_normal((n, outputs)), ridge, rbf(0.3))


@pytest.mark.parity
def test_reference(parity, walk_sections):
    def cases(found):
        for case in found:
            model = kernel_ridge(case["X"], case["Y"], case["lam"], rbf(case["gamma"]))
            filters = model.filters([case["alpha"]] * case["steps"])
            limit = model.limit(case["alpha"])
            expected = {
                "pred_per_step": model.predict(case["x_eval"], filters)[..., 0],
                "train_pred_per_step": model.predict(case["X"], filters)[..., 0],
                "limit_pred": model.predict(case["x_eval"], limit)[:, 0],
                "eig_K": model.eigenvalues,
                "B_diag_per_step": model.eigenvalues * filters,
                "B_limit_diag": model.eigenvalues * limit,
            }
            for name, ours in expected.items():
                assert_allclose(ours, case[name], rtol=1e-8, atol=1e-8, err_msg=name)
            assert set(case) == {"X", "Y", "lam", "gamma", "alpha", "steps", "x_eval", *expected}

    walk_sections(parity("self-distillation-kernel"), {"cases": cases}, ignore={"source"})


@pytest.mark.parametrize(
    ("alpha", "errors", "end"),
    [
        (0.0, [0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251], 0.49505),
        (0.25, [0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011], 0.15250),
        (0.35, [0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948], 0.14959),
    ],
)
def test_the_official_example_recomputed(alpha, errors, end):
    model = kernel_ridge(np.linspace(0, 1, 11), NOTEBOOK, 0.2, rbf(80.0))
    x = np.linspace(0, 1, 101)
    filters = np.vstack([model.filters([alpha] * 6), model.limit(alpha)])
    found = ((model.predict(x, filters)[..., 0] - np.sin(2 * np.pi * x)) ** 2).mean(1)
    assert_allclose(found, [*errors, end], atol=6e-6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_the_spectral_path_is_the_recursion(alphas):
    model = problem()
    k = model.kernel(model.inputs, model.inputs)
    target = model.targets
    for alpha, filter in zip(alphas, model.filters(alphas), strict=True):
        mixed = alpha * model.targets + (1 - alpha) * target
        target = k @ np.linalg.solve(k + model.ridge * np.eye(len(k)), mixed)
        assert_allclose(model.predict(model.inputs, filter), target, atol=1e-10)


def test_ends_of_the_weight():
    model, other = problem(), np.random.default_rng(1).standard_normal((5, 3))
    ones, zeros = model.filters([1.0] * 4), model.filters([0.0] * 4)
    assert_allclose(ones, np.tile(model.ridge_filter(model.ridge), (4, 1)), atol=1e-14)
    shrink = model.eigenvalues / (model.eigenvalues + model.ridge)
    assert_allclose(model.eigenvalues * zeros, shrink ** np.arange(1, 5)[:, None], atol=1e-12)
    assert not model.limit(0.0).any()
    tuned = kernel_ridge(model.inputs, model.targets, model.ridge / 0.3, model.kernel)
    assert_allclose(model.predict(other, model.limit(0.3)), tuned.predict(other, tuned.filters([1.0])[0]), atol=1e-12)
    assert model.equivalent_ridge(model.limit(0.3)) == pytest.approx((model.ridge / 0.3, 0), rel=1e-6, abs=1e-8)
    assert model.equivalent_ridge(zeros[3])[1] > 1e-3


def test_convergence_is_linear_at_the_stated_rate():
    model, alpha = problem(), 0.3
    gap = np.abs(model.eigenvalues * (model.filters([alpha] * 5) - model.limit(alpha)))
    rates = (1 - alpha) * model.eigenvalues / (model.eigenvalues + model.ridge)
    assert_allclose(gap[1:] / gap[:-1], np.tile(rates, (4, 1)), rtol=1e-6)
    assert rates[0] == rates.max() < 1 - alpha


@given(st.floats(0, 1), st.integers(0, 99))
def test_degrees_of_freedom_never_rise(alpha, seed):
    model = problem(seed)
    assert (np.diff(model.degrees(model.filters([alpha] * 8))) <= 1e-10).all()


def test_shrinkage_ratios_grow_without_bound_or_to_their_limit():
    model = problem()
    d, k = model.eigenvalues, 2
    for alpha in (0.0, 0.4, 1.0):
        factors = d * model.filters([alpha] * 200)
        ratio = factors[:, k] / factors[:, k + 1]
        if alpha == 0:
            assert_allclose(ratio[:50], (ratio[0]) ** np.arange(1, 51), rtol=1e-6)
        else:
            end = d[k] * (alpha * d[k + 1] + model.ridge) / (d[k + 1] * (alpha * d[k] + model.ridge))
            assert (np.diff(ratio) >= -1e-9).all()
            assert ratio[-1] == pytest.approx(end, rel=1e-9)


def test_the_best_weight_is_the_minimiser():
    rng = np.random.default_rng(2)
    a, b, y = rng.standard_normal((3, 30, 2))
    w = rng.random(30)

    def risk(alpha):
        return (w[:, None] * (alpha * a + (1 - alpha) * b - y) ** 2).sum()

    best = optimal_alpha(a, b, y, weights=w)
    slope = 2 * (w[:, None] * (best.unclipped * a + (1 - best.unclipped) * b - y) * (a - b)).sum()
    assert abs(slope) < 1e-10
    assert all(risk(best.unclipped) <= risk(alpha) for alpha in np.linspace(-1, 2, 61))
    assert all(risk(best.alpha) <= risk(alpha) + 1e-12 for alpha in np.linspace(0, 1, 61))
    assert optimal_alpha(a, b, a).alpha == pytest.approx(1) and optimal_alpha(a, b, b).alpha == pytest.approx(0)
    assert optimal_alpha(a, a, y).alpha == 1
    assert optimal_alpha(a, b, 2 * a - b) == pytest.approx(optimal_alpha(a, b, a).__class__(1.0, 2.0))


def test_cross_entropy_has_its_own_minimum():
    rng = np.random.default_rng(3)
    truth, a, b = (rng.dirichlet(np.ones(4), 200) for _ in range(3))
    y = np.eye(4)[[rng.choice(4, p=0.7 * p + 0.3 * q) for p, q in zip(a, b, strict=True)]]
    best = optimal_alpha(a, b, y, loss="cross_entropy").alpha

    def risk(alpha):
        return -(y * np.log(alpha * a + (1 - alpha) * b)).sum()

    assert 0.4 < best < 0.95 and all(risk(best) <= risk(alpha) + 1e-9 for alpha in np.linspace(0, 1, 101))
    assert optimal_alpha(y, truth, y, loss="cross_entropy").alpha == 1
    assert optimal_alpha(truth, y, y, loss="cross_entropy").alpha == 0
    assert optimal_alpha(a, b, y).alpha == pytest.approx(best, abs=0.35)


def test_the_teachers_weight_has_the_sign_of_what_more_ridge_would_bring():
    rng = np.random.default_rng(4)
    for ridge in (1e-3, 1e-1, 10.0, 100.0):
        model = problem(5, ridge=ridge)
        x = rng.standard_normal((40, 3))
        y = 0.3 * model.predict(x, model.ridge_filter(0.5))
        a, b = model.predict(x, np.stack([model.filters([1.0])[0], model.filters([1.0, 0.0])[1]]))
        more, less = ((model.predict(x, model.ridge_filter(ridge * f)) - y) ** 2 for f in (1.0001, 0.9999))
        assert np.sign(1 - optimal_alpha(a, b, y).unclipped) == -np.sign(more.sum() - less.sum())


def test_columns_are_independent_and_duplicates_are_harmless():
    model = problem(outputs=3)
    alphas = [1.0, 0.2, 0.6]
    together = model.predict(model.inputs, model.filters(alphas))
    for c in range(3):
        alone = kernel_ridge(model.inputs, model.targets[:, c], model.ridge, model.kernel)
        assert_allclose(alone.predict(model.inputs, alone.filters(alphas))[..., 0], together[..., c], atol=1e-12)
    twice = kernel_ridge(np.ones((6, 2)), np.arange(6.0), 0.1, linear)
    for filters in (twice.filters([0.0] * 9), twice.limit(0.5), twice.limit(0.0)):
        assert np.isfinite(twice.predict([[1.0, 2.0]], filters)).all()


def test_leave_one_out_of_plain_ridge_is_exact():
    model = problem()
    found = model.leave_one_out(model.ridge_filter(model.ridge))
    for i in range(len(model.inputs)):
        kept = np.arange(len(model.inputs)) != i
        rest = kernel_ridge(model.inputs[kept], model.targets[kept], model.ridge, model.kernel)
        assert_allclose(rest.predict(model.inputs[[i]], rest.filters([1.0])[0])[0], found[i], atol=1e-9)


def test_distilling_helps_an_under_regularised_teacher_and_reports_tuned_ridge():
    rng = np.random.default_rng(6)
    x, new = rng.uniform(0, 1, 60), rng.uniform(0, 1, 200)

    def truth(x):
        return np.sin(2 * np.pi * x)

    y = truth(x) + 0.5 * rng.standard_normal(60)
    model = kernel_ridge(x, y, 1e-3, rbf(80.0))
    greedy = self_distill(model, new, truth(new))
    assert greedy.losses[greedy.best - 1] < 0.9 * greedy.losses[0] and greedy.alphas[1] == 0
    assert greedy.tuned_loss < greedy.losses[0] and greedy.tuned > 1e-3 and greedy.equivalent > 1e-3
    assert (np.diff(greedy.degrees) <= 1e-9).all()
    assert json.loads(json.dumps(greedy.to_dict()))["best"] == greedy.best
    assert "best plain ridge" in greedy.summary()
    fixed = self_distill(model, new, truth(new), alpha=0.3, rounds=4)
    assert fixed.alphas == (0.3,) * 4 and fixed.losses[0] == pytest.approx(greedy.losses[0])
    assert self_distill(model, new, truth(new), alpha=[1.0, 0.5]).alphas == (1.0, 0.5)
    inside = model.greedy(4)
    assert len(inside) == 4 and inside[1] < 0.5
    for alphas in (inside, greedy.alphas):
        assert all(0 <= alpha <= 1 for alpha in alphas)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: kernel_ridge([1.0, 2.0], [1.0], 0.1), "2 inputs, 1 targets"),
        (lambda: kernel_ridge([1.0, 2.0], [1.0, np.nan], 0.1), "finite targets"),
        (lambda: kernel_ridge([1.0, 2.0], [1.0, 2.0], 0.0), "ridge above 0"),
        (lambda: kernel_ridge([1.0, 2.0], [1.0, 2.0], 0.1, lambda x, z: -linear(x, z)), "eigenvalue"),
        (lambda: optimal_alpha([1.0], [1.0, 2.0], [1.0, 2.0]), "differ in shape"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(FittingError, match=words):
        call()
