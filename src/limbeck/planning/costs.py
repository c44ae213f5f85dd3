"""What a distillation costs, and who pays for the teacher."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from limbeck.errors import PlanningError, nearest
from limbeck.fitting.model import Array
from limbeck.laws import forward_flops

Forward = Callable[[ArrayLike], Array]
"""FLOP of one token's forward pass for a number of parameters."""

SCENARIOS: dict[str, tuple[int, int]] = {
    "best-case": (0, 0),
    "inference": (1, 0),
    "pretraining": (0, 1),
    "both": (1, 1),
}
"""Who pays for the teacher: whether its inference (logits) and its pretraining are charged to the student (table 2)."""

SMALLEST, LARGEST = 1e6, 1e17
"""Range of sizes and of tokens that plans look at, as in the source."""


def charges(scenario: str) -> tuple[int, int]:
    """Return whether teacher inference and teacher pretraining are charged.

    Raises:
        PlanningError: the scenario is not one of `SCENARIOS`.
    """
    if scenario not in SCENARIOS:
        raise PlanningError(
            f'unknown scenario "{scenario}".{nearest(scenario, SCENARIOS)} Choose one of: {", ".join(SCENARIOS)}.'
        )
    return SCENARIOS[scenario]


def distillation_flops(
    student_params: ArrayLike, student_tokens: ArrayLike, teacher_params: ArrayLike, teacher_tokens: ArrayLike, *,
    logits: ArrayLike, pretraining: ArrayLike, forward: Forward = forward_flops,
) -> Array:  # fmt: skip
    """Return what a distillation costs: 3 F(N_S) D_S + F(N_T) (logits D_S + 3 pretraining D_T) FLOP (eq. 9).

    Args:
        student_params, student_tokens, teacher_params, teacher_tokens: N_S, D_S, N_T, D_T.
        logits, pretraining: 1 where the teacher's inference, or its pretraining, is charged, else 0.
        forward: F, FLOP of a forward pass per token.

    Source: Distillation Scaling Laws (Busbridge et al., 2025, arXiv 2502.08606).

    Example:
        >>> cost = distillation_flops(1e9, 1e10, 7e9, 0, logits=1, pretraining=0, forward=lambda n: 2 * n)
        >>> float(cost)
        2e+20
    """
    d_s, d_t = np.asarray(student_tokens, float), np.asarray(teacher_tokens, float)
    charged = np.asarray(logits) * d_s + 3.0 * np.asarray(pretraining) * d_t
    return np.asarray(3.0 * forward(student_params) * d_s + forward(teacher_params) * charged)
