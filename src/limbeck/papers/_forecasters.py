"""Tiny patch Transformers that forecast made-up series, with a mixture of Student-t as their head; and their scores."""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, StudentT

from limbeck.papers._training import descend, seeded

PATCH, PATCHES, COMPONENTS = 8, 8, 4
SOURCES = ("waves", "walks", "trends", "pulses", "swelling waves")
QUANTILES = np.arange(1, 10) / 10


def series(source: str, count: int, seed: int) -> Tensor:
    """Return windows of a source, standardised by their first half, [count, patches, patch]."""
    rng = np.random.default_rng([SOURCES.index(source), seed])
    time, column = np.arange(PATCH * PATCHES), (count, 1)
    angle = 2 * np.pi * (time / rng.uniform(8, 40, column) + rng.uniform(0, 1, column))
    clean = {
        "waves": lambda: np.sin(angle) + rng.uniform(0, 1, column) * np.sin(2 * angle),
        "walks": lambda: rng.normal(size=(count, len(time))).cumsum(1) / 4,
        "trends": lambda: np.abs(time - rng.uniform(0, 64, column)) * rng.normal(size=column) / 10 + np.sin(angle) / 2,
        "pulses": lambda: 2.0 * (np.sin(angle) > 0.6),
        "swelling waves": lambda: np.sin(angle) * (0.3 + time / 30),
    }[source]()
    x = clean + 0.4 * rng.normal(size=(count, len(time)))
    first = x[:, : len(time) // 2]
    x = (x - first.mean(1, keepdims=True)) / first.std(1, keepdims=True)
    return torch.tensor(x.reshape(count, PATCHES, PATCH), dtype=torch.float32)


class Forecaster(nn.Module):
    """A Transformer over patches: an encoder that fills a hidden end, or a causal decoder of the next patch.

    Args:
        width: of the residual stream, even.
        causal: decoder.
    """

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.embed, self.place = nn.Linear(PATCH + 1, width), nn.Parameter(torch.zeros(PATCHES, width))
        layer = nn.TransformerEncoderLayer(width, 2, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(width, PATCH * 4 * COMPONENTS)

    def forward(self, patches: Tensor, seen: Tensor) -> Tensor:
        """Return the head's raw output for every value.

        Args:
            patches: [batch, patches, patch].
            seen: patches that the model may look at, [patches].

        Returns:
            [batch, patches, patch, 4 components]; a decoder's output at a patch is about the next one.
        """
        flag = seen[:, None].expand(*patches.shape[:2], 1)
        x = self.embed(torch.cat([torch.where(flag, patches, 0.0), flag.float()], -1)) + self.place
        ahead = torch.ones(PATCHES, PATCHES, dtype=torch.bool).triu(1) if self.causal else None
        raw: Tensor = self.head(self.body(x, mask=ahead))
        return raw.reshape(*patches.shape, 4 * COMPONENTS)


def mixture(raw: Tensor) -> MixtureSameFamily:
    """Return p(y) = sum_k w_k StudentT(y; 2 + softplus(df), loc, softplus(scale)) of raw outputs [..., 4 k]."""
    weight, df, loc, scale = raw.chunk(4, -1)
    spread = nn.functional.softplus(scale).clamp(min=torch.finfo(raw.dtype).eps)
    parts = StudentT(2 + nn.functional.softplus(df), loc, spread, validate_args=False)
    return MixtureSameFamily(Categorical(logits=weight, validate_args=False), parts, validate_args=False)


def mean_nll(raw: Tensor, values: Tensor, counted: Tensor) -> Tensor:
    """Return the mean of -log p over the values that count, nats; the others change nothing."""
    density: Tensor = mixture(raw[counted]).log_prob(values[counted])
    return -density.mean()


def visible(share: float) -> Tensor:
    """Return which patches an encoder sees if a share is hidden at the end: at least one, and never all, [patches]."""
    hidden = min(max(round(share * PATCHES), 1), PATCHES - 1)
    return torch.arange(PATCHES) < PATCHES - hidden


def loss_of(model: nn.Module, windows: Tensor, share: float = 0.5) -> Tensor:
    """Return the NLL of the hidden end of windows: in one shot of an encoder, patch by patch of a decoder."""
    seen, causal = visible(share), bool(model.causal)
    raw = model(windows, seen | causal)
    raw = raw.roll(1, 1) if causal else raw
    return mean_nll(raw, windows, (~seen)[:, None].expand(windows.shape))


def learn(width: int, causal: bool, windows: Tensor, batches: Tensor, seed: int) -> nn.Module:
    """Return a trained forecaster; the hidden share of every batch is drawn between 15 % and 50 %."""
    shares = iter(np.random.default_rng(seed).uniform(0.15, 0.5, len(batches)))
    model = seeded(lambda: Forecaster(width, causal), seed)
    descend(model, lambda rows: loss_of(model, windows[rows], next(shares)), batches, learning_rate=3e-3, anneal=True)
    return model


def forecast(model: nn.Module, windows: Tensor, seed: int) -> Tensor:
    """Return an encoder's quantiles 0.1 to 0.9 of the second half of windows, from 100 samples, [9, n, values]."""
    seen = visible(0.5)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        samples: Tensor = mixture(model(windows, seen)[:, ~seen]).sample((100,)).flatten(2)
    return samples.quantile(torch.tensor(QUANTILES, dtype=samples.dtype), dim=0)


def seasonal_naive(past: ArrayLike, steps: int, period: int) -> Tensor:
    """Return the last period of the past [..., n] again and again as every quantile, [9, ..., steps]."""
    last = torch.as_tensor(past)[..., -period:]
    return last[..., torch.arange(steps) % period].expand(9, *last.shape[:-1], steps)


def scores(quantiles: ArrayLike, truth: ArrayLike, past: ArrayLike, period: int) -> tuple[float, float]:
    """Return CRPS, as the mean weighted quantile loss, and MASE of the median; both are fractions.

    CRPS = mean over q of 2 sum |(f_q - y)(1[y <= f_q] - q)| / sum |y|, MASE = mean |y - f| / mean |x_t - x_(t-period)|
    in the past.

    Args:
        quantiles: of 0.1 to 0.9, [9, ...].
        truth, past: [..., values].
        period: of the season.
    """
    f, y, x = (np.asarray(a, float) for a in (quantiles, truth, past))
    below = QUANTILES.reshape(-1, *[1] * y.ndim)
    crps = 2 * abs((f - y) * ((y <= f) - below)).sum() / len(f) / abs(y).sum()
    return float(crps), float(abs(f[4] - y).mean() / abs(x[..., period:] - x[..., :-period]).mean())
