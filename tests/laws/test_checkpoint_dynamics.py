"""Statistics of task curves: reference numbers, invariances, gates and alarms."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck.errors import FittingError
from limbeck.laws.checkpoint_dynamics import (
    ScoreCurve,
    alive,
    departure,
    lead,
    loss_spikes,
    ranking_reliability,
    safe_fraction,
    signal_to_noise,
    similarity,
    smooth,
    stretch,
    task_dynamics,
)

SIZES = ("190M", "370M", "760M", "1B", "3B")


@pytest.fixture(scope="module")
def ladder(data_folder):
    table = pl.read_csv(data_folder / "olmo_ladder" / "checkpoints.csv", infer_schema_length=None)
    runs = {f"{size}-{length}xC" for size in SIZES for length in (1, 2, 5, 10)}
    return {name: group for (name,), group in table.group_by("run", maintain_order=True) if name in runs}


def curve(ladder, run, task):
    return ScoreCurve.of(ladder[run]["tokens"], ladder[run][f"{task}_acc"])


@pytest.mark.parity
def test_reference_statistics(parity, walk_sections, ladder):
    def alike(section):
        for one in section:
            found = similarity([curve(ladder, f"{size}-10xC", one["task"]) for size in SIZES])
            assert_allclose(found.rank, one["pairwise_spearman"], atol=1e-6)
            assert_allclose(found.median, one["median_offdiag"], atol=1e-6)
            assert_allclose(found.monotonicity, one["own_monotonicity"], atol=1e-6)

    def ranking(section):
        for task, taus in section.items():
            curves = [curve(ladder, run, task) for run in ladder]
            for fraction, tau in taus.items():
                assert_allclose(ranking_reliability(curves, float(fraction)), tau, atol=1e-6)

    def signal(section):
        for task, expected in section.items():
            found = signal_to_noise(curve(ladder, "1B-10xC", task).score)
            assert_allclose((found.noise, found.gain), (expected["noise_sd"], expected["gain"]), atol=1e-6)
            assert_allclose(found.ratio, expected["snr"], rtol=1e-6)

    checks = {"similarity": alike, "early_vs_final_kendall": ranking, "snr_1B_10xC": signal}
    walk_sections(parity("fine-line-downstream"), checks, ignore=["reference"])


def test_verdicts_on_the_ladder(ladder):
    def verdict(task, chance):
        longest = [curve(ladder, f"{size}-10xC", task) for size in SIZES]
        return task_dynamics(longest, [curve(ladder, run, task) for run in ladder], chance)

    assert verdict("hellaswag", (4, 10042)).verdict == "track"
    assert verdict("boolq", (2, 3270)).verdict == "noise"
    assert verdict("mmlu_stem", (4, 321)).verdict == "noise"
    assert verdict("hellaswag", (4, 10042)).safe == 0.2  # tau 0.80, 0.92 at 10 %, 20 %; 0.78 at 5 %


def rising(n=100, end=1.0, seed=None, noise=0.0):
    u = np.arange(1, n + 1) / n
    return ScoreCurve.of(
        1e9 * u, end * u / (u + 0.3) + (0 if seed is None else noise * np.random.default_rng(seed).normal(size=n))
    )


def test_identical_curves_agree_and_reversed_ones_do_not():
    found = similarity([rising(), rising(60)])
    assert found.median > 0.9999
    same = similarity([rising(seed=1, noise=0.01)] * 2)
    assert_allclose((same.median, same.median_shape), 1.0, rtol=1e-12)
    one = rising()
    assert_allclose(similarity([one, ScoreCurve.of(one.tokens, -one.score)]).median, -1.0, rtol=1e-12)
    flat = similarity([one, ScoreCurve.of(one.tokens, np.full(100, 0.5))])
    assert flat.median == flat.median_shape == 0.0


@given(st.floats(0.1, 10), st.floats(-5, 5))
def test_units_of_the_score_do_not_matter(scale, shift):
    curves = [rising(seed=k, noise=0.02) for k in range(4)]
    moved = [ScoreCurve.of(c.tokens, scale * c.score + shift) for c in curves]
    for measure in (
        lambda cs: similarity(cs).rank,
        lambda cs: similarity(cs).shape,
        lambda cs: ranking_reliability(cs, 0.3),
        lambda cs: signal_to_noise(cs[0].score).ratio,
    ):
        assert_allclose(measure(moved), measure(curves), rtol=1e-6)


def test_permuting_trainings_permutes_the_matrix():
    curves = [rising(seed=k, noise=0.05) for k in range(5)]
    order = [3, 0, 4, 1, 2]
    shuffled = similarity([curves[k] for k in order])
    assert_allclose(shuffled.rank, similarity(curves).rank[np.ix_(order, order)], rtol=1e-12)


def test_smoothing_is_a_trailing_mean():
    y = np.random.default_rng(0).normal(size=12)
    assert_allclose(smooth(y)[:3], [y[0], y[:2].mean(), y[:3].mean()])
    assert_allclose(smooth(y)[-1], y[-5:].mean())


def test_missing_scores_and_unequal_grids_are_handled():
    full, holes = rising(200), rising(90)
    score = holes.score.copy()
    score[::7] = np.nan
    assert similarity([full, ScoreCurve.of(holes.tokens, score)]).median > 0.999


def test_a_score_that_only_scatters_is_noise():
    """95 of 100 draws at least; the gain of pure noise is 0.63 sd (s.e.), an SNR of 10 lies 16 s.e. away."""
    verdicts = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        longest = [ScoreCurve.of(np.arange(1, 101), 0.6 + 0.02 * rng.normal(size=100)) for _ in range(4)]
        verdicts.append(task_dynamics(longest, chance=(2, 1000)).verdict)
    assert verdicts.count("noise") >= 95


def test_other_verdicts():
    assert task_dynamics([rising(), rising()]).verdict == "track"
    assert task_dynamics([rising(9), rising(9)]).verdict == "insufficient"
    assert task_dynamics([rising()]).verdict == "insufficient"
    assert task_dynamics([ScoreCurve.of(range(1, 51), np.full(50, 0.995))] * 2).verdict == "saturated"
    late = [ScoreCurve.of(range(1, 101), 0.25 + 0.02 * np.random.default_rng(k).normal(size=100)) for k in range(3)]
    assert task_dynamics(late, chance=(4, 1000)).verdict == "late"
    assert "track" in task_dynamics([rising(), rising()]).advice


def test_alive_is_the_first_checkpoint_clearly_above_chance():
    score = np.r_[np.full(50, 0.25), np.full(50, 0.40)]
    found = alive(ScoreCurve.of(np.arange(1, 101), score), 4, 1000)
    assert found == pytest.approx(0.51)  # one of five checkpoints: 0.28 > 0.25 + 2 * 0.0137
    assert alive(ScoreCurve.of(np.arange(1, 101), np.full(100, 0.25)), 4, 1000) is None


def test_ranking_settles_when_the_curves_stop_crossing():
    def crossing(k):
        u = np.arange(1, 101) / 100
        return ScoreCurve.of(u, np.where(u < 0.45, -k, k) * u)

    curves = [crossing(k) for k in range(6)]
    assert_allclose([ranking_reliability(curves, f) for f in (0.3, 0.6)], [-1.0, 1.0])
    assert safe_fraction(curves) == 0.5
    assert safe_fraction([rising(end=k) for k in (0.2, 0.5, 0.9)]) == 0.05


def test_a_replicate_raises_no_alarm_and_a_shift_does():
    """200 replicates against 40 references: fewer than 5 % alarms (10); a shift of 10 sd within 5 checkpoints."""
    references = [rising(seed=k, noise=0.01) for k in range(40)]
    alarms = [departure(references, rising(seed=1000 + k, noise=0.01))[1] for k in range(200)]
    assert sum(alarm is not None for alarm in alarms) < 10
    for seed in range(20):
        new = rising(seed=2000 + seed, noise=0.01)
        score = new.score.copy()
        score[60:] -= 0.1
        alarm = departure(references, ScoreCurve.of(new.tokens, score))[1]
        assert alarm is not None and 60 <= alarm < 65


def test_spikes_of_the_loss():
    rng = np.random.default_rng(0)
    loss = 3 + 0.01 * rng.normal(size=200)
    loss[120] += 0.5
    assert 120 in loss_spikes(loss)
    assert len(loss_spikes(loss)) <= 5


def test_one_task_foretells_another():
    u = np.arange(1, 301) / 300
    early, late = ScoreCurve.of(u, 1 / (1 + (0.1 / u) ** 4)), ScoreCurve.of(u, 1 / (1 + (0.3 / u) ** 4))
    lag, correlation = lead(early, late, 15)
    assert lag == 11 and correlation > 0.99  # ln 3 / ln(50^(1/39)) = 10.95 steps of the grid


def test_a_stretched_curve_is_forecast():
    d = np.arange(1, 201) * 1e9
    small = ScoreCurve.of(d, d / (d + 40e9))
    begun = ScoreCurve.of(d[:60], d[:60] / (d[:60] + 120e9))
    s, forecast = stretch(small, begun, 200e9)
    assert s == pytest.approx(1 / 3, rel=0.02)
    assert forecast == pytest.approx(200 / 320, abs=0.01)
    assert np.isnan(stretch(small, begun, 900e9)[1])


def test_bad_curves_are_refused():
    with pytest.raises(FittingError, match="checkpoints are reversed: tokens go from 2 to 1 at checkpoint 3"):
        ScoreCurve.of([1, 2, 1], [0.1, 0.2, 0.3])
    with pytest.raises(FittingError, match="all of these are missing"):
        ScoreCurve.of([1, 2], [np.nan, np.nan])
    with pytest.raises(FittingError, match="two or more"):
        similarity([rising()])
