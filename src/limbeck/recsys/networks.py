"""What every click network shares: sizes from which it is made, and folders that keep it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from limbeck.distill.folders import load_folder, save_folder
from limbeck.errors import ConfigError, nearest
from limbeck.recsys.clicks import Schema

KINDS: dict[str, type[Sizes]] = {}
"""Kinds of networks by name: a subclass of `Sizes` with a `kind` is one of them."""


class Sizes:
    """Base of the sizes of a click network: a frozen dataclass with a `kind` and the `length` of the history it reads.

    The network is a module `network(batch: ClickBatch) -> logits [B]` that reads the last `length` events of a history.
    One whose attribute `many` is true also takes candidates [B, C, F] and gives logits [B, C].
    """

    kind: ClassVar[str]
    length: int

    def __init_subclass__(cls) -> None:
        KINDS[cls.kind] = cls

    @abstractmethod
    def make(self, schema: Schema) -> nn.Module:
        """Return a network for logs of this schema, with weights from torch's generator."""

    def build(self, schema: Schema, seed: int) -> nn.Module:
        """Return a network for logs of this schema, its weights drawn with a seed."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = self.make(schema)
        network.length = self.length  # type: ignore[assignment]
        return network

    def to_dict(self) -> dict[str, Any]:
        """The kind and the sizes, as JSON values."""
        return {"kind": self.kind} | asdict(self)  # type: ignore[call-overload, no-any-return]


def sizes_of(given: Sizes | Mapping[str, Any]) -> Sizes:
    """Sizes from plain values: the `kind` ("suan" if it is left out) and what that kind has.

    Raises:
        ConfigError: no such kind, no such size, or a value that cannot be one.

    Example:
        >>> import limbeck.recsys
        >>> sizes_of({"blocks": 2, "length": 32}).to_dict()["width"]
        4
    """
    if isinstance(given, Sizes):
        return given
    values = dict(given)
    kind = values.pop("kind", "suan")
    if kind not in KINDS:
        raise ConfigError(f'no click network is called "{kind}".{nearest(str(kind), KINDS)} Known: {", ".join(KINDS)}.')
    known = [one.name for one in fields(KINDS[kind])]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise ConfigError(f'{kind} has no size "{name}".{nearest(name, known) or " Known: " + ", ".join(known)}')
    try:
        return TypeAdapter(KINDS[kind]).validate_python(values)
    except ValidationError as error:
        problem = error.errors()[0]
        expected = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
        raise ConfigError(
            f"{kind}: {'.'.join(map(str, problem['loc']))} must be {expected}, got {problem['input']!r}"
        ) from error


class Embeddings(nn.ModuleList):
    """One table for every feature; code 0 is the zero vector and stays it.

    Args:
        sizes: codes of each feature.
        width: of an embedding.
    """

    def __init__(self, sizes: list[int], width: int) -> None:
        super().__init__(nn.Embedding(size, width, padding_idx=0) for size in sizes)
        for table in self.parameters():
            nn.init.normal_(table, std=0.05)
            nn.init.zeros_(table[0])

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes [..., F] to embeddings [..., F, width]."""
        return torch.stack([table(codes[..., k]) for k, table in enumerate(self)], -2)


def share_tables(student: nn.Module, teacher: nn.Module) -> None:
    """Give a student the tables of its teacher: from now on both train the same ones.

    Raises:
        ConfigError: tables of other sizes.
    """
    for name, theirs in teacher.named_children():
        if isinstance(theirs, Embeddings):
            ours = getattr(student, name, None)
            shapes = [[list(one.shape) for one in tables.parameters()] if tables else [] for tables in (ours, theirs)]
            if shapes[0] != shapes[1]:
                raise ConfigError(f"tables of {shapes[0]} and {shapes[1]} cannot be shared: give both one width")
            setattr(student, name, theirs)


class Saved(NamedTuple):
    """A network of a folder, its sizes, and the logs it reads."""

    network: nn.Module
    sizes: Sizes
    schema: Schema


def save_network(network: nn.Module, sizes: Sizes, schema: Schema, folder: Path | str) -> Path:
    """Write a click network to a folder, see `limbeck.distill.save_folder`."""
    about = {"room": "recsys", "sizes": sizes.to_dict(), "schema": asdict(schema)}
    return save_folder(network, about, folder)


def load_network(folder: Path | str) -> Saved:
    """Read what `save_network` wrote.

    Raises:
        ConfigError: not such a folder.
    """

    def make(about: Mapping[str, Any]) -> nn.Module:
        return sizes_of(about["sizes"]).build(Schema.from_dict(about["schema"]), seed=0)

    network, about = load_folder(folder, "recsys", make)
    return Saved(network, sizes_of(about["sizes"]), Schema.from_dict(about["schema"]))
