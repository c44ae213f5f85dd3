from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from limbeck import laws
from limbeck.errors import FittingError, MisalignedError
from limbeck.fitting import Loss
from limbeck.fitting.objective import Problem
from limbeck.laws import CeilingScore, TransferScore, alignment_score, judge_alignment, rank_corpora, transfer_curve

TOKENS = np.geomspace(1e9, 1e11, 10)
CONSTANTS = {"logA": 2.0, "alpha": 0.35, "beta": 2.2}


def curve(tokens, **constants):
    law = TransferScore()
    return law(law.of(**{**CONSTANTS, **constants}), tokens=tokens)


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections):
    def log_law(rows):
        for row in rows:
            constants = [row[name] for name in ("logA", "alpha", "beta")]
            logA, alpha, beta = constants
            tokens = 1e9 * np.array(row["D"])
            law = TransferScore()
            assert_allclose(law(law.of(*constants), tokens=tokens), row["score"], rtol=1e-10)
            problem = Problem.build(law, {"tokens": tokens}, np.ones(len(tokens)), loss=Loss(space="linear"))
            _, jacobian = problem.program.evaluate(
                problem.theta(problem.coordinates(law.of(*constants))[None])
            )  # by ln level, ln gain, ln beta; ln level = beta ln logA, ln gain = ln beta + ln alpha - ln logA
            change = [[beta / logA, 0, math.log(logA)], [-1 / logA, 1 / alpha, 1 / beta], [0, 0, 1 / beta]]
            assert_allclose(np.transpose(change) @ jacobian[0], row["grad_logA_alpha_beta"], rtol=1e-10, atol=1e-12)

    def huber(section):
        loss = Loss(delta=section["delta"], space="linear")
        law, x = TransferScore(), np.array([1e9])
        problem = Problem.build(law, {"tokens": x}, np.array([10.0]), loss=loss, fixed={"gain": 0.1, "beta": 1.0})
        for residual, value in zip(section["residuals"], section["values"], strict=True):
            assert_allclose(problem.objective(np.array([[math.log(10.0 + residual)]])), value, rtol=1e-10)

    def alignment(rows):
        for row in rows:
            assert_allclose(alignment_score(row["p_src"], row["p_dst"]), row["score"], atol=1e-10)

    walk_sections(
        parity("downstream-transfer-bleu"),
        {"log_law": log_law, "huber": huber, "alignment": alignment},
        ignore=["reference"],
    )


@settings(max_examples=50, deadline=None)
@given(st.floats(1, 6), st.floats(0.02, 1), st.floats(0.3, 4), st.floats(1e8, 1e12))
def test_constants_and_inverse_survive_another_reference(logA, alpha, beta, reference):
    here, there = TransferScore(), TransferScore(reference)
    if logA + alpha * math.log(reference / 1e9) < 0.05:
        return
    p = there.of(logA, alpha, beta)
    tokens = np.geomspace(reference, 1e13, 5)
    assert_allclose(list(there.constants(p).values()), [logA, alpha, beta], rtol=1e-9)
    assert_allclose(there(p, tokens=tokens), here(here.of(logA, alpha, beta), tokens=tokens), rtol=1e-9)
    assert_allclose(there.tokens_for(p, there(p, tokens=tokens)), tokens, rtol=1e-9)
    assert (np.diff(there(p, tokens=tokens)) > 0).all()


def test_ceiling_is_approached():
    p = {"level": 40.0, "gain": 0.25, "alpha": 0.5}
    assert_allclose(CeilingScore()(p, tokens=1e9 * np.array([1.0, 4.0, 1e20])), [40.0, 60 - 20 / 2.0, 60.0])


def test_curve_is_recovered_from_four_points():
    four = np.geomspace(1e9, 3e10, 4)
    fit = laws.fit("transfer-score", {"tokens": four, "score": curve(four)}, bootstrap=0)
    far = np.geomspace(1e9, 3e11, 20)
    assert np.abs(fit.value(tokens=far) - curve(far)).max() < 0.05
    assert_allclose(list(fit.model.constants(fit.parameters).values()), [2.0, 0.35, 2.2], rtol=1e-2)


def test_beta_one_is_a_line_in_log_tokens():
    score = np.array([10.0, 13.0, 17.0, 18.0])
    tokens = np.array([1e9, 3e9, 1e10, 3e10])
    line = laws.fit(
        "transfer-score", {"tokens": tokens, "score": score}, fixed={"beta": 1.0}, delta=math.inf, bootstrap=0
    )
    assert_allclose(line.value(tokens=tokens), np.polyval(np.polyfit(np.log(tokens), score, 1), np.log(tokens)))


def test_unit_of_tokens_moves_log_a_only():
    fits = [
        laws.fit("transfer-score", {"tokens": c * TOKENS, "score": curve(TOKENS)}, bootstrap=0) for c in (1.0, 1000.0)
    ]
    near, far = (fit.model.constants(fit.parameters) for fit in fits)
    assert_allclose(far["logA"], near["logA"] - near["alpha"] * math.log(1000), rtol=1e-5)
    assert_allclose([far["alpha"], far["beta"]], [near["alpha"], near["beta"]], rtol=1e-5)
    assert_allclose(fits[1].value(tokens=1e15), fits[0].value(tokens=1e12), rtol=1e-6)


def test_score_is_zero_below_the_domain():
    law = TransferScore()
    assert law(law.of(1.0, 1.0, 0.5), tokens=1e8) == pytest.approx(0.0, abs=1e-12)


def verdicts(score, noise, **options):
    rng = np.random.default_rng(0)
    tokens = np.geomspace(1e9, 1e11, len(score))
    noisy = score + noise * rng.normal(size=(400, len(score)))
    return np.array([judge_alignment(tokens, row, noise=noise, **options).verdict for row in noisy])


def test_rising_scores_are_aligned():
    assert (verdicts(curve(TOKENS), 0.3) == "aligned").mean() >= 0.95  # 0.99; s.e. 0.005


@pytest.mark.parametrize(
    "score",
    [
        [10, 13, 16, 19, 22 + 5 * math.sqrt(2), 22, 22],  # one drop of five standard errors of a difference
        [10, 13, 16, 19, 22, 22, 22, 17, 17, 17],  # a drop by five standard deviations that stays
    ],
)
def test_falling_scores_are_misaligned(score):
    assert (verdicts(np.array(score, float), 1.0) == "misaligned").mean() >= 0.95  # 0.98 and more; s.e. 0.007


def test_no_benefit_over_the_baseline_is_misaligned():
    assert (verdicts(np.full(8, 20.0), 1.0, baseline=20.0) == "misaligned").mean() >= 0.95  # 0.98; s.e. 0.007
    rising = judge_alignment(TOKENS, curve(TOKENS), noise=0.1, baseline=17.0)
    assert rising.verdict == "misaligned" and "does not help" in rising.reasons[0]


def test_misaligned_scores_are_not_extrapolated_unless_forced():
    report = transfer_curve(
        TOKENS[:6], [20, 24, 27, 21, 17, 14], noise=1.0, baseline=12.0, cross_entropy=[3, 2.8, 2.6, 2.5, 2.4, 2.35]
    )
    with pytest.raises(MisalignedError, match=r"misaligned: the score falls by 13 points, 9\.2 standard errors"):
        report.predict(1e12)
    with pytest.raises(MisalignedError):
        report.tokens_for(40.0)
    assert np.isfinite(report.predict(1e12, force=True).mean).all()
    assert report.alignment.coupling < 0 < report.alignment.benefit  # cross-entropy falls all the same
    assert report.cross_entropy.value(tokens=1e12) < 2.35


def test_the_law_judges_its_data_and_a_given_verdict_stays():
    falling = {"tokens": TOKENS, "score": curve(TOKENS)[::-1]}
    fit = laws.fit("transfer-score", falling, bootstrap=0)
    assert fit.model.alignment.startswith("misaligned: the score falls by") and fit.model.refusal in str(fit.summary())
    with pytest.raises(MisalignedError, match="A score is not extrapolated"):
        fit.predict(tokens=1e12)
    assert np.isfinite(fit.predict(tokens=TOKENS[-1]).mean).all()  # not beyond the data
    assert np.isfinite(replace(fit, forced=True).predict(tokens=1e12).mean).all()
    told = laws.fit(TransferScore(alignment="aligned: by hand"), falling, bootstrap=0)
    assert not told.model.refusal and np.isfinite(told.predict(tokens=1e12).mean).all()
    doubt = laws.fit("transfer-score", {"tokens": TOKENS[:4], "score": [10.0, 12.0, 11.0, 13.0]}, bootstrap=0)
    assert (
        doubt.model.remarks({})[0].startswith("uncertain: the score does not rise steadily") and not doubt.model.refusal
    )


def test_fewer_than_three_token_counts_and_constant_scores_are_refused():
    few = transfer_curve([1e9, 1e9, 2e9], [10, 11, 12])
    assert few.verdict == "uncertain" and not few.fits
    with pytest.raises(FittingError, match="2 distinct token counts: three are needed"):
        few.predict(1e12)
    with pytest.raises(FittingError, match="the score is the same everywhere"):
        transfer_curve(TOKENS, np.full(10, 100.0)).predict(1e12)


@pytest.mark.parametrize("tokens, score", [([1e9, 2e9], [-1, 5]), ([1e9, 2e9], [5, 105]), ([0, 2e9], [5, 10])])
def test_scores_outside_their_range_are_refused(tokens, score):
    with pytest.raises(FittingError, match="points from 0 to 100 at a positive number of tokens"):
        transfer_curve(tokens, score)


def test_report_averages_repeats_knows_their_noise_and_caps_at_100():
    rng = np.random.default_rng(1)
    tokens = np.repeat(TOKENS, 3)
    report = transfer_curve(tokens, curve(tokens) + 0.2 * rng.normal(size=30), baseline=3.0)
    assert len(report.tokens) == 10 and report.verdict == "aligned"
    assert report.noise == pytest.approx(0.2, abs=4 * 0.2 / math.sqrt(40))  # s.e. noise / sqrt(2 · 20)
    assert report.held_out["log-law"] < min(report.held_out["ceiling"], report.held_out["linear in log tokens"])
    there = report.predict(1e12)
    assert there.lower < curve(1e12) < there.upper
    assert report.tokens_for(float(there.mean[0])) == pytest.approx(1e12, rel=1e-9)
    with pytest.warns(UserWarning, match="leaves 0 to 100 points"):
        assert report.predict(1e25).mean == 100
    assert json.loads(json.dumps(report.to_dict()))["verdict"] == "aligned"
    assert "held-out error" in report.summary() and len(report.plot().data)


def test_saturation_shows_in_the_held_out_scores():
    bend = np.minimum(curve(TOKENS), curve(TOKENS[5]))
    report = transfer_curve(TOKENS, bend + 1e-3 * np.arange(10), noise=0.1)
    assert report.saturates
    assert not transfer_curve(TOKENS, curve(TOKENS) + 0.1 * np.tile([1, -1], 5), noise=0.1).saturates


def test_corpora_are_ranked_at_equal_tokens_and_at_equal_cost():
    better, cheaper = curve(TOKENS, beta=2.4), curve(TOKENS)
    reports = {
        "cheap": transfer_curve(TOKENS, cheaper, noise=0.1),
        "falling": transfer_curve(TOKENS, better[::-1], noise=0.1),
        "good": transfer_curve(TOKENS, better, noise=0.1),
    }
    ranked = rank_corpora(reports, 1e12)
    assert list(ranked) == ["good", "cheap", "falling"] and ranked["falling"].startswith("misaligned")
    at_equal_cost = rank_corpora(reports, {"good": 2e11, "cheap": 2e12, "falling": 1e12})
    assert list(at_equal_cost) == ["cheap", "good", "falling"]


@pytest.mark.parametrize("score", [0.0, 40.0, 100.0])
def test_scores_that_are_all_the_same_are_drawn_without_a_curve(score):
    report = transfer_curve(TOKENS, np.full(len(TOKENS), score))
    assert report.fits == {} and len(report.plot().data[0].x) == len(TOKENS)
    assert ("scores at the ceiling: differences there say little" in report.notes) == (score == 100)
    with pytest.raises(FittingError, match="the score is the same everywhere"):
        report.predict(1e13)


def test_a_noise_that_is_none_is_refused():
    with pytest.raises(FittingError, match=r"standard deviation above 0, in points; given -1"):
        transfer_curve(TOKENS, curve(TOKENS), noise=-1.0)
