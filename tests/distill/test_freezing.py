"""Freezing teachers."""

from __future__ import annotations

import torch
from torch import nn

from limbeck.distill import freeze


def test_every_module_is_in_evaluation_mode_without_gradients() -> None:
    first, second = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.9)), nn.BatchNorm1d(2)
    freeze(first, second)
    assert not any(part.training for module in (first, second) for part in module.modules())
    assert not any(parameter.requires_grad for module in (first, second) for parameter in module.parameters())
    ones = torch.ones(3, 2)
    assert torch.equal(first(ones), first(ones))
    second(ones)
    assert second.running_mean is not None
    assert torch.equal(second.running_mean, torch.zeros(2))
