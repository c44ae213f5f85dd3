"""Learning-rate schedules: plain functions of the updates that a player has made, with values between 0 and 1.

A schedule multiplies the learning rate that the optimiser was built with. Fix its arguments, which are counted in
updates, with `functools.partial`, so that a checkpoint can tell two schedules apart: `Player(...,
schedule=partial(warmup_stable_decay, steps=1000))`.
"""

from __future__ import annotations

import math


def constant(update: int, *, warmup: int = 0) -> float:
    """Linear warm-up, then 1 for ever: the trunk that decay branches leave from.

    `factor(u) = min(1, (u + 1) / warmup)`

    Example:
        >>> [constant(update, warmup=4) for update in (0, 1, 3, 100)]
        [0.25, 0.5, 1.0, 1.0]
    """
    return min(1.0, (update + 1) / warmup) if warmup else 1.0


def decay_start(steps: int, *, decay: float = 0.2) -> int:
    """First update of the final decay of `warmup_stable_decay`: where a trunk must leave a checkpoint for a branch.

    Example:
        >>> decay_start(244)
        195
    """
    return steps - round(decay * steps)


def warmup_stable_decay(update: int, *, steps: int, warmup: int = 50, decay: float = 0.2) -> float:
    """Linear warm-up, constant, linear decay to 0 over the share `decay` of the steps.

    `factor(u) = min((u + 1) / warmup, 1, (steps - u) / (steps - decay_start))`

    Until `decay_start(steps, decay=decay)` it equals `constant(warmup=warmup)` bit for bit, so that runs of several
    lengths can share one trunk and pay only for their decays.

    Example:
        >>> [round(warmup_stable_decay(update, steps=100, warmup=10), 2) for update in (0, 9, 80, 90, 99)]
        [0.1, 1.0, 1.0, 0.5, 0.05]

    Source: Shengding Hu et al., MiniCPM: Unveiling the Potential of Small Language Models with Scalable Training
        Strategies (2024), arXiv 2404.06395.
    """
    start = decay_start(steps, decay=decay)
    tail = (steps - update) / (steps - start) if start <= update and start < steps else 1.0
    return min(constant(update, warmup=warmup), max(0.0, tail))


def cosine(update: int, *, steps: int, warmup: int = 0, floor: float = 0.0) -> float:
    """Linear warm-up, then half a cosine from 1 to `floor` at `steps`.

    `factor(u) = floor + (1 - floor) (1 + cos(pi (u - warmup) / (steps - warmup))) / 2`

    Example:
        >>> [round(cosine(update, steps=100, floor=0.1), 3) for update in (0, 50, 100)]
        [1.0, 0.55, 0.1]

    Source: Ilya Loshchilov, Frank Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts (2017), arXiv
        1608.03983.
    """
    if update < warmup:
        return constant(update, warmup=warmup)
    progress = min(1.0, (update - warmup) / max(1, steps - warmup))
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def exponential(update: int, *, steps: int, floor: float, warmup: int = 0) -> float:
    """Linear warm-up, then a fall by the same share at every update, to `floor` at `steps`.

    `factor(u) = min(1, (u + 1) / warmup) floor^(u / steps)`

    Example:
        >>> [round(exponential(update, steps=100, floor=0.01), 3) for update in (0, 50, 100)]
        [1.0, 0.1, 0.01]
    """
    return float(constant(update, warmup=warmup) * floor ** (update / steps))
