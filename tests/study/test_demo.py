"""The whole circle with a tiny design: killed between a forecast and the run that checks it, resumed, read again."""

from __future__ import annotations

import json
import pydoc_data.topics
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.errors import ConfigError
from limbeck.study import Design, demo

DESIGN = Design(
    ladder=(16, 12, 8),
    ladder_budgets=(8_000, 16_000),
    ladder_seeds=2,
    large=24,
    large_budget=24_000,
    student=8,
    small_teachers=(16,),
    short_budgets=(4_000, 8_000),
    long_budget=16_000,
    draws=200,
)
SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_demo import DESIGN
from limbeck.study import Stages, demo

class Killer(Stages):
    def finished(self, name):
        if name == {stage!r}:
            os.killpg(0, signal.SIGKILL)

if __name__ == "__main__":
    demo(Path({out!r}), text=Path({text!r}), design=DESIGN, stages=Killer(6))
"""


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "topics.txt"
    topics = [str(topic) for _, topic in sorted(pydoc_data.topics.topics.items())]
    path.write_text("\n\n".join(topics)[:150_000])
    return path


@pytest.fixture(scope="module")
def killed(text, tmp_path_factory) -> Path:
    """A demo that was killed by SIGKILL right after the first forecast."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    script = SCRIPT.format(here=str(Path(__file__).parent), stage="prediction", out=str(out), text=str(text))
    path = out.parent / "script.py"
    path.write_text(script)
    run = subprocess.run(
        [sys.executable, str(path)], start_new_session=True, capture_output=True, timeout=300, check=False
    )
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()[-2000:]
    return out


@pytest.fixture(scope="module")
def finished(killed, text):
    before = (killed / "prediction.json").read_text()
    checking = list((killed / "runs").glob("large-*"))
    return demo(killed, text=text, design=DESIGN), before, checking


def test_the_forecast_is_on_disk_before_the_run_that_checks_it_has_a_folder(finished):
    result, before, checking = finished
    assert [entry["name"] for entry in json.loads(before)["forecasts"]] == ["large run"]
    assert checking == []
    after = json.loads((result.out / "prediction.json").read_text())["forecasts"]
    assert after[0] == json.loads(before)["forecasts"][0]
    assert [entry["name"] for entry in after] == ["large run", "student"]


def test_the_summary_holds_both_predictions(finished):
    result, _, _ = finished
    summary = json.loads((result.out / "summary.json").read_text())
    large, student = summary["predictions"]
    assert large["name"] == "large run" and student["name"] == "student"
    for row in (large, student):
        assert row["lower"] < row["predicted"] < row["upper"]
        assert row["relative_error"] == pytest.approx(row["predicted"] / row["measured"] - 1)
        assert 1.0 < row["measured"] < 6.0
    assert large["extrapolation"] == pytest.approx((23_552 * 13_944) / (16_384 * 6_736), rel=1e-6)
    assert summary["corpus"]["sha256"] and summary["noise"]["degrees"] == 3
    assert list(summary["samples"][0]["texts"]) == ["large run", f"student of {student['teacher']}", "student alone"]
    assert all(summary["samples"][0]["texts"].values())
    assert student["teacher"] in {row["teacher"] for row in summary["teachers"]}


def test_a_finished_demo_is_read_not_run_again(finished, text):
    result, _, _ = finished
    stamps = {path: path.stat().st_mtime_ns for path in result.out.glob("runs/*/runs.jsonl")}
    again = demo(result.out, text=text, design=DESIGN)
    assert again.summary["predictions"] == result.summary["predictions"]
    assert {path: path.stat().st_mtime_ns for path in result.out.glob("runs/*/runs.jsonl")} == stamps


def test_another_seed_in_the_same_folder_is_refused(finished, text):
    result, _, _ = finished
    with pytest.raises(ConfigError, match="seed = 0; now it is 1"):
        demo(result.out, text=text, design=DESIGN, seed=1)
    assert (result.out / "summary.json").is_file()
