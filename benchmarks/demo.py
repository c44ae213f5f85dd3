"""The demo on several seeds: what was predicted before the runs, what was measured, and the wall time.

    python benchmarks/demo.py FOLDER [--seeds 0 1 2]

Each seed is a demo of its own in FOLDER/seed-N, resumable like any demo; finished ones are read.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from machine import machine

from limbeck.study import demo

RESULT = Path(__file__).parent / "results" / "demo.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        out = options.folder / f"seed-{seed}"
        finished = out / "summary.json"
        summary = json.loads(finished.read_text()) if finished.is_file() else demo(out, seed=seed).summary
        runs.append({"seed": seed, **{key: summary[key] for key in ("predictions", "baselines", "noise", "seconds")}})
        for row in summary["predictions"]:
            inside = "inside" if row["inside"] else "outside"
            print(f"seed {seed}  {row['name']:10} {row['predicted']:.4f} [{row['lower']:.4f}, {row['upper']:.4f}]  "
                  f"measured {row['measured']:.4f}  {100 * row['relative_error']:+.2f} %  {inside}")  # fmt: skip
    RESULT.write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    main()
