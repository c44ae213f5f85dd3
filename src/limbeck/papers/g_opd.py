"""G-OPD: a scale on the reward that a teacher implies carries a student beyond the teacher.

A policy answers a handwritten digit with one of ten labels. The start has learnt from 200 digits; a teacher goes on
from there by reinforcement, students by on-policy distillation at several scales of the reward, from one sampled answer
an image or from all ten. Smaller students, and students of two experts, are distilled from samples for 200 steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.stats import sem

from limbeck.laws import Source
from limbeck.papers import Figure, Numbers, Outcome, Paper, Series, stacked

TRAIN, STEPS, REWARD = 1400, 120, 20
"""Images, the teacher's steps, and its reward for a right answer over the weight of the divergence from the start."""
SCALES, FEW = (0.5, 1.0, 1.25, 1.5, 2.0, 4.0), (1.0, 1.25)
WAYS = (("sampled", 200), ("full", 200), ("sampled", 1000))
"""Estimators and steps."""


class GOpd(Paper):
    """Classifiers of digits, distilled from one that was reinforced."""

    source = Source("Generalized On-Policy Distillation with Reward Extrapolation", "Yang et al.", 2026, "2602.12125")
    claim = "A reward scale λ of 1.25 carries a student beyond its teacher, one of 0.5 ends between start and teacher."
    metric = "probability of the right class after the longest training, λ = 1.25 minus λ = 1"
    unit = "points"
    baseline = "λ = 1"
    extras = ("lm", "vision")

    def measure(self, seed: int, quick: bool) -> Numbers:
        """Return how probable everyone finds the right class of unseen digits, in percent.

        Before: start, teacher, teacher after half as long again, small start. Small: by reference and scale. Merged: by
        scale and half of the classes, as the experts.
        """
        import torch
        from torch.nn.functional import one_hot

        from limbeck.lm import Batch, OnPolicy
        from limbeck.papers._digits import digits, learn, mlp
        from limbeck.papers._training import descend, draws

        (x, y), (part, ways) = digits(seed), (4, 1) if quick else (1, len(WAYS))
        truth, (train, test) = one_hot(y).float(), torch.arange(len(y)).split([TRAIN, len(y) - TRAIN])
        halves, unseen = ([rows[(y[rows] > 4) == high] for high in (False, True)] for rows in (train, test))

        def policy(net: Any, reward: float = 0.0) -> Any:
            return lambda input_ids, **_: SimpleNamespace(logits=net(x[input_ids]) + reward * truth[input_ids])

        def right(net: Any, rows: Any = test) -> float:
            return 100 * float((net(x[rows]).softmax(-1) * truth[rows]).detach().sum(1).mean())

        start, small = (learn(mlp(w, seed=seed), x[:200], y[:200], steps=60, rate=2.2e-3) for w in (64, 16))
        rewarded = OnPolicy([policy(start, REWARD)], estimator="sampled")

        def go_on(steps: int, rows: Any = train, net: Any = start, signal: OnPolicy = rewarded) -> Any:
            def loss(asked: torch.Tensor) -> torch.Tensor:
                answers = model(x[asked]).detach().softmax(-1).multinomial(1, generator=draw)
                batch = Batch.of(torch.cat([asked[:, None], answers], 1), domain=(y[asked] > 4).long())
                return signal.loss(policy(model), batch)["loss"]

            model, draw = deepcopy(net), torch.Generator().manual_seed(seed)
            return descend(model, loss, rows[draws(len(rows), steps // part, 256, seed)], learning_rate=2e-3)

        def student(teachers: Any, scale: float, net: Any, other: Any, way: Any = "sampled", steps: int = 200) -> Any:
            return go_on(steps, train, net, OnPolicy([*map(policy, teachers)], policy(other), scale, way))

        teacher, longer, *experts = go_on(STEPS), go_on(STEPS * 3 // 2), *(go_on(STEPS, rows) for rows in halves)
        return {
            "before": [right(net) for net in (start, teacher, longer, small)],
            "students": [[right(student([teacher], one, start, start, *way)) for one in SCALES] for way in WAYS[:ways]],
            "small": [[right(student([teacher], scale, small, net)) for scale in FEW] for net in (small, start)],
            "experts": [right(net, rows) for net, rows in zip(experts, unseen, strict=True)],
            "merged": [[right(net, at) for at in unseen] for net in (student(experts, s, start, start) for s in FEW)],
        }

    def conclude(self, measured: Sequence[Numbers]) -> Outcome:
        """Compare scales in every seed, with the teacher and with a teacher that is reinforced for longer."""
        before, after, small, merged = stacked(measured, "before", "students", "small", "merged")
        (start, teacher, longer, _), (half, plain, beyond, _, twice, _) = before.T, after[:, -1].T
        gains = {
            "λ = 1.25 over the teacher": beyond - teacher, "over one reinforced half as long again": beyond - longer,
            "λ = 2 over that one": twice - longer, "λ = 1.25 over 1 where steps are few": np.diff(after[:, 0])[:, 1],
            "where two experts are merged": np.diff(merged, axis=1).mean((1, 2)),
            "the teacher's start as reference of a small student": small[:, 1, 1] - small[:, 0, 1],
        }  # fmt: skip
        title = f"Students at λ = 1.25 end {(beyond - teacher).mean():+.1f} points from their teacher"
        apart = after - teacher[:, None, None]
        series = [Series.measured("{}, {} steps".format(*WAYS[k]), SCALES, apart[:, k]) for k in range(len(after[0]))]
        more = Series("teacher, half as long again", SCALES, 6 * [(longer - teacher).mean()], kind="dashed")
        return Outcome(
            effects=beyond - plain,
            checks={
                "λ = 0.5 ends between start and λ = 1 in every seed": (start < half) & (half < plain),
                "λ = 1.25 ends above λ = 1 in every seed and way": after[..., 2] > after[..., 1],
                "λ = 1.25 passes the teacher in every seed": beyond > teacher,
            },
            details={name: np.mean([one[name] for one in measured], 0) for name in measured[0]},
            notes=[f"{name}: {gain.mean():+.1f} ± {sem(gain):.1f} points" for name, gain in gains.items()],
            figure=Figure(title, "reward scale λ", "points above the teacher", [*series, more]),
        )  # fmt: skip
