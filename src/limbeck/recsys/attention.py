"""Attention over a history that no event shares with what is offered: dense, or local and dilated."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

BUCKETS = 129
EDGES = torch.tensor([math.ceil(math.exp(0.301 * k)) for k in range(1, BUCKETS)])
"""First whole number of seconds of the buckets 1 to 128."""
NEVER = -1e9


def time_bucket(seconds: Tensor) -> Tensor:
    """Number of the bucket of a distance in time: clip(floor(ln(max(x, 1)) / 0.301), 0, 128).

    Args:
        seconds: not negative, int64, any shape.

    Source: Exploring Scaling Laws of CTR Model for Online Performance Improvement (Lai et al., 2025, arXiv 2508.15326),
        its code.

    Example:
        >>> time_bucket(torch.tensor([0, 1, 60, 86_400])).tolist()
        [0, 0, 13, 37]
    """
    return torch.bucketize(seconds, EDGES.to(seconds.device), right=True)


def offsets(length: int, window: int, dilation: int) -> Tensor:
    """How far back an event looks: o < window, or o a multiple of the dilation; all if the window is 0.

    The union of both patterns is reconstructed: the paper says that it combines local and dilated attention.

    Args:
        length: of the history and the offer together.
        window: k, at least 1; 0 looks at everything.
        dilation: r, at least 1.

    Example:
        >>> offsets(9, 3, 3).tolist()
        [0, 1, 2, 3, 6]
    """
    all_of_them = torch.arange(length)
    return all_of_them if window == 0 else all_of_them[(all_of_them < window) | (all_of_them % dilation == 0)]


class Reach(NamedTuple):
    """Who looks at whom, and what is added to the logits for it; the same for all heads and blocks.

    Args:
        keys: places of the events that each event looks at, int64 [L, m]; None for all of them, m = L.
        among: bias between events, [B, 1, L, m]; -1e9 where it may not look.
        seen: places of the events that an offer looks at, int64 [s].
        offered: bias of an offer to those, [B, 1, 1, s].
        own: bias of an offer to itself, a number.
    """

    keys: Tensor | None
    among: Tensor
    seen: Tensor
    offered: Tensor
    own: Tensor


class Distance(nn.Module):
    """Bias by distance in places and in time: p[j - i + length] + t[bucket(|time_i - time_j|)].

    Args:
        length: most events of a history.
    """

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.place = nn.Parameter(torch.empty(2 * length + 1).normal_(std=0.02))
        self.time = nn.Parameter(torch.empty(BUCKETS).normal_(std=0.02))

    def forward(self, times: Tensor, valid: Tensor, now: Tensor, steps: Tensor, dense_offer: bool) -> Reach:
        """Return who looks at whom.

        Args:
            times: of the events, int64 [B, L].
            valid: which there are, [B, L].
            now: time of the offers, int64 [B].
            steps: what `offsets` gave for L + 1.
            dense_offer: offers look at every event.
        """
        count = times.shape[1]
        seen = torch.arange(count) if dense_offer else count - steps[steps > 0].flip(0)
        offered = self.place[seen - count + self.length] + self.time[time_bucket((now[:, None] - times[:, seen]).abs())]
        offered = offered.masked_fill(~valid[:, seen], NEVER)[:, None, None]
        own = self.place[self.length] + self.time[0]
        rows = torch.arange(count)[:, None]
        sparse = len(steps) <= count
        places = rows - steps[steps < count] if sparse else rows.T.expand(count, count)
        real, back = (places >= 0) & (places <= rows), places - rows
        places = places.clamp(min=0)
        bias = self.place[back + self.length] + self.time[time_bucket((times[:, places] - times[..., None]).abs())]
        among = bias.masked_fill(~(real & (valid[:, places] | (back == 0))), NEVER)
        return Reach(places if sparse else None, among[:, None], seen, offered, own)


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, n, D] to [B, h, n, D/h]."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    """[B, h, n, D/h] to [B, n, D]."""
    return x.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention of events to events, and of every offer to the events and itself.

    softmax(q k^T / sqrt(D/h) + bias) v W_o, without biases in the maps. The keys and values of the events are computed
    once, however many offers there are; sparse attention computes the logits of the keys in reach and no others.

    Args:
        width: D.
        heads: h, which divides it.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, events: Tensor, offers: Tensor, reach: Reach) -> tuple[Tensor, Tensor]:
        """Map events [B, L, D] and offers [B, C, D]."""
        q, k, v = (_split(one(events), self.heads) for one in (self.query, self.key, self.value))
        mine, own_key, own_value = (_split(one(offers), self.heads) for one in (self.query, self.key, self.value))
        scale = q.shape[-1] ** -0.5
        if reach.keys is None:
            found = (scale * q @ k.mT + reach.among).softmax(-1) @ v
        else:
            near_k, near_v = k[:, :, reach.keys], v[:, :, reach.keys]
            logits = torch.einsum("bhid,bhimd->bhim", scale * q, near_k) + reach.among
            found = torch.einsum("bhim,bhimd->bhid", logits.softmax(-1), near_v)
        k, v = (k, v) if len(reach.seen) == k.shape[2] else (k[:, :, reach.seen], v[:, :, reach.seen])
        own = scale * (mine * own_key).sum(-1, keepdim=True) + reach.own
        weight = torch.cat([scale * mine @ k.mT + reach.offered, own], -1).softmax(-1)
        offered = weight[..., :-1] @ v + weight[..., -1:] * own_value
        return self.out(_join(found)), self.out(_join(offered))


class ProfileAttention(nn.Module):
    """Attention of a sequence to the features of its user, without bias, mask or biases in the maps.

    Args:
        width: D of the sequence.
        features: d of a feature of the user.
        heads: h.
    """

    def __init__(self, width: int, features: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.out = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.key, self.value = (nn.Linear(features, width, bias=False) for _ in range(2))

    def forward(self, x: Tensor, profile: Tensor) -> Tensor:
        """Map the sequence [B, n, D] with the profile [B, P, d]."""
        q, k, v = (_split(one, self.heads) for one in (self.query(x), self.key(profile), self.value(profile)))
        found = (q.shape[-1] ** -0.5 * q @ k.mT).softmax(-1) @ v
        return self.out(_join(found))  # type: ignore[no-any-return]
