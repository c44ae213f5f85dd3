"""UniMixer: a click network of tokens that are mixed by one of several families, and of one feed-forward part a token.

Source: Ha et al., UniMixer: A Unified Architecture for Scaling Laws in Recommendation Systems (2026), arXiv
2604.00590. Reconstructed: the buckets of numbers and what weights start from.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from limbeck.errors import ConfigError
from limbeck.fitting.plain import Plain
from limbeck.recsys.batches import ClickBatch
from limbeck.recsys.clicks import Clicks, Schema
from limbeck.recsys.evaluation import judge
from limbeck.recsys.mixers import (
    Attention,
    FactorisationMachine,
    Fixed,
    Permutation,
    UniMixing,
    UniMixingLite,
    permutation,
)
from limbeck.recsys.networks import Embeddings, Sizes
from limbeck.recsys.sinkhorn import Temperature, rounded, row_residual
from limbeck.recsys.token_blocks import Change, FeedForward, PerToken, PostNorm, SiameseNorm

Family = Literal["unimixing", "lite", "free", "permutation", "attention", "fm", "none", "fixed"]
GRAIN, BUCKETS = 4, 33
"""A number beside the codes becomes one of 33 codes, four to a unit."""


@dataclass(frozen=True)
class UniMixer(Sizes):
    """The sizes of a click network of tokens.

    Args:
        length: how many items before are read, a field each.
        tokens, width: T and D.
        blocks: of mixing and feeding.
        hidden: k, width of the feed-forward parts in widths of a token.
        mixing: "unimixing"; "lite" (low rank); "free" (without Sinkhorn, from the identity); "permutation" (RankMixer);
            "attention"; "fm"; "none"; "fixed" (constants of a training that is over).
        block: B, width of the blocks that are mixed.
        start: where learned mixing starts: "noise", or "permutation", that of RankMixer, for which B divides D / T.
        rank, bases, softmax: of "lite", see `UniMixingLite`.
        iterations, symmetric: see `sinkhorn`.
        warm, cold, schedule, anneal: temperatures, from warm to cold in `anneal` updates; 0 is cold from the first on.
        feed: "swiglu", or "gelu" with LayerNorm as in RankMixer.
        siamese: two coupled streams in place of a norm after every residual.

    Example:
        >>> from limbeck.recsys.batches import batch_of
        >>> from limbeck.recsys.clicks import synthetic
        >>> log = synthetic(users=20, events=10)
        >>> network = UniMixer(tokens=4, width=8).build(log.schema, seed=0)
        >>> network(batch_of(log, log.test, 1)).shape
        torch.Size([40])
    """

    kind: ClassVar[str] = "unimixer"
    length: int = 1
    tokens: int = 8
    width: int = 16
    blocks: int = 2
    hidden: int = 2
    mixing: Family = "unimixing"
    block: int = 8
    start: Literal["noise", "permutation"] = "noise"
    rank: int = 4
    bases: int = 4
    softmax: bool = False
    iterations: int = 5
    symmetric: bool = False
    warm: float = 1.0
    cold: float = 0.05
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    anneal: int = 0
    feed: Literal["swiglu", "gelu"] = "swiglu"
    siamese: bool = False

    def __post_init__(self) -> None:
        numbers = ("length", "tokens", "width", "blocks", "hidden", "block", "rank", "bases", "iterations")
        if low := [name for name in numbers if getattr(self, name) < 1]:
            raise ConfigError(f"{', '.join(low)} must be at least 1, got {[getattr(self, name) for name in low]}")
        if self.tokens * self.width % self.block:
            raise ConfigError(f"block {self.block} does not divide {self.tokens} x {self.width} numbers")
        if self.mixing == "permutation" and self.width % self.tokens:
            raise ConfigError(f"{self.tokens} tokens cannot cut tokens of width {self.width} in heads: take a multiple")
        if self.start == "permutation" and self.mixing != "unimixing":
            raise ConfigError(f'mixing "{self.mixing}" cannot start at the permutation: "unimixing" can')
        _ = self.temperature

    @property
    def temperature(self) -> Temperature:
        """The temperature over a training."""
        return Temperature(self.warm, self.cold, self.schedule, self.anneal)

    def make(self, schema: Schema) -> nn.Module:
        """Return a network for logs of this schema."""
        return MixerNetwork(schema, self)

    def mixer(self) -> nn.Module:
        """Return the mixing of one block."""
        n, b = self.tokens * self.width // self.block, self.block
        how: dict[str, Any] = {"iterations": self.iterations, "symmetric": self.symmetric}
        match self.mixing:
            case "unimixing":
                there = self.start == "permutation"
                return UniMixing(
                    n, b, start=permutation(self.tokens, self.width, self.tokens, b) if there else None, **how
                )
            case "lite":
                return UniMixingLite(n, b, rank=self.rank, bases=self.bases, softmax=self.softmax, **how)
            case "free":
                return UniMixing(n, b, start=torch.eye(n), constrained=False)
            case "permutation":
                return Permutation(self.tokens)
            case "attention":
                return Attention(self.width)
            case "fm":
                return FactorisationMachine(self.tokens, self.width)
        return nn.Identity() if self.mixing == "none" else Fixed(n, b)

    def parts(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        """Return mixing, norm and feed-forward part of one block."""
        mixing, hidden = self.mixer(), self.hidden * self.width
        return mixing, self.norm(), FeedForward(self.tokens, self.width, hidden, gated=self.feed == "swiglu")

    def norm(self) -> nn.Module:
        """Return one norm."""
        return nn.RMSNorm(self.width, eps=1e-6) if self.feed == "swiglu" else nn.LayerNorm(self.width)


class MixerNetwork(nn.Module):
    """The click network of `UniMixer`: fields become tokens, blocks mix and feed them, their mean gives the logit.

    Fields are the features of the user and of the candidate, the items before, and the dense numbers in buckets; their
    embeddings in this order are cut into tokens, each of which has an affine map of its own. The network counts its
    passes in training mode, so that the temperature follows the updates, in a training that goes on as well.
    """

    updates: Tensor

    def __init__(self, schema: Schema, sizes: UniMixer) -> None:
        super().__init__()
        self.sizes, self.length = sizes, sizes.length
        items = schema.event_sizes[:1] * sizes.length
        fields = [*schema.profile_sizes, *schema.event_sizes[:-1], *items, *[BUCKETS] * schema.dense]
        self.tables = Embeddings(fields, sizes.width)
        self.segment = -(-len(fields) * sizes.width // sizes.tokens)
        self.project = PerToken(sizes.tokens, self.segment, sizes.width)
        if sizes.siamese:
            changes = [Change(*sizes.parts()) for _ in range(sizes.blocks)]
            self.body: nn.Module = SiameseNorm(changes, [sizes.norm() for _ in range(2 * sizes.blocks + 1)])
        else:
            self.body = nn.Sequential(*(PostNorm(*sizes.parts(), sizes.norm()) for _ in range(sizes.blocks)))
        self.head = nn.Linear(sizes.width, 1)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, batch: ClickBatch) -> Tensor:
        """Return logits [n]."""
        self.set_temperature()
        if self.training and torch.is_grad_enabled():
            self.updates += 1
        buckets = (batch.dense * GRAIN).ceil().long().clamp(0, BUCKETS - 1)
        before = batch.history[:, -self.length :, 0]
        codes = torch.cat([batch.profile, batch.candidate[:, :-1], before, buckets], 1)
        fields = self.tables(codes).flatten(1)
        fields = pad(fields, (0, self.sizes.tokens * self.segment - fields.shape[1]))
        tokens = self.project(fields.unflatten(1, (self.sizes.tokens, self.segment)))
        return self.head(self.body(tokens).mean(1))[:, 0]  # type: ignore[no-any-return]

    def mixings(self) -> list[UniMixing]:
        """The learned mixings, the first block's first."""
        return [one for one in self.modules() if isinstance(one, UniMixing)]

    def set_temperature(self) -> None:
        """Bring every mixing to the temperature of the updates so far."""
        now = self.sizes.temperature.at(int(self.updates))
        for one in self.mixings():
            one.temperature = now

    def fixed(self, round_above: float | None = None) -> MixerNetwork:
        """The same network with constant mixings, for serving; its own `sizes` say so, and save it.

        Args:
            round_above: make permutations of the global factors that nearly are, see `rounded`.
        """
        self.set_temperature()
        found = deepcopy(self)
        found.sizes = replace(self.sizes, mixing="fixed", start="noise")
        for part in found.modules():
            if isinstance(getattr(part, "mixing", None), UniMixing):
                part.mixing = part.mixing.fixed(round_above)  # type: ignore[operator, union-attr]
        return found.eval()


@dataclass(frozen=True)
class Rounding(Plain):
    """What it costs to make permutations of the global factors.

    Args:
        auc: with the factors as they are; `change` what rounding adds to it.
        rounded: how many blocks of `blocks` have a permutation then.
        residual: how far the sum of any row of the factors is from one.
    """

    auc: float
    change: float
    rounded: int
    blocks: int
    residual: float


def rounding(network: MixerNetwork, clicks: Clicks, above: float = 0.95) -> Rounding:
    """Judge a network before and after its global factors are rounded.

    Args:
        network: with learned mixing.
        clicks: whose test events judge.
        above: see `rounded`.

    Raises:
        ConfigError: nothing in it is learned mixing.
    """
    network.set_temperature()
    with torch.no_grad():
        factors = [one.factors() for one in network.mixings() if one.constrained]
    if not factors:
        raise ConfigError(f'mixing "{network.sizes.mixing}" has no learned factors to round')
    auc = judge(network, clicks).auc
    return Rounding(
        auc, judge(network.fixed(above), clicks).auc - auc, sum(rounded(g, above) is not None for g, _ in factors),
        len(factors), max(row_residual(one) for pair in factors for one in pair),
    )  # fmt: skip
