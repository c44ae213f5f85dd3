from __future__ import annotations

import json
import math

import numpy as np
import polars as pl
import pytest
from scipy import stats

from limbeck.errors import PlanningError, RunsError
from limbeck.fitting import holm
from limbeck.planning import compare_losses
from limbeck.planning.loss_comparison import UNSEEN


def rows(table: dict[str, list[float | None]], **more: object) -> list[dict[str, object]]:
    found = [(m, s, x) for m, values in table.items() for s, x in enumerate(values)]
    return [{"method": m, "seed": s, "accuracy_percent": x, **more} for m, s, x in found]


def results(table: dict[str, list[float | None]], **more: object) -> dict[str, object]:
    return {r.method: r for r in compare_losses(rows(table, **more)).settings[0].results}


@pytest.fixture(scope="module")
def study(data_folder):
    found = compare_losses(data_folder / "small-kd-study" / "results.csv")
    return {one.setting: {r.method: r for r in one.results} for one in found.settings}, found


def test_measured_differences_are_found(study):
    settings, _ = study
    kd = settings["digits, 10/class h=16"]["KD T4 (.1/.9)"]
    assert (kd.difference.mean, kd.difference.error) == pytest.approx((5.36, 0.51), abs=0.005)
    assert kd.verdict == "better" and kd.difference.pairs == 5 and kd.means["nll"] == pytest.approx(0.165, abs=5e-4)
    pld = settings["digits, full h=8"]["PLD tau1"]
    assert (pld.difference.mean, pld.difference.error) == pytest.approx((-0.02, 0.05), abs=0.005)
    assert pld.verdict == UNSEEN


def test_uncorrected_signs_are_those_of_the_study(study):
    settings, _ = study
    methods = ["CE+label-smooth0.1", "KD T4 (.1/.9)", "KD T2 (.1/9) weight control", "KD+standardised t2 (.1/9)",
               "DKD a1 b8 T4", "DKD+standardised t2 (9x a1 b2)", "PLD tau1", "PLD tau4", "PL uniform (ListMLE)",
               "DIST tau1 (1,1,1)", "DIST tau4 (1,2,2)"]  # fmt: skip
    arrows = {
        "digits, full h=8": "....v...v..", "digits, 10/class h=16": "v^^^^^^^...",
        "mnist5k, full h=8": "v...vv..v.v", "mnist5k, 10/class h=32": "v..^.^.vv..",
        "glyph62, full h=24": "v^^.^^^^v^^", "filetype, h=32": "^vvvvv.vv.v",
    }  # fmt: skip
    for setting, expected in arrows.items():
        found = [settings[setting][name] for name in methods]
        drawn = "".join("." if r.difference.p >= 0.05 else "^" if r.difference.mean > 0 else "v" for r in found)
        assert drawn == expected, setting
        for r in found:  # the verdict is never bolder than the sign before correction
            assert r.verdict == UNSEEN or r.difference.p < 0.05


def test_the_order_stops_where_the_noise_begins(study):
    _, found = study
    groups = {one.setting: one.groups for one in found.settings}
    first, second, third = groups["digits, 10/class h=16"]
    assert first[0] == "KD T4 (.1/.9)" and len(first) == 6 and "CE" in second and third == ("CE+label-smooth0.1",)
    assert len(groups["digits, full h=8"]) == 1
    assert sum(map(len, groups["filetype, h=32"])) == 13


def test_verdict_limit_and_correction_by_hand():
    base = [90.0, 91.0, 92.0, 93.0, 94.0]
    gaps = {
        "up": [2.0, 2.2, 1.8, 2.1, 1.9],
        "noise": [1.0, -1.0, 0.5, -0.4, 0.1],
        "down": [-1.0, -1.3, -0.8, -1.2, -0.9],
    }
    found = results(
        {"CE": base} | {name: [b + g for b, g in zip(base, gap, strict=True)] for name, gap in gaps.items()}
    )
    assert {name: r.verdict for name, r in found.items()} == {
        "up": "better", "noise": UNSEEN, "CE": "baseline", "down": "worse",
    }  # fmt: skip
    p = {name: stats.ttest_1samp(gap, 0).pvalue for name, gap in gaps.items()}
    for name, value in zip(p, holm(list(p.values())), strict=True):
        assert found[name].holm == pytest.approx(value) and found[name].difference.p == pytest.approx(p[name])
    error = np.std(gaps["noise"], ddof=1) / np.sqrt(5)
    assert found["noise"].visible_from == pytest.approx(stats.t.ppf(1 - 0.025 / 3, 4) * error)
    assert found["CE"].difference is None and found["CE"].holm is None


def test_many_methods_raise_the_bar():
    gap = [0.2, 0.5, 0.3, 0.9, 0.4]
    base = [90.0, 91.0, 92.0, 93.0, 94.0]
    moved = [b + g for b, g in zip(base, gap, strict=True)]
    assert results({"CE": base, "a": moved})["a"].verdict == "better"
    noisy = {f"n{k}": list(np.random.default_rng(k).normal(base, 1.0)) for k in range(8)}
    crowd = results({"CE": base, "a": moved} | noisy)
    assert crowd["a"].verdict == UNSEEN and crowd["a"].difference.p < 0.05


def test_diverged_runs_are_named_and_leave_the_means():
    found = results({"CE": [90.0, 91, 92, 90], "one": [94.0, 95, 93, 40], "lost": [10.0, 9, 11, 10],
                     "nan": [93.0, 94, 95, None]})  # fmt: skip
    assert {name: r.verdict for name, r in found.items() if name != "CE"} == dict.fromkeys(
        ("one", "lost", "nan"), "diverged"
    )
    assert found["one"].diverged == ("seed 3 (40 %)",) and found["nan"].diverged == ("seed 3 (NaN)",)
    assert found["one"].means["accuracy"] == 94.0 and found["one"].difference.pairs == 3 and found["one"].holm is None
    assert math.isnan(found["lost"].means["accuracy"]) and len(found["lost"].diverged) == 4


def test_a_poor_method_is_not_a_diverged_one_and_chance_counts():
    table = {"CE": [82.0, 83, 82, 83], "poor": [37.0, 36, 38, 37]}
    assert results(table)["poor"].verdict == "worse"
    assert results(table, classes=4)["poor"].verdict == "diverged"  # 25 % is chance


def test_a_diverged_baseline_takes_its_seed_from_all():
    found = results({"CE": [90.0, 91, 92, 5], "a": [92.0, 93.5, 94, 95]})
    assert found["a"].difference.pairs == 3 and found["CE"].diverged == ("seed 3 (5 %)",)


def test_two_seeds_give_no_verdict():
    found = results({"CE": [90.0, 91.0], "a": [95.0, 96.0]})
    assert found["a"].verdict == "too few seeds" and found["a"].difference.mean == 5.0


def test_seeds_are_matched_not_counted():
    table = pl.DataFrame(rows({"CE": [90.0, 80.0, 70.0, 60.0], "a": [91.0, 81.1, 71.2, 60.9]})).sample(
        fraction=1.0, shuffle=True, seed=1
    )
    one = {r.method: r for r in compare_losses(table.filter(~((pl.col("method") == "a") & (pl.col("seed") == 0))))
           .settings[0].results}  # fmt: skip
    assert one["a"].difference.mean == pytest.approx((1.1 + 1.2 + 0.9) / 3) and one["a"].seeds == 3


def test_fractions_names_and_settings():
    table = pl.DataFrame(rows({"ce": [0.9, 0.8, 0.7], "a": [0.95, 0.86, 0.74]})).rename(
        {"accuracy_percent": "accuracy"}
    )
    both = pl.concat([table.with_columns(dataset=pl.lit(d)) for d in ("x", "y")])
    found = compare_losses(both)
    assert [one.setting for one in found.settings] == ["x", "y"] and found.settings[0].baseline == "ce"
    assert found.settings[0].results[0].means["accuracy"] == pytest.approx(85.0)


def test_sharper_but_less_calibrated_is_said():
    table = pl.DataFrame(rows({"CE": [90.0, 91, 92], "z": [93.0, 94.5, 95]})).with_columns(
        nll=pl.when(pl.col("method") == "z").then(1.5).otherwise(0.3)
    )
    assert any("z: more accurate than CE, NLL more than 10 % above it" in note for note in compare_losses(table).notes)
    calm = compare_losses(table.with_columns(nll=pl.lit(0.3)))
    assert not any("NLL" in note for note in calm.notes)


def test_a_setting_without_the_baseline_is_said():
    table = rows({"CE": [90.0, 91, 92], "a": [1.0 + 90, 92, 93.5]}, dataset="x") + rows(
        {"a": [90.0, 91, 92]}, dataset="y"
    )
    found = compare_losses(table)
    assert len(found.settings) == 1 and "y: no method CE, not compared" in found.notes


def test_record_and_picture(study):
    settings, found = study
    record = json.loads(json.dumps(found.to_dict()))
    assert record["settings"][1]["results"][0]["difference"]["pairs"] == 5
    figure = found.plot()
    assert len(figure.data) == 6 and len(figure.data[0].x) == 12 and "14 better, 17 worse" in figure.layout.title.text
    kd = dict(zip(figure.data[1].x, figure.data[1].error_y.array, strict=True))["KD T4 (.1/.9)"]
    measured = settings["digits, 10/class h=16"]["KD T4 (.1/.9)"].difference
    assert kd == pytest.approx(stats.t.ppf(0.975, 4) * measured.error) and measured.error == pytest.approx(
        0.51, abs=0.01
    )


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        (rows({"KD": [90.0, 91]}), PlanningError, 'no method "CE".*There are: KD'),
        (rows({"CE": [90.0, 91]}) * 2, PlanningError, "CE, seed 0.*more than once"),
        ([{"seed": 1, "accuracy": 1.0}], PlanningError, "no column method"),
        ([{"method": "CE", "seed": 1, "top": 1.0}], PlanningError, "no column accuracy"),
        ([{"method": "CE", "accuracy": 1.0}], RunsError, "no column seed"),
    ],
)
def test_mistakes(table, error, words):
    varied = [one | {"row": k} for k, one in enumerate(table)]
    with pytest.raises(error, match=words):
        compare_losses(varied)
