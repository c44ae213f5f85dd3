"""How far generated pictures are from real ones; beside every number, what two halves of the real ones would get."""

from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from limbeck.diffusion.features import FeatureNetwork, to_signal
from limbeck.distill.examples import Labelled
from limbeck.errors import ConfigError, TrainingError
from limbeck.fitting.plain import Plain

CHUNK = 1024
NEAR = 0.05
"""Share of real pictures that are as near to another real one as counts for a copy."""


def frechet(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance between Gaussians with the means and covariances of two sets.

        FD = |m_a - m_b|^2 + tr(S_a) + tr(S_b) - 2 sum_i sqrt(lambda_i(S_a S_b))

    It is too large by about 1/n: compare values of equal n alone.

    Args:
        a, b: features, [n, F].

    Example:
        >>> a = torch.tensor([[-1.0], [1.0]])
        >>> round(frechet(a, 2 * a + 3), 6)  # 3^2 + (2 sqrt(2) - sqrt(2))^2
        11.0

    Raises:
        TrainingError: features that are not finite, or that overflow.

    Source: Heusel et al., GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (2017),
        arXiv 1706.08500.
    """
    x, y = a.double(), b.double()
    s, t = (torch.cov(one.T).reshape(one.shape[1], -1) for one in (x, y))
    if not (s @ t).isfinite().all():  # eigvals would end the process
        raise TrainingError("pictures are not finite, or far too large: the student or the teacher diverged. Lower lr")
    roots = torch.linalg.eigvals(s @ t).real.clamp(min=0).sqrt()
    found = (x.mean(0) - y.mean(0)).square().sum() + s.trace() + t.trace() - 2 * roots.sum()
    return float(found.clamp(min=0))


class Overlap(NamedTuple):
    """How two sets lie in one another, by balls that reach to the k-th neighbour."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall_coverage(real: Tensor, fake: Tensor, k: int = 5) -> Overlap:
    """Share of fakes that could be real, and of real ones that could be fake.

        precision = share of fakes inside the ball of any real one;  recall = the same with the roles swapped
        density = mean over fakes of (balls of real ones around it) / k
        coverage = share of real ones whose ball holds a fake

    A ball reaches from a point to its k-th neighbour of its own set.

    Args:
        real, fake: features, [n, F], more than k of each.
        k: neighbours.

    Example:
        >>> line = torch.arange(20.0)[:, None]
        >>> precision_recall_coverage(line, line[:10] + 0.1, k=1)
        Overlap(precision=1.0, recall=0.55, density=2.0, coverage=0.55)

    Source: precision, recall: Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative Models
        (2019), arXiv 1904.06991; density, coverage: Naeem et al., Reliable Fidelity and Diversity Metrics for
        Generative Models (2020), arXiv 2002.09797.
    """
    reach_real, reach_fake = (_neighbour(one, one, k + 1) for one in (real, fake))
    balls = torch.zeros(len(fake), dtype=torch.int64)
    covered, recalled = [], []
    for part, reach in zip(real.split(CHUNK), reach_real.split(CHUNK), strict=True):
        gaps = torch.cdist(part, fake)
        inside = gaps <= reach[:, None]
        balls += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((gaps <= reach_fake).any(1))
    recall, coverage = (float(torch.cat(one).double().mean()) for one in (recalled, covered))
    return Overlap(float((balls > 0).double().mean()), recall, float(balls.double().mean()) / k, coverage)


def _neighbour(x: Tensor, among: Tensor, k: int) -> Tensor:
    """Distance of each point to its k-th nearest, [n]; a point among its own set is its own first."""
    return torch.cat([torch.cdist(part, among).kthvalue(k).values for part in x.split(CHUNK)])


class Memorised(NamedTuple):
    """Distances of pictures to their nearest training pictures.

    Args:
        ratio: their mean over that of training pictures to their nearest other; far below 1, pictures are copies.
        share: of pictures nearer than 5 % of the training pictures are to their nearest other.
    """

    ratio: float
    share: float


def nearest_training(fake: Tensor, train: Tensor) -> Memorised:
    """Compare pictures with what was learnt from, value by value: are they copies?

    Args:
        fake, train: pictures or features, [n, ...].

    Example:
        >>> train = torch.rand(200, 2, generator=torch.Generator().manual_seed(0))
        >>> nearest_training(train[:50], train)
        Memorised(ratio=0.0, share=1.0)
    """
    x, known = fake.flatten(1).double(), train.flatten(1).double()
    near, apart = _neighbour(x, known, 1), _neighbour(known, known, 2)
    return Memorised(float(near.mean() / apart.mean()), float((near < apart.quantile(NEAR)).double().mean()))


def diversity(x: Tensor, labels: Tensor | None = None) -> float:
    """Mean distance between two pictures of one class, mean over the classes that have two; noise raises it too.

    Args:
        x: [n, ...].
        labels: class of each; all are one without.

    Example:
        >>> diversity(torch.tensor([[0.0], [3.0], [0.0], [1.0]]), torch.tensor([0, 0, 1, 1]))
        2.0
    """
    known = torch.zeros(len(x)) if labels is None else labels
    groups = [x[known == one].flatten(1).double() for one in known.unique()]
    means = [torch.pdist(one).mean() for one in groups if len(one) > 1]
    return float(torch.stack(means).mean())


@dataclass(frozen=True)
class Distances(Plain):
    """One set of pictures beside another, real one.

    Args:
        count: pictures of each set.
        frechet, frechet_scaled: Fréchet distance of features, as they are and over their standard deviations.
        precision, recall, density, coverage: see `precision_recall_coverage`, of features, k = 5.
        accuracy: share of pictures that the network takes for the class asked for; None without classes. Blurred
            means of a class pass it too.
        diversity: mean distance within a class, in values of the picture.
        memorised, copies: `ratio` and `share` of `nearest_training`, in values of the picture.
    """

    count: int
    frechet: float
    frechet_scaled: float
    precision: float
    recall: float
    density: float
    coverage: float
    accuracy: float | None
    diversity: float
    memorised: float
    copies: float


@dataclass(frozen=True)
class ImageJudgement(Plain):
    """Generated pictures beside real ones, and two halves of the real ones beside each other.

    Args:
        found: of the generated pictures.
        floor: of two parts of the real pictures, of the same count if there are so many, else of half of them each.
        space: what the features are. No generator and no critic may learn from that network.
    """

    found: Distances
    floor: Distances
    space: str

    def summary(self) -> str:
        """One line a number, its floor beside it."""
        found, floor = asdict(self.found), asdict(self.floor)
        pairs = [(name, found[name], floor[name]) for name in found if found[name] is not None]
        head = f"{'':15}{'generated':>10}{'real, real':>13}   ({self.space})"
        lines = [f"{name.replace('_', ' '):15}{a:>10.4g}{b:>13.4g}" for name, a, b in pairs]
        return "\n".join([head, *lines])


def judge_images(
    network: FeatureNetwork, real: Labelled, samples: Tensor, labels: Tensor | None = None, *,
    count: int | None = None, train: Labelled | None = None, seed: int = 0,
) -> ImageJudgement:  # fmt: skip
    """Judge generated pictures by real ones, as many of each.

    Args:
        network: of these data, see `feature_network`.
        real: pictures from 0 to 1, and their classes.
        samples: generated pictures from -1 to 1, [n, ...].
        labels: class asked for, of each; None where there are none.
        count: pictures of each set that are compared, drawn without replacement; all real ones by default.
        train: what the generator learnt from, for the search for copies; `real` by default. Then a value of `copies`
            above the floor is a sign of them, and a Fréchet distance below the floor is no wonder.
        seed: of the draw and of the halves.

    Raises:
        ConfigError: too few pictures, or of another shape than the network reads; values that are not finite.

    Example:
        >>> from limbeck.diffusion.features import feature_network
        >>> from limbeck.distill import labelled
        >>> noise = torch.rand(120, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        >>> data = labelled(noise, [0] * 120)
        >>> judge_images(feature_network(data), data, to_signal(noise)).found.coverage
        1.0
    """
    n = len(real) if count is None else count
    if not 12 < n <= min(len(real), len(samples)):
        raise ConfigError(
            f"{n} pictures of each set are compared, {len(samples)} are generated and {len(real)} real: generate more, "
            "or give count (at least 13)"
        )
    if tuple(samples.shape[1:]) != network.shape or not samples.isfinite().all():
        raise ConfigError(f"samples {list(samples.shape)} must be finite pictures of shape {list(network.shape)}")
    random = torch.Generator().manual_seed(seed)
    rows, chosen = (torch.randperm(len(one), generator=random) for one in (real, samples))
    pixels, told = to_signal(real.inputs[rows]), labels is not None and network.classes > 0
    asked = labels.cpu()[chosen[:n]] if told and labels is not None else None
    learnt = pixels[:n] if train is None else to_signal(train.inputs)
    half = min(n, len(real) // 2)
    own = real.labels[rows][-half:] if told else None
    found = _distances(network, pixels[:n], samples.detach().cpu().float()[chosen[:n]], asked, learnt)
    floor = _distances(network, pixels[:half], pixels[-half:], own, pixels[:half])
    return ImageJudgement(found, floor, network.describe())


def _distances(network: FeatureNetwork, real: Tensor, fake: Tensor, asked: Tensor | None, learnt: Tensor) -> Distances:
    a, b = network.features(real), network.features(fake)
    spread = torch.where(a.std(0) > 0, a.std(0), 1.0)
    return Distances(
        len(fake), frechet(a, b), frechet(a / spread, b / spread), *precision_recall_coverage(a, b),
        None if asked is None else float((network.labels(fake) == asked).double().mean()), diversity(fake, asked),
        *nearest_training(fake, learnt),
    )  # fmt: skip
