"""SUAN: blocks of attention over a history with the offer at its end, and LightSUAN, whose attention is sparse."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from limbeck.errors import ConfigError
from limbeck.recsys.attention import BUCKETS, Distance, ProfileAttention, Reach, SelfAttention, time_bucket
from limbeck.recsys.batches import ClickBatch
from limbeck.recsys.clicks import Schema
from limbeck.recsys.networks import Embeddings, Sizes

Scope = Literal["all", "events", "causal"]


class RootMeanSquare(nn.Module):
    """x g / (sqrt(mean x^2) + 1e-6): the 1e-6 stands outside the root, unlike in `torch.nn.RMSNorm`.

    Args:
        width: of x.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., width]."""
        return self.gain * x / (x.square().mean(-1, keepdim=True).sqrt() + 1e-6)


class Fusion(nn.Module):
    """Dual alignment attention: x and c mixed by weights that a summary of the sequence chooses for every channel.

    z = relu(s W_z), (alpha, beta) = softmax over the pair (z W_1, z W_2), f = alpha x + beta c.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = max(1, width // 4)
        self.squeeze = nn.Linear(width, inner, bias=False)
        self.first, self.second = (nn.Linear(inner, width, bias=False) for _ in range(2))

    def forward(self, x: Tensor, c: Tensor, summary: Tensor) -> Tensor:
        """Mix x and c [B, n, D] by a summary [B, n or 1, D]."""
        z = self.squeeze(summary).relu()
        alpha: Tensor = (self.first(z) - self.second(z)).sigmoid()  # the softmax of a pair
        return alpha * x + (1 - alpha) * c


class SwiGlu(nn.Module):
    """W_3( silu(W_1 x) * (W_2 x) ), three times as wide inside, with biases.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate, self.up, self.down = (nn.Linear(a * width, b * width) for a, b in ((1, 3), (1, 3), (3, 1)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., D]."""
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Unified attention block: attention to the history, to the profile, their fusion, and a feed-forward part.

    x <- RMS1(x); x <- RMS2(attention(x) + x); c = attention to the profile; x <- RMS3(fusion(x, c) + x);
    x <- x + SwiGLU(x). Steps begin from the normalised x: there is no path around the norms, as in the released code.

    Args:
        width: D; `features` d of the profile; `heads` of both attentions.
        scope: of the summary s = mean(x + c) in the fusion. "all": over all places, empty ones and the offer included,
            as released: every event then depends on the offer. "events": over the events that there are. "causal": over
            those up to the place itself, so that no state looks ahead.

    Source: Exploring Scaling Laws of CTR Model for Online Performance Improvement (Lai et al., 2025, arXiv 2508.15326),
        its code (laiweijiang/SUAN, 249237f).
    """

    def __init__(self, width: int, features: int, heads: int, scope: Scope) -> None:
        super().__init__()
        self.scope = scope
        self.attention, self.profile = SelfAttention(width, heads), ProfileAttention(width, features, heads)
        self.fusion, self.feed = Fusion(width), SwiGlu(width)
        self.norms = nn.ModuleList(RootMeanSquare(width) for _ in range(3))

    def forward(
        self, events: Tensor, offers: Tensor, profile: Tensor, valid: Tensor, reach: Reach
    ) -> tuple[Tensor, Tensor]:
        """Map events [B, L, D] and offers [B, C, D], given the profile [B, P, d] and which events there are [B, L]."""
        count = events.shape[1]
        events, offers = self.norms[0](events), self.norms[0](offers)
        seen, offered = self.attention(events, offers, reach)
        x = self.norms[1](torch.cat([seen + events, offered + offers], 1))
        c = self.profile(x, profile)
        x = self.norms[2](self.fusion(x, c, self.summary(x + c, valid)) + x)
        x = x + self.feed(x)
        return x[:, :count], x[:, count:]

    def summary(self, both: Tensor, valid: Tensor) -> Tensor:
        """The mean of [B, L + C, D] that each place may know, [B, L + C or 1, D]."""
        if self.scope == "all":
            return both.mean(1, keepdim=True)
        count = valid.shape[1]
        there = valid[..., None].to(both.dtype)
        events, offers, known = both[:, :count] * there, both[:, count:], there.cumsum(1)
        if self.scope == "events":
            return events.sum(1, keepdim=True) / known[:, -1:].clamp(min=1)
        running = events.cumsum(1) / known.clamp(min=1)
        return torch.cat([running, (events.sum(1, keepdim=True) + offers) / (known[:, -1:] + 1)], 1)


class DenseFeatures(nn.Module):
    """Numbers beside the codes: a learnt constant where a value is missing (0), else a learnt scale; batch norm, tanh.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.missing, self.scale = nn.Parameter(torch.zeros(count)), nn.Parameter(torch.ones(count))
        self.norm = nn.BatchNorm1d(count)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, count]."""
        return self.norm(torch.where(x == 0, self.missing, self.scale * x)).tanh()  # type: ignore[no-any-return]


class SuanNetwork(nn.Module):
    """Tables, blocks, and a perceptron with batch norm on the last state, the profile, the offer and numbers.

    Args:
        sizes: see `Suan`.
        schema: of the logs.
    """

    def __init__(self, sizes: Suan, schema: Schema) -> None:
        super().__init__()
        d, width = sizes.width, sizes.width * len(schema.event)
        self.sizes, self.length, self.many = sizes, sizes.length, sizes.align != "all" or not sizes.blocks
        self.event_tables, self.profile_tables = (
            Embeddings(codes, d) for codes in (schema.event_sizes, schema.profile_sizes)
        )
        self.age, self.aged = nn.Embedding(BUCKETS, d), nn.Linear(d, width, bias=False)
        self.place = nn.Parameter(torch.empty(sizes.length + 1, width).normal_(std=0.02))
        nn.init.normal_(self.age.weight, std=0.05)
        self.distance = Distance(sizes.length, sizes.window, sizes.dilation, sizes.dense_offer)
        self.blocks = nn.ModuleList(Block(width, d, sizes.heads, sizes.align) for _ in range(sizes.blocks))
        self.dense = DenseFeatures(schema.dense)
        widths = [width + d * len(schema.profile) + width + schema.dense, *sizes.hidden]
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [nn.Linear(a, b), nn.BatchNorm1d(b), nn.PReLU()]
        self.head = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, batch: ClickBatch) -> Tensor:
        """Return logits [B], or [B, C] where the batch offers several candidates [B, C, F] at once.

        Raises:
            ConfigError: several candidates, and events that depend on the candidate (scope "all").
        """
        several = batch.candidate.ndim == 3
        if several and not self.many:
            raise ConfigError('several candidates share a history only with align "events" or "causal", not "all"')
        valid = batch.valid[:, -self.length :]
        times, count = batch.history_time[:, -self.length :], valid.shape[1]
        candidate = self.event_tables(batch.candidate if several else batch.candidate[:, None]).flatten(-2)
        ages = batch.time[:, None] - torch.cat([times, batch.time[:, None]], 1)
        beside = self.aged(self.age(time_bucket(ages.clamp(min=0)))) + self.place[self.length - count :]
        events = self.event_tables(batch.history[:, -self.length :]).flatten(-2) + beside[:, :-1]
        offers = candidate + beside[:, -1:]
        profile = self.profile_tables(batch.profile)
        reach = self.distance(times, valid, batch.time) if len(self.blocks) else None
        for block in self.blocks:
            events, offers = block(events, offers, profile, valid, reach)
        user = torch.cat([profile.flatten(1), self.dense(batch.dense)], 1)[:, None]
        u = torch.cat([offers, user.expand(-1, offers.shape[1], -1), candidate], -1)
        logits: Tensor = self.head(u.flatten(0, 1)).view(u.shape[:2])
        return logits if several else logits[:, 0]


@dataclass(frozen=True)
class Suan(Sizes):
    """Sizes of a SUAN, or of a LightSUAN if a window is given. Blocks, width and length together are its grade.

    Args:
        blocks: of attention; 0 leaves the last state, the profile and the offer to the perceptron.
        width: d of an embedding; a state is as many times wider as an event has features.
        length: events of a history.
        heads: of attention; must divide the width of a state.
        hidden: widths of the perceptron.
        window, dilation: sparse attention looks back o < window events, and at every dilation-th; 0 is dense.
        dense_offer: with sparse attention, the offer looks at every event all the same.
        align: see `Block`; several candidates at once need "events" or "causal".

    Source: Exploring Scaling Laws of CTR Model for Online Performance Improvement (Lai et al., 2025, arXiv 2508.15326).

    Example:
        >>> from limbeck.recsys import batch_of, synthetic
        >>> log = synthetic(users=20, events=10)
        >>> network = Suan(window=3, dilation=3).build(log.schema, seed=0)
        >>> network(batch_of(log, log.test, 8)).shape
        torch.Size([40])
    """

    blocks: int = 1
    width: int = 4
    length: int = 8
    heads: int = 2
    hidden: tuple[int, ...] = (64, 32)
    window: int = 0
    dilation: int = 1
    dense_offer: bool = False
    align: Scope = "all"

    kind: ClassVar[str] = "suan"

    def __post_init__(self) -> None:
        whole = (self.width, self.length, self.heads, self.dilation, *self.hidden)
        if min(whole) < 1 or min(self.blocks, self.window) < 0:
            raise ConfigError(f"sizes must be positive (blocks and window may be 0), got {self}")

    def make(self, schema: Schema) -> nn.Module:
        """Return the network, with weights from torch's generator."""
        width = self.width * len(schema.event)
        if width % self.heads:
            raise ConfigError(
                f"{self.heads} heads do not divide a state of {width}, {len(schema.event)} times the width"
            )
        return SuanNetwork(self, schema)
