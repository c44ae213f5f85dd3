"""Reverse distillation by moments beside scikit-learn's regression and PCA on the residual.

A family of 320, 480 and 640 dimensions (the smaller sizes of ESM-2) lies in float32 files that are mapped into memory.
limbeck reads them once, in batches, and solves what it gathered; its peer does what one would write first, model by
model: LinearRegression, residual, PCA of the residual (full: one eigendecomposition of its covariance; or incremental,
in batches of 8192), each on all rows. Every fit is a process of its own, the ways take turns, the least of each counts;
times are processor seconds of one thread, memory is the peak of what Python and NumPy allocate, without the files. The
vectors of the first two must agree up to the sign of columns; IncrementalPCA forgets what its k directions do not hold
between batches, so its directions are others.

    python benchmarks/embeddings.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import sklearn
from machine import machine
from rich.console import Console
from rich.table import Table
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.linear_model import LinearRegression

from limbeck.embeddings import ReverseDistiller, open_family, read_matrices

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "embeddings.json"
WIDTHS, FACTORS, BATCH = (320, 480, 640), 200, 8192
Transform = Callable[[list[np.ndarray]], np.ndarray]


def write_family(folder: Path, rows: int) -> None:
    """Embeddings that share factors, each with noise of its own and a mean."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((rows, FACTORS), np.float32)
    for width in WIDTHS:
        mixing = rng.standard_normal((FACTORS, width), np.float32) * np.linspace(1, 0.1, FACTORS, dtype="f4")[:, None]
        noise = rng.standard_normal((rows, width), np.float32) * np.linspace(1.5, 0.5, width, dtype="f4")
        np.save(folder / f"{width}.npy", z @ mixing + noise + np.float32(1))


def by_limbeck(files: list[Path]) -> Transform:
    """One pass over the files."""
    distiller = ReverseDistiller("linear")
    for batch in open_family(files)[0]:
        distiller.partial_fit(batch)
    assert distiller.levels_
    return distiller.transform


def by_sklearn(files: list[Path], pca: Callable[[int], Any]) -> Transform:
    """Model by model on all rows."""
    r, *larger = read_matrices(files)
    steps = []
    for x in larger:
        regression = LinearRegression().fit(r, x)
        rest = x - regression.predict(r)
        components = pca(x.shape[1] - r.shape[1]).fit(rest)
        steps.append((regression, components))
        r = np.hstack([r, components.transform(rest)])

    def transform(family: list[np.ndarray]) -> np.ndarray:
        r, *larger = family
        for (regression, components), x in zip(steps, larger, strict=True):
            r = np.hstack([r, components.transform(x - regression.predict(r))])
        return r

    return transform


WAYS: dict[str, Callable[[list[Path]], Transform]] = {
    "limbeck": by_limbeck,
    "scikit-learn, PCA": lambda files: by_sklearn(files, lambda k: PCA(k, svd_solver="covariance_eigh")),
    "scikit-learn, IncrementalPCA": lambda files: by_sklearn(files, lambda k: IncrementalPCA(k, batch_size=BATCH)),
}


def run(way: str, folder: Path) -> None:
    """One fit, in this process: prints its time and memory, keeps vectors of some rows."""
    files = [folder / f"{width}.npy" for width in WIDTHS]
    small = [np.random.default_rng(1).standard_normal((2 * d, d)) for d in (4, 6)]
    small[1] = np.random.default_rng(2).standard_normal((8, 6))
    ReverseDistiller("linear").fit(small)  # loads what a process needs once
    PCA(2, svd_solver="covariance_eigh").fit(LinearRegression().fit(*small).predict(small[0]))
    tracemalloc.start()
    begin = time.process_time()
    transform = WAYS[way](files)
    seconds, (_, peak) = time.process_time() - begin, tracemalloc.get_traced_memory()
    np.save(folder / f"vectors of {way}.npy", transform([np.asarray(np.load(one)[:500], float) for one in files]))
    print(json.dumps({"seconds": seconds, "mebibytes": peak / 2**20}))


def disagreement(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference of vectors up to the sign of columns, over the spread of all."""
    return float(np.abs(ours * np.sign((ours * theirs).sum(0)) - theirs).max() / ours.std())


def measure(rows: int, rounds: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        write_family(Path(folder), rows)
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way, runs in found.items():
                command = [sys.executable, __file__, "--run", way, folder]
                runs.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        least = {way: {key: min(one[key] for one in runs) for key in runs[0]} for way, runs in found.items()}
        vectors = {way: np.load(Path(folder) / f"vectors of {way}.npy") for way in WAYS}
    ours = least["limbeck"]
    for way, one in least.items():
        if way != "limbeck":
            one |= {f"{key} ratio": one[key] / ours[key] for key in ours}
            one["disagreement"] = disagreement(vectors["limbeck"], vectors[way])
    size = sum(WIDTHS) * rows * 4 / 2**20
    return {"rows": rows, "widths": WIDTHS, "rounds": rounds, "family_mebibytes": size, "ways": least}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rows, one round; writes nothing")
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        return run(options.run[0], Path(options.run[1]))
    result: dict[str, Any] = {"machine": machine(), "scikit-learn": sklearn.__version__}
    result |= measure(*((10_000, 1) if options.quick else (100_000, 3)))
    table = Table("way", "seconds", "ratio", "peak MiB", "ratio", "disagreement", box=None)
    for way, one in result["ways"].items():
        ratios = [f"{one[key]:.1f}×" if key in one else "" for key in ("seconds ratio", "mebibytes ratio")]
        said = f"{one['disagreement']:.0e}" if "disagreement" in one else ""
        table.add_row(way, f"{one['seconds']:.1f}", ratios[0], f"{one['mebibytes']:.0f}", ratios[1], said)
    Console(width=120).print(table)
    facts = result["machine"]
    print(f"{result['rows']} rows, {result['family_mebibytes']:.0f} MiB; {facts['cpu']}, load {facts['load'][0]}")
    if not options.quick:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {RESULTS.relative_to(ROOT)}")
    return None


if __name__ == "__main__":
    main()
