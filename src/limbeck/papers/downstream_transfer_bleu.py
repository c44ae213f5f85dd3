"""Scaling laws for downstream task performance: a log-law forecasts scores, unless the task does not rise with data.

The accuracies of six language models along their pre-training, on nine tasks, stand for translation scores after
fine-tuning. Of ten checkpoints a curve, (log A + alpha ln D)^beta is fitted on the first six and forecasts the last
four; the baseline carries the last value forward. The verdict on alignment must refuse the two tasks that do not rise.
The table is read from the folder `LIMBECK_DATA`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from limbeck.errors import LimbeckError
from limbeck.laws import judge_alignment, transfer_curve
from limbeck.laws.task_score import ISIK
from limbeck.papers._data import run_table
from limbeck.papers._figure import Figure, Series
from limbeck.papers._paper import Outcome, Paper

RUNS = ("190M-10xC", "370M-10xC", "760M-10xC", "1B-10xC", "3B-10xC", "peteish7_eval_full")
RISING = ("hellaswag", "arc_easy", "piqa", "csqa", "socialiqa", "openbookqa", "winogrande")
FLAT = ("boolq", "mmlu_stem")
POINTS, FITTED, WINDOW = 10, 6, 5
LAST = "last value"


class DownstreamTransferBleu(Paper):
    """Accuracies of the checkpoints of six models, one model per seed."""

    slug = "downstream-transfer-bleu"
    source = ISIK
    claim = "Task scores follow a log-law in pre-training tokens, unless the data are misaligned with the task."
    metric = "error of the last value carried forward minus that of the log-law, mean over seven rising tasks"
    unit = "points"
    baseline = LAST
    seeds = 6

    def measure(self, seed: int, quick: bool) -> dict[str, Any]:
        """Return errors of the forecasts (points) and the verdict, by task, of one model."""
        path, run = run_table("olmo_ladder/checkpoints.csv"), RUNS[seed % len(RUNS)]
        if path is None:
            raise LimbeckError("this needs olmo_ladder/checkpoints.csv in the folder that LIMBECK_DATA names.")
        table = pl.read_csv(path).filter(pl.col("run") == run).sort("tokens")
        return {"run": run, "tasks": {task: forecast(*ten_points(table, task)) for task in (*RISING, *FLAT)}}

    def conclude(self, measured: Sequence[dict[str, Any]]) -> Outcome:
        """Compare the forecasts on rising tasks, and the verdicts on all."""
        first = measured[0]["tasks"]
        errors = {
            task: {name: [one["tasks"][task]["errors"][name] for one in measured] for name in first[task]["errors"]}
            for task in first
        }
        mean = {task: {name: float(np.mean(values)) for name, values in by.items()} for task, by in errors.items()}
        aligned = {
            task: float(np.mean([one["tasks"][task]["verdict"] == "aligned" for one in measured])) for task in first
        }
        flagged = [task for task, share in aligned.items() if share <= 0.5]
        wins = {name: sum(mean[task]["log-law"] < mean[task][name] for task in RISING) for name in mean[RISING[0]]}
        gain = np.mean([np.subtract(errors[task][LAST], errors[task]["log-law"]) for task in RISING], axis=0)
        shown = measured[-1]["tasks"][RISING[0]]
        return Outcome(
            effects=gain,
            checks={
                "better than the last value on 6 or more of 7 rising tasks": wins[LAST] >= 6,
                "better than a line in ln D on 5 or more of 7": wins["linear in log tokens"] >= 5,
                "the tasks that do not rise are flagged": set(FLAT) <= set(flagged),
                "none of the six that rise most is flagged": not set(RISING[:6]) & set(flagged),
            },
            details={
                "error": mean,
                "share of models aligned": aligned,
                "share of steps that rise": {
                    task: float(np.mean([one["tasks"][task]["rising"] for one in measured])) for task in first
                },
                "largest error of the log-law": max(max(errors[task]["log-law"]) for task in RISING),
                "better than": wins,
            },
            notes=[
                "no seeds: the replicates are models; accuracies along pre-training stand for fine-tuned scores",
                f"a curve with a ceiling has the smaller error on {7 - wins['ceiling']} of the 7 rising tasks",
            ],
            figure=Figure(
                f"The log-law forecasts {RISING[0]} to {shown['errors']['log-law']:.1f} points, the last value to "
                f"{shown['errors'][LAST]:.0f}",
                "pre-training tokens",
                "accuracy, points",
                (
                    Series(measured[-1]["run"], shown["tokens"], shown["score"]),
                    Series("log-law", shown["tokens"][:FITTED], shown["law"][:FITTED], kind="line"),
                    Series("forecast", shown["tokens"][FITTED - 1 :], shown["law"][FITTED - 1 :], kind="dashed"),
                ),
                log_x=True,
            ),
        )


def ten_points(table: pl.DataFrame, task: str) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return ten geometric checkpoints of a moving average of the accuracy in points, and the noise of one."""
    rows = table.select("tokens", f"{task}_acc").drop_nulls().to_numpy().astype(float)
    smooth = np.convolve(100 * rows[:, 1], np.full(WINDOW, 1 / WINDOW), "valid")
    middle = slice(WINDOW // 2, len(rows) - WINDOW // 2)
    tokens, scatter = rows[middle, 0], 100 * rows[middle, 1] - smooth
    noise = float(scatter.std() / np.sqrt(WINDOW - 1))  # one point scatters about its average by sqrt(1 - 1/WINDOW)
    targets = np.geomspace(tokens[0], tokens[-1], POINTS)
    chosen = np.unique([np.abs(np.log(tokens / target)).argmin() for target in targets])
    return tokens[chosen], smooth[chosen], noise


def forecast(tokens: NDArray[np.float64], score: NDArray[np.float64], noise: float) -> dict[str, Any]:
    """Return the errors of the curves fitted on the first points on the others, and the verdict on all."""
    early = transfer_curve(tokens[:FITTED], score[:FITTED], noise=noise, bootstrap=0)
    late = {name: curve.value(tokens=tokens[FITTED:]) for name, curve in early.fits.items()}
    late[LAST] = np.full(len(tokens) - FITTED, score[FITTED - 1])
    alignment = judge_alignment(tokens, score, noise=noise)
    return {
        "errors": {name: float(np.sqrt(np.mean((guess - score[FITTED:]) ** 2))) for name, guess in late.items()},
        "verdict": alignment.verdict,
        "rising": alignment.rising,
        "tokens": tokens.tolist(),
        "score": score.tolist(),
        "law": early.fits["log-law"].value(tokens=tokens).tolist(),
    }
