"""Small classifiers, what stands in front of one, and folders that keep them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from limbeck.distill.folders import load_folder, save_folder
from limbeck.errors import ConfigError


@dataclass(frozen=True)
class Network:
    """A convolutional network or a perceptron, by its sizes.

    Args:
        hidden: widths of the hidden layers in front of the classes.
        channels: of convolutions of 3 x 3 before them, each followed by a maximum over 2 x 2; none for a perceptron.
        dropout: before the classes.
        histogram: the inputs are symbols, so many different ones, and only how often each occurs is seen; 0 if not.
    """

    hidden: tuple[int, ...] = ()
    channels: tuple[int, ...] = ()
    dropout: float = 0.0
    histogram: int = 0

    def build(self, shape: Sequence[int], classes: int, seed: int) -> nn.Module:
        """Return a network of inputs of this shape, its weights drawn with a seed.

        Raises:
            ConfigError: a width that is not positive, or pictures too small for so many convolutions.

        Example:
            >>> network = Network(hidden=(8,)).build([1, 8, 8], 10, seed=0)
            >>> network(torch.zeros(2, 1, 8, 8)).shape
            torch.Size([2, 10])
        """
        if min([*self.hidden, *self.channels, 1]) < 1 or not 0 <= self.dropout < 1:
            raise ConfigError(f"widths must be positive and dropout from 0 to 1, got {self}")
        if self.channels and (len(shape) != 3 or min(shape[1:]) >> len(self.channels) < 1):
            raise ConfigError(f"inputs {list(shape)} are too small for {len(self.channels)} convolutions: use hidden")
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            layers: list[nn.Module] = [Histogram(self.histogram)] if self.histogram else []
            for a, b in pairwise([shape[0], *self.channels]):
                layers += [nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            place = torch.zeros(1, *shape)
            layers.append(nn.Flatten())
            width = nn.Sequential(*layers)(place).shape[1]
            for a, b in pairwise([width, *self.hidden]):
                layers += [nn.Linear(a, b), nn.ReLU()]
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            return nn.Sequential(*layers, nn.Linear([width, *self.hidden][-1], classes))


class Histogram(nn.Module):
    """Square roots of how often each symbol occurs, as a share.

    Args:
        symbols: whole numbers from 0 to below this.

    Example:
        >>> Histogram(3)(torch.tensor([[0.0, 2.0, 2.0, 2.0]]))
        tensor([[0.5000, 0.0000, 0.8660]])
    """

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.symbols = symbols

    def forward(self, x: Tensor) -> Tensor:
        """Map [n, length] to [n, symbols]."""
        counts = x.new_zeros(len(x), self.symbols).scatter_add_(1, x.long(), torch.ones_like(x))
        return (counts / x.shape[1]).sqrt()


class Normalised(nn.Module):
    """A network behind the normalisation that it was trained with: teacher and student may have different ones.

    Args:
        network: sees `(x - mean) / std`.
        mean, std: a number, or one for each channel.

    Example:
        >>> Normalised(nn.Identity(), 0.5, 0.5)(torch.ones(1, 1, 2, 2)).unique()
        tensor([1.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        super().__init__()
        self.network = network
        for name, value in (("mean", mean), ("std", std)):
            numbers = torch.as_tensor(value, dtype=torch.float32)
            self.register_buffer(name, numbers[:, None, None] if numbers.ndim else numbers)
        if not (self.std > 0).all():
            raise ConfigError(f"std must be positive, got {std}")

    def forward(self, x: Tensor) -> Any:
        """Return what the network says."""
        return self.network((x - self.mean) / self.std)


def save_network(network: nn.Module, made: Network, shape: Sequence[int], classes: Sequence[str], out: Path) -> Path:
    """Write a network of `Network` to a folder, see `save_folder`."""
    about = asdict(made) | {"shape": list(shape), "classes": list(classes)}
    return save_folder(network, {"room": "vision"} | about, out)


class Saved(NamedTuple):
    """A network of a folder, how it was made, the shape of its inputs, its classes."""

    network: nn.Module
    made: Network
    shape: list[int]
    classes: tuple[str, ...]


def load_network(folder: Path | str) -> Saved:
    """Read what `save_network` wrote.

    Raises:
        ConfigError: not such a folder.
    """

    def sizes(about: Mapping[str, Any]) -> Network:
        return Network(tuple(about["hidden"]), tuple(about["channels"]), about["dropout"], about["histogram"])

    def make(about: Mapping[str, Any]) -> nn.Module:
        return sizes(about).build(about["shape"], len(about["classes"]), seed=0)

    network, about = load_folder(folder, "vision", make)
    return Saved(network, sizes(about), about["shape"], tuple(about["classes"]))


def require_kind(saved: Saved, shape: Sequence[int], classes: Sequence[str] | None, what: str) -> None:
    """Refuse a network of other inputs or classes than the data's.

    Raises:
        ConfigError: with both.
    """
    if saved.shape != list(shape) or (classes is not None and saved.classes != tuple(classes)):
        known = "" if classes is None else f" and {len(classes)} classes"
        raise ConfigError(
            f"{what} reads inputs {saved.shape} and knows {len(saved.classes)} classes, the data has {list(shape)}"
            f"{known}: they must be the same, in the same order"
        )
