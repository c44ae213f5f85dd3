"""Attention over a history that no event shares with what is offered: dense, or local and dilated."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

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
        window, dilation: of sparse attention between events; a window of 0 is dense.
        among: bias between events, [B, 1, L, m], -1e9 where one may not look; m = L, or if sparse the places i - k + 1
            to i, and then those of i's remainder modulo r.
        seen: places of the events that an offer looks at, int64 [s].
        offered: bias of an offer to those, [B, 1, 1, s].
        own: bias of an offer to itself, a number.
    """

    window: int
    dilation: int
    among: Tensor
    seen: Tensor
    offered: Tensor
    own: Tensor


class Distance(nn.Module):
    """Bias by distance in places and in time: p[j - i + length] + t[bucket(|time_i - time_j|)].

    Args:
        length: most events of a history.
        window, dilation: see `offsets`.
        dense_offer: offers look at every event.
    """

    def __init__(self, length: int, window: int = 0, dilation: int = 1, dense_offer: bool = False) -> None:
        super().__init__()
        self.length, self.window, self.dilation, self.dense_offer = length, window, dilation, dense_offer
        self.place = nn.Parameter(torch.empty(2 * length + 1).normal_(std=0.02))
        self.time = nn.Parameter(torch.empty(BUCKETS).normal_(std=0.02))

    def forward(self, times: Tensor, valid: Tensor, now: Tensor) -> Reach:
        """Return who looks at whom.

        Args:
            times: of the events, int64 [B, L].
            valid: which there are, [B, L].
            now: time of the offers, int64 [B].
        """
        count = times.shape[1]
        back = offsets(count + 1, 0 if self.dense_offer else self.window, self.dilation)[1:].flip(0)
        seen = count - back
        offered = self.place[self.length - back] + self.time[time_bucket((now[:, None] - times[:, seen]).abs())]
        offered = offered.masked_fill(~valid[:, seen], NEVER)[:, None, None]
        rows = torch.arange(count)[:, None]
        places = rows.T.expand(count, count)
        real = places <= rows
        if self.window:
            front = -count % self.dilation
            near = rows + torch.arange(1 - self.window, 1)
            far = torch.arange(0, count + front, self.dilation) + (rows + front) % self.dilation - front
            places, real = (
                torch.cat([near, far], 1),
                torch.cat([near >= 0, (far >= 0) & (rows - far >= self.window)], 1),
            )
        distance, places = places - rows, places.clamp(0, count - 1)
        gaps = (times[:, places] - times[..., None]).abs()
        bias = self.place[distance.clamp(-self.length) + self.length] + self.time[time_bucket(gaps)]
        among = bias.masked_fill(~(real & (valid[:, places] | (distance == 0))), NEVER)
        own = self.place[self.length] + self.time[0]
        return Reach(self.window, self.dilation, among[:, None], seen, offered, own)


def _split(x: Tensor, heads: int) -> Tensor:
    """[B, n, D] to [B, h, n, D/h]."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def _join(x: Tensor) -> Tensor:
    """[B, h, n, D/h] to [B, n, D]."""
    return x.transpose(1, 2).flatten(2)


def _near(x: Tensor, window: int) -> Tensor:
    """[B, h, L, d] to the last `window` of each, [B, h, L, window, d]."""
    return pad(x, (0, 0, window - 1, 0)).unfold(2, window, 1).transpose(-1, -2)


def _apart(x: Tensor, dilation: int) -> Tensor:
    """[B, h, L, d] by remainder of the place, zeros in front, [B, h, dilation, ceil(L / dilation), d]."""
    padded = pad(x, (0, 0, -x.shape[2] % dilation, 0))
    return padded.reshape(*x.shape[:2], -1, dilation, x.shape[3]).transpose(2, 3)


def _together(x: Tensor, count: int) -> Tensor:
    """Undo `_apart`."""
    return x.transpose(2, 3).flatten(2, 3)[:, :, -count:]


def sparse_attention(q: Tensor, k: Tensor, v: Tensor, reach: Reach) -> Tensor:
    """Attention of every place to those in its reach: (k + L / r) logits a row, no square of the length is made.

    Near keys are windows of the sequence; far ones are attended to within each remainder modulo r.

    Args:
        q, k, v: [B, h, L, d], q scaled.
        reach: of a sparse `Distance`.
    """
    count, window, dilation = q.shape[2], reach.window, reach.dilation
    near = torch.einsum("bhid,bhimd->bhim", q, _near(k, window))
    far = _together(_apart(q, dilation) @ _apart(k, dilation).mT, count)
    weight = (torch.cat([near, far], -1) + reach.among).softmax(-1)
    near = torch.einsum("bhim,bhimd->bhid", weight[..., :window], _near(v, window))
    return near + _together(_apart(weight[..., window:], dilation) @ _apart(v, dilation), count)


class SelfAttention(nn.Module):
    """Attention of events to events, and of every offer to the events and itself.

    softmax(q k^T / sqrt(D/h) + bias) v W_o, without biases in the maps. The keys and values of the events are computed
    once, however many offers there are.

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
        if reach.window:
            found = sparse_attention(scale * q, k, v, reach)
        else:
            found = (scale * q @ k.mT + reach.among).softmax(-1) @ v
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
