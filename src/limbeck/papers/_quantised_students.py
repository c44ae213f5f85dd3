"""Students of few bits a weight, taught by the model whose weights they have, in all its precision."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from limbeck.distill import fake_quantise, forward_kl, topk_kl
from limbeck.papers._training import descend, draws

BITS, TOP, WAYS = (2, 3, 4), 6, ("rounded after training", "labels", "KL", "reverse top-k", "forward top-k")


def coarse(model: nn.Module, bits: int) -> dict[str, Tensor]:
    """Return the two matrices of a model of `bit_level_scaling` at so many bits, one scale a unit, straight through."""
    first, last = (model.get_parameter(name) for name in ("0.weight", "2.weight"))
    return {"0.weight": fake_quantise(first.T, bits).T, "2.weight": fake_quantise(last, bits)}


def students(teacher: nn.Module, inputs: Tensor, target: Tensor, train: int, steps: int, seed: int) -> dict[str, Any]:
    """Train a copy of the teacher at every precision in every way, with equal steps.

    Args:
        teacher: of full precision, gives logits [n, V].
        inputs, target: tokens of images [image, place, ...] and [image, place]; the first `train` are learnt from.
        steps: of 32 images.
        seed: of their order.

    Returns:
        test losses beyond the teacher's, and divergences of the six favourites `KL(p_K‖q_K)`, both [bits, way]; the
        same loss of a teacher that is trained as much longer.
    """
    order, held_out = draws(train, steps, 32, seed + 1), slice(train, None)
    taught = teacher(inputs[held_out].flatten(0, 1)).detach()
    truth = target[held_out].flatten()
    best = float(cross_entropy(taught, truth))

    def measured(said: Tensor) -> tuple[float, float]:
        inner = topk_kl(said, taught, k=TOP) - forward_kl(said, taught)
        return float(cross_entropy(said, truth)) - best, float(inner)

    def trained(way: str, bits: int | None) -> tuple[float, float]:
        model = copy.deepcopy(teacher).train()

        def said(images: Any) -> Any:
            values = {} if bits is None else coarse(model, bits)
            return functional_call(model, values, (inputs[images].flatten(0, 1),))

        def loss(images: Tensor) -> Tensor:
            logits = said(images)
            if way == "labels":
                return cross_entropy(logits, target[images].flatten())
            with torch.no_grad():
                theirs = teacher(inputs[images].flatten(0, 1))
            if way == "KL":
                return forward_kl(logits, theirs)
            return topk_kl(logits, theirs, k=TOP, variant="reverse" if way == "reverse top-k" else "forward")

        if way != WAYS[0]:
            descend(model, loss, order, learning_rate=2e-3, weight_decay=0.01, anneal=True)
        with torch.no_grad():
            return measured(said(held_out))

    found = [[trained(way, bits) for way in WAYS] for bits in BITS]
    loss, top = ([[one[k] for one in row] for row in found] for k in (0, 1))
    return {"loss": loss, "top": top, "longer": trained("labels", None)[0]}


def remarks(loss: Any, top: Any, longer: Any) -> list[str]:
    """Return what students [seed, bits, way] say about distilling to few bits, and whether a level is won."""
    mean, inner = loss.mean(0), top.mean(0)
    recovered = 100 * (1 - mean[:2, 1:] / mean[:2, :1])
    level = [bits for k, bits in enumerate(BITS[:2]) if mean[k, 3:].min() <= mean[k + 1, 0]]
    gain = 100 * (1 - inner[:2, 4] / inner[:2, 2])
    lines = "; ".join(
        f"{bits} bits " + ", ".join(f"{way} {x:.3f}" for way, x in zip(WAYS, row, strict=True))
        for bits, row in zip(BITS, mean, strict=True)
    )
    best = "no top-k loss beats KL" if (mean[:, 3:].min(1) >= mean[:, 2] - 1e-3).all() else "a top-k loss beats KL"
    return [
        f"excess loss of students, nats: {lines}; of full precision trained as much longer {longer.mean():+.3f}",
        f"training recovers {recovered[0].min():.0f} to {recovered[0].max():.0f} % of what rounding costs at 2 bits "
        f"and {recovered[1].min():.0f} to {recovered[1].max():.0f} % at 3 (more than 60 % was specified); "
        + (
            f"top-k students of {level} bits reach rounded models of one bit more" if level else "no whole level is won"
        ),
        f"{best} in loss by more than 0.001; on the teacher's six favourites the forward one is {gain[0]:.0f} % "
        f"(2 bits) and {gain[1]:.0f} % (3 bits) closer than KL",
    ]
