"""What a language model loses on held-out text, in nats per token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.lm.windows import IGNORED

LOGITS_AT_ONCE = 2**23  # 32 MB of float32


@torch.no_grad()
def text_loss(model: Any, windows: Tensor) -> float:
    """Mean cross-entropy of the counted labels.

    `-1/n sum_i ln p(label_i | the tokens before it in its window)`

    Args:
        model: a causal language model; its mode (training, evaluation) is left as it is.
        windows: inputs and labels from `evaluation_windows`, int64 [n, 2, context].

    Returns:
        Nats per token; divide by the text's bytes per token for nats per byte.
    """
    rows = max(1, LOGITS_AT_ONCE // (windows.shape[-1] * model.config.vocab_size))
    device = next(model.parameters()).device
    total = 0.0
    for piece in windows.split(rows):
        inputs, labels = piece.to(device).unbind(1)
        logits = model(input_ids=inputs, use_cache=False).logits.float()
        total += F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction="sum").item()
    return total / int((windows[:, 1] != IGNORED).sum())
