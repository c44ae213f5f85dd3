"""Kernel spectra and the dimension of data: exponents that a learning curve should have, before anything is trained."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import KDTree

from limbeck.errors import FittingError
from limbeck.fitting.model import Array
from limbeck.laws import Source, Trend

BAHRI = Source("Explaining Neural Scaling Laws", "Bahri, Dyer, Kaplan, Lee, Sharma", 2021, "2102.06701")


def power_spectrum(count: int, alpha: float) -> Array:
    """Return the eigenvalues i^-(1 + alpha), i = 1 ... count.

    Example:
        >>> power_spectrum(3, 1.0).round(3).tolist()
        [1.0, 0.25, 0.111]
    """
    return np.asarray(np.arange(1.0, count + 1) ** -(1 + alpha))


def spectrum_exponent(kernel: ArrayLike) -> Trend:
    """Return the power law of the ordered eigenvalues of K/n: lambda_i ~ i^-(1 + alpha_K), so alpha_K = -exponent - 1.

    Only eigenvalues 10 to n/5 are used: the first are not universal, the last too small in a finite sample.

    Args:
        kernel: Gram matrix of n examples, [n, n]; n of 100 or more.

    Raises:
        FittingError: too few examples, or fewer than ten eigenvalues above zero in that range.

    Source: Explaining Neural Scaling Laws (Bahri, Dyer, Kaplan, Lee, Sharma, 2021, arXiv 2102.06701).

    Example:
        >>> round(-spectrum_exponent(np.diag(power_spectrum(500, 0.5))).exponent - 1, 6)
        0.5
    """
    k = np.asarray(kernel, float)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or len(k) < 100:
        raise FittingError(f"a spectrum needs a square Gram matrix of 100 examples or more; given shape {k.shape}.")
    values = np.linalg.eigvalsh(k)[::-1] / len(k)
    rank = np.arange(10, len(k) // 5 + 1)
    rank = rank[values[rank - 1] > 1e-12 * values[0]]
    if len(rank) < 10:
        raise FittingError(f"the kernel of {len(k)} examples has too few eigenvalues above zero: use more features.")
    return Trend.through(rank, values[rank - 1])


def intrinsic_dimension(
    features: ArrayLike, method: Literal["nearest two", "likelihood"] = "nearest two", neighbours: int = 15
) -> float:
    """Return the dimension of the manifold that the data fill, from distances to nearest neighbours.

    "nearest two": mu_i = r_i2/r_i1 is a power law of exponent d; the top 10 % are censored, m = floor(0.9 n):
    d = m / (sum_{i <= m} ln mu_(i) + (n - m) ln mu_(m)).
    "likelihood": d = [sum_i sum_{j < k} ln(r_ik/r_ij) / (n (k - 1))]^-1.

    Args:
        features: of the last hidden layer, say, [n, d]; repeated rows count once.
        method: one of the two.
        neighbours: k, 10 to 20, of "likelihood".

    Raises:
        FittingError: too few distinct rows.

    Source: Estimating the intrinsic dimension of datasets by a minimal neighborhood information (Facco et al., 2017,
    arXiv 1803.06992); Maximum Likelihood Estimation of Intrinsic Dimension (Levina, Bickel, 2004), averaged as MacKay
    and Ghahramani do.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((2000, 2)) @ np.ones((2, 9)).cumsum(1)
        >>> round(intrinsic_dimension(x))
        1
    """
    x = np.unique(np.asarray(features, float), axis=0)
    k = 2 if method == "nearest two" else neighbours
    if len(x) < 10 * k:
        raise FittingError(f"{len(x)} distinct examples for {k} neighbours: the dimension needs {10 * k} or more.")
    distance = np.asarray(KDTree(x).query(x, k + 1)[0])[:, 1:]
    ratios = np.log(distance[:, -1:] / distance[:, :-1])
    if method == "likelihood":
        return float(1 / ratios.mean())
    ordered = np.sort(ratios[:, 0])
    m = int(0.9 * len(ordered))
    return float(m / (ordered[:m].sum() + (len(ordered) - m) * ordered[m - 1]))


@dataclass(frozen=True)
class Exponents:
    """Exponents of resolution-limited learning curves that the data suggest.

    Args:
        dimension: of the data, by the ratio of the nearest two distances and by likelihood.
        kernel: alpha_K of the spectrum, and its standard error.
        constant, linear: 2/d and 4/d with the mean d: for a piecewise constant (nearest neighbour) and a piecewise
            linear learner of a smooth target.
    """

    dimension: tuple[float, float]
    kernel: tuple[float, float]
    constant: float
    linear: float

    @property
    def agree(self) -> bool:
        """Whether the spectrum is within a factor of two of 2/d or 4/d."""
        return self.constant / 2 <= self.kernel[0] <= 2 * self.linear

    def summary(self) -> str:
        """Return the exponents and a warning, as plain text."""
        lines = [
            f"intrinsic dimension  {self.dimension[0]:.1f} (nearest two), {self.dimension[1]:.1f} (likelihood)",
            f"exponent of data     {self.kernel[0]:.2f} ± {self.kernel[1]:.2f} from the spectrum of the linear kernel",
            f"                     {self.constant:.2f} = 2/d, {self.linear:.2f} = 4/d from the dimension",
        ]
        if not self.agree:
            lines.append("They differ by more than 2×: take none of them without a measured learning curve.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return asdict(self) | {"agree": self.agree}


def predict_exponents(features: ArrayLike, *, most: int = 2000, seed: int = 0) -> Exponents:
    """Return the exponents that the features suggest for a learner on top of them.

    Args:
        features: [n, d].
        most: examples that are looked at, chosen at random.
        seed: of that choice.

    Source: Explaining Neural Scaling Laws (Bahri, Dyer, Kaplan, Lee, Sharma, 2021, arXiv 2102.06701).
    """
    x = np.asarray(features, float)
    if len(x) > most:
        x = x[np.random.default_rng(seed).choice(len(x), most, replace=False)]
    dimension = intrinsic_dimension(x), intrinsic_dimension(x, "likelihood")
    trend, d = spectrum_exponent(x @ x.T), sum(dimension) / 2
    return Exponents(dimension, (-trend.exponent - 1, trend.exponent_se), 2 / d, 4 / d)
