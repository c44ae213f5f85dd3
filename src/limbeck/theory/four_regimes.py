"""The loss surface of random-feature regression: four scaling regimes in one formula.

S Gaussian features with the covariance eigenvalues lambda_i carry a target omega . F; a student sees D samples through
P random linear combinations of them. Where D or P is finite alone the loss falls as a power of it that the spectrum
sets (resolution-limited); where both are, the loss falls to that limit with the exponent 1 (variance-limited).
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize.elementwise import find_root

from limbeck.errors import FittingError
from limbeck.fitting.model import Array


def resolution(eigenvalues: ArrayLike, n: ArrayLike) -> Array:
    """Return kappa_n, the eigenvalue that n samples or features resolve: sum_i lambda_i/(lambda_i + kappa) = n.

    Args:
        eigenvalues: positive, [S].
        n: samples or features, any shape; below S.

    Example:
        >>> round(float(resolution([1.0, 1.0, 1.0, 1.0], 2)), 9)
        1.0
    """
    return _level(np.asarray(eigenvalues, float), np.asarray(n, float), np.asarray(np.inf), 0.0)


def random_feature_loss(
    samples: ArrayLike, features: ArrayLike, eigenvalues: ArrayLike, *, ridge: float = 0.0, noise: float = 0.0,
    target: ArrayLike | None = None,
) -> Array:  # fmt: skip
    """Return the test loss L(D, P) in the limit of many dimensions. D and P broadcast and may be infinite.

    With df(k) = sum lambda_i/(lambda_i + k), h(k) = sum lambda_i w_i^2/(lambda_i + k) and kappa from
    ridge = kappa (1 - df/D) (1 - df/P), and k_1 = kappa (1 - df/P):

        L = [kappa h - k_1 (h + kappa h') / k_1' + sigma^2 d_2/D] / (1 - d_2/D),   d_2 = df + k_1 df' / k_1',

    primes by kappa. For a unit target without ridge and noise it is n kappa_n N/(N - n), n = min(D, P), N = max(D, P),
    which diverges at D = P.

    Args:
        samples: D.
        features: P.
        eigenvalues: positive, [S].
        ridge: penalty on the student's weights, relative to the mean square of samples; features have weights of
            variance 1/P.
        noise: standard deviation of the labels' noise.
        target: coefficients w_i, [S]; 1 (every direction as important as its features are) by default.

    Raises:
        FittingError: D or P is not positive, or min(D, P) reaches S without a ridge.

    Source: Explaining Neural Scaling Laws (Bahri, Dyer, Kaplan, Lee, Sharma, 2021, arXiv 2102.06701); this closed form
    is derived here and agrees with simulation.

    Example:
        >>> spectrum = np.arange(1, 1501) ** -2.0
        >>> random_feature_loss([40, 20, 400], [np.inf, 400, 20], spectrum).round(4).tolist()
        [0.0588, 0.1222, 0.1222]
    """
    d, p = np.broadcast_arrays(np.asarray(samples, float), np.asarray(features, float))
    spectrum = np.asarray(eigenvalues, float)
    weight = np.ones_like(spectrum) if target is None else np.asarray(target, float) ** 2
    kappa = _level(spectrum, d, p, ridge)
    share = spectrum / (spectrum + kappa[..., None])
    df, rate = share.sum(-1), -(share * (1 - share)).sum(-1)  # rate = kappa df'
    seen, seen_rate = (weight * share).sum(-1), -(weight * share * (1 - share)).sum(-1)
    left = 1 - df / p
    with np.errstate(divide="ignore", invalid="ignore"):
        bend = np.where(left > 1e-12, left / (left - rate / p), 0.0)  # k_1 / (kappa k_1')
        bias = kappa * (seen - bend * (seen + seen_rate))
        second = df + bend * rate
        loss = (bias + noise**2 * second / d) / (1 - second / d)
    return np.asarray(np.where(np.isclose(d, p) & (ridge == 0), np.inf, loss))


def _level(spectrum: Array, samples: Array, features: Array, ridge: float) -> Array:
    """kappa with ridge = kappa (1 - df/D) (1 - df/P) and df below both D and P."""
    d, p = np.broadcast_arrays(samples, features)
    n = np.minimum(d, p)
    if spectrum.ndim != 1 or not (spectrum > 0).all() or not (n > 0).all():
        raise FittingError("the surface needs positive eigenvalues [S], and positive numbers of samples and features.")
    if ridge == 0 and not (n < len(spectrum)).all():
        raise FittingError(f"{n.max():g} samples or features resolve all of {len(spectrum)} eigenvalues: give more.")
    total = spectrum.sum()

    def excess(level: Array, d: Array, p: Array) -> Array:
        kappa = np.exp(level)
        df = (spectrum / (spectrum + kappa[..., None])).sum(-1)
        if ridge == 0:
            return np.asarray(d - df)
        return np.where(df < np.minimum(d, p), kappa * (1 - df / d) * (1 - df / p) - ridge, -ridge)

    if ridge == 0:  # the smaller of the two decides alone
        n, back = np.unique(n, return_inverse=True)
        ends = np.log(spectrum.min() * (len(spectrum) - n) / n) - 1e-9, np.log(total / n) + 1e-9
        return np.asarray(np.exp(find_root(excess, ends, args=(n, n)).x)[back].reshape(d.shape))
    ends = np.full(d.shape, np.log(ridge) - 1e-9), np.log(ridge + total * (1 / d + 1 / p)) + 1e-9
    return np.asarray(np.exp(find_root(excess, ends, args=(d, p)).x))


def simulate_random_features(
    samples: int | None, features: int | None, eigenvalues: ArrayLike, *, draws: int, seed: int = 0, ridge: float = 0.0
) -> Array:
    """Return the loss of draws of random-feature regression, each averaged over all unit targets exactly, [draws].

    Args:
        samples, features: D and P; None for infinitely many.
        eigenvalues: [S].
        draws: how many.
        seed: of the draws; one seed draws the same features whatever the number of samples.
        ridge: as for `random_feature_loss`.

    Example:
        >>> round(float(simulate_random_features(40, None, np.arange(1, 301) ** -1.5, draws=9).mean()), 1)
        0.4
    """
    spectrum, losses = np.asarray(eigenvalues, float), []
    root = np.sqrt(spectrum)
    for draw in range(draws):
        rng = np.random.default_rng([seed, draw])  # the features are the same for every number of samples
        w = None if features is None else rng.standard_normal((features, len(root))) / np.sqrt(features)
        x = None if samples is None else rng.standard_normal((samples, len(root))) * root
        if x is None:  # the loss is the target's part outside the span of the features
            v = np.zeros((0, len(root))) if w is None else w * spectrum
            losses.append(spectrum.sum() - np.trace(np.linalg.solve((v / root) @ (v / root).T, v @ v.T)))
            continue
        seen = x if w is None else x @ w.T
        # the student is u x target, its error (1 - u x) target
        u = _inverse(seen, ridge) if w is None else w.T @ _inverse(seen, ridge)
        weighted = spectrum[:, None] * u
        losses.append(spectrum.sum() - 2 * np.sum(x.T * weighted) + np.sum((u.T @ weighted) * (x @ x.T)))
    return np.array(losses)


def _inverse(seen: Array, ridge: float) -> Array:
    """Matrix that turns labels [D] into weights [P] of ridge regression, or of the least norm."""
    d, p = seen.shape
    if d <= p:
        return np.asarray(np.linalg.solve(seen @ seen.T + ridge * d * np.eye(d), seen).T)
    return np.asarray(np.linalg.solve(seen.T @ seen + ridge * d * np.eye(p), seen.T))
