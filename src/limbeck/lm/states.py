"""What models say at the positions that count: logits, or the hidden states that a head turns into logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn

from limbeck.errors import TrainingError
from limbeck.lm.slots import Batch, counted_logits

SHAPED = ("final_logit_softcapping", "logit_scale", "logits_scaling")  # settings that bend logits after the head


def bare(model: Any) -> Any:
    """The model inside a wrapper for several processes."""
    return extract_model_from_parallel(model)


def has_plain_head(model: Any) -> bool:
    """Whether logits are the last hidden state times one matrix, nothing else.

    Example:
        >>> from limbeck.lm import tiny_llama
        >>> has_plain_head(tiny_llama(16))
        True
    """
    model = bare(model)
    head: Any = model.get_output_embeddings()
    bent = any(getattr(model.config, name, None) not in (None, 1.0) for name in SHAPED)
    return isinstance(head, nn.Linear) and getattr(head, "bias", None) is None and not bent


def counted_states(model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
    """Last hidden states [M, d] of the labels that count, and the head [V, d]: for models with a plain head.

    The model is called as a whole, so that wrappers for several processes see it; its own logits are of one position.
    """
    said = model(**batch.inputs, output_hidden_states=True, logits_to_keep=1)
    return said.hidden_states[-1][batch.mask], bare(model).get_output_embeddings().weight


@torch.no_grad()
def by_domain(teachers: Sequence[Any], batch: Batch, say: Callable[[Any, Batch], Tensor] = counted_logits) -> Tensor:
    """What the teacher of each sequence says about its labels, [M, ...]; it reads what it is told instead, if anything.

    Raises:
        TrainingError: a domain without a teacher.
    """
    batch = batch if batch.told is None else batch.told
    if len(teachers) == 1:
        return say(teachers[0], batch)
    largest = int(batch.domain.max())
    if largest >= len(teachers):
        raise TrainingError(f"a prompt has the domain {largest}, there are {len(teachers)} teachers (from 0)")
    owner = batch.domain[:, None].expand(batch.mask.shape)[batch.mask]
    found: Tensor | None = None
    for domain in batch.domain.unique().tolist():
        part = say(teachers[domain], batch.rows((batch.domain == domain).nonzero()[:, 0]))
        found = part.new_empty(len(owner), *part.shape[1:]) if found is None else found
        found[owner == domain] = part
    assert found is not None
    return found
