"""Papers about which problems, teachers and answers a student should learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import f_oneway, spearmanr, ttest_1samp

from limbeck.papers import get
from limbeck.papers.generalization_fidelity import TASKS, published

pytest.importorskip("transformers")
pytest.importorskip("sklearn")


def test_impossible_problems_make_an_unweighted_student_forget() -> None:
    found = [get("paced").measure(0, quick=True)]
    start, after = (np.array([one[name] for one in found])[:, 0] for name in ("start", "after"))
    assert 0.88 < start[0] < 0.96
    forgotten = start[:, None] - after[:, :, -1]  # [seed, way]
    assert (forgotten[:, 2] < forgotten[:, 0]).all()
    signal = np.array([one["signal"] for one in found])
    assert signal.shape == (1, 2, 4) and (signal[:, 1] > 0).all()


def measured(after: Any) -> list[Any]:
    return [{"start": [0.9, 0.6], "after": np.array(after) + 0.001 * k, "signal": np.ones((2, 4))} for k in range(3)]


def test_the_verdict_on_weights_follows_from_the_numbers() -> None:
    learnable = [[0.7, 0.8, 0.9, 0.9, 0.9], [0.6, 0.7, 0.8, 0.8, 0.8], [0.6, 0.7, 0.8, 0.8, 0.8]]
    better = [[0.9, 0.9, 0.87, 0.9, 0.9], [0.9, 0.9, 0.9, 0.9, 0.9], [0.9, 0.9, 0.92, 0.9, 0.9]]
    found = get("paced").conclude(measured([better, learnable]))
    np.testing.assert_allclose(list(found.effects), 5.0)
    assert all(found.checks.values()) and "10.0 ± 0.0 points behind" in found.notes[1]
    assert not all(get("paced").conclude(measured([better[::-1], learnable])).checks.values())


def test_fixed_answers_rise_again_and_new_ones_do_not() -> None:
    steps = (5, 10, 20)
    few, new = [[2.0, 1.0, 1.1]], [[2.0, 1.0, 0.9]]
    one = {"steps": steps, "ways": ["few", "new"], "golden": np.array(few + new), "proxy": np.array(new + new)}
    found = get("teacher-hacking").conclude([{**one, "teacher": 0.8, "verdicts": ["hacking", "healthy"]}] * 3)
    np.testing.assert_allclose(list(found.effects), 10.0)
    assert all(np.all(check) for check in found.checks.values())
    assert "is least, that to the truth has risen by 10.0 ± 0.0 % (hacking)" in found.notes[0]


def test_a_quick_run_tells_fixed_answers_from_new_ones() -> None:
    found = get("teacher-hacking").measure(0, quick=True)
    proxy, golden = found["proxy"], found["golden"]
    assert found["ways"] == ["40 prompts", "new answers in every step"] and found["steps"][0] == 5
    assert proxy[1, -1] < 0.7 * proxy[0, -1] and golden[1, -1] < golden[0, -1] - 0.02
    assert 0.3 < found["teacher"] < golden.min()


def test_the_smoke_test_takes_the_sure_teacher_though_the_other_scores_better() -> None:
    found = get("ded-data-efficient").measure(0, quick=True)
    assert found["pick"] == "sure" and found["teachers"][0] > found["teachers"][1]
    assert found["students"][1] > found["students"][0] + 0.05
    assert found["entropy"][0] > 1 > 0.1 > found["entropy"][1]
    assert not found["recommended"]
    record = get("ded-data-efficient").conclude([found] * 3)
    assert list(record.effects) == pytest.approx([100 * (found["students"][1] - found["students"][0])] * 3)


def test_students_gain_from_a_teacher_and_agree_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIMBECK_DATA", str(tmp_path))  # without the published table
    record = get("generalization-fidelity").conclude([get("generalization-fidelity").measure(0, quick=True)] * 2)
    assert min(record.effects) > 1 and len(record.notes) == 2
    right, same, apart = np.array(record.details["students"])[1].T
    assert same[3] > same[0] + 1 and apart[3] < 0.5 * apart[0] and (right > 80).all()


@pytest.fixture
def with_data(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = data_folder / "kd-generalization-fidelity"
    monkeypatch.setenv("LIMBECK_DATA", str(data_folder))
    return folder


def test_published_gains_shrink_where_there_is_less_to_gain(with_data: Path) -> None:
    table = published(most=False)
    gains = {task: table[f"{task}_gain"].to_numpy() for task in TASKS}
    mean = [round(float(gains[task].mean()), 1) for task in TASKS[:-1]]
    assert mean == [5.4, 5.0, 6.1, 4.3, 3.5, 2.0]
    size = table["size"].to_numpy()
    raw = [round(float(spearmanr(size, gains[task]).statistic), 2) for task in TASKS[:-1]]
    share = [gains[task] / (100 - table[f"{task}_before"].to_numpy()) for task in TASKS[:-1]]
    assert raw == [-0.38, -0.32, -0.79, -0.51, -0.6, -0.27]  # the second is -0.325
    assert [round(float(spearmanr(size, one).statistic), 2) for one in share] == [
        -0.01,
        -0.02,
        -0.17,
        -0.1,
        -0.36,
        -0.26,
    ]


@pytest.mark.parity
def test_the_published_statistics(parity: Any, with_data: Path) -> None:
    import polars as pl

    table = published()
    assert len(table) == 33
    same = pl.read_csv(with_data / "EM1.csv").filter(pl.col("Method") == "KD")
    joined = table.join(same, on=["Teacher", "Student"], suffix="_same", maintain_order="left")
    kinds = table["Method"].to_numpy()
    checks = parity("generalization-fidelity")["statistics_value_pvalue"]
    for hypothesis, by_task in checks.items():
        for name, expected in by_task.items():
            task = "gsm8k" if name == "GSM8k" else name
            gain = table[f"{task}_gain"].to_numpy()
            found = {
                "ttest": lambda g=gain: ttest_1samp(g, 0, alternative="greater"),
                "anova": lambda g=gain: f_oneway(*[g[kinds == kind] for kind in np.unique(kinds)]),
                "vs_teacher": lambda g=gain, t=task: spearmanr(g, table[f"{t}_teacher"].to_numpy()),
                "vs_student_size": lambda g=gain: spearmanr(g, table["size"].to_numpy()),
                "vs_agreement": lambda g=gain, t=task: spearmanr(g, joined[f"{t}_same"].to_numpy()),
            }
            (way,) = [key for key in found if key in hypothesis]
            result = found[way]()
            assert [result.statistic, result.pvalue] == pytest.approx(expected, rel=1e-9, abs=1e-9), (hypothesis, name)
