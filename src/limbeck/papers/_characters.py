"""Tiny character models with a context of five characters, on the documentation that every Python carries."""

import pydoc_data.topics
import string
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy as cross_entropy_of

from limbeck.distill import forward_kl
from limbeck.papers._training import descend, seeded

ALPHABET = string.ascii_lowercase + " .,"  # one more class stands for every other character: 30
CONTEXT, EMBEDDING = 5, 8
VALIDATION = 6000  # positions


def split() -> tuple[Tensor, Tensor]:
    """Return windows for training and for validation; every tenth topic is held out."""
    topics = list(pydoc_data.topics.topics.values())
    train, held_out = windows([topic for k, topic in enumerate(topics) if k % 10]), windows(topics[::10])
    return train, held_out[:: len(held_out) // VALIDATION]


def windows(documents: Sequence[str]) -> Tensor:
    """Return every run of five characters of the text and the one after it, as classes, [n, 6]."""
    text = " ".join(" ".join(documents).lower().split())
    classes = torch.tensor([ALPHABET.find(letter) % (len(ALPHABET) + 1) for letter in text])
    return classes.unfold(0, CONTEXT + 1, 1)


def learn(width: int, batches: Tensor, seed: int, teacher: nn.Module | None = None) -> nn.Module:
    """Return a trained MLP of 270 + 71 width parameters; with a teacher, half of the loss is KL(teacher || model).

    Args:
        width: hidden units.
        batches: windows of each step, [steps, batch, 6].
        seed: of the weights.
        teacher: model of the same inputs.
    """

    def build() -> nn.Module:
        classes = len(ALPHABET) + 1
        hidden, output = nn.Linear(CONTEXT * EMBEDDING, width), nn.Linear(width, classes)
        return nn.Sequential(nn.Embedding(classes, EMBEDDING), nn.Flatten(), hidden, nn.ReLU(), output)

    def loss(batch: Tensor) -> Tensor:
        logits = model(batch[:, :-1])
        own = cross_entropy_of(logits, batch[:, -1])
        if teacher is None:
            return own
        with torch.no_grad():
            signal = teacher(batch[:, :-1])
        return 0.5 * own + 0.5 * forward_kl(logits, signal)

    model = seeded(build, seed)
    return descend(model, loss, batches, learning_rate=4e-3)


@torch.no_grad()
def cross_entropy(model: nn.Module, batch: Tensor) -> float:
    """Return the loss of the last character of windows [n, 6], nats/char."""
    return float(cross_entropy_of(model(batch[:, :-1]), batch[:, -1]))
