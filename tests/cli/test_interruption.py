"""Ctrl-C on a training: it saves, says how to go on, and the same command does."""

from __future__ import annotations

import pydoc_data.topics
import signal
import subprocess
import sys
import time

import pytest


def test_ctrl_c_saves_and_says_how_to_go_on(limbeck, tmp_path):
    from limbeck.lm import byte_tokenizer, save_model, tiny_llama

    save_model(tiny_llama(32, seed=1), byte_tokenizer(), tmp_path / "teacher")
    save_model(tiny_llama(16, seed=2), byte_tokenizer(), tmp_path / "student")
    (tmp_path / "text.txt").write_text("\n\n".join(str(t) for t in pydoc_data.topics.topics.values())[:60_000])
    (tmp_path / "recipe.yaml").write_text(
        "teacher: teacher\nstudent: student\ndata: text.txt\nsteps: 100000\nout: out\n"
    )
    command = [sys.executable, "-m", "limbeck", "distill", "recipe.yaml"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 90
    while (
        not [log for log in tmp_path.glob("out/training/*/log.jsonl") if log.stat().st_size]
        and time.monotonic() < deadline
    ):
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "Traceback" not in said and "same" in said and "step" in said
    assert list(tmp_path.glob("out/training/*/step-*"))


def test_a_damaged_model_folder_is_named(limbeck, tmp_path):
    from limbeck.errors import ConfigError
    from limbeck.lm import byte_tokenizer, load_model, save_model, tiny_llama

    folder = save_model(tiny_llama(16), byte_tokenizer(), tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"garbage")
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_model(folder)
