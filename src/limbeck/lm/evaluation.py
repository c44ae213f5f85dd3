"""What a language model loses on held-out text, and what it writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.lm.models import context_length, load_model
from limbeck.lm.tokenizers import load_tokenizer
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


@dataclass(frozen=True)
class TextLoss:
    """The held-out loss of a model as a run record has it.

    Args:
        windows: as for `text_loss`.
        bytes_per_token: of the text.
    """

    windows: Tensor
    bytes_per_token: float

    def __call__(self, model: Any) -> dict[str, float]:
        """Return `loss` (nats per byte) and `loss_per_token` (nats)."""
        nats = text_loss(model, self.windows)
        return {"loss": nats / self.bytes_per_token, "loss_per_token": nats}


@torch.no_grad()
def continue_text(
    folder: Path | str, prompt: str, *, length: int = 200, temperature: float = 0.8, seed: int = 0
) -> str:
    """Sample a continuation of a prompt from the model in a folder, at most up to its context.

    Args:
        folder: model folder with its tokenizer.
        prompt: the beginning.
        length: largest number of tokens to add.
        temperature: divides the logits.
        seed: of the sampling.

    Raises:
        ConfigError: not a model folder.
    """
    model, tokenizer = load_model(folder).eval(), load_tokenizer(folder)
    generator = torch.Generator().manual_seed(seed)
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")["input_ids"]
    start = ids.shape[1]
    for _ in range(min(length, context_length(model.config) - start)):
        chances = (model(input_ids=ids, use_cache=False).logits[0, -1].float() / temperature).softmax(-1)
        ids = torch.cat([ids, torch.multinomial(chances, 1, generator=generator)[None]], dim=1)
    return str(tokenizer.decode(ids[0, start:]))
