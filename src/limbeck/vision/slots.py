"""The two halves of a step: what is read, and what teacher and labels say about it."""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from limbeck.distill import captured
from limbeck.distill.examples import Labelled
from limbeck.vision.augmentation import Augmentation
from limbeck.vision.methods import Method
from limbeck.vision.teachers import Batch, Teacher, logits_of

STRONG = Augmentation(shift=0.15, rotate=15.0, scale=0.1)
"""The second view of methods that need one, where the training does not name its own."""


class Reading:
    """Batches of examples as a function of the step: every epoch reads all of them once, in an order of its own.

    Args:
        data: the examples.
        batch: a step; what does not fill a batch waits for the next epoch.
        augmentation: of pictures.
        seed: of orders and augmentations.
        views: 2 adds a second view of every example, under `strong`.
    """

    def __init__(self, data: Labelled, batch: int, augmentation: Augmentation, seed: int, views: int = 1) -> None:
        self.data, self.augmentation, self.seed, self.views = data, augmentation, seed, views
        self.size = min(batch, len(data))
        self.strong = STRONG if augmentation == Augmentation(views=augmentation.views) else augmentation

    def __call__(self, step: int) -> dict[str, Any]:
        """Return the batch of a step."""
        epoch, place = divmod(step, len(self.data) // self.size)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.data))
        index = torch.from_numpy(order[place * self.size : (place + 1) * self.size])
        raw, rows, view = self.data.inputs[index], self.data.places[index], self.augmentation.view(epoch)
        found = {"inputs": self.augmentation(raw, rows, view, self.seed), "labels": self.data.labels[index]}
        if self.views > 1:
            found["strong"] = self.strong(raw, rows, view, self.seed + 1)
        return found | {"rows": rows, "index": index, "view": view}


class Lesson:
    """What a batch costs the student, in parts.

    Args:
        method: the choices.
        student: learns.
        teacher: is asked; None where labels are all.
        network: of the teacher, whose features are compared.
        comparer: compares them, see `beside`.
        steps: of the whole training, which weights may follow.
    """

    def __init__(
        self, method: Method, student: nn.Module, teacher: Teacher | None, network: nn.Module | None,
        comparer: nn.Module, steps: int,
    ) -> None:  # fmt: skip
        self.method, self.student, self.teacher, self.network = method, student, teacher, network
        self.comparer, self.steps = comparer, steps

    def __call__(self, player: str, given: Mapping[str, Any], step: int) -> dict[str, Tensor]:
        """Return the loss, its parts, and how often student and teacher are right on this batch."""
        seen = Batch(given["inputs"], given["labels"], given["rows"], given["view"])
        pairs, progress = self.method.features, step / self.steps
        with ExitStack() as stack:
            ours = stack.enter_context(captured(self.student, list(pairs)))
            theirs = stack.enter_context(captured(self.network or self.student, list(pairs.values())))
            said = logits_of(self.student(seen.inputs))
            taught = said.detach() if self.teacher is None else self.teacher(seen)
        strong = None
        if "strong" in given and self.teacher is not None:
            again = seen._replace(inputs=given["strong"], view=-1)
            strong = logits_of(self.student(again.inputs)), self.teacher(again)
        parts = self.method.parts(said, taught, seen.labels, progress, strong)
        if weight := self.method.feature_weight.at(progress):
            features = [ours[path] for path in pairs], [theirs[path] for path in pairs.values()]
            parts["features"] = weight * self.comparer(*features, given["index"], step)
        known = seen.labels >= 0
        heard = {"accuracy": said} | ({} if self.teacher is None else {"teacher_accuracy": taught})
        right = {
            name: ((one.detach().argmax(-1) == seen.labels) & known).sum() / known.sum().clamp(min=1)
            for name, one in heard.items()
        }
        total = torch.stack(list(parts.values())).sum() if parts else said.sum() * 0
        return {"loss": total, **parts, **right, "weight": torch.tensor(float(len(said)))}
