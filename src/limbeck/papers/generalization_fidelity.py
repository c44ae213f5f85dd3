"""On the generalization vs fidelity paradox in knowledge distillation: does a student that gains resemble its teacher?

Students of 4 and of 32 hidden units learn 120 handwritten digits from labels or from a teacher that knows 900, at three
temperatures and with noise on its logits. The paper's own table of accuracies is analysed again: clustered by student,
with gains as a share of what was wrong before, and corrected for the number of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import sem, ttest_1samp

from limbeck.fitting import holm
from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked
from limbeck.papers._data import needed_table, run_table

WIDTHS, TEMPERATURES, NOISES = (4, 32), (1, 2, 5), (1, 2, 5)
TARGETS = ("labels", *(f"τ = {t}" for t in TEMPERATURES), *(f"τ = 2, σ = {s}" for s in NOISES))
TASKS = ("gsm8k", "SVAMP", "MultiArith", "SingleEq", "AddSub", "AQuA", "Average")
FOLDER = "kd-generalization-fidelity"


class GeneralizationFidelity(Paper):
    """Digits from labels and from a teacher, and the published accuracies of language models."""

    source = Source("On the Generalization vs Fidelity Paradox", "Ramesh, Sengupta, Chakraborty", 2025, "2505.15442")
    claim = "Distillation makes students more accurate, whether or not they become faithful to the teacher."
    metric = "accuracy of a student of 32 hidden units distilled at τ = 5, minus that of one trained on labels"
    unit = "points"
    baseline = "labels"
    extras = ("lm", "vision")
    seeds = 8

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return accuracy, agreement and KL(teacher‖student) by width and target, in percent and nats."""
        return {"students": [[list(one) for one in row] for row in students(seed, 60 if quick else 250)]}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare students with those that saw labels, then look at the published table."""
        from limbeck.lm import clustered_mean, trend

        (found,) = stacked(measured, "students")  # [seed, width, target, (accuracy, agreement, KL)]
        gain = found[:, :, 1:] - found[:, :, :1]
        best, closer, tiny = gain[:, 1, 2, 0], gain[:, 1, 2, 1], gain[:, 0, :3, 0].mean(1)
        rows = {"students": found.mean(0), "standard error": sem(found), "widths": WIDTHS, "targets": TARGETS}
        notes = [
            f"agreement with the teacher changes by {closer.mean():+.1f} ± {sem(closer):.1f} points along with it",
            f"4 hidden units gain {tiny.mean():+.1f} ± {sem(tiny):.1f} points, on average over the three temperatures",
        ]
        if run_table(FOLDER):
            table = published(most=False)
            who, size = table["Student"].to_numpy(), table["size"].to_numpy()
            y, before = (table.select([f"{task}{end}" for task in TASKS]).to_numpy() for end in ("_gain", "_before"))
            mean = [clustered_mean(column, who) for column in y.T]
            alone: Any = ttest_1samp([y[who == one].mean(0) for one in np.unique(who)], 0, alternative="greater")
            raw, room = ([trend(size, c, who) for c in part.T] for part in (y, y / (100 - before)))
            p, gains = holm(alone.pvalue[:-1]), [one.value for one in mean]
            trends, shares = ([one.rho.value for one in some] for some in (raw, room))
            rows |= {"tasks": TASKS, "gain": gains, "p": p, "trend": trends, "trend of the share": shares}
            notes.append(
                f"published, τ = 1, clustered by student: gain {gains[-1]:.1f} points ({mean[-1].lower:.1f} – "
                f"{mean[-1].upper:.1f}), sure on {(p < 0.05).sum()} of 6 tasks; rank correlation with size "
                f"{trends[-1]:.2f}, {shares[-1]:.2f} of the gain as a share of what was wrong"
            )
        title = f"32 hidden units gain {best.mean():.1f} points from a teacher at τ = 5"
        series = [Series(f"{w} hidden units", *found[:, k].mean(0)[:, 1::-1].T) for k, w in enumerate(WIDTHS)]
        return Outcome(
            effects=best,
            checks={"above 3 points, and 4 of agreement": best.mean() > 3 and closer.mean() > 4},
            details=rows,
            notes=notes,
            figure=Figure(title, "agreement with the teacher, %", "accuracy, %", series),
        )


def students(seed: int, steps: int) -> list[list[tuple[float, float, float]]]:
    """Return accuracy (%), agreement (%) and KL (nats) of every student [width, target] on 897 unseen digits."""
    import torch

    from limbeck.distill import forward_kl
    from limbeck.papers._digits import accuracy, digits, learn, mlp

    x, y = digits(seed)
    teacher, noise = learn(mlp(128, seed=seed), x[:900], y[:900], steps=300, seed=seed), torch.Generator()
    with torch.no_grad():
        says = teacher(x)

    def student(width: int, temperature: int, sigma: int) -> tuple[float, float, float]:
        def distance(logits: torch.Tensor, target: torch.Tensor) -> Any:
            told = target + sigma * torch.randn(target.shape, generator=noise.manual_seed(noise.initial_seed() + 1))
            return forward_kl(logits, told, temperature=temperature, tau_squared=True)

        noise.manual_seed(seed)
        how: Any = {"target": says[:120], "loss": distance} if temperature else {"target": y[:120]}
        model = learn(mlp(width, seed=seed), x[:120], steps=steps, rate=1e-2, batch=None, **how)
        right, same = (100 * accuracy(model, x[900:], one[900:]) for one in (y, says.argmax(-1)))
        with torch.no_grad():
            return right, same, float(forward_kl(model(x[900:]), says[900:]))

    ways = [(0, 0), *((t, 0) for t in TEMPERATURES), *((2, sigma) for sigma in NOISES)]
    return [[student(width, *way) for way in ways] for width in WIDTHS]


def published(most: bool = True) -> Any:
    """Return the paper's mathematics runs: gain over the student's own fine-tuning, its and the teacher's accuracy.

    Args:
        most: of the temperatures take the largest accuracy of every task, as the authors did; else temperature 1.
    """
    import polars as pl

    files = [needed_table(FOLDER) / f"{name}.csv" for name in ("llama_math_results", "math_results_main")]
    name, table = pl.col("Method"), pl.concat([pl.read_csv(file) for file in files])
    table = table.with_columns(pl.col("Teacher").str.replace("_.*", ""))
    tuned = table.filter(name == "SFT").drop("Teacher", "Method")
    runs = table.filter(name.str.contains("student") & ~name.str.contains("base_teacher"))
    runs = runs if most else runs.filter(name.str.ends_with("temp_1.0"))
    kinds = (
        name.str.extract("(RevKD|GKD)").fill_null("SeqKD"),
        pl.col("Student").str.extract(r"-([\d.]+)B$").cast(float),
    )
    runs = runs.with_columns(kinds[0], kinds[1].alias("size"))
    runs = runs.group_by("Teacher", "Student", "Method", "size", maintain_order=True).max()
    runs = runs.join(tuned, on="Student", suffix="_before", maintain_order="left")
    runs = runs.join(tuned.rename({"Student": "Teacher"}), on="Teacher", suffix="_teacher", maintain_order="left")
    return runs.with_columns((pl.col(task) - pl.col(f"{task}_before")).alias(f"{task}_gain") for task in TASKS)
