"""The command line through its real entry point, and a table of runs to use it on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from limbeck.laws import Annealing, Schedule

TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


@dataclass(frozen=True)
class Said:
    """What a command printed and how it ended."""

    out: str
    err: str
    code: int

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(scope="session")
def limbeck() -> Callable[..., Said]:
    """Run `limbeck` with arguments, in a fresh process or in this one."""

    def run(*arguments: object, cwd: Path | None = None) -> Said:
        command = [sys.executable, "-m", "limbeck", *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
        return Said(done.stdout, done.stderr, done.returncode)

    return run


@pytest.fixture(scope="session")
def runs_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty noisy runs of a known law."""
    rng = np.random.default_rng(0)
    params, tokens = (
        np.exp(rng.uniform(np.log(5e7), np.log(5e9), 40)),
        np.exp(rng.uniform(np.log(1e9), np.log(1e11), 40)),
    )
    loss = TRUTH["E"] + TRUTH["A"] * params ** -TRUTH["alpha"] + TRUTH["B"] * tokens ** -TRUTH["beta"]
    loss *= np.exp(0.003 * rng.normal(size=40))
    path = tmp_path_factory.mktemp("runs") / "runs.csv"
    rows = [f"{n:.0f},{d:.0f},{y:.6f}" for n, d, y in zip(params, tokens, loss, strict=True)]
    path.write_text("\n".join(["n_params,train_tokens,val/loss", *rows]) + "\n")
    return path


@pytest.fixture(scope="session")
def fitted(limbeck: Callable[..., Said], runs_csv: Path) -> tuple[Path, Said]:
    """A fit made on the command line, and what it said."""
    out = runs_csv.parent / "fit.json"
    return out, limbeck("fit", runs_csv, "--out", out, "--plot", runs_csv.parent / "fit.html", "--json")


SCHEDULES = {
    "flat": Schedule(6000, 3e-4, warmup=200, decay=0.0).rates(),
    "cosine": Schedule(6000, 3e-4, "cosine", 3e-5, warmup=200).rates(),
}


@pytest.fixture(scope="session")
def curves_csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two noisy loss curves of the annealing law: a plateau and a cosine."""
    law, lines = Annealing(momentum=0.99), ["run,step,learning_rate,val_loss"]
    rng = np.random.default_rng(0)
    for run, rates in SCHEDULES.items():
        at = np.arange(200, 6000, 40)
        loss = law(
            {"L0": 2.8, "A": 0.6, "C": 12.0, "alpha": 0.45}, **{k: v[at] for k, v in law.columns_of(rates).items()}
        )
        loss = loss * np.exp(1e-3 * rng.standard_normal(len(at)))
        lines += [f"{run},{s},{rates[s]:.9g},{y:.6f}" for s, y in zip(at, loss, strict=True)]
    path = tmp_path_factory.mktemp("curves") / "curves.csv"
    path.write_text("\n".join(lines) + "\n")
    return path
