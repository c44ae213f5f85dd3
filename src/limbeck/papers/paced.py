"""PACED: distil on problems that the student solves sometimes, and leave out what it always or never solves.

A problem is a handwritten digit, a rollout a label that the student samples. In one pool 40 % of the reference answers
are wrong and cannot be learnt; a competent student is distilled on it. In another pool every problem can be learnt, by
a weak student. The student starts alike for every way to weigh the problems.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

PROBLEMS, ROLLOUTS, STEPS, BATCH, RATE = 1200, 8, (25, 50, 100, 250, 400), 64, 0.2
POOLS = {"impossible": (300, 0.4), "learnable": (20, 0.0)}
"""Images that the student has learnt from, and share of wrong references."""
WAYS, BINS = ("all alike", "window", "p (1 - p)"), (0, 0.1, 0.5, 0.9, 1.0001)


class Paced(Paper):
    """Classifiers of digits, distilled on pools with and without problems that nobody can learn."""

    source = Source("PACED: Distillation at the Frontier of Student Competence", "Xu et al.", 2026, "2603.11178")
    claim = "Weighting problems by p (1 - p) of the student's pass rate p forgets less and learns more."
    metric = "accuracy after 100 steps of forward KL on a pool with 40 % impossible problems, minus that unweighted"
    unit = "points"
    baseline = "all problems alike"
    extras = ("lm", "vision")
    seeds = 12

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return the accuracy before and after [pool, way, steps], and the gradients' signal by pass rate."""
        found = [pool(seed, *POOLS[name], STEPS[:3] if quick else STEPS) for name in POOLS]
        start, after, signal = zip(*found, strict=True)
        return {"start": start, "after": after, "signal": signal}

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare the ways in both pools."""
        start, after, signal = stacked(measured, "start", "after", "signal")
        plain, window, paced = 100 * after[:, 0, :, 2].T
        first = 100 * start[:, 0]
        slower = 100 * (after[:, 1, 0, 2] - after[:, 1, 2, 2])
        steps = STEPS[: after.shape[-1]]
        title = f"With impossible problems: {paced.mean():.1f} % right after 100 steps, {plain.mean():.1f} % unweighted"
        series = [Series.measured(way, steps, after[:, 0, w]) for w, way in enumerate(WAYS)]
        return Outcome(
            effects=paced - plain,
            checks={
                "unweighted the student forgets, weighted it does not": plain.mean() < first.mean() <= paced.mean(),
            },
            details={
                "pools": [*POOLS], "ways": WAYS, "steps": steps, "accuracy before": start.mean(0),
                "accuracy": after.mean(0), "standard error": sem(after), "pass rates": BINS,
                "signal to noise by pass rate": signal.mean(0),
            },
            notes=[
                f"the student starts at {first.mean():.1f} %; p (1 - p) against a plain window of 0.2 to 0.8: "
                f"{(paced - window).mean():+.1f} ± {sem(paced - window):.1f} points",
                f"where every problem can be learnt the weights slow a weak student down: {slower.mean():+.1f} ± "
                f"{sem(slower):.1f} points behind after 100 steps, from {100 * start[:, 1].mean():.1f} %",
            ],
            figure=Figure(title, "steps", "accuracy", series, log_x=True),
        )  # fmt: skip


def pool(seed: int, learnt: int, wrong: float, steps: Sequence[int]) -> tuple[float, list[list[float]], list[float]]:
    """Return the student's accuracy before, that by way and step, and the signal of its gradients by pass rate."""
    import torch
    from torch.nn.functional import one_hot

    from limbeck.distill import beta_kernel, forward_kl, gradient_signal, pass_window, scaled
    from limbeck.lm import PassRates
    from limbeck.papers._digits import accuracy, digits, learn, mlp

    rng, (x, y) = np.random.default_rng([seed, 1]), digits(seed)
    (x, test), (y, truth) = x.split([PROBLEMS, len(x) - PROBLEMS]), y.split([PROBLEMS, len(y) - PROBLEMS])
    target = learn(mlp(128, seed=seed), x, y, steps=400, seed=seed)(x).log_softmax(-1).detach()
    student = learn(mlp(32, seed=seed), x[:learnt], y[:learnt], steps=150, seed=seed)
    bad, shift = torch.from_numpy(rng.random(PROBLEMS) < wrong), torch.from_numpy(rng.integers(1, 10, PROBLEMS))
    reference = torch.where(bad, (y + shift) % 10, y)
    target[bad] = (0.9 * one_hot(reference, 10) + 0.01)[bad].log()

    solved = student(x).softmax(-1).gather(1, reference[:, None])[:, 0].detach().double()
    p = PassRates(tuple(rng.binomial(ROLLOUTS, solved)), ROLLOUTS).rates()
    hidden = student[:2](x)
    error = (student(x).softmax(-1) - target.exp())[:, :, None] * hidden[:, None]  # gradients of the last layer
    groups = [error.detach().flatten(1)[(p >= low) & (p < high)] for low, high in pairwise(BINS)]
    signal = [np.divide(*gradient_signal(one)) for one in groups]
    start, after = accuracy(student, test, truth), []
    for weights in (np.ones(PROBLEMS), pass_window(p), beta_kernel(p)):
        model, order = deepcopy(student), np.random.default_rng(seed + 1)
        optimiser, kept = torch.optim.SGD(model.parameters(), lr=RATE), np.flatnonzero(weights)
        after.append([start])
        for step in range(1, steps[-1] + 1):
            rows = order.choice(kept, BATCH)
            losses = forward_kl(model(x[rows]), target[rows], reduction="none")
            optimiser.zero_grad()
            (losses @ torch.from_numpy(scaled(weights[rows])).float() / BATCH).backward()
            optimiser.step()
            after[-1] += [accuracy(model, test, truth)] if step in steps else []
    return start, [one[1:] for one in after], signal
