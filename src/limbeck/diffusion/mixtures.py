"""Teachers without error: mixtures of round Gaussians, whose denoiser is a formula, and judges of their students."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.special import digamma
from torch import Tensor, nn

from limbeck.errors import ConfigError, nearest
from limbeck.fitting.plain import Plain

BINS, EDGE = 56, 1.4
NEIGHBOUR = 3
"""Neighbour whose distance tells the density, in the estimate of entropy."""


class Mixture(nn.Module):
    """A mixture of round Gaussians; called as a `Denoiser`, it answers exactly.

        x = mu_k + s_k eps with probability pi_k;  v_k = s_k^2 + sigma^2
        r_k(x) = softmax_k(log pi_k - d/2 log v_k - |x - mu_k|^2 / (2 v_k))
        D(x, sigma) = sum_k r_k (s_k^2 x + sigma^2 mu_k) / v_k

    Told a class, it is the mixture of that class's components; "no class" is the number of classes.

    Args:
        means: mu_k, [K, d].
        std: s_k, one number or [K].
        weights: pi_k up to a factor, [K]; equal by default.
        labels: class of each component, [K]; each is a class of its own by default.

    Raises:
        ConfigError: shapes that differ, a std or weight that is not positive.

    Example:
        >>> law = Mixture([[-1.0, 0.0], [1.0, 0.0]], 0.1)
        >>> law(torch.tensor([[0.5, 0.0]]), torch.tensor([0.3])).round(decimals=2)
        tensor([[0.9500, 0.0000]])
        >>> law(torch.tensor([[0.5, 0.0]]), torch.tensor([0.3]), torch.tensor([0])).round(decimals=2)
        tensor([[-0.8500,  0.0000]])
    """

    means: Tensor
    std: Tensor
    log_weights: Tensor
    labels: Tensor

    def __init__(self, means: Any, std: Any, weights: Any = None, labels: Any = None) -> None:
        super().__init__()
        centres = torch.as_tensor(means, dtype=torch.float64)
        count = len(centres)
        spreads = torch.as_tensor(std, dtype=torch.float64)
        share = torch.as_tensor([1.0] * count if weights is None else weights, dtype=torch.float64)
        known = torch.arange(count) if labels is None else torch.as_tensor(labels, dtype=torch.int64)
        shapes = [list(one.shape) for one in (centres, spreads, share, known)]
        if centres.ndim != 2 or shapes[1] not in ([], [count]) or shapes[2:] != [[count]] * 2:
            raise ConfigError(f"means [K, d], std (one or [K]), weights [K] and labels [K] are needed; got {shapes}")
        if not spreads.min() > 0 or not share.min() > 0:
            raise ConfigError(f"std and weights must be positive, the smallest are {spreads.min()} and {share.min()}")
        self.register_buffer("means", centres)
        self.register_buffer("std", spreads.expand(count).clone())
        self.register_buffer("log_weights", (share / share.sum()).log())
        self.register_buffer("labels", known)

    @property
    def classes(self) -> int:
        """How many; the number itself stands for "no class"."""
        return int(self.labels.max()) + 1

    @property
    def data_std(self) -> float:
        """Root of the mean variance of a coordinate."""
        weights = self.log_weights.exp()
        return float(((weights @ self.means**2 - (weights @ self.means) ** 2).mean() + weights @ self.std**2).sqrt())

    def _prior(self, cond: Tensor) -> Tensor:
        """Logarithms of the weights among the components of each row's class, [B, K]."""
        out = (cond[:, None] != self.labels) & (cond[:, None] != self.classes)
        return self.log_weights.masked_fill(out, -math.inf).log_softmax(1)

    def _joint(self, x: Tensor, sigma: Tensor | float, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logarithms of pi_k N(x; mu_k, v_k), [B, K], and v_k, in float64."""
        v = self.std**2 + torch.as_tensor(sigma, dtype=torch.float64, device=self.means.device).reshape(-1, 1) ** 2
        square = (x.double()[:, None] - self.means).square().sum(-1)
        prior = self.log_weights if cond is None else self._prior(cond)
        return prior - self.means.shape[1] / 2 * (2 * math.pi * v).log() - square / (2 * v), v

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the expected x0, see `Denoiser`."""
        return (x.double() + sigma.double()[:, None] ** 2 * self.score(x, sigma, cond)).to(x.dtype)

    def score(self, x: Tensor, sigma: Tensor | float = 0.0, cond: Tensor | None = None) -> Tensor:
        """Return the gradient of the log density, (D - x) / sigma^2, also at sigma = 0; float64 [B, d]."""
        joint, v = self._joint(x, sigma, cond)
        pull = joint.softmax(1) / v
        return pull @ self.means - pull.sum(1, keepdim=True) * x.double()

    def log_density(self, x: Tensor, sigma: Tensor | float = 0.0, cond: Tensor | None = None) -> Tensor:
        """Return the log density of x_sigma, nats, float64 [B]."""
        return self._joint(x, sigma, cond)[0].logsumexp(1)

    def responsibilities(self, x: Tensor, sigma: Tensor | float = 0.0, cond: Tensor | None = None) -> Tensor:
        """Return the probability that each component made x, float64 [B, K]."""
        return self._joint(x, sigma, cond)[0].softmax(1)

    def sample(self, count: int, seed: int, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw points.

        Args:
            count: how many.
            seed: of the draw.
            cond: class wanted for each; the number of classes leaves it open.

        Returns:
            Points, float32 [count, d], and their classes, [count].
        """
        random = torch.Generator().manual_seed(seed)
        prior = self._prior(torch.full((count,), self.classes) if cond is None else cond.cpu())
        chosen = torch.multinomial(prior.exp(), 1, generator=random)[:, 0]
        noise = torch.randn(count, self.means.shape[1], generator=random, dtype=torch.float64)
        return (self.means[chosen] + self.std[chosen, None] * noise).float(), self.labels[chosen]


def ring8() -> Mixture:
    """Eight modes on the unit circle, std 0.05."""
    return class_ring(8, 0.05)


def class_ring(classes: int = 4, std: float = 0.15) -> Mixture:
    """Eight modes on the unit circle; neighbours share a class.

    Example:
        >>> class_ring().labels.tolist()
        [0, 0, 1, 1, 2, 2, 3, 3]
    """
    angle = torch.arange(8, dtype=torch.float64) * math.pi / 4
    return Mixture(torch.stack([angle.cos(), angle.sin()], 1), std, labels=torch.arange(8) * classes // 8)


def grid25() -> Mixture:
    """25 modes on a square grid from -1 to 1, std 0.04."""
    return Mixture(torch.cartesian_prod(*[torch.linspace(-1, 1, 5, dtype=torch.float64)] * 2), 0.04)


def checker() -> Mixture:
    """The 8 black squares of a board of 4 x 4 on [-1, 1]^2, each a class.

    Each square is a fine mixture, 8 x 8 Gaussians whose std is half their distance: flat within 3 % inside, blurred by
    0.03 at its edges.
    """
    cells = torch.cartesian_prod(torch.arange(32), torch.arange(32))
    row, column = (cells // 8).T
    black = (row + column) % 2 == 0
    return Mixture((cells[black].double() + 0.5) / 16 - 1, 1 / 32, labels=(2 * row + column // 2)[black])


NAMED: dict[str, Callable[[], Mixture]] = {
    "ring8": ring8, "class_ring": class_ring, "grid25": grid25, "checker": checker,
}  # fmt: skip


def mixture(name: str) -> Mixture:
    """Return a law of two dimensions by name: ring8, class_ring, grid25, checker.

    Raises:
        ConfigError: no such law.

    Example:
        >>> round(mixture("ring8").data_std, 3)
        0.709
    """
    if name in NAMED:
        return NAMED[name]()
    raise ConfigError(f'no mixture is called "{name}".{nearest(name, NAMED)} Known: {", ".join(NAMED)}')


@dataclass(frozen=True)
class MixtureJudgement(Plain):
    """Samples beside the law that they should have.

    Args:
        samples: how many.
        jsd: Jensen-Shannon divergence of histograms of 56 x 56 bins on [-1.4, 1.4]^2, nats; points outside count in
            the border bins.
        sliced_w2: Wasserstein distance of order 2, root mean square over 64 directions, to as many real points.
        modes, modes_of: components that hold at least a quarter of the points expected, among all.
        high_quality: share of points within 3 std of the nearest component.
        log_density: mean log density under the law, nats.
        entropy: of the samples, nats, by the distance to the third neighbour.
        mode_variation: total variation between the shares of the components and their weights.
        mode_entropy: of the shares, nats.
        radius: mean distance from 0.
        class_accuracy: share of points whose likeliest class is the one asked for; None if none was.
        jsd_floor, sliced_w2_floor: the two for as many fresh real points, what a perfect sampler would get.
    """

    samples: int
    jsd: float
    sliced_w2: float
    modes: int
    modes_of: int
    high_quality: float
    log_density: float
    entropy: float
    mode_variation: float
    mode_entropy: float
    radius: float
    class_accuracy: float | None
    jsd_floor: float
    sliced_w2_floor: float

    @property
    def reverse_kl(self) -> float:
        """KL(samples‖law), nats: minus entropy minus mean log density."""
        return -self.entropy - self.log_density

    def summary(self) -> str:
        """Three lines."""
        right = "" if self.class_accuracy is None else f", {100 * self.class_accuracy:.1f} % of their class"
        return (
            f"{self.samples:,} samples: JSD {self.jsd:.3f} (floor {self.jsd_floor:.3f}), sliced W2 "
            f"{self.sliced_w2:.3f} (floor {self.sliced_w2_floor:.3f}), KL(samples‖law) {self.reverse_kl:.2f} nats\n"
            f"{self.modes} of {self.modes_of} modes, {100 * self.high_quality:.1f} % within 3 std of one{right}, mean "
            f"radius {self.radius:.3f}\n"
            f"mode weights off by {self.mode_variation:.3f}, of entropy {self.mode_entropy:.2f} of "
            f"{math.log(self.modes_of):.2f} nats at most"
        )


def judge_mixture(law: Mixture, samples: Tensor, *, seed: int = 0, labels: Tensor | None = None) -> MixtureJudgement:
    """Judge samples by the law that they should have.

    Args:
        law: in two dimensions.
        samples: [n, 2].
        seed: of the real points that they are compared with.
        labels: class asked for, of each sample; real points then have the same classes.

    Raises:
        ConfigError: samples of another shape, too few of them or not finite.

    Example:
        >>> law = mixture("ring8")
        >>> judge_mixture(law, law.sample(2000, 7)[0]).modes
        8

    Source: entropy: Leonenko, Kozachenko, Sample Estimate of the Entropy of a Random Vector (1987), Problems of
        Information Transmission 23.
    """
    x = samples.detach().cpu().double()
    if x.ndim != 2 or x.shape[1] != 2 or len(x) <= NEIGHBOUR or not x.isfinite().all():
        raise ConfigError(f"samples {list(x.shape)} must be [n, 2], n above {NEIGHBOUR}, without NaN or infinity")
    law, count = deepcopy(law).cpu(), len(x)
    asked = None if labels is None else labels.cpu()
    real, fresh = (law.sample(count, 2 * seed + k, asked)[0].double() for k in (0, 1))
    near = torch.cdist(x, law.means)
    distance, mode = near.min(1)
    close = distance <= 3 * law.std[mode]
    likely = law.responsibilities(x)
    share = torch.bincount(likely.argmax(1), minlength=len(law.means)) / count
    prior = law.log_weights.exp() if asked is None else law._prior(asked).exp().mean(0)
    found = torch.bincount(mode[close], minlength=len(prior)) >= 0.25 * count * prior
    classes = torch.zeros(count, law.classes, dtype=torch.float64).index_add_(1, law.labels, likely)
    gaps = np.asarray(cKDTree(x).query(x, NEIGHBOUR + 1)[0])[:, -1]
    entropy = digamma(count) - digamma(NEIGHBOUR) + math.log(math.pi) + 2 * np.log(gaps.clip(1e-12)).mean()
    return MixtureJudgement(
        samples=count, jsd=_jsd(x, real), sliced_w2=sliced_w2(x, real), modes=int((found & (prior > 0)).sum()),
        modes_of=int((prior > 0).sum()), high_quality=float(close.double().mean()),
        log_density=float(law.log_density(x).mean()), entropy=float(entropy),
        mode_variation=float((share - prior).abs().sum() / 2), mode_entropy=float(torch.special.entr(share).sum()),
        radius=float(x.norm(dim=1).mean()),
        class_accuracy=None if asked is None else float((classes.argmax(1) == asked).double().mean()),
        jsd_floor=_jsd(fresh, real), sliced_w2_floor=sliced_w2(fresh, real),
    )  # fmt: skip


def _jsd(a: Tensor, b: Tensor) -> float:
    """JSD of two histograms: the entropy of their mean minus their mean entropy."""
    places = [((x + EDGE) / (2 * EDGE) * BINS).long().clamp(0, BINS - 1) for x in (a, b)]
    p, q = (torch.bincount(x[:, 0] * BINS + x[:, 1], minlength=BINS**2).double() / len(x) for x in places)
    entropies = [torch.special.entr(one).sum() for one in ((p + q) / 2, p, q)]
    return float(entropies[0] - (entropies[1] + entropies[2]) / 2)


def sliced_w2(a: Tensor, b: Tensor, directions: int = 64) -> float:
    """Sliced Wasserstein distance of order 2 between equally many points, [n, d].

        SW2^2 = mean over directions u, |u| = 1, of mean_i (sorted(a u)_i - sorted(b u)_i)^2

    The directions are drawn once for ever (seed 0).

    Example:
        >>> round(sliced_w2(torch.zeros(5, 2), torch.ones(5, 2)), 1)  # |shift| / sqrt(d) on average
        1.0
    """
    u = torch.randn(a.shape[1], directions, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u = u / u.norm(dim=0)
    gaps = (a.double() @ u).sort(0).values - (b.double() @ u).sort(0).values
    return float(gaps.square().mean().sqrt())
