"""Two processes that share every batch train as one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from limbeck.lm import byte_tokenizer, save_model, tiny_llama

RECIPE = (
    "teacher: teacher/\nstudent: student/\ndata: prompts.jsonl\nsteps: 8\nbatch: 4\ncontext: 24\nout: one\nlr: 1e-2\n"
)


def losses(folder: Path) -> list[float]:
    (log,) = folder.glob("training/*/log.jsonl")
    return [row["train/student/loss"] for row in map(json.loads, log.read_text().splitlines())]


@pytest.mark.parametrize("method", ["distillm"])
def test_two_processes_give_the_losses_of_one(tmp_path: Path, method: str) -> None:
    for name, seed in (("teacher", 1), ("student", 2)):
        save_model(tiny_llama(16, context=32, seed=seed), byte_tokenizer(), tmp_path / name)
    rows = [json.dumps({"prompt": f"{k}+{k}=", "completion": str(2 * k)}) for k in range(24)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    command = ["-m", "limbeck", "distill", str(tmp_path / "recipe.yaml"), f"method={{name: {method}, length: 6}}"]
    command += ["evaluate_every=2"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command]
    for out, how in (("one", command), ("two", launch)):
        done = subprocess.run(
            [sys.executable, *how, f"out={tmp_path / out}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-9000:]
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == 4 and one == pytest.approx(two, rel=1e-5)
    rows = [(tmp_path / out / "training" / "runs.jsonl").read_text().splitlines() for out in ("one", "two")]  # type: ignore[misc]
    assert len(rows[0]) == len(rows[1]) == 1
    assert json.loads(rows[0][0])["loss"] == pytest.approx(json.loads(rows[1][0])["loss"], rel=1e-5)
