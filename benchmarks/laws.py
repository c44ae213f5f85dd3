"""Every law at the size of its real table, and the two theories that are computed in batches, beside plain scipy.

Each law is fitted from all its starts (at most 1 s) and resampled 1000 times (at most 10 s). Its peer does what one
would write first: `scipy.optimize.least_squares` on the formula in natural units, positive parameters as logarithms,
with the same loss and derivatives by differences, once per start and once per resample of rows from the optimum; a few
of its fits are timed and scaled up. A full fit reads and prepares the table as well (the annealing law chooses its
momentum there); its gain is that of the engine alone. "peer above" is how far the best objective of the peer's timed
starts lies above limbeck's, relatively. The task law also has a peer that searches the whole grid for every resample,
as the OLMo ladder's code fits. The superposition sweep is set beside one torch model after another, the pruned
perceptron beside a loop of scipy's quadrature, root finder and scalar minimiser. All run on one core; times are
processor seconds, methods take turns within a round and ratios are taken round by round. Tables come from the folder in
LIMBECK_DATA; a law without one has a synthetic design of the size that its tests use.

    python benchmarks/laws.py [--quick] [LAW ...]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import polars as pl
from machine import machine
from rich.console import Console
from rich.table import Table
from scipy.integrate import quad
from scipy.optimize import brentq, least_squares, minimize_scalar
from scipy.special import ndtr, ndtri

from limbeck import laws
from limbeck.fitting import Fit, Problem
from limbeck.fitting import fit as fit_model
from limbeck.fitting.multistart import grid_starts
from limbeck.laws import DISTILLATION_2025, SU_2024_BATCH
from limbeck.runs import read_runs
from limbeck.theory import pruned_perceptron
from limbeck.theory.superposition import frequencies, learning_rate, train_toy

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("LIMBECK_DATA", ROOT.parent / "shared" / "data"))
RESULTS = Path(__file__).parent / "results" / "laws.json"
SYNTHETIC = "synthetic"
Design = tuple[Any, str]


def read(name: str, *names: str, **aliases: Any) -> pl.DataFrame:
    """Columns of a table of others, by expressions where they are renamed."""
    path = DATA / name
    table = pl.read_csv(path, infer_schema_length=None)
    return table.select(*names, **aliases) if names or aliases else table


def log_uniform(count: int, **ranges: tuple[float, float]) -> dict[str, np.ndarray]:
    """Columns drawn between bounds."""
    rng = np.random.default_rng(0)
    return {name: np.exp(rng.uniform(*np.log(ends), count)) for name, ends in ranges.items()}


def drawn(law: str, truth: Mapping[str, float], columns: Mapping[str, Any], noise: float = 0.01) -> Design:
    """A synthetic table of a law, with noise on the logarithm."""
    model = laws.get(law)
    columns = {name: np.asarray(values, float) for name, values in columns.items()}
    if law == "bit-level":
        model = type(model)(tuple(np.unique(columns["bits"])))  # type: ignore[call-arg]
    y = model(truth, **{name: columns[name] for name in model.columns})
    return {**columns, model.target: y * np.exp(noise * np.random.default_rng(1).normal(size=len(y)))}, SYNTHETIC


def crossed(**axes: Any) -> dict[str, np.ndarray]:
    """All combinations."""
    return {name: grid.ravel() for name, grid in zip(axes, np.meshgrid(*axes.values()), strict=True)}


def chinchilla() -> Design:
    columns = {"params": pl.col("n_params"), "flops": pl.col("train_flop")}
    table = read("chinchilla-runs/runs.csv", "tokens", "loss", "outlier", **columns)
    return table.filter(outlier=0).drop("outlier"), "chinchilla-runs"


def gadre() -> Design:
    table = read(
        "overtraining-testbed/runs.csv",
        "train_set",
        "tokens",
        params="n_params",
        loss="loss_c4_val",
        error="err_avg_17",
    )
    return table.filter(train_set="c4_original").drop("train_set"), "overtraining-testbed"


def schedules(*models: str) -> Callable[[], Design]:
    def design() -> Design:
        sizes = pl.col("model").str.strip_chars_end("M").cast(float) * 1e6
        table = read("lr-schedule-curves/curves.csv").with_columns(
            params=sizes, run=pl.col("model") + pl.col("schedule")
        )
        kept = table.filter(pl.col("model").is_in(models), pl.col("schedule").is_in(["constant_24000", "cosine_24000"]))
        return read_runs(kept.drop("model", "schedule")), "lr-schedule-curves"

    return design


def repeated() -> Design:
    """Final losses: the table has the epochs of whole trainings."""
    table = read("scaling-families/runs.csv").filter(pl.col("family").str.starts_with("datablations"))
    final = table.sort("tokens").group_by("family", "model", maintain_order=True).last()
    return final.select("tokens", "loss", "epochs", params="n_params"), "scaling-families (repeated data, final losses)"


def learning_curve() -> Design:
    table = read("revisiting-benchmark/curves.csv.gz").filter(task="bird_5", model="MiX/B/16")
    return table.select("loss", tokens="seen_examples"), "revisiting-benchmark (bird_5, MiX/B/16)"


def frontier() -> Design:
    table = read("laion_clip_mammut/best_by_model_and_samples.csv").filter(
        family="clip", pretrain_dataset="datacomp_1b", lr_scheduler="cosine", eval="imagenet1k"
    )
    return table.select(flops=1e9 * pl.col("gflops_total"), error=1 - pl.col("value")), "laion_clip_mammut (CLIP)"


def hellaswag(**columns: str) -> Callable[[], Design]:
    """Checkpoints of the ladder for a task, or of its 7 B training where tokens are read."""

    def design() -> Design:
        table = read("olmo_ladder/checkpoints.csv")
        if "tokens" in columns:
            table = table.filter(pl.col("tokens") > 0, run="peteish7_eval_full")
        return table.select(**columns).drop_nulls(), "olmo_ladder (hellaswag)"

    return design


def batches() -> Design:
    table = crossed(
        params=(1e6, 8e6, 6e7), batch_tokens=(3e4, 1.2e5, 5e5, 2e6), step=np.geomspace(300, 3e5, 40).round()
    )
    columns, source = drawn("batch", dict(SU_2024_BATCH.parameters), table, 0.005)
    run = [f"{n:g} at {b:g}" for n, b in zip(table["params"], table["batch_tokens"], strict=True)]
    return pl.DataFrame({**columns, "run": run}), source


def pieces() -> Design:
    table = crossed(params=np.geomspace(1e8, 1e10, 6), bits=(2, 3, 4, 8))
    table["total_bits"] = table["params"] * table["bits"]
    truth = {"E": 1.8, "x2": 6e7, "x3": 4e6, "x4": 2.2e6, "x8": 4e6, "alpha": 0.3}
    return drawn("bit-level", truth, table, 0.003)


SHAPES = crossed(encoder_params=np.geomspace(1e7, 1e9, 5), decoder_params=np.geomspace(1e7, 1e9, 5))
PRECISION = {"E": 2.0, "A": 400.0, "B": 1800.0, "alpha": 0.35, "beta": 0.3, "gamma_w": 2.5}
TEACHERS = {"params": (1e8, 1e10), "tokens": (2e9, 5e11), "teacher_loss": (1.8, 3.0)}
DESIGNS: dict[str, Callable[[], Design]] = {
    "annealing": schedules("25M"),
    "annealing-size": schedules("25M", "100M", "400M"),
    "batch": batches,
    "bit-level": pieces,
    "broken-power": learning_curve,
    "capacity-gap": lambda: drawn("capacity-gap", {"a": 2.5, "b": 1e7}, {"params": np.geomspace(1e8, 7e9, 9)}, 0.05),
    "ceiling-score": hellaswag(tokens="tokens", score="hellaswag_acc"),
    "chinchilla": chinchilla,
    "data-constrained": repeated,
    "distillation": lambda: drawn(
        "distillation", dict(DISTILLATION_2025.parameters), log_uniform(120, **TEACHERS), 0.003
    ),
    "downstream-error": gadre,
    "henighan": learning_curve,
    "kaplan": chinchilla,
    "overtraining": gadre,
    "pass-rate": lambda: drawn(
        "pass-rate", {"E": 0.2, "A": 40.0, "alpha": 0.25}, {"params": np.geomspace(1e6, 1e9, 10)}
    ),
    "power": chinchilla,
    "power-floor": learning_curve,
    "precision": lambda: drawn(
        "precision", PRECISION, log_uniform(60, params=(1e7, 1e10), tokens=(1e9, 1e12), bits=(2, 16)), 0.003
    ),
    "shifted-power": frontier,
    "student-curve": lambda: drawn(
        "student-curve", {"E": 1.5, "B": 1000.0, "beta": 0.5}, {"tokens": np.geomspace(1e6, 1e9, 12)}
    ),
    "supervised": chinchilla,
    "task-accuracy": hellaswag(loss="hellaswag_bpb", accuracy="hellaswag_acc"),
    "transfer-score": hellaswag(tokens="tokens", score="hellaswag_acc"),
    "two-part": lambda: drawn("two-part", {"alpha": 6000.0, "p_e": 0.18, "p_d": 0.31, "L_inf": 1.1}, SHAPES),
    "two-part-sum": lambda: drawn(
        "two-part-sum", {"a": 20.0, "p_e": 0.25, "b": 300.0, "p_d": 0.4, "L_inf": 1.1}, SHAPES
    ),
}


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds and result of one call."""
    begin = time.process_time()
    result = function()
    return time.process_time() - begin, result


class Peer:
    """`least_squares` on a law's formula, as one would write it for one table."""

    def __init__(self, fit: Fit) -> None:
        self.model, self.loss = fit.model, fit.loss
        self.columns, self.target = fit.data.columns, fit.data.target
        self.free = self.model.parameters
        ends = np.array([(p.lower, p.upper) if not p.dimension else (-np.inf, np.inf) for p in self.free])
        log = np.array([p.log for p in self.free])
        with np.errstate(divide="ignore", invalid="ignore"):
            self.bounds = np.where(log[:, None], np.log(np.where(ends > 0, ends, 0.0)), ends)
        self.log = log

    def natural(self, z: np.ndarray) -> np.ndarray:
        return np.where(self.log, np.exp(np.clip(z, -700, 700)), z)

    def residuals(self, z: np.ndarray, rows: Any) -> np.ndarray:
        with np.errstate(all="ignore"):
            values = self.natural(z)
            named = {p.name: value for p, value in zip(self.free, values, strict=True)}
            said = self.model(named, **{name: column[rows] for name, column in self.columns.items()})
            y = self.target[rows]
            r = {"log": np.log(said / y), "linear": said - y, "relative": said / y - 1}[self.loss.space]
        return np.nan_to_num(r, nan=1e3, posinf=1e3, neginf=-1e3)

    def fit(self, start: Mapping[str, float], rows: Any = slice(None)) -> dict[str, float]:
        """Parameters, from a start in natural units; the start itself where scipy gives up."""
        z = np.array([np.log(start[p.name]) if p.log else start[p.name] for p in self.free])
        z = np.clip(z, self.bounds[:, 0] + 1e-9, self.bounds[:, 1] - 1e-9)
        kind = {"loss": "linear"} if np.isinf(self.loss.delta) else {"loss": "huber", "f_scale": self.loss.delta}
        with contextlib.suppress(ValueError, np.linalg.LinAlgError):
            z = least_squares(
                self.residuals, z, bounds=self.bounds.T, x_scale="jac", max_nfev=2000, args=(rows,),
                ftol=1e-12, xtol=1e-12, gtol=1e-12, **kind,
            ).x  # fmt: skip
        return {p.name: float(v) for p, v in zip(self.free, self.natural(z), strict=True)}


def measure_law(name: str, rounds: int, resamples: int, loop: int, grid: bool = False) -> dict[str, Any]:
    """Time a law and its peer, in turns; with `grid`, also a peer that searches from all starts for each resample."""
    table, source = DESIGNS[name]()
    found = laws.fit(name, table, bootstrap=0)  # compiles and caches what a process needs once
    problem = Problem.build(found.model, found.data.columns, found.data.target, loss=found.loss)
    natural = problem.natural(grid_starts(problem))
    count = len(next(iter(natural.values())))
    starts = [{key: float(values[i]) for key, values in natural.items()} for i in range(count)]
    chosen = starts[:: -(-count // loop)]
    peer, rng, n = Peer(found), np.random.default_rng(0), len(found.data.target)
    keys = ("fit", "engine", "bootstrap", "peer fit", "peer bootstrap", "grid bootstrap")
    spent: dict[str, list[float]] = {key: [] for key in keys}
    best = np.inf
    for _ in range(rounds):
        seconds, _ = timed(lambda: laws.fit(name, table, bootstrap=0))
        both, _ = timed(lambda: laws.fit(name, table, bootstrap=resamples))
        spent["fit"].append(seconds)
        columns, y = found.data.columns, found.data.target
        spent["engine"].append(timed(lambda: fit_model(found.model, columns, y, loss=found.loss, bootstrap=0))[0])  # noqa: B023
        spent["bootstrap"].append(max(both - seconds, 1e-9) / resamples)
        seconds, ends = timed(lambda: [peer.fit(start) for start in chosen])
        spent["peer fit"].append(seconds / len(chosen) * count)
        values = problem.objective(np.concatenate([problem.coordinates(end)[None] for end in ends]))
        best = min(best, float(np.nanmin(values)))
        rows = rng.integers(0, n, (loop, n))
        seconds, _ = timed(lambda r=rows: [peer.fit(found.parameters, one) for one in r])  # type: ignore[misc]
        spent["peer bootstrap"].append(seconds / loop)
        if grid:
            seconds, _ = timed(lambda r=rows: [peer.fit(start, r[0]) for start in chosen])  # type: ignore[misc]
            spent["grid bootstrap"].append(seconds / len(chosen) * count)
    median = {key: float(np.median(times)) for key, times in spent.items() if times}
    ratio = {
        key: float(np.median(np.divide(spent[top], spent[bottom])))
        for key, top, bottom in (
            ("fit", "peer fit", "engine"),
            ("bootstrap", "peer bootstrap", "bootstrap"),
            ("grid bootstrap", "grid bootstrap", "bootstrap"),
        )
        if spent[top]
    }
    return {
        "data": source,
        "points": n,
        "starts": count,
        "reached": found.starts.reached,
        "seconds": {"fit": median["fit"], "engine": median["engine"], "1000 bootstraps": 1000 * median["bootstrap"]},
        "peer_seconds": {"fit": median["peer fit"], "1000 bootstraps": 1000 * median["peer bootstrap"]}
        | ({"1000 bootstraps, grid each": 1000 * median["grid bootstrap"]} if grid else {}),
        "ratio": ratio,
        "peer_objective_excess": best / found.objective - 1 if found.objective > 1e-12 else None,
    }


def measure_superposition(rounds: int, steps: int) -> dict[str, Any]:
    """The sweep of the reproduction (16 models of 100 features), all at once beside one torch model after another."""
    import torch

    torch.set_num_threads(1)
    tables, widths, decays = [frequencies(100, a) for a in (1.5, 0.5)], (4, 8, 16, 32), (-1.0, 0.5)

    def one_by_one() -> list[float]:
        return [train(torch.tensor(p, dtype=torch.float32), m, g) for p in tables for g in decays for m in widths]

    def train(p: torch.Tensor, width: int, decay: float) -> float:
        draw = torch.Generator().manual_seed(0)
        weights = (torch.randn(len(p), width, generator=draw) / width**0.5).requires_grad_()
        bias = torch.randn(len(p), generator=draw).requires_grad_()
        optimizer, errors = torch.optim.Adam([weights, bias], 1e-2), []
        for step in range(1, steps + 1):
            x = (torch.rand(256, len(p), generator=draw) < p) * 2 * torch.rand(256, len(p), generator=draw)
            loss = (torch.relu(x @ weights @ weights.T + bias) - x).square().mean()
            rate = optimizer.param_groups[0]["lr"] = learning_rate(step, steps, 1e-2, max(steps // 10, 1))
            optimizer.zero_grad()
            loss.backward()
            with torch.no_grad():
                pull = 1 - 1 / weights.norm(dim=1, keepdim=True) if decay < 0 else -1
                weights *= 1 + rate * decay * pull
            optimizer.step()
            errors.append(float(loss.detach()))
        return len(p) * float(np.mean(errors[-max(steps // 20, 1) :]))

    spent: dict[str, list[float]] = {"limbeck": [], "torch": []}
    for _ in range(rounds):
        seconds, sweep = timed(lambda: train_toy(tables, widths, decays, steps=steps, seed=0))
        spent["limbeck"].append(seconds)
        seconds, alone = timed(one_by_one)
        spent["torch"].append(seconds)
    apart = float(np.abs(np.array(alone).reshape(sweep.loss.shape) / sweep.loss - 1).max())
    return {
        "models": 16, "steps": steps, "seconds": {name: float(np.median(times)) for name, times in spent.items()},
        "ratio": float(np.median(np.divide(spent["torch"], spent["limbeck"]))),
        "largest_relative_difference_of_loss, other random numbers": apart,
    }  # fmt: skip


def measure_perceptron(rounds: int, points: int, loop: int) -> dict[str, Any]:
    """Curves of the exactly ranked perceptron beside one scalar problem after another; with an angle ours alone."""
    alpha, fraction = np.geomspace(0.5, 30, points), np.full(points, 0.4)

    def density(x: float) -> float:
        return math.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    def alone(a: float, f: float) -> float:
        """Error for hard examples at angle 0: the maximum over t of b(t) / sqrt(1 + t^2)."""
        cut = ndtri((1 + f) / 2)

        def margin(t: float) -> float:
            def kept(tau: float, b: float) -> float:
                m = b - t * tau
                return ((m * m + 1) * ndtr(m) + m * density(m)) * 2 * density(tau) / f

            return brentq(lambda b: a * quad(kept, 0, cut, (b,))[0] - 1, -10 - 10 * t, 10 + 10 * t)

        best = minimize_scalar(lambda u: -margin(np.exp(u)) / np.hypot(1, np.exp(u)), (-2, 1), tol=1e-7)
        return float(np.arctan2(1, np.exp(best.x)) / np.pi)

    spent: dict[str, list[float]] = {"limbeck": [], "limbeck, 20 degrees": [], "scipy": []}
    some = np.linspace(0, points - 1, loop).astype(int)
    for _ in range(rounds):
        seconds, found = timed(lambda: pruned_perceptron(alpha, fraction, keep="hard"))
        spent["limbeck"].append(seconds)
        seconds, _ = timed(lambda: pruned_perceptron(alpha, fraction, np.radians(20), "hard"))
        spent["limbeck, 20 degrees"].append(seconds)
        seconds, errors = timed(lambda: [alone(alpha[i], fraction[i]) for i in some])
        spent["scipy"].append(seconds / loop * points)
    return {
        "points": points, "seconds": {name: float(np.median(times)) for name, times in spent.items()},
        "ratio": float(np.median(np.divide(spent["scipy"], spent["limbeck"]))),
        "largest_relative_difference_of_error": float(np.abs(np.array(errors) / found.error[some] - 1).max()),
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    table = Table("law", "points", "starts", "fit, s", "gain", "1000 draws, s", "gain", "peer above")
    table.columns[0].no_wrap, table.columns[0].min_width = True, 16
    for name, one in result["laws"].items():
        seconds, ratio, above = one["seconds"], one["ratio"], one["peer_objective_excess"]
        table.add_row(
            name, str(one["points"]), str(one["starts"]), f"{seconds['fit']:.3f}", f"{ratio['fit']:.0f}×",
            f"{seconds['1000 bootstraps']:.3f}", f"{ratio['bootstrap']:.0f}×",
            "" if above is None else f"{above:.0e}",
        )  # fmt: skip
        if "grid bootstrap" in ratio:
            table.add_row("  grid each", "", "", "", "", "", f"{ratio['grid bootstrap']:.0f}×", "")
    Console().print(table)
    for name in ("superposition", "perceptron"):
        if name in result:
            one = result[name]
            times = ", ".join(f"{key} {seconds:.2f} s" for key, seconds in one["seconds"].items())
            print(f"{name}: {times}: {one['ratio']:.1f}×")
    facts = result["machine"]
    print(f"{facts['cpu']}, {facts['cores']} cores, load {facts['load'][0]}, numpy {facts['numpy']}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("laws", nargs="*", metavar="LAW", help="only these; writes nothing")
    parser.add_argument("--quick", action="store_true", help="one short round; writes nothing")
    options = parser.parse_args()
    quick, chosen = options.quick, options.laws or list(DESIGNS)
    rounds, resamples, loop = (1, 100, 2) if quick else (3, 1000, 8)
    result: dict[str, Any] = {"machine": machine(), "laws": {}}
    for name in chosen:
        with contextlib.suppress(FileNotFoundError):
            result["laws"][name] = measure_law(name, rounds, resamples, loop, grid=name == "task-accuracy")
    if not options.laws:
        result["superposition"] = measure_superposition(1 if quick else 2, 40 if quick else 1500)
        result["perceptron"] = measure_perceptron(rounds, 50 if quick else 200, loop if quick else 4)
    show(result)
    if not quick and not options.laws:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        print(f"written: {RESULTS.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
