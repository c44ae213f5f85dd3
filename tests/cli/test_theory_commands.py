from __future__ import annotations

import json
import struct

import numpy as np


def test_superposition_of_a_model_folder(limbeck, tmp_path):
    w = np.random.default_rng(0).standard_normal((100, 8)).astype("<f4")
    head = json.dumps({"lm_head.weight": {"dtype": "F32", "shape": [100, 8], "data_offsets": [0, w.nbytes]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + w.tobytes())
    said = limbeck("theory", "superposition", tmp_path, "--plot", tmp_path / "page.html")
    assert said.code == 0 and said.out.splitlines()[0].endswith("strong superposition")
    assert max(len(line) for line in said.out.splitlines()[1:] if str(tmp_path) not in line) <= 80
    assert "plotly" in (tmp_path / "page.html").read_text()
    record = limbeck("theory", "superposition", tmp_path, "--json").json()
    assert record["models"][0]["regime"] == "strong" and record["models"][0]["plain"]["width"] == 8


def test_a_folder_without_a_model_is_one_message(limbeck, tmp_path):
    said = limbeck("theory", "superposition", tmp_path)
    assert said.code == 2 and "no .safetensors file" in said.err and said.out == ""
    assert limbeck("theory", "superposition", tmp_path / "none").code == 2


def test_help_starts_with_an_example(limbeck):
    said = limbeck("theory", "superposition", "--help")
    assert said.code == 0 and "Example: limbeck theory superposition" in said.out
