"""Windows of a token stream: training batches as a pure function of the step, and one fixed evaluation set.

Training windows do not overlap within an epoch; every epoch draws a fresh permutation and a fresh offset from
(seed, epoch). A batch depends on (seed, step) alone, so a resumed training needs no data state and a branch sees
exactly what an uninterrupted run would have seen.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbeck.errors import ConfigError
from limbeck.lm.slots import Batch

IGNORED = -100  # a label that no loss counts


class Windows:
    """Training batches of a stream.

    A window is `context + 1` consecutive tokens: `context` inputs, and the same shifted by one as labels.

    Args:
        stream: token ids [n].
        context: inputs per window, in tokens.
        batch: windows per step.
        seed: of permutations and offsets.

    Raises:
        ConfigError: the stream is shorter than one batch.

    Example:
        >>> windows = Windows(np.arange(100, dtype=np.int32), context=4, batch=2, seed=0)
        >>> windows(0).tokens.shape, bool((windows(3).tokens == windows(3).tokens).all())
        (torch.Size([2, 5]), True)
    """

    def __init__(self, stream: NDArray[np.int32], context: int, batch: int, seed: int) -> None:
        self.stream, self.width, self.batch, self.seed = stream, context + 1, batch, seed
        self.tokens = len(stream)
        self.count = (len(stream) - context) // self.width  # so that every offset 0 ... context fits
        if self.count < batch:
            raise ConfigError(
                f"the training text has {len(stream)} tokens: one step of {batch} windows of {self.width} needs "
                f"{batch * self.width + context}. Give more text, or a smaller batch or context"
            )
        self._starts = lru_cache(maxsize=2)(self._epoch)

    def _epoch(self, epoch: int) -> NDArray[np.int64]:
        generator = np.random.default_rng([self.seed, epoch])
        offset = generator.integers(self.width)
        return offset + self.width * generator.permutation(self.count)

    def __call__(self, step: int) -> Batch:
        """Return the windows of one step, tokens [batch, context + 1]."""
        positions = np.arange(step * self.batch, (step + 1) * self.batch)
        starts = np.array([self._starts(int(p) // self.count)[p % self.count] for p in positions])
        return Batch.of(torch.from_numpy(self.stream[starts[:, None] + np.arange(self.width)].astype(np.int64)))


def evaluation_windows(stream: NDArray[np.int32], context: int, limit: int = 1024) -> Tensor:
    """The first `limit` windows of a stream in order; each predicts `context` tokens, every token at most once.

    A stream shorter than that is used whole: its last window is filled up with labels that no loss counts.

    Args:
        stream: validation token ids [n].
        context: predicted tokens per window.
        limit: largest number of windows.

    Returns:
        int64 [windows, 2, context]: inputs and labels.

    Raises:
        ConfigError: fewer than two tokens.
    """
    if len(stream) < 2:
        raise ConfigError(f"the validation text has {len(stream)} tokens: give a longer text")
    predicted = min(len(stream) - 1, limit * context)
    rows = -(-predicted // context)
    inputs = np.zeros(rows * context, dtype=np.int64)
    labels = np.full(rows * context, IGNORED, dtype=np.int64)
    inputs[:predicted], labels[:predicted] = stream[:predicted], stream[1 : predicted + 1]
    return torch.from_numpy(np.stack([inputs.reshape(rows, context), labels.reshape(rows, context)], axis=1))
