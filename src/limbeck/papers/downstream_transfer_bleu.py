"""Scaling laws for downstream task performance: a log-law forecasts scores, unless the task does not rise with data.

The accuracies of six language models along their pre-training, on nine tasks, stand for translation scores after
fine-tuning. Of ten checkpoints a curve, (log A + alpha ln D)^beta is fitted on the first six and forecasts the last
four; the baseline carries the last value forward. The verdict on alignment must refuse the two tasks that do not rise.
The table is read from the folder `LIMBECK_DATA`.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from limbeck.fitting.model import Array
from limbeck.laws import judge_alignment, transfer_curve
from limbeck.laws.task_score import ISIK
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series
from limbeck.papers._data import needed_table

RUNS = ("190M-10xC", "370M-10xC", "760M-10xC", "1B-10xC", "3B-10xC", "peteish7_eval_full")
RISING = ("hellaswag", "arc_easy", "piqa", "csqa", "socialiqa", "openbookqa", "winogrande")
FLAT = ("boolq", "mmlu_stem")
POINTS, FITTED, WINDOW = 10, 6, 5
LAST = "last value"


class DownstreamTransferBleu(Paper):
    """Accuracies of the checkpoints of six models, one model per seed."""

    source = ISIK
    claim = "Task scores follow a log-law in pre-training tokens, unless the data are misaligned with the task."
    metric = "error of the last value carried forward minus that of the log-law, mean over seven rising tasks"
    unit = "points"
    baseline = LAST
    seeds = 6

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return errors of the forecasts (points) and the verdict, by task, of one model."""
        run = RUNS[seed % len(RUNS)]
        table = pl.read_csv(needed_table("olmo_ladder/checkpoints.csv")).filter(run=run).sort("tokens")
        return {"run": run, "tasks": {task: forecast(*ten_points(table, task)) for task in (*RISING, *FLAT)}}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare the forecasts on rising tasks, and the verdicts on all."""
        tasks = {task: [one["tasks"][task] for one in measured] for task in (*RISING, *FLAT)}
        names = tasks[RISING[0]][0]["errors"]
        errors = {task: {name: [one["errors"][name] for one in rows] for name in names} for task, rows in tasks.items()}
        mean = {task: {name: np.mean(values) for name, values in by.items()} for task, by in errors.items()}
        aligned = {task: np.mean([one["verdict"] == "aligned" for one in rows]) for task, rows in tasks.items()}
        rising = {task: np.mean([one["rising"] for one in rows]) for task, rows in tasks.items()}
        flagged = {task for task, share in aligned.items() if share <= 0.5}
        wins = {name: sum(mean[task]["log-law"] < mean[task][name] for task in RISING) for name in names}
        tokens, score, law, off = (tasks[RISING[0]][-1][key] for key in ("tokens", "score", "law", "errors"))
        title = f"The log-law forecasts {RISING[0]} to {off['log-law']:.1f} points, the last value to {off[LAST]:.0f}"
        series = [
            Series(measured[-1]["run"], tokens, score),
            Series("log-law", tokens[:FITTED], law[:FITTED], kind="line"),
            Series("forecast", tokens[FITTED - 1 :], law[FITTED - 1 :], kind="dashed"),
        ]
        return Outcome(
            effects=np.mean([np.subtract(errors[task][LAST], errors[task]["log-law"]) for task in RISING], axis=0),
            checks={
                "better than the last value on 6 or more of 7 rising tasks": wins[LAST] >= 6,
                "better than a line in ln D on 5 or more of 7": wins["linear in log tokens"] >= 5,
                "the tasks that do not rise are flagged": flagged >= {*FLAT},
                "none of the six that rise most is flagged": not flagged & {*RISING[:6]},
            },
            details={
                "error": mean, "share of models aligned": aligned, "share of steps that rise": rising,
                "largest error of the log-law": max(max(errors[task]["log-law"]) for task in RISING),
                "better than": wins,
            },
            notes=[
                "no seeds: the replicates are models; accuracies along pre-training stand for fine-tuned scores",
                f"a curve with a ceiling has the smaller error on {7 - wins['ceiling']} of the 7 rising tasks",
            ],
            figure=Figure(title, "pre-training tokens", "accuracy, points", series, log_x=True),
        )  # fmt: skip


def ten_points(table: pl.DataFrame, task: str) -> tuple[Array, Array, float]:
    """Return ten geometric checkpoints of a moving average of the accuracy in points, and the noise of one."""
    rows = table.select("tokens", f"{task}_acc").drop_nulls().to_numpy().astype(float)
    smooth = np.convolve(100 * rows[:, 1], np.full(WINDOW, 1 / WINDOW), "valid")
    middle = slice(WINDOW // 2, len(rows) - WINDOW // 2)
    tokens, scatter = rows[middle, 0], 100 * rows[middle, 1] - smooth
    noise = float(scatter.std() / np.sqrt(WINDOW - 1))  # one point scatters about its average by sqrt(1 - 1/WINDOW)
    targets = np.geomspace(tokens[0], tokens[-1], POINTS)
    chosen = np.unique([np.abs(np.log(tokens / target)).argmin() for target in targets])
    return tokens[chosen], smooth[chosen], noise


def forecast(tokens: Array, score: Array, noise: float) -> Numbers:
    """Return the errors of the curves fitted on the first points on the others, and the verdict on all."""
    early = transfer_curve(tokens[:FITTED], score[:FITTED], noise=noise, bootstrap=0)
    late = {name: curve.value(tokens=tokens[FITTED:]) for name, curve in early.fits.items()}
    late[LAST] = np.full(len(tokens) - FITTED, score[FITTED - 1])
    alignment = judge_alignment(tokens, score, noise=noise)
    return {
        "errors": {name: float(np.sqrt(np.mean((guess - score[FITTED:]) ** 2))) for name, guess in late.items()},
        "verdict": alignment.verdict, "rising": alignment.rising, "tokens": tokens.tolist(), "score": score.tolist(),
        "law": early.fits["log-law"].value(tokens=tokens).tolist(),
    }  # fmt: skip
