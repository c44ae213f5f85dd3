"""Resamples: what is drawn, what stays together, what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest

from limbeck.errors import FittingError
from limbeck.fitting import SQUARED, Loss, fit
from limbeck.fitting.resampling import blocks, leave_one_out, leverage, pairs, residual, run_noise, wild


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_pairs_draw_as_many_runs_as_there_are() -> None:
    design = np.arange(12.0)[:, None]
    drawn = pairs(design, np.arange(12), 500, 3, rng()).weights
    assert drawn.shape == (500, 12) and set(drawn.sum(1)) == {12.0}
    # each count is Binomial(12, 1/12): variance 11/12; s.e. of its mean over 6000 counts about 2 %
    assert drawn.var() == pytest.approx(11 / 12, rel=0.08)


def test_points_of_one_run_are_drawn_together() -> None:
    clusters = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])
    drawn = pairs(np.arange(10.0)[:, None], clusters, 200, 2, rng()).weights
    assert (drawn[:, 0] == drawn[:, 2]).all() and (drawn[:, 3] == drawn[:, 4]).all()
    assert (drawn[:, 0] != drawn[:, 3]).any()


def test_resamples_that_cannot_identify_the_model_are_drawn_again_and_counted() -> None:
    design = np.array([[1.0], [1.0], [1.0], [2.0], [3.0]])
    result = pairs(design, np.arange(5), 400, 3, rng())
    kinds = np.stack([result.weights[:, :3].sum(1), result.weights[:, 3], result.weights[:, 4]], 1)
    assert ((kinds > 0).sum(1) == 3).all()
    # P(all three kinds) = 1 − (2/5)^5 − 2 (4/5)^5 + 2 (1/5)^5 + (3/5)^5 = 0.413: about 570 rejections, s.e. 37
    assert 420 < result.degenerate < 720


def test_too_few_configurations_are_refused() -> None:
    with pytest.raises(FittingError, match=r"at least 4 distinct configurations.*there are 3 from 3"):
        pairs(np.arange(3.0)[:, None], np.arange(3), 10, 4, rng())
    with pytest.raises(FittingError, match="from 1"):
        pairs(np.arange(3.0)[:, None], np.zeros(3, int), 10, 2, rng())


def test_leave_one_out_leaves_whole_runs_out() -> None:
    assert leave_one_out(np.array([0, 0, 1])).tolist() == [[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]]


@pytest.mark.parametrize("mammen", [False, True])
def test_wild_signs_have_mean_zero_and_variance_one(mammen: bool) -> None:
    drawn = wild(np.zeros(40), np.ones(40), np.arange(40), 2000, rng(), mammen=mammen).target
    values = {round(v, 4) for v in np.unique(drawn)}
    assert values == ({-0.618, 1.618} if mammen else {-1.0, 1.0})
    # 80000 draws: s.e. of the mean .0035, of the third moment below .012
    assert drawn.mean() == pytest.approx(0, abs=0.015)
    assert (drawn**2).mean() == pytest.approx(1, abs=0.02)
    assert (drawn**3).mean() == pytest.approx(1.0 if mammen else 0.0, abs=0.05)


def test_wild_turns_a_run_as_a_whole() -> None:
    drawn = wild(np.zeros(4), np.ones(4), np.array([0, 0, 1, 1]), 50, rng()).target
    assert (drawn[:, 0] == drawn[:, 1]).all() and (drawn[:, 0] != drawn[:, 2]).any()


def test_residuals_are_drawn_around_the_law() -> None:
    drawn = residual(np.array([10.0, 20.0]), np.array([-1.0, 1.0]), 100, rng()).target
    assert set(np.unique(drawn)) == {9.0, 11.0, 19.0, 21.0}


def test_blocks_keep_neighbours_together_and_stay_in_one_run() -> None:
    noise = np.concatenate([np.arange(40.0), 100 + np.arange(14.0)])
    drawn = blocks(np.zeros(54), noise, np.repeat([0, 1], [40, 14]), 200, rng()).target
    steps = np.diff(drawn[:, :40], axis=1)
    assert (steps[:, np.arange(39) % 3 != 2] == 1).all()  # blocks of three, the cube root of 27
    assert (steps[:, 2::3] != 1).any()
    assert (drawn[:, 40:] >= 100).any() and (drawn[:, 40:] < 40).any()


def test_blocks_see_that_neighbours_err_together(line) -> None:
    """Noise constant over nine points: a mean is less certain than independent points would have it."""
    x = np.linspace(0, 1, 27 * 27)
    y = 1 + 0.1 * np.repeat(np.random.default_rng(4).standard_normal(81), 9)

    def spread(clusters):
        fitted = fit(
            line, {"x": x}, y, loss=Loss(math.inf, "linear"), bootstrap=400, fixed={"slope": 0.0}, method="block",
            clusters=clusters,
        )  # fmt: skip
        return fitted.draws["offset"].std()

    # blocks of 9 across steps of 9 keep a covariance of 1 + 2 Σ (1 - k/9)² = 6.4: a factor of 2.5; s.e. of a ratio 5 %
    assert spread(np.zeros(len(x))) / spread(None) == pytest.approx(2.5, rel=0.25)


def test_leverage_is_the_hat_matrix_and_sums_to_the_parameters(line, two_powers, grid, noisy) -> None:
    x = np.array([0.0, 1.0, 2.0, 10.0])
    straight = fit(line, {"x": x}, x, loss=Loss(math.inf, "linear"), bootstrap=0)
    design = np.stack([np.ones(4), x], 1)
    hat = np.diag(design @ np.linalg.inv(design.T @ design) @ design.T)
    assert leverage(straight.problem, straight.z) == pytest.approx(hat)
    fitted = fit(two_powers, grid, noisy, loss=SQUARED, bootstrap=0)
    assert leverage(fitted.problem, fitted.z).sum() == pytest.approx(5, rel=1e-6)


def test_noise_is_the_size_of_the_noise(two_powers, grid, truth) -> None:
    observed = two_powers(truth, **grid) * np.exp(0.01 * np.random.default_rng(5).standard_normal(30))
    fitted = fit(two_powers, grid, observed, loss=SQUARED, bootstrap=0)
    noise = run_noise(fitted.problem, fitted.z)
    assert noise.mean() == pytest.approx(0, abs=1e-12)
    assert noise.std() == pytest.approx(0.01, rel=0.55)  # s.e. 14 % with 25 degrees of freedom


@pytest.mark.parametrize("method", ["pairs", "residual", "wild", "mammen", "block"])
def test_every_method_finds_the_spread_of_a_slope(line, method) -> None:
    x = np.linspace(0, 1, 60)
    y = 1 + 2 * x + 0.1 * np.random.default_rng(8).standard_normal(60)
    fitted = fit(line, {"x": x}, y, loss=Loss(math.inf, "linear"), bootstrap=1000, method=method)
    design = np.stack([np.ones(60), x], 1)
    sigma = np.sqrt(((y - fitted.value(x=x)) ** 2).sum() / 58)
    textbook = sigma * np.sqrt(np.linalg.inv(design.T @ design)[1, 1])
    # s.e. of a spread from 1000 draws 2.2 %; leverage and unequal sample residuals move the methods by some 10 %
    assert fitted.draws["slope"].std() == pytest.approx(textbook, rel=0.2)
    assert fitted.draws["slope"].mean() == pytest.approx(fitted.parameters["slope"], abs=4.5 * textbook / np.sqrt(1000))


def test_runs_of_several_points_widen_the_spread(line) -> None:
    """Ten runs that share their noise: resampling points understates the spread √6-fold, resampling runs does not."""
    rng_ = np.random.default_rng(4)
    runs = np.repeat(np.arange(10), 6)
    x = np.repeat(np.linspace(0, 1, 10), 6)
    y = 1 + 2 * x + 0.1 * rng_.standard_normal(10)[runs] + 0.001 * rng_.standard_normal(60)
    apart = fit(line, {"x": x}, y, loss=Loss(math.inf, "linear"), bootstrap=500)
    together = fit(line, {"x": x}, y, loss=Loss(math.inf, "linear"), bootstrap=500, clusters=runs)
    ratio = together.draws["slope"].std() / apart.draws["slope"].std()
    assert 1.8 < ratio < 3.4
    sign = fit(line, {"x": x}, y, loss=Loss(math.inf, "linear"), bootstrap=500, clusters=runs, method="wild")
    assert sign.draws["slope"].std() == pytest.approx(together.draws["slope"].std(), rel=0.35)


def test_prior_centres_are_drawn_anew(line) -> None:
    """Where only the prior speaks, the draws have the prior's spread."""
    from limbeck.fitting import Prior

    x = np.zeros(20)
    y = np.random.default_rng(2).standard_normal(20) * 0.01
    believed = fit(
        line, {"x": x}, y, loss=Loss(math.inf, "linear"), priors={"slope": Prior(2.0, 0.5)}, bootstrap=1000,
        method="residual",
    )  # fmt: skip
    assert believed.draws["slope"].std() == pytest.approx(0.5, rel=0.1)  # s.e. 2.2 %


def test_unknown_method_and_dependent_residuals_are_refused(line) -> None:
    x = np.arange(6.0)
    with pytest.raises(FittingError, match=r'unknown resampling method "pair".*Did you mean "pairs"'):
        fit(line, {"x": x}, x, loss=Loss(math.inf, "linear"), method="pair", bootstrap=5)
    with pytest.raises(FittingError, match="6 come from 3 runs"):
        fit(
            line,
            {"x": x},
            x,
            loss=Loss(math.inf, "linear"),
            method="residual",
            bootstrap=5,
            clusters=[0, 0, 1, 1, 2, 2],
        )


def test_same_seed_same_draws(two_powers, grid, noisy) -> None:
    one, two, other = (fit(two_powers, grid, noisy, bootstrap=20, seed=s).draws["alpha"] for s in (3, 3, 4))
    assert (one == two).all() and (one != other).any()
