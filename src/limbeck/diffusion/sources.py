"""Where pictures and random numbers come from: any number a training draws is a function of seed, step and name."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from limbeck.distill.examples import Labelled
from limbeck.errors import ConfigError


@dataclass(frozen=True)
class Draws:
    """Random numbers of one step, each drawn under its own name: asking for one more never changes the others.

    Args:
        seed: of the training.
        step: of the training.
        device: where the numbers are needed; they are drawn on the CPU, so that they are the same everywhere.

    Example:
        >>> draws = Draws(0, 7)
        >>> bool((draws.normal("noise", 2) == Draws(0, 7).normal("noise", 2)).all())
        True
        >>> bool((draws.normal("noise", 2) == draws.normal("other", 2)).all())
        False
    """

    seed: int
    step: int
    device: torch.device | str = "cpu"

    def generator(self, name: str) -> torch.Generator:
        """Return a generator of this name."""
        return torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{self.step}/{name}".encode()))

    def normal(self, name: str, *shape: int) -> Tensor:
        """Return unit noise."""
        return torch.randn(shape, generator=self.generator(name)).to(self.device)

    def uniform(self, name: str, count: int) -> Tensor:
        """Return float64 numbers from 0 to below 1, [count]."""
        return torch.rand(count, generator=self.generator(name), dtype=torch.float64).to(self.device)

    def integers(self, name: str, below: int, count: int) -> Tensor:
        """Return whole numbers from 0 to below a limit, [count]."""
        return torch.randint(below, (count,), generator=self.generator(name)).to(self.device)


class Source(Protocol):
    """Real data: pictures or points, perhaps with classes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture or point."""
        ...

    @property
    def classes(self) -> int:
        """How many; 0 for none."""
        ...

    @property
    def data_std(self) -> float:
        """Standard deviation of the values."""
        ...

    def draw(self, draws: Draws, count: int) -> tuple[Tensor, Tensor | None]:
        """Return x0, [count, ...], and classes, [count]; None where there are none."""
        ...

    def of_classes(self, classes: Sequence[int]) -> "Source":
        """The same data, of these classes alone, under their old numbers."""
        ...

    def describe(self) -> str:
        """What a checkpoint must agree with."""
        ...


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures as a source; values from 0 to 1 become -1 to 1.

    Args:
        data: the pictures.
        conditional: tell their classes.
        kept: these alone, rows; all by default.

    Example:
        >>> from limbeck.distill import labelled
        >>> source = Pictures(labelled(torch.ones(4, 1, 2, 2), [0, 1, 0, 1]))
        >>> x, cond = source.of_classes([1]).draw(Draws(0, 0), 2)
        >>> x.unique().tolist(), cond.tolist(), source.classes
        ([1.0], [1, 1], 2)
    """

    data: Labelled
    conditional: bool = True
    kept: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one picture."""
        return tuple(self.data.inputs.shape[1:])

    @property
    def classes(self) -> int:
        """How many; 0 if they are not told."""
        return len(self.data.classes) if self.conditional else 0

    @cached_property
    def data_std(self) -> float:
        """Standard deviation of all values, from -1 to 1."""
        return float((2 * self.data.inputs - 1).std())

    def draw(self, draws: Draws, count: int) -> tuple[Tensor, Tensor | None]:
        """Draw pictures with replacement."""
        rows = draws.integers("rows", len(self.data) if self.kept is None else len(self.kept), count).cpu()
        rows = rows if self.kept is None else self.kept[rows]
        labels = self.data.labels[rows]
        told = torch.where(labels < 0, self.classes, labels) if self.conditional else None
        return (2 * self.data.inputs[rows] - 1).to(draws.device), None if told is None else told.to(draws.device)

    def of_classes(self, classes: Sequence[int]) -> Self:
        """Pictures of these classes alone.

        Raises:
            ConfigError: there are none.
        """
        kept = torch.isin(self.data.labels, torch.as_tensor(classes)).nonzero()[:, 0]
        if not len(kept):
            raise ConfigError(f"{self.data.name} has no pictures of the classes {list(classes)}")
        return replace(self, kept=kept)

    def describe(self) -> str:
        """Hash of the pictures."""
        kept = "" if self.kept is None else f" {zlib.crc32(self.kept.numpy().tobytes()):08x}"
        return f"{self.data.digest()[:16]} {self.conditional}{kept}"


@dataclass(frozen=True)
class Exact:
    """A law with a formula as a source.

    Args:
        law: a `Mixture`.
        conditional: tell the classes.
        only: these alone.
    """

    law: Any
    conditional: bool = False
    only: tuple[int, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one point."""
        return tuple(self.law.means.shape[1:])

    @property
    def classes(self) -> int:
        """How many; 0 if they are not told."""
        return self.law.classes if self.conditional else 0

    @cached_property
    def data_std(self) -> float:
        """Root of the mean variance of a coordinate."""
        return float(self.law.data_std)

    def draw(self, draws: Draws, count: int) -> tuple[Tensor, Tensor | None]:
        """Draw points."""
        chosen = torch.tensor(self.only)[draws.integers("classes", len(self.only), count).cpu()] if self.only else None
        x, labels = self.law.sample(count, draws.generator("points").initial_seed(), chosen)
        return x.float().to(draws.device), labels.to(draws.device) if self.conditional else None

    def of_classes(self, classes: Sequence[int]) -> Self:
        """Points of these classes alone."""
        return replace(self, only=tuple(classes))

    def describe(self) -> str:
        """The law's components."""
        content = b"".join(buffer.numpy().tobytes() for buffer in self.law.buffers())
        return f"{zlib.crc32(content):08x} {self.conditional} {self.only}"


@dataclass(frozen=True)
class Prompts:
    """Data whose classes are told as sets of one or two: "either of these", in any order.

    What is drawn with each picture is [B, 2]: its class, and another one or -1, which is padding. A network with heads
    (`Sizes`) reads it. It is a stand-in for prompts of words: "a pet" without its "cat" is a dog.

    Args:
        source: with classes.
        alone: share of pictures whose class alone is told.

    Raises:
        ConfigError: fewer than two classes.

    Example:
        >>> from limbeck.diffusion.mixtures import mixture
        >>> x, told = Prompts(Exact(mixture("class_ring"), True), alone=0.0).draw(Draws(0, 0), 3)
        >>> told.shape, bool((told[:, 0] != told[:, 1]).all())
        (torch.Size([3, 2]), True)
    """

    source: Source
    alone: float = 0.5

    def __post_init__(self) -> None:
        if self.source.classes < 2:
            raise ConfigError(
                f"a set of classes needs two of them to choose from, the source has {self.source.classes}"
            )

    shape = property(lambda self: self.source.shape)
    classes = property(lambda self: self.source.classes)
    data_std = property(lambda self: self.source.data_std)

    def draw(self, draws: Draws, count: int) -> tuple[Tensor, Tensor]:
        """Draw data and the sets."""
        x, own = self.source.draw(draws, count)
        assert own is not None
        other = draws.integers("other", self.classes - 1, count)
        other = torch.where(draws.uniform("alone", count) < self.alone, -1, other + (other >= own))
        told, turned = torch.stack([own, other], 1), draws.uniform("order", count) < 0.5
        return x, torch.where(turned[:, None], told.flip(1), told)

    def of_classes(self, classes: Sequence[int]) -> Self:
        """Data of these classes alone; the other class of a set is any."""
        return replace(self, source=self.source.of_classes(classes))

    def describe(self) -> str:
        """The data, and the share."""
        return f"{self.source.describe()} sets {self.alone}"
