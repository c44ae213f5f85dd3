"""Micro-batches: equal pieces of a batch made of dicts, tuples, lists and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limbeck.errors import TrainingError


def take_piece(batch: Any, count: int, index: int, device: torch.device) -> Any:
    """Piece `index` of `count` equal pieces of every tensor along its first dimension, on a device.

    Args:
        batch: a tensor, or dicts, tuples and lists of tensors; other values are common to all pieces.
        count: number of pieces.
        index: which one.
        device: where it is needed.

    Raises:
        TrainingError: a first dimension is not divisible by `count`.

    Example:
        >>> take_piece({"tokens": torch.arange(6), "name": "a"}, 3, 1, torch.device("cpu"))
        {'tokens': tensor([2, 3]), 'name': 'a'}
    """
    if isinstance(batch, Tensor):
        if count == 1:
            return batch.to(device)
        if batch.ndim == 0 or len(batch) % count:
            raise TrainingError(
                f"a batch tensor of shape {list(batch.shape)} cannot be split into {count} equal micro-batches: "
                "make its first dimension a multiple of accumulate (times the number of processes)."
            )
        return batch.tensor_split(count)[index].to(device)
    if isinstance(batch, Mapping):
        return {key: take_piece(value, count, index, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        return type(batch)(take_piece(value, count, index, device) for value in batch)
    return batch
