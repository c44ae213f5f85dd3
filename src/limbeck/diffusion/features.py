"""The fixed space in which pictures are compared: a small classifier that no generator and no critic ever sees.

A critic that shares features with the metric would be rewarded for the metric itself; keep this network out of
trainings.
"""

import json
import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from limbeck.distill import Player, Trainer
from limbeck.distill.examples import Labelled
from limbeck.errors import ConfigError
from limbeck.files import write_bytes, write_json

STEPS, BATCH, NOISE = 1500, 128, 0.1
COMPONENTS = 20


def to_signal(pixels: Tensor) -> Tensor:
    """Return values from 0 to 1 as values from -1 to 1, which diffusion models read."""
    return 2 * pixels - 1


def to_pixels(x: Tensor) -> Tensor:
    """Return values from -1 to 1 as values from 0 to 1; what lies outside is cut off.

    Example:
        >>> to_pixels(torch.tensor([-1.0, 0.0, 3.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    return ((x + 1) / 2).clamp(0, 1)


class FeatureNetwork(nn.Module):
    """A classifier of pictures whose last hidden layer is the space of the image metrics.

    A perceptron 128-32 for pictures up to 16 x 16, two convolutions before 32 features for larger ones. Without
    classes the features are the first 20 principal components.

    Args:
        shape: of one picture.
        classes: how many; below two there is nothing to tell apart.
    """

    accuracy: Tensor

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__()
        size, wide = math.prod(shape), len(shape) == 3 and max(shape[1:]) > 16
        self.shape, self.classes = tuple(shape), classes if classes > 1 else 0
        layers: list[nn.Module] = []
        if self.classes and wide:
            for a, b in pairwise([shape[0], 16, 32]):
                layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            size = 32 * (shape[1] // 4) * (shape[2] // 4)
        widths = [size, *([] if wide else [128]), 32] if self.classes else [size, min(COMPONENTS, size)]
        layers.append(nn.Flatten())
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.ReLU()]
        self.trunk = nn.Sequential(*layers if self.classes else layers[:-1])
        self.head = nn.Linear(widths[-1], max(1, self.classes))
        self.register_buffer("accuracy", torch.tensor(math.nan))

    def forward(self, x: Tensor) -> Tensor:
        """Map pictures from -1 to 1, [B, ...], to logits [B, classes]."""
        return self.head(self.trunk(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Return what the last hidden layer says of pictures from -1 to 1, float64 [B, F]."""
        return torch.cat([self.trunk(part.cpu().float()) for part in x.split(1024)]).double()

    @torch.no_grad()
    def labels(self, x: Tensor) -> Tensor:
        """Return the likeliest class of each picture, [B].

        Raises:
            ConfigError: the network was made without classes.
        """
        if not self.classes:
            raise ConfigError("these features are principal components: the data has no classes to name")
        return torch.cat([self(part.cpu().float()).argmax(1) for part in x.split(1024)])

    def describe(self) -> str:
        """Return what the features are, in a few words."""
        known = f"features of a classifier, {100 * float(self.accuracy):.1f} % right"
        return f"{self.head.in_features} {known if self.classes else 'principal components'}"


def feature_network(data: Labelled, folder: Path | str | None = None, seed: int = 0) -> FeatureNetwork:
    """Return the network that judges pictures like these; it is trained once.

    AdamW (2e-3, weight decay 1e-2), 1500 steps of 128 pictures with noise of std 0.1; a fifth of every class is kept
    apart for the accuracy.

    Args:
        data: pictures from 0 to 1, and their classes.
        folder: where the network is kept: read if it is there.
        seed: of weights, order, noise and of the fifth.

    Raises:
        ConfigError: the folder holds a network of other data, of another seed, or something else.

    Example:
        >>> from limbeck.distill import labelled
        >>> noise = torch.rand(50, 1, 4, 4, generator=torch.Generator().manual_seed(0))
        >>> network = feature_network(labelled(noise, [0] * 50))
        >>> network.features(to_signal(noise)).shape, network.describe()
        (torch.Size([50, 16]), '16 principal components')
    """
    note = {"shape": list(data.inputs.shape[1:]), "classes": len(data.classes), "data": data.digest(), "seed": seed}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = FeatureNetwork(data.inputs.shape[1:], len(data.classes))
    path = None if folder is None else Path(folder) / "features.json"
    if path is not None and path.exists():
        try:
            if json.loads(path.read_text()) != note:
                raise ConfigError(f"{folder} holds a feature network of other data or another seed: choose another one")
            network.load_state_dict(load_file(path.with_suffix(".safetensors")))
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise ConfigError(f"{folder} does not hold a whole feature network ({error}): delete it") from error
    else:
        (_train if network.classes else _principal)(network, data, seed)
        if path is not None:
            write_bytes(path.with_suffix(".safetensors"), save(dict(network.state_dict())))
            write_json(path, note)
    return network.eval().requires_grad_(False)


def _principal(network: FeatureNetwork, data: Labelled, seed: int) -> None:
    """Fill in the principal components, each with its largest entry positive."""
    x = to_signal(data.inputs).flatten(1).double()
    axes = torch.linalg.svd(x - x.mean(0), full_matrices=False).Vh[: network.head.in_features]
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    linear: Any = network.trunk[-1]
    weight = torch.zeros_like(linear.weight, dtype=torch.float64)
    weight[: len(axes)] = axes
    linear.load_state_dict({"weight": weight, "bias": -weight @ x.mean(0)})


def _train(network: FeatureNetwork, data: Labelled, seed: int) -> None:
    learn, judge = data.split(seed, test=0.2)
    x, y = to_signal(learn.inputs), learn.labels

    def batch(step: int) -> tuple[Tensor, Tensor]:
        random = torch.Generator().manual_seed(1_000_003 * seed + step)
        rows = torch.randint(len(y), (BATCH,), generator=random)
        return x[rows] + NOISE * torch.randn(BATCH, *x.shape[1:], generator=random), y[rows]

    def loss(player: str, pair: tuple[Tensor, Tensor], step: int) -> dict[str, Tensor]:
        return {"loss": cross_entropy(network(pair[0]), pair[1])}

    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    Trainer([Player("features", network, optimizer)], loss, batch, steps=STEPS, label="feature network").run()
    network.cpu().eval()
    network.accuracy.fill_(float((network.labels(to_signal(judge.inputs)) == judge.labels).double().mean()))
