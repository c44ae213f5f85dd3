"""The Fine Line: checkpoints of small models tell which abilities of a large one can be forecast, and forecast them.

On the released checkpoints of 20 trainings (190 M to 3 B parameters, four lengths each) every task is judged by its
curves and forecast for the annealed 7 B and 13 B models, through the losses that a back-test on the largest sizes
prefers. Beside it, on the same runs: the last value carried forward, and the two-step ladder (Bhagia et al., 2024,
arXiv 2412.04403), whose intermediate loss is always the task's own and whose sigmoid is held by a perfect model.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.fitting import Loss
from limbeck.fitting import fit as fit_model
from limbeck.fitting.model import Array
from limbeck.laws import Chinchilla, TaskAccuracy, ranking_reliability, signal_to_noise
from limbeck.laws.checkpoint_dynamics import YANG_2024, smooth
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series
from limbeck.papers._data import needed_table
from limbeck.planning import Training, forecast_tasks, trainings
from limbeck.runs import RunTable, read_runs

SHARES = 4
STEADY = ("hellaswag", "piqa", "csqa", "socialiqa", "arc_easy", "arc_challenge")
METHODS = ("forecast", "best route alone", "ladder", "last value", "forecast without 3 B", "ladder without 3 B")
EARLY = "tracked without 3 B"
LARGEST_FITTED = 1.3e9
"""Parameters of the largest model of the authors' ladder; the 3 B runs came later."""


class FineLineDownstream(Paper):
    """Thirteen tasks on the checkpoints of a model ladder; every seed has a quarter of the tasks."""

    source = YANG_2024
    claim = "Downstream curves of small models are alike across sizes and forecast the scores of much larger models."
    metric = "absolute error of the largest run's score carried forward minus that of the forecast, per task"
    unit = "points"
    baseline = "last value"
    seeds = SHARES

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Judge and forecast a quarter of the tasks, and re-run the ladder on them."""
        runs = read_runs(needed_table("olmo_ladder/checkpoints.csv"), skip_bad=True)
        targets = read_runs(needed_table("olmo_ladder/annealed_targets.csv"))
        names = [name.removesuffix("_acc") for name in runs.columns if name.endswith("_acc")][seed % SHARES :: SHARES]
        names = names[:2] if quick else names
        pool, _ = trainings(runs, targets.column("params").min())
        giant = next(one for one in trainings(runs)[0] if one.name == "peteish7_eval_full")
        at = {name: targets.column(name) for name in ("params", "tokens")}
        small = [one for one in pool if one.params <= LARGEST_FITTED]
        checkpoints = runs.filter(f"params<={LARGEST_FITTED:g}")
        later, early = (forecast_tasks(some, targets, tasks=names).tasks for some in (runs, checkpoints))
        found = {}
        for one, before in zip(later, early, strict=True):
            column = f"{one.task}_acc"
            truth, giants = targets.column(column), giant.final(column)
            curves = [run.curve(column) for run in pool]
            promised = mediated(checkpoints, column, giant.final("c4_ce"))
            found[one.task] = {
                **asdict(one.dynamics),
                "snr of the longest 1.3 B run": signal_to_noise(small[-1].columns[column]).ratio,
                "tau at 10, 20, 50 %": [ranking_reliability(curves, share) for share in (0.1, 0.2, 0.5)],
                "mainly through": one.routes[0].through,
                "measured": (100 * truth).tolist(),
                "forecast": [100 * here.value for here in one.accuracy],
                "inside": [bool(here.lower <= y <= here.upper) for here, y in zip(one.accuracy, truth, strict=True)],
                "best route alone": [100 * value for value in one.routes[0].accuracy],
                "ladder": ladder(pool, one.task, at),
                "last value": [100 * pool[-1].final(column)] * len(truth),
                "forecast without 3 B": [100 * here.value for here in before.accuracy],
                "ladder without 3 B": ladder(small, one.task, at),
                EARLY: before.dynamics.verdict == "track",
                "7 B at its measured c4 loss": 100 * (promised - giants),
                "7 B, last value": 100 * (small[-1].final(column) - giants),
            }
        return found

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare the errors over tasks."""
        tasks = {name: one for share in measured for name, one in share.items()}

        def column(key: str) -> Any:
            return np.array([one[key] for one in tasks.values()])

        truth, tracked = column("measured"), column("verdict") == "track"
        off = {method: np.abs(column(method) - truth) for method in METHODS}
        groups = {"all tasks": slice(None), "tracked tasks": tracked, "tasks tracked without 3 B": column(EARLY)}
        table = {words: {m: off[m][some].mean(0) for m in METHODS} for words, some in groups.items()}
        whole = table["all tasks"]
        ours, theirs = (off[method].mean(1) for method in ("forecast", "ladder"))
        worse = [f"{n} ({a:.1f} against {b:.1f})" for n, a, b in zip(tasks, ours, theirs, strict=True) if a > b]
        noise = [one["verdict"] == "noise" for name, one in tasks.items() if name in ("boolq", "mmlu_stem")]
        steady = [tasks[name] for name in STEADY if name in tasks]
        near = [abs(o["7 B at its measured c4 loss"]) < 4 and abs(o["7 B, last value"]) > 5 for o in steady]

        def versus(words: str) -> str:
            both = (table[words][f"{method} without 3 B"] for method in ("forecast", "ladder"))
            return " against ".join(f"{seven:.1f} and {thirteen:.1f}" for seven, thirteen in both)

        title = f"7 B and 13 B models are forecast to {ours.mean():.1f} points, by the ladder to {theirs.mean():.1f}"
        series = [Series(method, truth.ravel(), column(method).ravel()) for method in ("forecast", "ladder")]
        exact = Series("exact", [40.0, 90.0], [40.0, 90.0], kind="line")
        return Outcome(
            effects=off["last value"].mean(1) - ours,
            checks={
                "mean error of all tasks at most the ladder's, 7 B and 13 B": whole["forecast"] <= whole["ladder"],
                "the same on tracked tasks": ours[tracked].mean() <= theirs[tracked].mean(),
                "boolq and mmlu_stem are noise": noise,
                "steady tasks at the 7 B's c4 loss within 4 points, last value off by more than 5": near,
            },
            details={
                "mean errors at 7 B and 13 B": table, "tasks": tasks,
                "ladder minus forecast, mean and s.e. over tasks": [np.mean(theirs - ours), sem(theirs - ours)],
                "share of 80 % intervals that hold, tracked tasks": column("inside")[tracked].mean(),
            },
            notes=[
                "no seeds: the replicates are tasks; the choice sees runs up to 3 B only",
                f"the ladder is better on {', '.join(worse) or 'no task'}",
                f"without the 3 B runs, forecast against ladder: {versus('tasks tracked without 3 B')} points on tasks "
                f"tracked then, {versus('all tasks')} on all",
                "curves rise together (rank), not at the same moments: median correlation of increments "
                f"{np.median(column('shape')):.2f}",
                "targets are annealed on other data than the ladder: nearly all errors of the forecast are too low",
            ],
            figure=Figure(title, "measured accuracy, %", "forecast, %", [*series, exact]),
        )  # fmt: skip


def ladder(runs: Sequence[Training], task: str, at: dict[str, Array]) -> list[float]:
    """Forecast in percent by the authors' two steps: final bits per byte, then a bounded sigmoid by least squares.

    The sigmoid is fitted on trailing means of five checkpoints, without each run's first 10 %, and on one ideal point:
    a model of zero bits per byte that is always right.
    """
    from scipy.optimize import curve_fit

    loss, accuracy = f"{task}_bpb", f"{task}_acc"
    finals = np.array([(one.params, one.tokens, smooth(one.columns[loss])[-1]) for one in runs]).T
    first = fit_model(Chinchilla(), {"params": finals[0], "tokens": finals[1]}, finals[2], bootstrap=0)
    late = [[smooth(one.columns[name])[len(one.columns[name]) // 10 :] for name in (loss, accuracy)] for one in runs]
    x, y = np.hstack(late)

    def sigmoid(bits: Any, a: float, middle: float, k: float, b: float) -> Any:
        return a / (1 + np.exp(-k * (bits - middle))) + b

    bounds = ([-1.0, 0.0, 0.0, 0.0], [0.0, np.inf, np.inf, 1.0])
    with np.errstate(over="ignore"):
        best, _ = curve_fit(sigmoid, [*x, 0.0], [*y, 1.0], p0=[-0.75, 0.9, 3.0, 1.0], bounds=bounds, max_nfev=10000)
        return [100 * float(sigmoid(bits, *best)) for bits in first.value(**at)]


def mediated(runs: RunTable, column: str, loss: float) -> float:
    """Return the accuracy that all checkpoints of the runs promise at a c4 loss."""
    huber = Loss(delta=0.02, space="linear")
    law = fit_model(TaskAccuracy(), {"loss": runs.column("c4_ce")}, runs.column(column), loss=huber, bootstrap=0)
    return float(law.value(loss=loss))
