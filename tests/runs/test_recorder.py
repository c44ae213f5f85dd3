from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbeck.errors import RunsError
from limbeck.runs import RunRecorder, read_runs

ENDLESS = """
import sys
from limbeck.runs import RunRecorder
path, start = sys.argv[1], int(sys.argv[2])
with RunRecorder(path, run="a", resume_after_step=start, params=1e6) as recorder:
    step = start
    while True:
        step += 1
        recorder.write(step=step, tokens=1000 * step, loss=5 / step, pad="x" * 5000)
        print(step, flush=True)
"""


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def start(path, step=0):
    return subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(path), str(step)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def test_rows_hold_the_constants(tmp_path):
    path = tmp_path / "new" / "small.jsonl"
    with RunRecorder(path, params=10, family="tiny") as recorder:
        recorder.write(step=1, loss=2.5)
        recorder.write(step=2, loss=np.float64(2.25), seed=np.int64(3))
    assert lines(path) == [
        {"run": "small", "params": 10, "family": "tiny", "step": 1, "loss": 2.5},
        {"run": "small", "params": 10, "family": "tiny", "step": 2, "loss": 2.25, "seed": 3},
    ]


def test_readable_while_running(tmp_path):
    path = tmp_path / "a.jsonl"
    recorder = RunRecorder(path, params=1e6)
    for step in (1, 2, 3):
        recorder.write(step=step, tokens=step * 1e3, loss=4.0)
        assert len(read_runs(path)) == step
    recorder.close()


def test_what_is_not_finite_is_null(tmp_path):
    path = tmp_path / "a.jsonl"
    with RunRecorder(path) as recorder:
        recorder.write(loss=float("nan"), grad=float("-inf"), more={"x": [1.0, float("inf")]}, text="NaN", array=np.nan)
    (row,) = path.read_text().splitlines()
    strict = json.loads(row, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert strict == {"run": "a", "loss": None, "grad": None, "more": {"x": [1.0, None]}, "text": "NaN", "array": None}


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_kill_loses_no_row_that_was_written(tmp_path, kill):
    path = tmp_path / "a.jsonl"
    process = start(path)
    assert process.stdout is not None
    reported = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.send_signal(kill)
    reported = max([reported, *map(int, process.stdout.read().split())])
    process.wait()
    assert [int(step) for step in read_runs(path).column("step")][:reported] == list(range(1, reported + 1))

    process = start(path, step=10)  # resumed from a checkpoint at step 10
    assert process.stdout is not None
    assert process.stdout.readline() == "11\n"
    process.kill()
    process.wait()
    steps = [int(step) for step in read_runs(path).column("step")]
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) >= 11


@settings(max_examples=40, deadline=None, derandomize=True)
@given(cut=st.integers(0, 300))
def test_a_line_cut_anywhere_is_ignored_by_readers_and_repaired(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    with RunRecorder(path, params=1e6, note="ü") as recorder:
        for step in (1, 2, 3):
            recorder.write(step=step, tokens=1e3 * step, loss=4.0 / step)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    kept = max(first, len(whole) - cut)
    path.write_bytes(whole[:kept])
    readable = len(read_runs(path))
    assert readable == sum(kept >= end for end in ends(whole))
    with RunRecorder(path, params=1e6, note="ü") as recorder:
        for step in range(readable + 1, 4):
            recorder.write(step=step, tokens=1e3 * step, loss=4.0 / step)
    assert path.read_bytes() == whole


def ends(data: bytes) -> list[int]:
    """Where each row ends, its line break not counted: a row that only lacks that is whole."""
    return [i for i, byte in enumerate(data) if byte == ord("\n")]


def test_resuming_rewrites_the_same_file(tmp_path):
    whole = tmp_path / "whole.jsonl"
    resumed = tmp_path / "resumed.jsonl"

    def write(path, steps, **options):
        with RunRecorder(path, run="r", params=1e6, **options) as recorder:
            for step in steps:
                recorder.write(step=step, tokens=1e3 * step, loss=0.1 + 1 / step)

    write(whole, range(1, 11))
    write(resumed, range(1, 8))
    write(resumed, range(5, 11), resume_after_step=4)
    assert resumed.read_bytes() == whole.read_bytes()
    assert list(tmp_path.glob("*.tmp")) == []


def test_resuming_leaves_other_runs_alone(tmp_path):
    path = tmp_path / "study.jsonl"
    for run in ("a", "b"):
        with RunRecorder(path, run=run) as recorder:
            recorder.write(note="no step")
            for step in (1, 2):
                recorder.write(step=step)
    RunRecorder(path, run="a", resume_after_step=1).close()
    assert [(row["run"], row.get("step")) for row in lines(path)] == [
        *[("a", None), ("a", 1)],
        *[("b", None), ("b", 1), ("b", 2)],
    ]


def test_threads_do_not_tear_lines(tmp_path):
    path = tmp_path / "a.jsonl"
    with RunRecorder(path) as recorder:
        work = [
            threading.Thread(target=lambda i=i: [recorder.write(step=i * 10 + j) for j in range(10)]) for i in range(4)
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
    assert sorted(row["step"] for row in lines(path)) == list(range(40))


def test_other_files_are_not_overwritten(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text("my notes\n")
    with pytest.raises(RunsError, match="holds a line that is no run record"):
        RunRecorder(path)
    assert path.read_text() == "my notes\n"
    assert [file.name for file in tmp_path.iterdir()] == ["notes.jsonl"]
