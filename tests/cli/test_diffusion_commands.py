"""`distill`, `sample`, `evaluate`, `export` and `report` of diffusion models through the real entry point."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
from limbeck.cli.app import main

RECIPE = """room: diffusion
data: class-ring
teacher: {width: 8, blocks: 1, steps: 40}
method: dmd
updates: 8
judge_count: 100
judge_steps: [2, 3]
out: out
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe that was run once, in a process of its own."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "recipe.yaml").write_text(RECIPE)
    command = [sys.executable, "-m", "limbeck", "distill", "recipe.yaml"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "class-ring: 8 modes" in done.stdout and "times the teacher's best" in done.stdout
    assert max(map(len, done.stdout.splitlines()[1:])) <= 80  # after the path of the student
    return folder


@pytest.fixture
def typed(run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Type a command in that folder: its exit code, what it printed, and what it said of mistakes."""

    def go(*arguments: str) -> tuple[Any, str, str]:
        monkeypatch.chdir(run)
        monkeypatch.setattr(sys, "argv", ["limbeck", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
            sys.exit(0)
        said = capsys.readouterr()
        return end.value.code or 0, said.out, said.err

    return go


def test_a_finished_recipe_says_so_and_reports(typed: Callable[..., Any], run: Path) -> None:
    code, out, _ = typed("distill", "recipe.yaml")
    assert code == 0 and "finished before: nothing was trained now" in out
    record = json.loads(typed("distill", "recipe.yaml", "--json")[1])
    assert record["again"] and record["judged"]["rows"][-1]["calls"] == 1
    assert typed("report", "out")[0] == 0
    page = (run / "out" / "report.html").read_text()
    assert "data:image/png;base64," in page and "updates of the student" in page and "times the teacher" in page


def test_samples_of_a_student_and_of_a_teacher(typed: Callable[..., Any], run: Path) -> None:
    code, out, _ = typed("sample", "out/student", "--n", "9", "--class", "2", "--out", "made.npz", "--grid", "made.png")
    assert code == 0 and out.startswith("9 of [2] by the student in out/student: 1 network calls, ")
    assert np.load(run / "made.npz")["labels"].tolist() == [2] * 9 and (run / "made.png").stat().st_size > 100
    order = ("sample", "out/teacher", "--n", "4", "--steps", "5", "--sampler", "ddim", "--guidance", "2", "--json")
    record = json.loads(typed(*order)[1])
    assert record["calls"] == 5 and record["labels"] == [0, 1, 2, 3] and record["seconds_each"] > 0


def test_evaluate_says_what_the_recipe_said(typed: Callable[..., Any], run: Path) -> None:
    order = ("evaluate", "out/student", "--against", "out/teacher", "--data", "class-ring", "--limit", "100")
    code, out, _ = typed(*order, "--plot", "cost.html")
    assert code == 0 and "teacher, 18 steps" in out and (run / "cost.html").stat().st_size > 1000
    found = json.loads(typed(*order, "--json")[1])["rows"][-1]["values"]["jsd"]
    assert found == json.loads((run / "out" / "result.json").read_text())["judged"]["rows"][-1]["values"]["jsd"]


def test_export_to_onnx(typed: Callable[..., Any], run: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    code, out, err = typed("export", "out/student", "--to", "onnx", "--out", "student.onnx")
    assert code == 0, err
    assert "student.onnx: onnx, " in out and "1 network calls" in out
    session = runtime.InferenceSession(run / "student.onnx")
    noise = {"noise": np.zeros((3, 1, 2), np.float32), "cond": np.array([0, 1, 2])}
    assert session.run(None, noise)[0].shape == (3, 2)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("sample nowhere", "nowhere"),
        ("sample out/student --n 0", "ask for at least 1 picture"),
        ("sample out/student --class 7", 'out/student has no class "7". Known: 0, 1, 2, 3'),
        ("sample out/student --steps 4", "out/student is a student, whose steps and guidance are its own"),
        ("sample out/student --guidance 2", "leave out guidance"),
        ("sample out/teacher --steps 0", "in at least 1 step"),
        ("sample out/teacher --sampler magic", "magic"),
        ("sample nowhere", "nowhere holds no model: expected model.json or config.json in it"),
        ("sample out", "out holds no model"),
        ("sample out/teacher --guidance nan", "guidance from 0 on, got nan"),
        ("sample out/teacher --guidance -3", "guidance from 0 on, got -3"),
        ("sample out/student --base out/teacher --base-steps 0", "base takes at least 1 step, got 0"),
        ("sample out/student --seed 99999999999999999999", "seed"),
        ("evaluate out/student --against out/teacher --data class-ring --limit -5", "at least 13, got -5"),
        ("evaluate out/student --against out/teacher --data class-ring --limit 0", "at least 13, got 0"),
        ("sample out/student --grid recipe.yaml/made.png", "recipe.yaml"),
        ("evaluate out/student --against out/teacher --data nothing", "nothing does not exist"),
        ("evaluate out/student --against out/teacher --data digits", "the data has [1, 8, 8] and 10"),
        ("evaluate out/student --against out/student --data class-ring", "give a teacher of the same"),
        ("evaluate out/student --against out/teacher --data class-ring --length 3", "are about language models"),
        ("export out/teacher --to onnx --out x.onnx", "out/teacher is a teacher: export a student"),
        ("export out/student --to diffusers --out pipe", "export_onnx"),
        ("distill recipe.yaml method=dmd3", 'no method is called "dmd3". Did you mean "dmd'),
        ("distill recipe.yaml data=rings8", 'Did you mean "ring8"'),
        ("distill recipe.yaml data=ring8 guidance=2 out=other", "guidance 2 needs classes"),
        ("distill recipe.yaml seed=4", "out"),
        ("distill recipe.yaml student.sigmas=[.inf] out=other", "must be finite, must fall and be positive, got [inf]"),
        ("distill recipe.yaml student.sigmas=[.nan] out=other", "must be finite, must fall and be positive, got [nan]"),
        ("distill recipe.yaml judge_steps=[0] out=other", "judge_steps"),
        ("distill recipe.yaml judge_steps=[] out=other", "judge_steps: give at least one"),
        ("distill recipe.yaml teacher.path=out/teacher out=other", "is a teacher that is there: leave out blocks"),
        ("distill recipe.yaml --preview", "--preview counts language models"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(typed: Callable[..., Any], order: str, said: str) -> None:
    code, _, err = typed(*order.split())
    assert code == 2 and said in " ".join(err.split()) and "Traceback" not in err


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE.replace("steps: 40", "steps: 5k"))
    command = [sys.executable, "-m", "limbeck", "distill", "recipe.yaml"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    log = tmp_path / "out" / "teacher" / "runs.jsonl"
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130, said
    assert "Traceback" not in said and "same" in said and "step" in said
    assert list(tmp_path.glob("out/teacher/checkpoints/step-*"))
