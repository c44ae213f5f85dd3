"""limbeck's engine beside its peers on the Chinchilla form: one full multi-start fit and many bootstrap fits.

240 points, Huber loss with delta = 1e-3 on log residuals. Peers: a loop over resamples of scipy's L-BFGS-B with the
analytic gradient (tuned: centred coordinates, objective times 1e4, ftol 1e-15, gtol 1e-9, warm start), the same without
gradient, and the package `chinchilla` with its own Huber loss, from a virtual environment of its own (`.venv-bench`;
without it the row says so). All run on one core; times are processor seconds of that process, methods take turns
within a round and ratios are taken round by round, since other work may share the machine. The data are the runs of the
Chinchilla replication (Besiroglu et al. 2024, arXiv 2404.10102) where the folder in LIMBECK_DATA has them, else a
synthetic design of the same kind.

    python benchmarks/fitting.py [--quick]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from machine import machine
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize

from limbeck.fitting import Loss, Model, Parameter, Problem, minimise
from limbeck.fitting.multistart import best_of, grid_starts

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("LIMBECK_DATA", ROOT.parent / "shared" / "data")) / "chinchilla-runs" / "runs.csv"
RESULTS = Path(__file__).parent / "results" / "fitting.json"
PEER = ROOT / ".venv-bench" / "bin" / "python"
DELTA = 1e-3


class Chinchilla(Model):
    """E + A/N^alpha + B/D^beta with 22 x 23 pairs of exponents to start from."""

    name, columns, target = "chinchilla", ("params", "tokens"), "loss"
    linear = ("E", "A", "B")
    parameters = (
        Parameter("E", log=True),
        Parameter("A", log=True, dimension={"params": "alpha"}),
        Parameter("B", log=True, dimension={"tokens": "beta"}),
        Parameter("alpha", start=tuple(np.linspace(0.05, 1.2, 22))),
        Parameter("beta", start=tuple(np.linspace(0.05, 1.2, 23))),
    )

    def formula(self, p: Any, x: Any) -> Any:
        return p.E + p.A * x.params**-p.alpha + p.B * x.tokens**-p.beta


def points() -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Sizes, tokens, losses of 240 runs and where they come from."""
    if DATA.is_file():
        table = np.genfromtxt(DATA, delimiter=",", names=True)
        table = table[table["outlier"] == 0]
        return table["n_params"], table["tokens"], table["loss"], "Chinchilla runs (arXiv 2404.10102), without outliers"
    rng = np.random.default_rng(0)
    size, tokens = np.exp(rng.uniform(17.5, 23.5, 240)), np.exp(rng.uniform(20, 26.5, 240))
    loss = (1.817 + 477.8 * size**-0.3473 + 2143.4 * tokens**-0.3672) * np.exp(0.006 * rng.standard_t(3, 240))
    return size, tokens, loss, "synthetic"


@dataclass
class Peer:
    """The tuned loop over scipy's L-BFGS-B: everything that depends on the data alone is computed once."""

    size: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray

    def __post_init__(self) -> None:
        self.x = np.log(self.size) - np.log(self.size).mean()
        self.y = np.log(self.tokens) - np.log(self.tokens).mean()
        self.target = np.log(self.loss)

    def value(self, z: np.ndarray, w: np.ndarray) -> float:
        total = np.exp(z[0]) + np.exp(z[1] - z[3] * self.x) + np.exp(z[2] - z[4] * self.y)
        r = np.log(total) - self.target
        c = np.clip(r, -DELTA, DELTA)
        return 1e4 * float((w * c) @ (r - 0.5 * c))

    def value_and_gradient(self, z: np.ndarray, w: np.ndarray) -> tuple[float, np.ndarray]:
        floor, by_size, by_tokens = np.exp(z[0]), np.exp(z[1] - z[3] * self.x), np.exp(z[2] - z[4] * self.y)
        total = floor + by_size + by_tokens
        r = np.log(total) - self.target
        c = np.clip(r, -DELTA, DELTA)
        pull = w * c
        value = 1e4 * float(pull @ (r - 0.5 * c))
        pull = 1e4 * pull / total
        by_size, by_tokens = pull * by_size, pull * by_tokens
        slopes = by_size.sum(), by_tokens.sum(), -(by_size @ self.x), -(by_tokens @ self.y)
        return value, np.array([floor * pull.sum(), *slopes])

    def fit(self, start: np.ndarray, w: np.ndarray, gradient: bool) -> float:
        options = {"ftol": 1e-15, "gtol": 1e-9, "maxiter": 5000, "maxfun": 50_000}
        function = self.value_and_gradient if gradient else self.value
        return minimize(function, start, (w,), "L-BFGS-B", jac=gradient, options=options).fun * 1e-4


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds and result of one call."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


def chinchilla_package(size: np.ndarray, tokens: np.ndarray, loss: np.ndarray) -> dict[str, Any]:
    """Seconds per start and objective of the package's own grid fit with its Huber loss, in a process of its own."""
    if not PEER.is_file():
        return {"absent": "no .venv-bench (python -m venv .venv-bench && .venv-bench/bin/pip install chinchilla)"}
    program = """
import json, sys, time, warnings
from functools import partial
warnings.filterwarnings("ignore")
import numpy as np, pandas as pd
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber
given = json.loads(sys.stdin.read())
grid = {"e": [0.2, 0.8], "a": [4.0, 8.0], "b": [5.0, 9.0], "alpha": [0.3, 0.5], "beta": [0.3, 0.5]}
law = Chinchilla(given["folder"], param_grid=grid, loss_fn=partial(log_huber, delta=1e-3), log_level=50)
law.visualizer.optim = lambda *a, **k: None  # no pictures
columns = {"N": given["size"], "D": given["tokens"], "loss": given["loss"]}
law.database.df = pd.DataFrame(columns).assign(C=lambda f: 6 * f.N * f.D)
begin = time.process_time()
law.fit(parallel=False)
seconds = time.process_time() - begin
names = ("E", "A", "B", "alpha", "beta")
print("RESULT", json.dumps({"seconds": seconds, "starts": 32, **{k: float(getattr(law, k)) for k in names}}))
"""
    with tempfile.TemporaryDirectory() as folder:
        given = {"folder": folder, "size": size.tolist(), "tokens": tokens.tolist(), "loss": loss.tolist()}
        done = subprocess.run(
            [PEER, "-c", program], input=json.dumps(given), capture_output=True, text=True, timeout=300, check=False
        )
    answers = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    if not answers:
        return {"absent": "the package failed: " + (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return dict(json.loads(answers[0].removeprefix("RESULT")))


def measure(rounds: int, resamples: int, loop: int) -> dict[str, Any]:
    """Time every method, in turns, and compare the objectives that they reach."""
    size, tokens, loss, source = points()
    problem = Problem.build(Chinchilla(), {"params": size, "tokens": tokens}, loss, loss=Loss(DELTA))
    starts = grid_starts(problem)
    best, objective, agreement = best_of(problem, starts)
    n = len(loss)
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), resamples).astype(float)
    many, warm = problem.with_rows(weights=counts), np.repeat(best[None], resamples, 0)
    peer = Peer(size, tokens, loss)
    slow = max(2, loop // 4)
    first = timed(lambda: minimise(many, warm[:1], np.zeros(1, int), compiled=True))[0] if find_spec("numba") else None
    spent: dict[str, list[float]] = {
        name: [] for name in ("limbeck", "compiled", "gradient", "difference", "full", "full_peer")
    }
    for number in range(rounds):
        chosen = range(number * loop % resamples, number * loop % resamples + loop)
        seconds, by_gradient = timed(lambda c=chosen: [peer.fit(best, counts[i], True) for i in c])  # type: ignore[misc]
        spent["gradient"].append(seconds / loop)
        seconds, ends = timed(lambda: minimise(many, warm, damping=0.01))
        spent["limbeck"].append(seconds / resamples)
        if first is not None:
            seconds, fast = timed(lambda: minimise(many, warm, damping=0.01, compiled=True))
            spent["compiled"].append(seconds / resamples)
            apart = float(np.abs(fast.objective / ends.objective - 1).max())
        seconds, by_difference = timed(lambda c=chosen: [peer.fit(best, counts[i], False) for i in c[:slow]])  # type: ignore[misc]
        spent["difference"].append(seconds / slow)
        spent["full"].append(timed(lambda: best_of(problem, grid_starts(problem)))[0])
        some = starts[:: len(starts) // 10]
        seconds, _ = timed(lambda s=some: [peer.fit(z, np.ones(n), True) for z in s])  # type: ignore[misc]
        spent["full_peer"].append(seconds / len(some) * len(starts))
        ours = ends.objective[list(chosen)]
        gap = float(((ours - by_gradient) / by_gradient).max())
        behind = float(((by_difference - ours[:slow]) / ours[:slow]).max())
    result = {name: float(np.median(times)) for name, times in spent.items() if times}
    ratio = {name: float(np.median(np.divide(spent[name], spent["limbeck"]))) for name in ("gradient", "difference")}
    compiled = {"absent": "numba is not installed (extra fast)"}
    if first is not None:
        compiled = {
            "microseconds_per_fit": 1e6 * result["compiled"],
            "ratio_to_gradient": float(np.median(np.divide(spent["gradient"], spent["compiled"]))),
            "largest_relative_difference_from_numpy": apart,
            "seconds_of_first_call": first,
        }
    package = chinchilla_package(size, tokens, loss)
    if "seconds" in package:
        natural = {name: package[name] for name in ("E", "A", "B", "alpha", "beta")}
        package["objective"] = float(problem.objective(problem.coordinates(natural)[None])[0])
        package["ratio_per_start"] = package["seconds"] / package["starts"] / (result["full"] / len(starts))
    return {
        "machine": machine(),
        "data": source,
        "points": n,
        "bootstrap": {
            "resamples": resamples,
            "microseconds_per_fit": {k: 1e6 * result[k] for k in ("limbeck", "gradient", "difference")},
            "ratio_to_gradient": ratio["gradient"],
            "ratio_to_difference": ratio["difference"],
            "mean_iterations": float(ends.iterations.mean()),
            "largest_relative_excess_over_gradient": gap,
            "largest_relative_excess_of_difference": behind,
        },
        "bootstrap_compiled": compiled,
        "full_fit": {
            "starts": len(starts),
            "reached": agreement.reached,
            "objective": objective,
            "seconds": {"limbeck": result["full"], "gradient": result["full_peer"]},
            "ratio_to_gradient": float(np.median(np.divide(spent["full_peer"], spent["full"]))),
        },
        "chinchilla_package": package,
    }


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    boot, full, package = result["bootstrap"], result["full_fit"], result["chinchilla_package"]
    table = Table("method", "time", "limbeck's gain", "objective above limbeck's (relative)")
    micro, seconds = boot["microseconds_per_fit"], full["seconds"]
    table.add_row("bootstrap: limbeck", f"{micro['limbeck']:.0f} µs", "", "")
    excess = f"at least {-boot['largest_relative_excess_over_gradient']:.0e}"
    table.add_row("  L-BFGS-B", f"{micro['gradient']:.0f} µs", f"{boot['ratio_to_gradient']:.1f}×", excess)
    excess = f"up to {boot['largest_relative_excess_of_difference']:.0e}"
    table.add_row("  no gradient", f"{micro['difference']:.0f} µs", f"{boot['ratio_to_difference']:.0f}×", excess)
    fast = result["bootstrap_compiled"]
    if "absent" in fast:
        table.add_row("limbeck, compiled", "", "", fast["absent"])
    else:
        gain = f"L-BFGS-B / {fast['ratio_to_gradient']:.0f}"
        same = f"within {fast['largest_relative_difference_from_numpy']:.0e}"
        table.add_row("  limbeck, compiled", f"{fast['microseconds_per_fit']:.0f} µs", gain, same)
    table.add_section()
    table.add_row(f"{full['starts']} starts: limbeck", f"{seconds['limbeck']:.3f} s", "", f"{full['reached']} reach it")
    table.add_row(
        "  L-BFGS-B", f"{seconds['gradient']:.1f} s", f"{full['ratio_to_gradient']:.0f}×", "10 starts, scaled up"
    )
    if "seconds" in package:
        excess = f"{package['objective'] / full['objective'] - 1:.1e}, {package['starts']} starts"
        table.add_row(
            "  chinchilla", f"{package['seconds']:.1f} s", f"{package['ratio_per_start']:.0f}× a start", excess
        )
    else:
        table.add_row("  chinchilla", "", "", package["absent"])
    facts = result["machine"]
    Console().print(table)
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]}, numpy {facts['numpy']}; {result['data']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short rounds; writes nothing")
    quick = parser.parse_args().quick
    result = measure(2, 200, 8) if quick else measure(7, 1000, 30)
    show(result)
    if not quick:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
