from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar

from limbeck import laws
from limbeck.errors import FittingError, RunsError
from limbeck.fitting import Loss
from limbeck.fitting.separable import solve_linear
from limbeck.fitting.solver import minimise
from limbeck.laws import Annealing, Schedule, annealed, areas, logged_rates, multi_power, share_exponent
from limbeck.laws.schedules import SHAPES, warmup_steps
from limbeck.runs import read_runs

TRUTH = {"L0": 2.8, "A": 0.6, "C": 4.0, "alpha": 0.45}
PEAK, END, WARMUP = 3e-4, 3e-5, 200
CONSTANT = Schedule(4000, PEAK, warmup=WARMUP, decay=0.0)
COSINE = Schedule(4000, PEAK, "cosine", END, WARMUP)
RISING = np.concatenate([np.full(300, 1e-4), np.linspace(1e-4, 3e-4, 700)])
TWO = {"constant": CONSTANT.rates(), "cosine": COSINE.rates()}


def curves(schedules, truth=TRUTH, momentum=0.99, every=10, noise=0.0, **columns):
    """Logged curves of the law, as a user has them."""
    rng = np.random.default_rng(0)
    rows = []
    for run, rates in schedules.items():
        law = Annealing(momentum=momentum)
        step = np.arange(WARMUP, len(rates), every)
        loss = law(truth, **{k: v[step] for k, v in law.columns_of(rates).items()})
        loss = loss * np.exp(noise * rng.standard_normal(len(step)))
        rows.append(pl.DataFrame({"run": run, "step": step, "lr": rates[step], "loss": loss, **columns}))
    return pl.concat(rows)


@pytest.mark.parity
def test_reference_vectors(parity, walk_sections):
    def case(one):
        s1, s2 = areas(one["lr"], one["lam"])
        assert_allclose(s1, one["S1"], rtol=1e-12)
        assert_allclose(s2, one["S2"], rtol=1e-12, atol=1e-18)
        constants = {name: one[name] for name in TRUTH}
        assert_allclose(Annealing()(constants, S1=s1, S2=s2), one["L"], rtol=1e-12)
        walk_sections({"mpl": one["mpl"]}, {"mpl": lambda m: saturating(one, m)})

    def saturating(one, m):
        shared = {name: one[name] for name in ("L0", "A", "alpha")}
        predicted = multi_power(one["lr"], m["steps"], shared | {name: m[name] for name in ("B", "C", "beta", "gamma")})
        assert_allclose(predicted, m["pred"], rtol=1e-9)
        r = np.abs(np.log(m["y"]) - np.log(predicted))
        huber = np.where(r <= 1e-3, r**2 / 2, 1e-3 * (r - 5e-4)).sum()
        assert_allclose(huber, m["huber_sum_log_delta1e_3"], rtol=1e-6)

    walk_sections(parity("lr-annealing-law"), {"cases": lambda cases: [case(one) for one in cases]})


rates = st.lists(st.floats(0.0, 1.0), min_size=2, max_size=25).map(np.array)


@given(rates, st.floats(0.0, 1.0))
@settings(max_examples=50, deadline=None)
def test_area_is_the_double_sum_and_has_its_limits(eta, momentum):
    drop = -np.diff(eta)
    double = [
        sum(momentum ** (i - k) * drop[k - 1] for i in range(1, s + 1) for k in range(1, i + 1))
        for s in range(len(eta))
    ]
    s1, s2 = areas(eta, momentum)
    assert_allclose(s2, double, atol=1e-12)
    assert_allclose(s1, np.cumsum(eta))
    assert_allclose(areas(eta, 0.0)[1], eta[0] - eta, atol=1e-12)
    assert_allclose(areas(eta, 1.0)[1], np.cumsum(eta[0] - eta), atol=1e-12)


def test_area_of_one_drop_and_of_none():
    eta = np.where(np.arange(30) < 10, 1.0, 0.6)
    s = np.arange(10, 30)
    assert_allclose(areas(eta, 0.9)[1][10:], 0.4 * (1 - 0.9 ** (s - 10 + 1)) / 0.1)
    assert not areas(np.ones(9), 0.9)[1].any()
    warm = np.concatenate([np.linspace(0, 1, 10), eta])
    assert_allclose(areas(warm, 0.9, warmup_steps(warm))[1][10:], areas(eta, 0.9)[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_goes_from_peak_to_end(shape):
    eta = Schedule(1000, 2.0, shape, 0.5, warmup=100, decay=0.4).rates()
    assert eta[0] == 0.0 and (eta[100:600] == 2.0).all() and warmup_steps(eta) == 100
    assert (np.diff(eta[600:]) <= 0).all() and eta[-1] == pytest.approx(0.5, abs=0.005)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": "cosin"}, 'Did you mean "cosine"'),
        ({"warmup": 4000}, "warmup < steps"),
        ({"end": 2.0}, "end <= peak"),
        ({"decay": 1.5}, "decay from 0 to 1"),
        ({"shape": "exponential"}, "never reaches 0"),
        ({"steps": 10**12}, r"1e\+07 steps or fewer; got 1e\+12\. Are they tokens"),
    ],
)
def test_no_schedule(change, words):
    with pytest.raises(FittingError, match=words):
        Schedule(**{"steps": 4000, "peak": 1.0} | change)


def test_logged_rates_rebuild_the_schedule():
    step = np.arange(WARMUP, 4000, 25)
    assert_allclose(logged_rates(step, COSINE.rates()[step]), COSINE.rates()[: step[-1] + 1], atol=PEAK * 1e-4)
    with pytest.raises(FittingError, match="Are they tokens"):
        logged_rates([1e9, 2e10], [1.0, 1.0])


def test_rewarming_raises_the_loss():
    eta = Schedule(3000, 1e-4, warmup=WARMUP, decay=0.0).rates()
    again = np.where(np.arange(3000) < 2000, eta, 3e-4)
    law = Annealing(momentum=0.99)
    up = law({**TRUTH, "C": 20.0}, **{k: v[2000:2100] for k, v in law.columns_of(again).items()})
    assert (np.diff(up) > 0).all()


def test_noise_free_recovery_from_two_curves():
    fit = laws.fit("annealing", curves(TWO), bootstrap=0)
    assert fit.model == Annealing(0.99, PEAK, WARMUP)
    for name, value in TRUTH.items():
        assert fit.parameters[name] == pytest.approx(value, rel=1e-4)
    unseen = Schedule(12000, PEAK, "linear", 0.0, WARMUP, 0.2).rates()
    there = {k: v[WARMUP:] for k, v in fit.model.columns_of(unseen).items()}
    assert_allclose(fit.value(**there), fit.model(TRUTH, **there), rtol=1e-6)


def test_rows_of_the_warm_up_are_left_out():
    logged = curves(TWO)
    rows = [
        pl.DataFrame({"run": run, "step": np.arange(0, WARMUP, 10), "lr": rates[:WARMUP:10], "loss": 9.0})
        for run, rates in TWO.items()
    ]
    table = pl.concat([*rows, logged], how="vertical_relaxed").sort("run", "step")
    fit = laws.fit("annealing", table, bootstrap=0)
    assert len(fit.data) == len(logged) and fit.parameters["L0"] == pytest.approx(TRUTH["L0"], rel=1e-4)


def test_projection_and_the_whole_search_agree():
    fit = laws.fit("annealing", curves(TWO, noise=1e-3), bootstrap=0, loss=Loss(math.inf, "relative"))
    whole, last = minimise(fit.problem, fit.z[None] + 0.1), fit.free.index("alpha")

    def projected(alpha):
        z = np.where(np.arange(len(fit.free)) == last, alpha, fit.z)[None]
        return fit.problem.objective(solve_linear(fit.problem, z, np.zeros(1, int)))[0]

    alone = minimize_scalar(projected, bounds=(0.05, 1.5), method="bounded", options={"xatol": 1e-9})
    assert alone.fun == pytest.approx(whole.objective[0], rel=1e-8)


def test_constant_rate_says_nothing_about_annealing():
    fit = laws.fit("annealing", curves({"constant": CONSTANT.rates()}), bootstrap=20)
    assert not fit.identifiability.identified["C"] and fit.intervals()["C"] is None
    assert "C and λ are not identified" in " ".join(fit.identifiability.words)
    assert fit.parameters["alpha"] == pytest.approx(TRUTH["alpha"], rel=1e-4)


def test_cosine_alone_is_warned_about():
    words = " ".join(
        laws.fit("annealing", curves({"cosine": COSINE.rates()}, noise=1e-3), bootstrap=20).identifiability.words
    )
    assert "No curve holds a plateau" in words
    assert "plateau" not in " ".join(laws.fit("annealing", curves(TWO, noise=1e-3), bootstrap=0).identifiability.words)


def test_several_sizes_in_one_law():
    truth = {**TRUTH, "L0": 2.1, "B": 80.0, "beta": 0.25, "C": 0.4, "gamma": -0.13}
    tables = []
    for size in (2.5e7, 1e8, 4e8, 1.6e9):
        one = {**TRUTH, "L0": 2.1 + 80.0 * size**-0.25, "C": 0.4 * size**0.13}
        named = {f"{run} {size:g}": eta for run, eta in TWO.items()}
        tables.append(curves(named, one, params=size))
    fit = laws.fit("annealing-size", pl.concat(tables), bootstrap=0)
    assert fit.model.momentum == 0.99
    assert_allclose([fit.parameters[k] for k in truth], list(truth.values()), rtol=1e-4)
    with pytest.raises(FittingError, match=r"params from 2.5e\+07 to 1.6e\+09.*annealing-size"):
        laws.fit("annealing", pl.concat(tables), bootstrap=0)


def test_peaks_share_the_exponent_alone():
    low = {
        name: Schedule(4000, 1e-4, one.shape, 1e-5, WARMUP, one.decay).rates()
        for name, one in (("low constant", CONSTANT), ("low cosine", COSINE))
    }
    other = curves(low, {**TRUTH, "A": 0.4, "C": 7.0})
    both = pl.concat([curves(TWO), other])
    with pytest.raises(FittingError, match=r"peak learning rate.*0.0001 to 0.0003.*share_exponent"):
        laws.fit("annealing", both, bootstrap=0)
    fits = share_exponent({"high": read_runs(curves(TWO)), "low": read_runs(other)})
    assert fits["high"].parameters["alpha"] == fits["low"].parameters["alpha"] == pytest.approx(0.45, rel=1e-3)
    assert fits["low"].parameters["C"] == pytest.approx(7.0, rel=0.01)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_checkpoints_become_final_losses(shape):
    fit = laws.fit("annealing", curves(TWO), bootstrap=0)
    plateau = read_runs(curves({"constant": CONSTANT.rates()}, batch_tokens=1e6))
    table = annealed(fit, plateau, decay=0.3, shape=shape, end=END, from_tokens=2e9)
    assert table.column("step").min() == 2000 and (table.column("raw_loss") > table.column("loss")).all()
    final = Schedule(3001, PEAK, shape, END, WARMUP, 0.3).rates()
    measured = curves({"real": final})["loss"][-1]
    assert table.column("loss")[table.column("step") == 3000] == pytest.approx(measured, rel=1e-5)


def test_backward_checkpoints_are_named_and_the_rest_can_go_on():
    table = curves(TWO, noise=1e-4)
    broken = pl.concat([table, table[10:13].with_columns(pl.col("step") + 1)])
    with pytest.raises(RunsError, match=r"(?s)3 rows cannot be used.*step +\d+ comes after 3990"):
        laws.fit("annealing", broken, bootstrap=0)
    assert laws.fit("annealing", broken, bootstrap=0, skip_bad=True).parameters["C"] == pytest.approx(4.0, rel=0.01)


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        (curves(TWO).drop("lr"), RunsError, "no column lr"),
        (curves(TWO).with_columns(lr=-pl.col("lr")), RunsError, "a learning rate is not negative"),
        (curves({"up": RISING}), FittingError, "negative all"),
    ],
    ids=["no rate", "negative rate", "negative area"],
)  # fmt: skip
def test_tables_that_cannot_be_used(table, error, words):
    with pytest.raises(error, match=words):
        laws.fit("annealing", table, bootstrap=0)


def test_rising_rates_are_mentioned():
    low = Schedule(2000, PEAK / 2, warmup=WARMUP, decay=0.0).rates()
    table = curves({**TWO, "again": np.concatenate([low, np.full(2000, PEAK)])})
    words = laws.fit("annealing", table, bootstrap=0).identifiability.words
    assert any("S2 is negative at" in one and "higher loss" in one for one in words)


def test_laws_are_compared_on_curves():
    several = {
        f"{shape} {steps}": Schedule(steps, PEAK, shape, END, WARMUP, 0.3).rates()
        for steps in (1500, 2000, 3000, 6000)
        for shape in ("linear", "cosine")
    }
    compared = laws.compare(["annealing", "power-floor:step"], curves(several, every=50, noise=1e-3), bootstrap=20)
    assert compared.candidates[0].name == "annealing"


@pytest.mark.parametrize(
    ("model", "momentum", "error", "plain"),
    [("25M", 0.999, 0.0056, 0.0265), ("100M", 0.999, 0.0045, 0.0322), ("400M", 0.998, 0.0064, 0.0377)],
)
def test_real_curves_of_unseen_schedules(data_folder, model, momentum, error, plain):
    table = read_runs(
        data_folder / "lr-schedule-curves" / "curves.csv", {"run": "schedule"}, where={"model": model}
    )  # fmt: skip
    seen = ["cosine_24000", "constant_24000"]
    fit = laws.fit("annealing", table.filter({"run": seen}), bootstrap=0)
    assert fit.model.momentum == momentum
    law, everything = fit.model.prepare(table)
    mistakes = np.abs(fit.value(S1=everything.column("S1"), S2=everything.column("S2")) - everything.column("loss"))
    runs = everything.frame["run"].to_numpy()
    unseen = [mistakes[runs == run].mean() for run in np.unique(runs) if run not in seen]
    assert np.mean(unseen) == pytest.approx(error, abs=0.001)
    flat = laws.fit(law, everything.filter({"run": seen}), bootstrap=0, fixed={"C": 0.0})
    mistakes = np.abs(flat.value(S1=everything.column("S1"), S2=0.0) - everything.column("loss"))
    unseen = [mistakes[runs == run].mean() for run in np.unique(runs) if run not in seen]
    assert np.mean(unseen) == pytest.approx(plain, abs=0.001)


@pytest.mark.parametrize("model", ["25M", "100M"])
@pytest.mark.parametrize(
    ("run", "final", "shape", "decay"),
    [("constant_24000", "wsdld_20000_24000", "linear", 1 / 6), ("cosine_72000", "cosine_24000", "cosine", 1.0)],
)
def test_real_checkpoints_become_final_losses(data_folder, model, run, final, shape, decay):
    """The whole difference of the law errs less than half as much as the correction by S2 alone."""
    table = read_runs(data_folder / "lr-schedule-curves" / "curves.csv", {"run": "schedule"}, where={"model": model})
    fit = laws.fit("annealing", table.filter({"run": ["cosine_24000", "constant_24000"]}), bootstrap=0)
    there = table.filter({"run": final})
    truth, step = there.column("loss")[-1], int(there.column("step")[-1])
    found = annealed(fit, table.filter({"run": run}), decay=decay, shape=shape, end=3e-5)
    at = np.abs(found.column("step") - step).argmin()
    imagined = fit.model.columns_of(Schedule(step + 1, 3e-4, shape, 3e-5, 2160, decay).rates())["S2"][-1]
    by_area = found.column("raw_loss")[at] - fit.parameters["C"] * (imagined - found.column("S2")[at])
    assert abs(found.column("loss")[at] - truth) < 0.5 * abs(by_area - truth)
    assert found.column("loss")[at] == pytest.approx(truth, rel=0.003)
