"""`limbeck evaluate` through the real entry point."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")


def test_a_student_against_its_teacher(limbeck: Any, tmp_path: Path) -> None:
    from limbeck.lm import byte_tokenizer, save_model, tiny_llama

    for seed, name in enumerate(("student", "teacher")):
        save_model(tiny_llama(16, layers=1, context=24, seed=seed), byte_tokenizer(), tmp_path / name)
    rows = [{"prompt": f"{k}+1=", "completion": str(k + 1)} for k in range(6)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    order = ("evaluate", "student", "--against", "teacher", "--data", "sums.jsonl")
    said = limbeck(*order, "--plot", "split.html", cwd=tmp_path)
    assert said.code == 0, said.err
    assert said.out.startswith("all: 6 prompts, 0.0% right: +0.0 points on the teacher")
    assert "answers like the teacher" in said.out and "nats/token" in said.out
    assert max(map(len, said.out.splitlines())) < 160
    assert (tmp_path / "split.html").stat().st_size > 1000
    record = limbeck(*order, "--json", cwd=tmp_path).json()
    assert set(record) == {"over", "tasks", "fidelity"} and record["tasks"]["all"]["prompts"] == 6
    missing = limbeck("evaluate", "nobody", "--against", "teacher", "--data", "sums.jsonl", cwd=tmp_path)
    assert missing.code == 2 and "model folder nobody does not exist" in missing.err
