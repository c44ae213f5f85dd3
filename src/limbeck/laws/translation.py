"""Laws of models in two parts, an encoder and a decoder (or trunk and head, retriever and reader, user and item tower).

A parameter in one part buys something else than one in the other. Where the parts multiply, `TwoPart` is the law; where
each stores knowledge of its own, `TwoPartSum`. `fit_two_part` fits both beside the law of the total and chooses by the
error on the largest models; `planning.allocate_two_parts` splits a budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import fdtrc

from limbeck.errors import FittingError
from limbeck.fitting import Comparison, Fit, Model, Parameter, compare, minimise
from limbeck.fitting.model import Array
from limbeck.fitting.resampling import leave_one_out
from limbeck.laws.law import LINEAR, SOURCES, Law
from limbeck.laws.law import fit as fit_law
from limbeck.laws.loss import PowerFloor, exponent
from limbeck.runs import read_runs

GHORBANI = SOURCES["ghorbani-2021"]
UNIT = {"encoder_params": "p_e", "decoder_params": "p_d"}
PARTS = tuple(UNIT)


class Parts(Law):
    """A law of two sizes."""

    source = GHORBANI
    columns = PARTS
    floor = "L_inf"
    preferred_loss = LINEAR

    def size(self, x: Any) -> Any:
        """The parameters of both parts together."""
        return x.encoder_params + x.decoder_params


@dataclass(frozen=True)
class TwoPart(Parts):
    """Product law of two sizes: L = alpha (R_e/N_e)^p_e (R_d/N_d)^p_d + L_inf (eq. 2).

    Sizes leave out embeddings and the softmax. R_e and R_d are the sizes of a reference model, and alpha its reducible
    loss; other references change alpha alone.

    Args:
        encoder_reference, decoder_reference: R_e and R_d.

    Source: Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv 2109.07740); the algebra is
    reconstructed from public summaries.

    Example:
        >>> law = TwoPart(1e8, 1e8)
        >>> float(law({"alpha": 0.5, "p_e": 0.2, "p_d": 0.3, "L_inf": 1.0}, encoder_params=1e8, decoder_params=1e8))
        1.5
    """

    encoder_reference: float = 1.0
    decoder_reference: float = 1.0

    name = "two-part"
    equation = "alpha (R_e / encoder_params)^p_e (R_d / decoder_params)^p_d + L_inf"
    linear = ("alpha", "L_inf")
    parameters = (
        Parameter("alpha", "reducible loss of the reference", log=True, dimension=UNIT),
        exponent("p_e", "exponent of the encoder"),
        exponent("p_d", "exponent of the decoder"),
        Parameter("L_inf", "irreducible loss", log=True),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """Alpha (R_e/N_e)^p_e (R_d/N_d)^p_d + L_inf."""
        encoder, decoder = self.encoder_reference / x.encoder_params, self.decoder_reference / x.decoder_params
        return p.alpha * encoder**p.p_e * decoder**p.p_d + p.L_inf


class TwoPartSum(Parts):
    """Additive law of two sizes: L = a N_e^-p_e + b N_d^-p_d + L_inf, for parts that store independent knowledge.

    Source: a rival form for the tables of Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv
    2109.07740); it is not in the paper.

    Example:
        >>> p = {"a": 10.0, "p_e": 0.5, "b": 20.0, "p_d": 0.5, "L_inf": 1.0}
        >>> float(TwoPartSum()(p, encoder_params=1e4, decoder_params=1e4))
        1.3
    """

    name = "two-part-sum"
    equation = "a / encoder_params^p_e + b / decoder_params^p_d + L_inf"
    linear = ("a", "b", "L_inf")
    parameters = (
        Parameter("a", "encoder term at one parameter", log=True, dimension={"encoder_params": "p_e"}),
        exponent("p_e", "exponent of the encoder"),
        Parameter("b", "decoder term at one parameter", log=True, dimension={"decoder_params": "p_d"}),
        exponent("p_d", "exponent of the decoder"),
        Parameter("L_inf", "irreducible loss", log=True),
    )

    def formula(self, p: Any, x: Any) -> Any:
        """A N_e^-p_e + b N_d^-p_d + L_inf."""
        return p.a * x.encoder_params**-p.p_e + p.b * x.decoder_params**-p.p_d + p.L_inf


@dataclass(frozen=True)
class TwoPartFit:
    """A law of two parts, chosen among its rivals by the error on the largest models.

    Args:
        form: the chosen form: product, additive or univariate.
        fits: every form fitted to all models.
        comparison: errors on the largest models, laws fitted to the smaller ones.
        left_out: root mean square error on a shape that was left out, by form.
    """

    form: str
    fits: dict[str, Fit]
    comparison: Comparison
    left_out: dict[str, float]

    @property
    def fit(self) -> Fit:
        """The fit of the chosen form: predict with it, and plan with it."""
        return self.fits[self.form]

    def r2(self, form: str) -> float:
        """Return the share of the variance that a form explains."""
        fit = self.fits[form]
        return 1.0 - 2 * fit.objective / float(np.sum((fit.data.target - fit.data.target.mean()) ** 2))

    def summary(self) -> str:
        """Return the forms by their errors, and the chosen one's parameters."""
        held = {c.name: c.validation.error for c in self.comparison.candidates}
        lines = [f"{'':12}{'R²':>7}{'largest held out':>18}{'a shape left out':>18}"]
        for form, fit in self.fits.items():
            lines.append(f"{form:12}{self.r2(form):7.3f}{held[fit.model.name]:18.3g}{self.left_out[form]:18.3g}")
        return "\n".join([*lines, f"chosen: {self.form}", "", self.fit.summary()])

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        fits = {form: fit.to_dict(full=False) | {"r2": self.r2(form)} for form, fit in self.fits.items()}
        held = self.comparison.to_dict() | {"left_out": self.left_out}
        return {"form": self.form, "fits": fits, "comparison": held}

    def plot(self, **options: Any) -> Any:
        """Draw the chosen law and the data."""
        return self.fit.plot(**options)


def fit_two_part(
    runs: Any, *, form: Literal["auto", "product", "additive", "univariate"] = "auto",
    reference: tuple[float, float] = (1.0, 1.0), bootstrap: int = 200, seed: int = 0, **read: Any,
) -> TwoPartFit:  # fmt: skip
    """Fit the laws of two parts and of the total by least squares on the loss; choose by the largest models held out.

    Args:
        runs: as for `fit`, with the columns encoder_params, decoder_params and loss.
        form: the law to report; "auto" takes the one with the least error on the largest models.
        reference: sizes of the reference model of the product law.
        bootstrap: number of resamples.
        seed: of starts and resamples.
        read: options of `read_runs`.

    Raises:
        FittingError: fewer than six shapes, or one aspect ratio only.
        RunsError: a column is not there, or a row is bad.

    Source: Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv 2109.07740).
    """
    table = read_runs(runs, **read).require(*PARTS, "loss")
    encoder, decoder = (table.column(name) for name in PARTS)
    shapes, shape = np.unique(np.stack([encoder, decoder], 1), axis=0, return_inverse=True)
    ratio = np.log(shapes[:, 0] / shapes[:, 1])
    if len(shapes) < 6 or np.ptp(ratio) < 0.01:
        raise FittingError(
            f"{len(shapes)} shapes of encoder and decoder, their ratio from {np.exp(ratio.min()):.3g} to "
            f"{np.exp(ratio.max()):.3g}: p_e and p_d cannot be told apart. Train six shapes in two aspect ratios."
        )
    columns = {PARTS[0]: encoder, PARTS[1]: decoder, "params": encoder + decoder, "loss": table.column("loss")}
    laws = {"product": TwoPart(*reference), "additive": TwoPartSum(), "univariate": PowerFloor("params")}
    fits, left_out, masks = {}, {}, leave_one_out(shape.reshape(-1))
    for name, law in laws.items():
        own = {c: columns[c] for c in (*law.columns, "loss")}
        fit = fits[name] = fit_law(law, own, loss=LINEAR, bootstrap=bootstrap, seed=seed)
        ends = minimise(fit.problem.with_rows(weights=masks), np.repeat(fit.z[None], len(masks), 0), damping=0.1)
        left_out[name] = float(np.sqrt(np.mean(fit.problem.residuals(ends.z)[masks == 0] ** 2)))
    comparison = compare(list(fits.values()))
    best = next(name for name, fit in fits.items() if fit is comparison.best)
    return TwoPartFit(best if form == "auto" else form, fits, comparison, left_out)


def best_split(
    p_e: ArrayLike, p_d: ArrayLike, budget: float, cost: tuple[float, float] = (1.0, 1.0)
) -> tuple[Array, Array]:
    """Return the sizes of encoder and decoder that the product law likes best on k_e N_e + k_d N_d = budget.

    N_e = (B/k_e) p_e/(p_e + p_d), N_d = (B/k_d) p_d/(p_e + p_d), whatever alpha and L_inf are.

    Args:
        p_e, p_d: exponents.
        budget: B, in the unit of the costs.
        cost: k_e and k_d of one parameter.

    Source: derived from Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv 2109.07740).

    Example:
        >>> [float(size) for size in best_split(0.1, 0.3, 8e8)]
        [200000000.0, 600000000.0]
    """
    share = np.asarray(p_e, float) / (np.asarray(p_e, float) + np.asarray(p_d, float))
    return share * budget / cost[0], (1 - share) * budget / cost[1]


def split_penalty(share: ArrayLike, p_e: float, p_d: float) -> Array:
    """Return by how much the reducible loss grows if the encoder gets this share of a budget and not its best one.

    (f*/f)^p_e ((1 - f*)/(1 - f))^p_d with f* = p_e/(p_e + p_d).

    Source: derived from Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv 2109.07740).

    Example:
        >>> float(split_penalty(0.5, 0.2, 0.2))
        1.0
    """
    best, f = p_e / (p_e + p_d), np.asarray(share, float)
    return np.asarray((best / f) ** p_e * ((1 - best) / (1 - f)) ** p_d)


@dataclass(frozen=True)
class _Sets(Model):
    """The product law of several test sets: exponents shared, alpha and L_inf each set's own."""

    count: int

    name = "two-part, shared exponents"
    target = "loss"

    @property
    def columns(self) -> tuple[str, ...]:  # type: ignore[override]
        """Sizes, and one indicator a set."""
        return (*PARTS, *(f"set_{k}" for k in range(self.count)))

    @property
    def linear(self) -> tuple[str, ...]:  # type: ignore[override]
        """Every alpha and every L_inf."""
        return tuple(f"{name}_{k}" for k in range(self.count) for name in ("alpha", "L_inf"))

    @property
    def parameters(self) -> tuple[Parameter, ...]:  # type: ignore[override]
        """The shared exponents, then alpha and L_inf of every set."""
        alpha, p_e, p_d, floor = TwoPart.parameters
        own = [Parameter(f"{one.name}_{k}", log=True, dimension=one.dimension) for k in range(self.count)
               for one in (alpha, floor)]  # fmt: skip
        return (p_e, p_d, *own)

    def formula(self, p: Any, x: Any) -> Any:
        """Sum over sets of indicator times (alpha_k N_e^-p_e N_d^-p_d + L_inf_k)."""
        parts = x.encoder_params**-p.p_e * x.decoder_params**-p.p_d
        own = ((getattr(p, f"alpha_{k}"), getattr(p, f"L_inf_{k}")) for k in range(self.count))
        return sum(getattr(x, f"set_{k}") * (alpha * parts + floor) for k, (alpha, floor) in enumerate(own))


@dataclass(frozen=True)
class Sharing:
    """Whether test sets share the exponents of the product law.

    Args:
        sets: names of the test sets.
        shared: p_e and p_d of all sets together.
        separate: p_e and p_d of each set alone.
        F, p_value: of the test that the exponents are equal.
        aic: of "shared" and of "separate"; the lower is better.
    """

    sets: tuple[str, ...]
    shared: tuple[float, float]
    separate: dict[str, tuple[float, float]]
    F: float
    p_value: float
    aic: dict[str, float]

    def summary(self) -> str:
        """Return the exponents and the verdict."""
        lines = [f"{name}: p_e {e:.3f}, p_d {d:.3f}" for name, (e, d) in self.separate.items()]
        verdict = "differ between the sets" if self.p_value < 0.05 else "may be shared"
        lines.append(f"all: p_e {self.shared[0]:.3f}, p_d {self.shared[1]:.3f}; the exponents {verdict}")
        return "\n".join([*lines, f"F = {self.F:.3g}, p = {self.p_value:.2g}"])


def share_exponents(sets: Mapping[str, Mapping[str, ArrayLike]]) -> Sharing:
    """Fit the product law to several test sets with shared and with separate exponents, and test one against the other.

    F = ((S_shared - S_separate) / (2 (k - 1))) / (S_separate / (n - 4 k)) over k sets of n points together.

    Args:
        sets: encoder_params, decoder_params and loss, [n] each, by name of the test set.

    Raises:
        FittingError: one set only, or no more points than parameters.

    Source: Scaling Laws for Neural Machine Translation (Ghorbani et al., 2021, arXiv 2109.07740); the test is
    reconstructed.
    """
    k = len(sets)
    each = {name: [np.asarray(one[name], float) for one in sets.values()] for name in (*PARTS, "loss")}
    joined, counts = {name: np.concatenate(values) for name, values in each.items()}, [len(one) for one in each["loss"]]
    n, member = sum(counts), np.repeat(np.arange(k), counts)
    if k < 2 or n <= 4 * k:
        raise FittingError(f"{n} points in {k} test sets: two sets and more than four points a set are needed.")
    columns = joined | {f"set_{j}": (member == j).astype(float) for j in range(k)}
    shared = fit_law(_Sets(k), columns, loss=LINEAR, bootstrap=0)
    alone = {name: fit_law(TwoPart(), dict(one), bootstrap=0) for name, one in sets.items()}
    together, apart = 2 * shared.objective, 2 * sum(fit.objective for fit in alone.values())
    f = float((together - apart) / (2 * (k - 1)) / max(apart / (n - 4 * k), 1e-300))
    counted = {"shared": (together, 2 * k + 2), "separate": (apart, 4 * k)}
    aic = {name: n * math.log(max(rss, 1e-300) / n) + 2 * count for name, (rss, count) in counted.items()}
    both, *own = ((one.parameters["p_e"], one.parameters["p_d"]) for one in (shared, *alone.values()))
    p_value = float(fdtrc(2 * (k - 1), n - 4 * k, max(f, 0.0)))
    return Sharing(tuple(sets), both, dict(zip(sets, own, strict=True)), f, p_value, aic)
