"""Beyond scaling law: a teacher is chosen by what a student learns from it, and questions only if they beat chance.

Teachers label handwritten digits by sampling. The first is the more accurate one but samples at a temperature of 3.5;
the second has seen 250 images and is nearly sure. Students of 16 hidden units learn from 80 labels of either, and from
those of them that are right. Then a student that has begun to learn keeps the half of its questions that it passes
least, a random half, or all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

TEACHERS = {"accurate": (128, 1000, 3.5), "sure": (64, 250, 0.2)}
"""Hidden units, images seen and temperature of sampling."""
LABELS, QUESTIONS, ROLLOUTS, KEEP = 80, 160, 8, 0.5
HALVES = ("chosen", "random", "all")


class DedDataEfficient(Paper):
    """Two teachers of digits, and the questions that a student finds hard."""

    source = Source("Beyond Scaling Law: A Data-Efficient Distillation Framework", "Wu et al.", 2025, "2508.09883")
    claim = "The best teacher is the one that a student learns most from in a short run, not the one that scores best."
    metric = "accuracy of a student of the teacher that the smoke test picks, minus of the most accurate one"
    unit = "points"
    baseline = "best benchmark score"
    extras = ("lm", "vision")
    seeds = 8

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return what the smoke test picked, accuracies of teachers and students, and those by choice of questions."""
        return trials(seed, (0,) if quick else (0, 1, 2))

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare the pick with the benchmark's, and the chosen questions with random ones."""
        names = "teachers", "students", "filtered", "halves", "entropy"
        teachers, taught, right, halves, entropy = (100 * one for one in stacked(measured, *names))
        picks = [one["pick"] for one in measured]
        every, place = np.arange(len(picks)), [[*TEACHERS].index(one) for one in picks]
        gain, filtered = (one[every, place] - one[every, teachers.argmax(1)] for one in (taught, right))
        lost = halves[:, 0] - halves[:, 1]
        told = np.array([one["recommended"] for one in measured])
        title = f"The smoke test's pick teaches {gain.mean():.0f} points more than the most accurate teacher"
        series = [Series("students", teachers.mean(0), taught.mean(0), sem(taught))]
        return Outcome(
            effects=gain,
            checks={"the tool never recommends hard questions that lose to random ones": ~told | (lost > 0)},
            details={
                "teachers": [*TEACHERS], "accuracy": teachers.mean(0), "entropy of labels, nats": entropy.mean(0) / 100,
                "students": taught.mean(0), "students of right labels": right.mean(0), "picks": picks,
                "questions": HALVES, "students by questions": halves.mean(0), "standard error": sem(halves),
            },
            notes=[
                f"picked: {', '.join(f'{name} {picks.count(name)}' for name in TEACHERS)}; with wrong labels taken "
                f"out of both first, the pick is worth {filtered.mean():+.1f} ± {sem(filtered):.1f} points",
                f"hardest half of the questions against a random half: {lost.mean():+.1f} ± {sem(lost):.1f} points, "
                f"recommended in {told.sum()} of {len(told)} seeds",
                "answers far from each other need answers of many tokens: not tested here",
            ],
            figure=Figure(title, "accuracy of the teacher, %", "accuracy of its student, %", series),
        )  # fmt: skip


def trials(seed: int, seeds: Sequence[int]) -> Numbers:
    """Let both teachers label, students learn from them, and one more student choose questions."""
    from copy import deepcopy

    import torch

    from limbeck.lm import hardest, smoke_test, try_questions
    from limbeck.papers._digits import accuracy, digits, learn, mlp

    (x, y), generator = digits(seed), torch.Generator().manual_seed(seed)
    validation, test, pool = slice(1000, 1300), slice(1300, None), torch.randperm(1000, generator=generator)
    models, spread, written, right = {}, {}, {}, {}
    for name, (width, seen, temperature) in TEACHERS.items():
        models[name] = learn(mlp(width, seed=seed), x[:seen], y[:seen], steps=400, seed=seed)
        with torch.no_grad():
            says = (models[name](x[:1000]) / temperature).softmax(-1)
        spread[name] = float(-(says * says.log()).nan_to_num().sum(-1).mean())
        label = says.multinomial(1, generator=generator)[:, 0]
        written[name] = [(k, int(label[k])) for k in pool[:LABELS].tolist()]
        right[name] = [(k, one) for k, one in written[name] if one == y[k]]

    def student(items: Sequence[tuple[int, int]], number: int, part: slice, start: Any = None) -> float:
        rows, labels = torch.tensor(items).T
        model = deepcopy(start) if start else mlp(16, seed=seed + 100 * number)
        return accuracy(learn(model, x[rows], labels, steps=200, seed=number), x[part], y[part])

    found = smoke_test(written, lambda items, number: student(items, number, validation), seeds=seeds, entropy=spread)
    taught, filtered = ([student(one[name], seed, test) for name in TEACHERS] for one in (written, right))
    warm = learn(mlp(16, seed=seed), x[pool[-20:]], y[pool[-20:]], steps=100, seed=seed)
    asked = [(k, int(y[k])) for k in pool[LABELS : LABELS + QUESTIONS].tolist()]
    with torch.no_grad():
        passes = warm(x[[k for k, _ in asked]]).softmax(-1)[range(QUESTIONS), [label for _, label in asked]]
    rates = np.random.default_rng(seed).binomial(ROLLOUTS, passes.numpy()) / ROLLOUTS
    choice = try_questions(
        asked, hardest(rates, KEEP).tolist(), lambda items, n: student(items, n, test, warm), seeds=(0, 1, 2)
    )
    return {
        "pick": found.best, "teachers": [accuracy(one, x[test], y[test]) for one in models.values()],
        "students": taught, "filtered": filtered, "entropy": [*spread.values()],
        "halves": [np.mean(choice.scores[name]) for name in HALVES], "recommended": choice.best == "chosen",
    }  # fmt: skip
