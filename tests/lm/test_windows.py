from __future__ import annotations

import numpy as np
import pytest
import torch

from limbeck.errors import ConfigError
from limbeck.lm import Windows, evaluation_windows

STREAM = np.arange(1000, dtype=np.int32)


def starts(windows: Windows, steps: range) -> list[int]:
    return [int(row[0]) for step in steps for row in windows(step).tokens]


def test_windows_are_consecutive_tokens_and_depend_on_seed_and_step_alone() -> None:
    windows = Windows(STREAM, context=9, batch=4, seed=1)
    batch = windows(7).tokens
    assert batch.shape == (4, 10) and batch.dtype == torch.int64
    assert torch.equal(batch - batch[:, :1], torch.arange(10).expand(4, 10))
    late = windows(500).tokens
    assert torch.equal(windows(7).tokens, batch)  # after another epoch was asked for
    assert torch.equal(Windows(STREAM, context=9, batch=4, seed=1)(500).tokens, late)
    assert not torch.equal(Windows(STREAM, context=9, batch=4, seed=2)(7).tokens, batch)


def test_an_epoch_shows_every_window_once_then_moves_the_grid() -> None:
    windows = Windows(STREAM, context=9, batch=3, seed=0)
    assert windows.count == 99
    epochs = [starts(windows, range(33 * epoch, 33 * (epoch + 1))) for epoch in range(4)]
    offsets = []
    for epoch in epochs:
        offset = min(epoch)
        assert 0 <= offset < 10
        assert sorted(epoch) == list(range(offset, offset + 990, 10))
        offsets.append(offset)
    assert len(set(offsets)) > 1
    assert epochs[0] != sorted(epochs[0])
    assert [s - offsets[0] for s in epochs[0]] != [s - offsets[1] for s in epochs[1]]


def test_a_batch_may_cross_epochs() -> None:
    windows = Windows(STREAM, context=9, batch=4, seed=0)  # 99 windows: batch 24 takes 3 from the first epoch
    seen = starts(windows, range(25))
    assert len(set(seen[:99])) == 99
    assert len(seen) == 100


def test_evaluation_predicts_each_token_once_in_order() -> None:
    windows = evaluation_windows(STREAM, context=128)
    assert windows.shape == (8, 2, 128)
    labels = windows[:, 1].flatten()
    assert torch.equal(labels[:999], torch.arange(1, 1000))
    assert (labels[999:] == -100).all() and len(labels) == 1024
    assert torch.equal(windows[:, 0].flatten()[:999], torch.arange(999))


def test_evaluation_stops_at_its_limit() -> None:
    windows = evaluation_windows(STREAM, context=10, limit=5)
    assert windows.shape == (5, 2, 10)
    assert int(windows[-1, 1, -1]) == 50


def test_short_texts_are_refused_with_the_length_needed() -> None:
    with pytest.raises(ConfigError, match=r"has 100 tokens: one step of 8 windows of 129 needs 1160"):
        Windows(STREAM[:100], context=128, batch=8, seed=0)
    with pytest.raises(ConfigError, match="1 tokens"):
        evaluation_windows(STREAM[:1], context=8)
