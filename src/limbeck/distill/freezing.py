"""Freezing teachers: a teacher gives a signal and never changes."""

from __future__ import annotations

from torch import nn


def freeze(*modules: nn.Module) -> None:
    """Put modules in evaluation mode and take their parameters out of training.

    Evaluation mode keeps dropout off and running statistics still; `requires_grad=False` spares the memory of a
    teacher's gradient.

    Args:
        modules: the teachers; changed in place.

    Example:
        >>> teacher = nn.Linear(2, 2)
        >>> freeze(teacher)
        >>> teacher.training, teacher.weight.requires_grad
        (False, False)
    """
    for module in modules:
        module.eval()
        module.requires_grad_(False)
