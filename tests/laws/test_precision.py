from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize, minimize_scalar

from limbeck import laws
from limbeck.errors import FittingError, RunsError
from limbeck.fitting import SQUARED
from limbeck.fitting import fit as fit_model
from limbeck.laws import BitLevel, Precision, critical_tokens, level_gain, optimal_training_bits, total_bits

P = {"E": 2.0, "A": 400.0, "B": 1800.0, "alpha": 0.35, "beta": 0.3, "gamma_w": 2.5}
POST = {"C_T": 0.06, "gamma_D": 0.5, "gamma_N": 0.35, "gamma_post": 0.6}
LEVELS = {"x2": 6e7, "x3": 4e6, "x4": 2.2e6, "x8": 4e6}


def ladder(scales=LEVELS, alpha=0.3, noise=0.0, sizes=6, seed=0):
    """Models of several sizes, each at every precision; the noise of a model is shared by its precisions."""
    rng, rows = np.random.default_rng(seed), []
    for k, params in enumerate(np.geomspace(1e8, 1e10, sizes)):
        for name, x in scales.items():
            bits = float(name[1:])
            loss = 1.8 + (x / (params * bits)) ** alpha
            rows.append({"run": f"m{k}", "params": params, "bits": bits, "loss": loss * math.exp(noise * rng.normal())})
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.parity
def test_reference_values(parity, walk_sections):
    def law(cases):
        for case in cases:
            p = SimpleNamespace(**case["constants"])
            x = SimpleNamespace(params=case["N"], tokens=case["D"], bits=case["P_w"], post_bits=case["P_w"])
            train, post = Precision(), Precision(post=True)
            assert_allclose(train.effective_params(p, x), case["N_eff"], rtol=1e-10)
            assert_allclose(train.formula(p, x), case["train_loss"], rtol=1e-10)
            assert_allclose(post.degradation(p, x), case["delta_ptq"], rtol=1e-10)
            assert_allclose(post.formula(p, x), case["train_loss"] + case["delta_ptq"], rtol=1e-10)

    elsewhere = ("reference", "logits_teacher", "logits_student", "topk", "weights", "quant")
    walk_sections(parity("bit-level-scaling"), {"precision_law": law}, ignore=elsewhere)


def test_overheads_count():
    assert float(total_bits(1e9, 4)) == 4e9
    assert float(total_bits(1e9, 4, group=128)) == 4.125e9
    assert_allclose(total_bits(1e9, [3, 4], group=64, group_bits=20, unquantised=1e6), [3.3285e9, 4.3285e9])


def test_the_limits_of_precision():
    x = {"params": 3e8, "tokens": 6e9}
    plain = laws.Chinchilla()({k: P[k] for k in ("E", "A", "B", "alpha", "beta")}, **x)
    assert_allclose(Precision()(P, **x, bits=1e3), plain, rtol=1e-12)
    assert_allclose(Precision(post=True)(P | POST, **x, bits=1e3, post_bits=1e3), plain, rtol=1e-12)
    assert np.all(np.diff(Precision()(P, **x, bits=np.arange(1, 16))) < 0)


@given(st.floats(1e7, 1e10), st.floats(1e9, 1e12), st.floats(2, 8))
@settings(deadline=None)
def test_degradation_grows_with_data_and_falls_with_size_and_bits(params, tokens, bits):
    def delta(**changes):
        x = {"params": params, "tokens": tokens, "bits": 16.0, "post_bits": bits} | changes
        return Precision(post=True).degradation(SimpleNamespace(**P, **POST), SimpleNamespace(**x))

    assert delta(tokens=2 * tokens) > delta() > delta(params=2 * params)
    assert delta() > delta(post_bits=bits + 1)


def test_the_unified_form_loses_nothing_where_the_training_was_as_coarse():
    law, p = Precision(post=True, unified=True), P | POST | {"C_w": 0.5}
    x = {"params": 3e8, "tokens": 6e9, "bits": 4.0}
    assert law(p, **x, post_bits=4.0) == law(p, **x, post_bits=8.0) == Precision()(P, **x)
    assert law(p, **x, post_bits=3.0) > Precision()(P, **x)


@given(st.floats(1e7, 1e10), st.floats(2.5, 5))
@settings(deadline=None)
def test_critical_tokens_are_the_minimum(params, bits):
    law, p = Precision((), post=True), {k: v for k, v in (P | POST).items() if k != "gamma_w"}
    found = float(critical_tokens(SimpleNamespace(**p), params, bits))
    near = lambda u: float(law(p, params=params, tokens=math.exp(u), post_bits=bits))  # noqa: E731
    best = minimize_scalar(near, bracket=(math.log(found) - 3, math.log(found) + 2), tol=1e-12)
    assert_allclose(best.x, math.log(found), atol=1e-5)


def test_best_training_precision_is_the_joint_minimum():
    """N, D and P are free and C = (6/16) N D P."""
    p = P | {"gamma_a": 2.2, "gamma_kv": 0.9}
    law, columns = Precision(("bits", "activation_bits", "kv_bits")), ("bits", "activation_bits", "kv_bits")
    for flops in (1e19, 1e23):

        def loss(u, flops=flops):
            params, bits = np.exp(u)
            return float(law(p, params=params, tokens=flops * 16 / 6 / params / bits, **dict.fromkeys(columns, bits)))

        best = minimize(loss, [math.log(1e9), 1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-14})
        assert_allclose(math.exp(best.x[1]), optimal_training_bits(2.5, 2.2, 0.9), rtol=1e-4)
    with pytest.raises(FittingError, match="two or more precisions"):
        optimal_training_bits(2.5)


def test_the_full_law_is_recovered():
    rng = np.random.default_rng(0)
    columns = {
        "params": np.exp(rng.uniform(np.log(1e7), np.log(1e10), 60)),
        "tokens": np.exp(rng.uniform(np.log(1e9), np.log(1e12), 60)),
        "bits": np.exp(rng.uniform(np.log(2), np.log(16), 60)),
        "post_bits": rng.choice([3.0, 4.0, 6.0], 60),
    }
    truth = P | POST
    loss = Precision(post=True)(truth, **columns)
    found = laws.fit("precision", {**columns, "loss": loss}, bootstrap=0)
    assert found.model == Precision(post=True)
    assert_allclose(list(found.parameters.values()), list(truth.values()), rtol=1e-6)
    assert "C_T" in found.model.equation and "C_T" not in Precision().equation
    without = laws.fit(
        "precision", {k: v for k, v in (columns | {"loss": loss}).items() if k != "post_bits"}, bootstrap=0
    )
    assert without.model == Precision()


def test_levels_come_from_the_table_and_survive_a_file(tmp_path):
    found = laws.fit("bit-level", ladder(), bootstrap=50)
    assert found.model.levels == (2.0, 3.0, 4.0, 8.0)
    assert_allclose([found.parameters[x] for x in LEVELS], list(LEVELS.values()), rtol=1e-6)
    again = laws.load_fit(found.save(tmp_path / "fit.json"))
    assert again.model == found.model
    assert_allclose(again.value(total_bits=1e9, bits=3.0), found.value(total_bits=1e9, bits=3.0))
    with pytest.raises(RunsError, match="no column total_bits"):
        laws.fit("bit-level", {"params": [1e8, 1e9], "loss": [3.0, 2.0]})


def test_between_levels_the_scale_is_straight_and_outside_constant():
    law, p = BitLevel((2, 4)), {"E": 0.0, "x2": 1e6, "x4": 1e4, "alpha": 1.0}
    assert_allclose(law(p, total_bits=1e6, bits=[1, 2, 3, 4, 16]), [1, 1, 0.1, 0.01, 0.01])
    own = BitLevel((4, 2), own_exponents=True)
    assert own == BitLevel((2, 4), own_exponents=True)
    values = own({"E": 1.0, "x2": 1e6, "x4": 1e6, "alpha2": 0.5, "alpha4": 1.0}, total_bits=1e8, bits=[2, 4])
    assert_allclose(values, [1.1, 1.01])


def test_own_exponents_are_recovered():
    truth = {"E": 1.5, "x2": 2e5, "x4": 2e4, "x8": 4e4, "alpha2": 0.4, "alpha4": 0.35, "alpha8": 0.3}
    bits = np.tile([2.0, 4.0, 8.0], 8)
    size = np.repeat(np.geomspace(1e8, 1e11, 8), 3)
    law = BitLevel((2, 4, 8), own_exponents=True)
    y = law(truth, total_bits=size * bits, bits=bits)
    found = fit_model(law, {"total_bits": size * bits, "bits": bits}, y, loss=SQUARED, bootstrap=0)
    assert_allclose(list(found.parameters.values()), list(truth.values()), rtol=1e-5)


def test_one_level_is_a_gain_of_one():
    base = laws.fit("bit-level", ladder(), bootstrap=20)
    held = {name: base.parameters[name] for name in ("E", "alpha")}
    moved = laws.fit("bit-level", ladder({"x2": LEVELS["x3"], "x3": LEVELS["x4"]}), fixed=held, bootstrap=20)
    assert_allclose(level_gain(base, base, 2).value, 0.0, atol=1e-12)
    assert_allclose([level_gain(base, moved, b).value for b in (2, 3)], 1.0, rtol=1e-5)
    for bits in (8, 5):
        with pytest.raises(FittingError, match=f"a gain at {bits} bits needs that level in both"):
            level_gain(base, moved, bits)
    with pytest.raises(FittingError, match="a gain needs fits with draws"):
        level_gain(base, laws.fit("bit-level", ladder(), bootstrap=0), 2)


def test_a_gain_has_an_interval_that_knows_the_noise():
    """Half a level at 2 bits; the error of ln x is about 0.06 of 2.7 in one level, 4 s.e. are 0.1."""
    base = laws.fit("bit-level", ladder(noise=0.003), bootstrap=300)
    held = {name: base.parameters[name] for name in ("E", "alpha")}
    half = {"x2": math.sqrt(LEVELS["x2"] * LEVELS["x3"]), "x3": LEVELS["x3"]}
    method = laws.fit("bit-level", ladder(half, noise=0.003, seed=1), fixed=held, bootstrap=200)
    gain = level_gain(base, method, 2)
    assert abs(gain.value - 0.5) < 0.1 and gain.lower < gain.value < gain.upper < gain.lower + 0.2
