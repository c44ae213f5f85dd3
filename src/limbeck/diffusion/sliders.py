"""Sliders: a small adapter learnt on one diffusion model, turned up and down, and carried over to another."""

import math
import warnings
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from limbeck.diffusion.denoisers import Denoiser, Preconditioned
from limbeck.diffusion.sources import Source
from limbeck.diffusion.students import Student
from limbeck.diffusion.teachers import Pretraining, train_teacher
from limbeck.errors import ConfigError

Model = TypeVar("Model", bound=nn.Module)
LEFT_OUT = ("noise", "time", "label", "class", "emb", "modulation", "norm", "attn2")
"""Words in the names of layers that get no adapter: those that tell time and class, and cross-attention."""
FAR = 0.5
"""||W_D - W_B|| / ||W_B|| above which a transfer is doubtful."""


@dataclass(frozen=True)
class Slider:
    """A change of some weights, by names within the network.

    Args:
        changes: alpha / rank B A of each layer, of its weight's shape.
        weights: of the model that it was learnt on.
    """

    changes: dict[str, Tensor]
    weights: dict[str, Tensor]


def train_slider(
    denoiser: Preconditioned,
    source: Source,
    how: Pretraining,
    *,
    rank: int = 4,
    alpha: int = 1,
    target: Denoiser | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    progress: bool = True,
) -> Slider:
    """Learn an adapter of low rank with the model's own loss.

        W <- W + s alpha / rank B A  with s = 1; B begins at 0

    Args:
        denoiser: stays as it is.
        source: data that have the attribute, `Pictures(data, kept=...)`; with a target, any.
        how: regime.
        rank, alpha: of the adapter.
        target: what it should say instead, `slider_rule(...)`.
        seed: of the adapter's first weights and of every random choice.
        out: folder of records and checkpoints.
        progress: one line on a terminal.

    Example:
        >>> from limbeck.diffusion import Exact, Sizes, mixture
        >>> source = Exact(mixture("ring8"))
        >>> model = Sizes(16, 1).build(source.shape, source.classes, source.data_std)
        >>> sorted(train_slider(model, source, Pretraining(steps=2), progress=False).changes)
        ['network.into.weight', 'network.maps.0.weight', 'network.out.weight']

    Source: Hu et al., LoRA (2021), arXiv 2106.09685; Gandikota et al., Concept Sliders (2023), arXiv 2311.12092.
    """
    import peft
    from peft.tuners.lora import LoraLayer

    kinds = nn.Linear, nn.Conv2d
    names = [
        name for name, one in denoiser.named_modules()
        if isinstance(one, kinds) and not any(word in name for word in LEFT_OUT)
    ]  # fmt: skip
    adapted: Any = deepcopy(denoiser)
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=names)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, adapted)
    trained = train_teacher(adapted, source, how, target=target, seed=seed, out=out, progress=progress, label="slider")
    layers: list[tuple[str, Any]] = [
        (name, one) for name, one in trained.denoiser.named_modules() if isinstance(one, LoraLayer)
    ]
    changes = {f"{name}.weight": one.get_delta_weight("default").detach() for name, one in layers}
    weights = denoiser.state_dict()
    return Slider(changes, {name: weights[name].detach().clone() for name in changes})


def slider_rule(denoiser: Denoiser, more: int, less: int, eta: float = 1.0) -> Denoiser:
    """Return what a slider between two classes should say, a `Denoiser`.

        D*(c) = D(c) + eta (D(more) - D(less))

    At one x it is the same rule in eps.

    Args:
        denoiser: before the slider.
        more, less: classes.
        eta: how far.

    Example:
        >>> rule = slider_rule(lambda x, sigma, cond: x + cond[:, None], more=3, less=1, eta=0.5)
        >>> rule(torch.zeros(1, 1), torch.ones(1), torch.tensor([7]))
        tensor([[8.]])

    Source: Gandikota et al., Concept Sliders (2023), arXiv 2311.12092.
    """

    def moved(x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        if cond is None:
            raise ConfigError("a slider between two classes needs a model that is told classes")
        up, down = (denoiser(x, sigma, torch.full_like(cond, one)) for one in (more, less))
        return denoiser(x, sigma, cond) + eta * (up - down)

    return moved


def transfer(slider: Slider, model: Model, strength: float = 1.0) -> Model:
    """Return a copy of a model with a slider at a strength; all phases of a student get it.

        W + s change,  layer by layer of the same name

    Args:
        slider: learnt on this model or on another of the same network.
        model: a denoiser or a student.
        strength: s; 0 changes nothing, below 0 is the other way.

    Raises:
        ConfigError: layers that the model does not have, or of other shapes.

    Warns:
        UserWarning: weights far from those of the model that the slider was learnt on.

    Source: Gandikota, Bau, Distilling Diversity and Control in Diffusion Models (2025), arXiv 2503.10637.
    """
    edited = deepcopy(model)
    for part in edited.experts if isinstance(edited, Student) else [edited]:
        own = part.state_dict()
        wrong = [name for name, one in slider.changes.items() if name not in own or own[name].shape != one.shape]
        if wrong:
            raise ConfigError(
                f"{len(wrong)} of the slider's {len(slider.changes)} layers are not in the model, or of another shape "
                f"({', '.join(wrong[:3])}): a slider moves between models of one network, as a teacher and its student"
            )
        gaps = [float((own[name].cpu() - one.cpu()).norm()) for name, one in slider.weights.items()]
        sizes = [float(one.norm()) for one in slider.weights.values()]
        if (far := math.hypot(*gaps) / math.hypot(*sizes)) > FAR:
            warnings.warn(
                f"the model's weights are {far:.2g} of their norm away from those that the slider was learnt on: check "
                "that it still does the same",
                stacklevel=2,
            )
        with torch.no_grad():
            for name, change in slider.changes.items():
                own[name].add_(strength * change.to(own[name]))
    return edited


def retention(score: Callable[[Tensor], Tensor], native: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    """Return how much of its effect a slider keeps on another model, in percent.

        100 (score after - score before on the other) / (the same on the model that it was learnt on)

    Args:
        score: of the attribute, one number a picture.
        native: pictures of the model that it was learnt on, before and after.
        other: of the other model.

    Example:
        >>> before, after = torch.zeros(2, 4), torch.ones(2, 4)
        >>> retention(lambda x: x.mean(1), (before, after), (before, 0.9 * after))
        90.0
    """
    here, there = (float((score(after).mean() - score(before).mean()).double()) for before, after in (native, other))
    return round(100 * there / here, 4)
