"""The README's Python example runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

README = Path(__file__).parent.parent / "README.md"


def test_the_python_example_runs(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(1)
    params, tokens = 10 ** rng.uniform(7, 9, 40), 10 ** rng.uniform(9, 11, 40)
    loss = (1.8 + 480 * params**-0.35 + 2100 * tokens**-0.37) * np.exp(0.003 * rng.normal(size=40))
    lines = [f"{n},{d},{y}" for n, d, y in zip(params, tokens, loss, strict=True)]
    (tmp_path / "runs.csv").write_text("\n".join(["N,D,eval_loss", *lines]))
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "irreducible" in said or "estimate" in said
    assert "compute-optimal at 1e22 FLOP" in said
