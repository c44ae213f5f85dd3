from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest
from numpy.testing import assert_allclose

from limbeck.errors import FittingError, PlanningError, RunsError
from limbeck.laws import BESIROGLU_2024, HOFFMANN_2022, KAPLAN_2020, NEZHURINA_2025, SUPERVISED_2025, Chinchilla, fit
from limbeck.planning import compare_curves, compare_methods, compute_optimal, rank_methods, split_methods
from limbeck.runs import read_runs

RUNGS = 10.0 ** np.arange(17, 22)


def ladder(level, slope, floor=0.0, noise=0.002, seed=0, x=RUNGS, **columns):
    """Losses E + A (x/1e17)^-a with relative noise."""
    loss = floor + level * (x / 1e17) ** -slope
    return {"flops": x, "loss": loss * np.exp(noise * np.random.default_rng(seed).normal(size=len(x))), **columns}


def test_a_dominated_method_never_wins():
    good, bad = ladder(4.0, 0.05, seed=1), ladder(5.0, 0.05, seed=2)
    found = compare_methods({"good": good, "bad": bad}, [1e20, 1e22, 1e23])
    assert [t.verdict for t in found.targets] == ["good"] * 3
    assert all(t.second_better < 0.01 for t in found.targets)
    assert found.crossings == () and found.crossing == (None, 0.0) and found.kind == "none"
    assert found.naive == "good" and found.rungs == {}


def test_a_slope_crossover_is_seen_before_it_happens():
    shallow, steep = ladder(4.0, 0.04, seed=1), ladder(4.4, 0.047, seed=2)
    truth = 1e17 * (4.4 / 4.0) ** (1 / 0.007)
    found = compare_methods({"shallow": shallow, "steep": steep}, [1e19, 1e25])
    assert [t.verdict for t in found.targets] == ["shallow", "steep"]
    assert found.naive == "shallow" and found.kind == "slope"
    assert max(found.curves.forms, key=lambda form: form.weight).name == "power"
    assert found.curves(np.array([1e20])).shape == (2, 401, 1)
    assert found.gap(1e25)[0, 0] == found.targets[-1].gap.value < 0
    place, share = found.crossing
    assert place.lower < truth < place.upper and share > 0.95
    assert "the verdict contradicts it" in found.summary()


def test_a_method_against_itself_is_undecided():
    runs = ladder(4.0, 0.05, 1.0, noise=0.01)
    found = compare_methods({"one": runs, "two": runs}, 1e23)
    assert found.targets[0].verdict == "undecided" and found.crossings == ()
    assert found.targets[0].regret == (0.0, 0.0)
    errors = {"flops": RUNGS, "error": np.array([0.82, 0.63, 0.46, 0.34, 0.27])}
    assert (compare_methods({"one": errors, "two": errors}, 1e23).gap(1e23) == 0).all()  # resampled alike
    again = [
        compare_methods({"one": runs, "two": ladder(4.0, 0.05, 1.0, noise=0.01, seed=seed)}, 1e22)
        for seed in range(11, 15)
    ]
    assert sum(found.targets[0].verdict == "undecided" for found in again) >= 3  # each 10 % wrong
    assert any("within noise" in note for found in again for note in found.caveats)


def test_swapping_the_methods_mirrors_the_answer():
    x = np.geomspace(1e7, 1e11, 14)
    rng = np.random.default_rng(3)
    a, b = ({"flops": x, "error": 0.1 + 40 * (x + s) ** -0.24 + rng.normal(0, 0.004, 14)} for s in (1e7, 5e7))
    there = compare_methods({"a": a, "b": b}, [1e10, 1e12], bootstrap=200)
    assert all(form.name.startswith("late power") for form in there.curves.forms)
    back = compare_methods({"b": b, "a": a}, [1e10, 1e12], bootstrap=200)
    for one, two in zip(there.targets, back.targets, strict=True):
        assert one.gap.value == pytest.approx(-two.gap.value, rel=1e-6)
        # paired resamples: the same draws; the floor they share keeps its own order
        assert one.second_better == pytest.approx(1 - two.second_better, abs=0.02)
        assert one.verdict == two.verdict
        assert_allclose(one.regret, two.regret[::-1], rtol=0.1, atol=1e-6)
    assert_allclose(there.crossings, back.crossings, rtol=1e-6)


def test_the_unit_of_scale_does_not_matter():
    x = np.geomspace(1e7, 1e11, 14)
    rng = np.random.default_rng(4)
    a, b = ({"flops": x, "error": 0.1 + 40 * (x + s) ** -0.24 + rng.normal(0, 0.002, 14)} for s in (1e7, 2e8))
    plain = compare_methods({"a": a, "b": b}, 1e12, bootstrap=100)
    scaled = [{**one, "flops": 1e9 * x} for one in (a, b)]
    far = compare_methods(dict(zip("ab", scaled, strict=True)), 1e21, bootstrap=100)
    assert far.targets[0].second_better == pytest.approx(plain.targets[0].second_better, abs=0.03)
    assert_allclose(far.crossings, 1e9 * np.array(plain.crossings), rtol=1e-3)


def test_free_floors_over_two_decades_are_wide():
    x = 10.0 ** np.linspace(17, 18.5, 8)
    a, b = ladder(2.0, 0.3, 2.0, 0.01, 1, x), ladder(2.02, 0.3, 2.0, 0.01, 2, x)
    found = compare_methods({"a": a, "b": b}, 1e21)
    place, _ = found.crossing
    assert found.targets[0].verdict == "undecided"
    assert place is None or place.upper is None or place.upper / place.lower > 10
    assert found.rungs and all(value >= 0 for value in found.rungs.values())
    assert any("beyond the shorter ladder" in note for note in found.caveats)


@pytest.mark.parametrize(("seed", "known"), [(0, False), (2, True), (9, False)])
def test_a_crossing_lies_inside_its_interval_or_has_none(seed, known):
    x = np.geomspace(1e17, 1e20, 6)
    a = ladder(4.0, 0.05, noise=0.004, seed=2 * seed + 1, x=x)
    b = ladder(4.02, 0.0505, noise=0.004, seed=2 * seed, x=x)
    found = compare_methods({"a": a, "b": b}, 1e21, bootstrap=60)
    place, share = found.crossing
    assert share > 0.5 and (place.lower is not None) == known
    assert not known or place.lower <= place.value <= place.upper
    assert ("80 %" in found.summary().splitlines()[1]) == known


def test_three_scales_are_flagged_and_two_refused():
    three = {"a": ladder(4, 0.05, x=RUNGS[:3]), "b": ladder(4.1, 0.05, x=RUNGS[:3], seed=1)}
    found = compare_methods(three, 1e20)
    assert sum("one degree of freedom" in note for note in found.caveats) == 2
    with pytest.raises(PlanningError, match=r"b: runs at 2 scale\(s\); a curve needs 3"):
        compare_methods({**three, "b": ladder(4, 0.05, x=RUNGS[:2])}, 1e20)
    line = {"flops": [1e18] * 4, "loss": [3.0, 3.1, 3.2, 3.3]}
    with pytest.raises(PlanningError, match=r"all at 1e18 FLOP \(a single iso-FLOP line"):
        compare_methods({**three, "b": line}, 1e20)


def test_bad_questions_are_refused():
    two = {"a": ladder(4, 0.05), "b": ladder(4.1, 0.05, seed=1)}
    with pytest.raises(PlanningError, match="of two methods; given 1"):
        compare_methods({"a": two["a"]}, 1e20)
    with pytest.raises(PlanningError, match="positive numbers; got -1"):
        compare_methods(two, -1.0)
    with pytest.raises(FittingError, match="between 0 and 1"):
        compare_methods(two, 1e22, confidence=95)
    with pytest.raises(RunsError, match=r"no column flops[\s\S]*flops = 6 · params · tokens"):
        compare_methods({**two, "b": {"steps": [1.0, 2.0], "loss": [3.0, 2.0]}}, 1e20)


def test_saturated_scores_are_left_out_and_said():
    x = np.geomspace(1e18, 1e22, 9)
    score = np.minimum(100.0, 30 + 10 * np.arange(9.0))
    found = compare_methods({"a": {"flops": x, "acc": score}, "b": {"flops": x, "acc": score - 3}}, 1e21, score="acc")
    assert found.quantity == "1 - acc"
    assert any("a: 2 of 9 rows left out: saturated" in note for note in found.caveats)
    with pytest.raises(PlanningError, match=r"runs at 0 scale[\s\S]*9 of 9 rows left out: saturated"):
        compare_methods({"a": {"flops": x, "acc": 0 * x + 100}, "b": {"flops": x, "acc": score}}, 1e21, score="acc")
    below = compare_methods({"a": ladder(4.0, 0.04), "b": ladder(4.4, 0.047, seed=1)}, 1e15)
    assert any("extrapolated downwards" in note for note in below.caveats)


def test_a_frontier_is_suggested_for_a_grid_and_sweeps_are_reduced():
    rng = np.random.default_rng(0)
    x = np.exp(rng.uniform(np.log(1e18), np.log(1e22), 60))
    grids = [{"flops": x, "loss": a * (x / 1e17) ** -0.05 * np.exp(rng.exponential(0.1, 60))} for a in (4.0, 4.8)]
    grid = dict(zip("ab", grids, strict=True))
    assert any("--frontier" in note for note in compare_methods(grid, 1e22, bootstrap=50).caveats)
    found = compare_methods(grid, 1e22, frontier=True, bootstrap=100)
    assert len(found.points[0].x) < 25 and not any("--frontier" in note for note in found.caveats)
    assert found.targets[0].verdict == "a"
    swept = {name: ladder(a, 0.05, x=np.repeat(RUNGS, 3), seed=i) for i, (name, a) in enumerate((("a", 4), ("b", 4.8)))}
    for one in swept.values():
        one["lr"] = np.tile([1e-4, 1e-3, 1e-2], 5)
        one["loss"] = one["loss"] * np.tile([1.02, 1.0, 1.03], 5)
    tuned = compare_methods(swept, 1e22, sweep=["lr"])
    assert len(tuned.points[0].x) == 5 and tuned.points[0].mistuned > 0
    assert tuned.targets[0].verdict == "a"


def test_the_regime_is_told_where_the_table_knows_it():
    runs = ladder(4.0, 0.05, tokens=np.full(5, 4e9), unique_tokens=np.full(5, 1e9), train_loss=np.full(5, 2.0))
    found = compare_methods({"a": runs, "b": ladder(4.5, 0.05, seed=1)}, 1e22)
    assert any(note.startswith("a: generalisation regime (data seen 4×") for note in found.caveats)


def test_published_and_fitted_laws():
    found = compare_curves({"clip": NEZHURINA_2025["clip"], "mammut": NEZHURINA_2025["mammut"]}, 1e12)
    assert 1e10 < found.crossings[-1] < 1.1e11
    assert found.targets[0].verdict == "undecided" and found.targets[0].second_better is None
    assert "no intervals are known" in found.summary()
    joint = compare_curves({"B": BESIROGLU_2024, "H": HOFFMANN_2022}, 1e24)
    loss = compute_optimal(HOFFMANN_2022, 1e24).loss.value
    assert joint.targets[0].loss[1].value == pytest.approx(loss, rel=1e-6)
    frontier = compare_curves({"S": SUPERVISED_2025, "B": BESIROGLU_2024}, 1e22).targets[0].loss[0].value
    assert frontier == pytest.approx(compute_optimal(SUPERVISED_2025, 1e22).loss.value, rel=1e-6)
    rng = np.random.default_rng(0)
    n, d = np.exp(rng.uniform(np.log(1e8), np.log(1e10), (2, 40)) + np.array([[0], [4]]))
    loss = HOFFMANN_2022.value(params=n, tokens=d) * np.exp(rng.normal(0, 0.003, 40))
    own = fit(Chinchilla(), {"params": n, "tokens": d, "loss": loss}, bootstrap=100)
    mixed = compare_curves({"own": own, "B": BESIROGLU_2024}, 1e26)
    assert mixed.targets[0].verdict == "own" and 0 <= mixed.targets[0].second_better < 0.05
    with pytest.raises(PlanningError, match="B is a law of loss: not comparable"):
        compare_curves({"clip": NEZHURINA_2025["clip"], "B": BESIROGLU_2024}, 1e12)
    with pytest.raises(PlanningError, match="needs a law in params"):
        compare_curves({"own": own, "B": BESIROGLU_2024}, 1e9, column="params")


def test_any_law_of_size_and_data_goes_along_its_frontier():
    found = compare_curves({"B": BESIROGLU_2024, "K": KAPLAN_2020}, 1e22)
    least = compute_optimal(KAPLAN_2020, 1e22).loss.value
    assert found.targets[0].loss[1].value == pytest.approx(least, rel=1e-6)


def test_many_methods_as_a_picture():
    c = 10.0 ** np.arange(17, 21)
    found = rank_methods(
        {name: {"flops": c, "loss": a * c**-0.05} for name, a in (("a", 10), ("b", 9), ("c", 12))}, 1e22
    )
    figure = found.plot()
    assert figure.layout.title.text == "b comes first of 3 at 1e22 FLOP"
    assert [trace.name for trace in figure.data if trace.mode == "markers"] == ["b", "a", "c"]
    assert set(json.loads(json.dumps(found.to_dict()))).isdisjoint({"curves", "points"})


def test_json_plot_and_summary():
    found = compare_methods({"a": ladder(4.0, 0.04), "b": ladder(4.4, 0.047, seed=1)}, [1e20, 1e24])
    record = json.loads(json.dumps(found.to_dict()))
    assert set(record) == {
        "names", "column", "quantity", "targets", "crossings", "crossing", "crossing_share", "kind", "naive",
        "forms", "held_out", "rungs", "level", "confidence", "notes",
    }  # fmt: skip
    assert sum(record["forms"].values()) == pytest.approx(1.0)
    figure = found.plot()
    assert {trace.name for trace in figure.data} == {"a", "b"} and len(figure.data) == 8
    assert figure.layout.xaxis.type == "log" and figure.layout.title.text.startswith("b is better at 1e24 FLOP")
    again = compare_methods({"a": ladder(4.0, 0.04), "b": ladder(4.4, 0.047, seed=1)}, [1e20, 1e24])
    assert again.summary() == found.summary()


def test_many_methods_are_ranked():
    runs = {name: ladder(a, 0.05, seed=i) for i, (name, a) in enumerate((("c", 4.4), ("a", 4.0), ("b", 4.2)))}
    runs["few"] = ladder(4, 0.05, x=RUNGS[:2])
    found = rank_methods(runs, 1e22)
    assert found.names == ("a", "b", "c") and found.rung == RUNGS[0]
    better = np.array(found.better)
    assert (better[np.triu_indices(3, 1)] > 0.9).all() and (np.diag(better) == 0).all()
    assert all(e.value == 1.0 for e in found.accuracy.values()) and len(found.accuracy) == 5
    assert found.notes == ("left out, runs at fewer than three scales: few",)
    json.dumps(found.to_dict())
    assert found.summary().startswith("a comes first of 3 at 1e22 FLOP")
    with pytest.raises(PlanningError, match="fewer than two methods"):
        rank_methods({"a": runs["a"], "few": runs["few"]}, 1e22)


def test_one_table_is_split_by_its_columns():
    table = read_runs(
        {"recipe": ["x", "x", "y"], "size": [1, 2, 1], "flops": [1e18, 1e19, 1e18], "loss": [3.0, 2.9, 3.1]},
        mix_setups=True,
    )
    assert {k: len(v) for k, v in split_methods(table, ["recipe"]).items()} == {"x": 2, "y": 1}
    assert set(split_methods(table, ["recipe", "size"])) == {"x 1", "x 2", "y 1"}
    assert list(split_methods(table, ["recipe"], ["y"])) == ["y"]
    with pytest.raises(PlanningError, match='no method "z"'):
        split_methods(table, ["recipe"], ["z"])
    with pytest.raises(PlanningError, match=r'no column "recip".*Did you mean "recipe"'):
        split_methods(table, ["recip"])
    mixed = read_runs({**{c: table.frame[c].to_list() for c in table.columns}, "dataset": list("pqp")}, mix_setups=True)
    with pytest.raises(RunsError, match="mixes setups"):
        split_methods(mixed, ["recipe"])


@pytest.mark.slow
def test_verdicts_are_calibrated_and_regret_beats_the_naive_rule():
    """300 pairs, 5 rungs a decade apart, 1 % noise, target 10× further."""
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        a, p = rng.uniform(5, 20), rng.uniform(0.05, 0.15)
        b, q = a * np.exp(rng.normal(0, 0.02)), p + rng.normal(0, 0.002)
        runs = {
            k: ladder(c, s, noise=0.01, seed=rng.integers(2**31)) for k, (c, s) in {"a": (a, p), "b": (b, q)}.items()
        }
        found = compare_methods(runs, 1e22, bootstrap=100)
        true_gap = b * 1e5**-q - a * 1e5**-p
        chosen = np.argmin(found.targets[0].regret)
        rows.append(
            (found.targets[0].second_better, true_gap, chosen == (true_gap < 0), found.naive == "ab"[int(true_gap < 0)])
        )
    p, true_gap, chose, naive = np.array(rows, float).T
    sure = np.maximum(p, 1 - p)
    middle = (sure >= 0.8) & (sure < 0.9)
    assert 0.72 <= chose[middle].mean() <= 0.96  # about 55 pairs: s.e. 5 %
    cost = np.abs(true_gap)
    assert (cost * (1 - chose)).mean() <= (cost * (1 - naive)).mean()


@pytest.fixture(scope="module")
def measured(data_folder):
    return pl.read_csv(data_folder / "laion_clip_mammut" / "best_by_model_and_samples.csv")


def test_real_methods_cross_and_small_runs_leave_it_open(measured):
    where = {"pretrain_dataset": "datacomp_1b", "lr_scheduler": "cosine", "eval": "imagenet1k"}
    table = measured.filter(**where).rename({"gflops_total": "flops", "value": "score"})
    methods = {
        family: {name: rows[name].to_numpy() for name in ("flops", "score")}
        for (family,), rows in table.filter(pl.col("family").is_in(["clip", "mammut"])).group_by("family")
    }
    methods = {name: methods[name] for name in ("clip", "mammut")}
    found = compare_methods(methods, [1e10, 1e12], score="score", frontier=True)
    assert found.targets[0].verdict == "clip" and found.targets[1].second_better > 0.85
    assert 1e10 < found.crossings[-1] < 3e11
    small = {name: {k: v[one["flops"] <= 2.5e10] for k, v in one.items()} for name, one in methods.items()}
    early = compare_methods(small, 1e12, score="score", frontier=True)
    assert early.naive == "clip" and early.targets[0].verdict == "undecided"
