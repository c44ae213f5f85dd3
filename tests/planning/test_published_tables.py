from __future__ import annotations

import json

import polars as pl
import pytest

from limbeck.errors import PlanningError
from limbeck.planning import compare_published

PAIR = {"dataset": "c", "teacher": "vgg13", "student": "vgg8", "student_top1": 70.0}


def table(*rows: tuple[str, float, str], **more: object) -> list[dict[str, object]]:
    return [PAIR | {"method": m, "top1": t, "source": s} | more for m, t, s in rows]


@pytest.fixture(scope="module")
def cifar(data_folder):
    return compare_published(data_folder / "cifar100-kd-tables" / "cifar100_kd.csv")


def test_copied_baselines_are_named(cifar):
    copied = {(c["method"], c["source"], c["other"]): (c["same"], c["values"]) for c in cifar.copied}
    assert copied["KD", "LogitStd", "RepDistiller"] == (11, 11)
    assert copied["CRD", "LogitStd", "RepDistiller"] == (10, 10)
    assert copied["DKD", "LogitStd", "mdistiller"] == (8, 10)
    assert not any("PLD" in key for key in copied) and len(copied) == 6


def test_one_diverged_run(cifar):
    (lost,) = cifar.diverged
    assert (lost["method"], lost["top1"], lost["source"]) == ("RKD", 11.32, "PLD")


def test_another_recipe_stands_alone(cifar):
    assert cifar.recipes == (("DIST", "LogitStd", "RepDistiller", "mdistiller"), ("PLD",))
    assert "never ranked together: DIST, LogitStd, RepDistiller, mdistiller | PLD" in cifar.summary()


@pytest.mark.parametrize(
    ("base", "same", "cross"), [("KD", 1.34, 1.23), ("DKD", 0.34, 0.51), ("MLKD", 0.36, 0.49), ("CTKD", 0.94, 0.93)]
)
def test_mean_gains_of_standardised_logits(cifar, base, same, cross):
    gains = {(g["base"], g["pairs"]): g for g in cifar.gains if "mean of 4" in g["note"]}
    for kind, expected in (("same-family pairs", same), ("cross-family pairs", cross)):
        assert gains[base, kind]["mean"] == pytest.approx(expected, abs=0.005) and gains[base, kind]["count"] == 7


def test_one_pair_carries_the_mean(cifar):
    (gain,) = (g for g in cifar.gains if g["base"] == "KD" and g["note"].endswith("table 2"))
    assert gain["largest_of"] == "resnet32x4 → resnet8x4" and gain["largest"] == pytest.approx(3.29)
    assert gain["others"] == pytest.approx(0.96, abs=0.005)
    spread = pl.Series(gain["values"]).std() / 7**0.5
    assert gain["error"] == pytest.approx(spread) and gain["error"] == pytest.approx(0.34, abs=0.005)
    assert "not ranked (465 of 515 rows have no std" in cifar.notes[0]


def test_a_table_without_students_of_their_own(data_folder):
    found = compare_published(data_folder / "cifar100-kd-tables" / "imagenet_kd.csv")
    assert found.recipes == (("DIST", "LogitStd"), ("PLD",)) and not found.copied and not found.diverged
    assert {g["count"] for g in found.gains} == {1} and "ResNet34 → ResNet18 alone" in found.summary()


def test_one_equal_value_is_no_proof_and_rounding_is_forgiven():
    rows = table(("KD", 73.0, "A"), ("KD", 73.0, "B"))
    assert not compare_published(rows).copied
    more = rows + [one | {"student": "vgg11"} for one in table(("KD", 71.0, "A"), ("KD", 71.004, "B"))]
    assert compare_published(more).copied[0]["same"] == 2
    far = rows + [one | {"student": "vgg11"} for one in table(("KD", 71.0, "A"), ("KD", 71.01, "B"))]
    assert not compare_published(far).copied


def test_gains_stay_inside_one_table_of_one_source():
    rows = table(("KD", 73.0, "A"), ("KD+Z", 74.0, "B"), ("KD", 70.0, "B"), note="t1")
    rows += table(("KD", 60.0, "B"), note="t2")
    (gain,) = compare_published(rows).gains
    assert (gain["mean"], gain["note"], gain["source"], gain["error"]) == (4.0, "t1", "B", None)


def test_without_students_alone_the_pair_is_the_measure():
    rows = [{k: v for k, v in one.items() if k != "student_top1"}
            for one in table(("KD", 73.0, "A"), ("DKD", 74.0, "A"), ("RKD", 30.0, "A"))]  # fmt: skip
    found = compare_published(rows)
    assert [r["method"] for r in found.diverged] == ["RKD"] and found.recipes == (("A",),)


def test_record_and_picture(cifar):
    assert json.loads(json.dumps(cifar.to_dict()))["recipes"][1] == ["PLD"]
    figure = cifar.plot()
    assert len(figure.data) == len(cifar.gains) == 12 and "not ranked" in figure.layout.title.text


def test_another_table_is_refused():
    with pytest.raises(PlanningError, match="no column dataset and no column source"):
        compare_published([{"teacher": "a", "student": "b", "method": "KD", "top1": 1.0}])
