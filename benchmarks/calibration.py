"""The promise beside the measurement: every run table and ladder, cut at several sizes, predicted above each cut.

Writes results/calibration.json (rows by how far beyond the data, errors by law, what was refused) and
docs/calibration.html. External tables are read from the folder that LIMBECK_DATA names.

    .venv/bin/python benchmarks/calibration.py
"""

from __future__ import annotations

import json
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import polars as pl
from machine import machine

from limbeck.errors import LimbeckError
from limbeck.papers._data import run_table
from limbeck.planning import Calibration, calibrate
from limbeck.runs import read_runs

ROOT = Path(__file__).parent.parent
LADDERS = Path(__file__).parent / "ladders"
RESULTS = Path(__file__).parent / "results" / "calibration.json"
TABLES: list[tuple[str, str, str | None, dict[str, Any]]] = [
    ("chinchilla-runs/runs.csv", "chinchilla", None, {"where": {"outlier": 0}}),
    ("scaling-families/runs.csv", "chinchilla", "family", {
        "mapping": {"run": "model"}, "where": {"kind": "nats_per_token"}, "skip_bad": True}),
    ("overtraining-testbed/runs.csv", "chinchilla", "dataset", {
        "mapping": {"loss": "loss_c4_val", "params": "n_params", "n_params_no_embed": None, "run": "name"}}),
    ("overtraining-testbed/runs.csv", "overtraining", "dataset", {
        "mapping": {"loss": "loss_c4_val", "params": "n_params", "n_params_no_embed": None, "run": "name"}}),
    ("laion_clip_mammut/best_by_model_and_samples.csv", "shifted-power", "family", {
        "mapping": {"flops": "gflops_total"}, "where": {"eval": "imagenet1k"}}),
]  # fmt: skip
"""Path, law, column of groups, how to read it."""


def main() -> None:
    parts: list[Calibration] = []
    left: dict[str, str] = {}
    for path, law, by, how in TABLES:
        if (file := run_table(path)) is None:
            left[path] = "not there"
            continue
        try:
            frame: Any = pl.read_csv(file)
            if "value" in frame.columns:  # accuracies
                frame = frame.with_columns(error=1 - pl.col("value"))
            parts.append(calibrate(read_runs(frame, mix_setups=True, **how), law, by=by, name=path.partition("/")[0]))
        except LimbeckError as error:
            left[f"{path}, {law}"] = str(error)
    for file in sorted(LADDERS.glob("*.jsonl")):
        parts.append(calibrate(read_runs(file), "chinchilla", name=f"our ladder {file.stem}"))
    found = reduce(add, parts)
    print(found.summary())
    print("left out:", left)
    record = {"machine": machine(), "rows": found.rows(), "left_out": left, **found.to_dict()}
    RESULTS.write_text(json.dumps(json.loads(json.dumps(record, default=float)), indent=1) + "\n")
    found.plot().write_html(ROOT / "docs" / "calibration.html", include_plotlyjs="cdn")


if __name__ == "__main__":
    main()
