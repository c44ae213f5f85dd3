"""What the small trainings of the papers share: a seeded start and a plain descent through the `Trainer`."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from limbeck.distill import Player, Trainer, constant, warmup_stable_decay


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return `build()` with its weights drawn from a seed; torch's global generator stays as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def draws(count: int, steps: int, size: int, seed: int) -> Tensor:
    """Return the examples of every step, drawn with replacement: indices below `count`, [steps, size]."""
    return torch.randint(count, (steps, size), generator=torch.Generator().manual_seed(seed))


def descend(
    model: nn.Module, loss: Callable[[Any], Tensor], batches: Tensor, *, learning_rate: float,
    weight_decay: float = 0.0, anneal: bool = False,
) -> nn.Module:  # fmt: skip
    """Return the model after one AdamW step on `loss(batch)` per row of batches.

    Args:
        model: trained in place.
        loss: scalar loss of one row of batches.
        batches: what each step sees, [steps, ...].
        learning_rate, weight_decay: of AdamW.
        anneal: lower the learning rate linearly to 0; constant otherwise.
    """
    steps = len(batches)
    schedule = partial(warmup_stable_decay, steps=steps, warmup=1, decay=1.0) if anneal else constant
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay)
    player = Player("model", model, optimizer, schedule)

    def losses(player: str, batch: Tensor, step: int) -> dict[str, Tensor]:
        return {"loss": loss(batch)}

    Trainer([player], losses, batches.__getitem__, steps=steps, progress=False).run()
    return model.eval()
