"""Whether an operator of one's own is fit for recursive distillation: random tests of the axioms it must satisfy.

Source: Sparse Knowledge Distillation (arXiv 2601.03195) and Multi-Teacher Ensemble Distillation (arXiv 2601.09165),
Recursive Meta-Distillation (arXiv 2601.13100), Flouro, Chadwick, 2026. The axioms of meta-teachers are reconstructed.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.random import Generator
from scipy.special import entr, rel_entr

from limbeck.errors import LimbeckError
from limbeck.fitting.model import Array
from limbeck.theory.recursive_operators import FLOOR, soften

Operator = Callable[..., Any]
OperatorKind = Literal["softening", "aggregation", "anchor"]
Check = tuple[str, bool, str]


@dataclass(frozen=True)
class Validity:
    """Which axioms an operator satisfied in all trials.

    Args:
        axioms: a counter-example for each axiom, None where there was none.
        trials: random inputs tried.
    """

    axioms: dict[str, str | None]
    trials: int

    @property
    def admissible(self) -> bool:
        """Whether no counter-example was found."""
        return not any(self.axioms.values())

    def summary(self) -> str:
        """Return one line an axiom."""
        return "\n".join(f"{axiom}: {example or 'no counter-example'}" for axiom, example in self.axioms.items())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"admissible": self.admissible}


def validate_operator(
    operator: Operator, kind: OperatorKind, *, classes: int = 6, trials: int = 200, seed: int = 0
) -> Validity:
    """Try an operator on random distributions, ties and zeros among them, and return a counter-example per axiom.

    Args:
        operator: `operator(p [V], T)` for softening, `operator(teachers [K, V], weights [K])` for aggregation,
            `operator(p [V], q [V], λ)` for an anchor. Each returns a distribution [V].
        kind: which of the three it is.
        classes: V.
        trials: how many inputs.
        seed: of the inputs.

    Raises:
        LimbeckError: an unknown kind.

    Example:
        >>> validate_operator(soften, "softening").admissible
        True
        >>> blind = validate_operator(lambda teachers, weights: teachers.mean(0), "aggregation")
        >>> print(blind.axioms["weight monotonicity"])
        raising weight 0 leaves KL(p_0 ‖ mean) at 0.0273
    """
    if kind not in CHECKS:
        raise LimbeckError(f'unknown kind "{kind}": softening, aggregation or anchor.')
    rng, found = np.random.default_rng(seed), dict[str, str | None]()
    for _ in range(trials):
        for axiom, passed, example in CHECKS[kind](operator, rng, classes):
            found[axiom] = found.get(axiom) or (None if passed else example)
    return Validity(found, trials)


def require_admissible(operator: Operator, kind: OperatorKind, classes: int) -> Operator:
    """Return an operator that passes all axioms.

    Raises:
        LimbeckError: the axioms that it breaks, with a counter-example for each.
    """
    found = validate_operator(operator, kind, classes=classes)
    if not found.admissible:
        broken = "\n".join(f"  {axiom}: {example}" for axiom, example in found.axioms.items() if example)
        raise LimbeckError(f"this {kind} is not admissible; axioms that it breaks:\n{broken}")
    return operator


def _draw(rng: Generator, classes: int, zeros: bool = True) -> Array:
    """A distribution: in one of four draws with its two largest equal, in another with a class of probability 0."""
    p = rng.dirichlet(np.full(classes, rng.choice([0.3, 1.0, 5.0]))) + 1e-6
    trick = rng.integers(4)
    if trick == 0:
        p[np.argsort(p)[-2:]] = p.max()
    elif trick == 1 and zeros:
        p[p.argmin()] = 0
    return np.asarray(p / p.sum())


def _valid(out: Any, where: str) -> Check:
    out = np.asarray(out, float)
    return "validity", bool((out >= 0).all() and abs(out.sum() - 1) < 1e-9), f"{where} gives {_short(out)}"


def _near(axiom: str, first: Any, second: Any, tolerance: float, where: str) -> Check:
    gap = float(np.abs(np.asarray(first, float) - np.asarray(second, float)).sum() / 2)
    return axiom, gap < tolerance, f"{where}: outputs {gap:.3g} apart in total variation"


def _short(p: Array) -> str:
    return np.array2string(np.asarray(p), precision=3, suppress_small=True).replace("\n", "")


def _kl(p: Array, m: Any) -> float:
    """KL(p ‖ m); NaN where m is no distribution, which no axiom passes."""
    return float(rel_entr(p, np.maximum(m, FLOOR)).sum())


def _softening(operator: Operator, rng: Generator, classes: int) -> Iterator[Check]:
    p, t = _draw(rng, classes), float(np.exp(rng.uniform(-1, 2)))
    out, hotter = np.asarray(operator(p, t), float), np.asarray(operator(p, 1.5 * t), float)
    where = f"T = {t:.3g} on {_short(p)}"
    yield _valid(out, where)
    order = np.argsort(p, kind="stable")
    apart = np.diff(p[order]) > 1e-3 * p.max()
    step = np.diff(out[order])
    yield "ranking", bool((step >= -1e-12).all() and (step[apart] > 0).all()), f"{where} gives {_short(out)}"
    yield "entropy monotonicity", bool(entr(hotter).sum() >= entr(out).sum() - 1e-9), f"entropy falls above {where}"
    yield _near("identity", operator(p, 1.0), p, 1e-9, f"T = 1 on {_short(p)}")
    moved = p.copy()
    moved[p.argmax()] += 1e-7
    yield _near("continuity", operator(moved / moved.sum(), t), out, 1e-3, f"p moved by 1e-7 at {where}")
    yield _near("continuity", operator(p, t * (1 + 1e-7)), out, 1e-3, f"T moved by 1e-7 at {where}")
    yield _near("boundary", operator(p, 1e9), (p > 0) / (p > 0).sum(), 1e-3, f"T = 1e9 on {_short(p)}")
    peak = p > p.max() * (1 - 1e-3)
    if peak.sum() == (p == p.max()).sum():
        yield _near("boundary", operator(p, 1e-5), peak / peak.sum(), 1e-3, f"T = 1e-5 on {_short(p)}")


def _aggregation(operator: Operator, rng: Generator, classes: int) -> Iterator[Check]:
    teachers, w = np.stack([_draw(rng, classes) for _ in range(3)]), rng.dirichlet(np.ones(3)) * 0.9 + 0.1 / 3
    out, where = np.asarray(operator(teachers, w), float), f"weights {_short(w)} on {_short(teachers)}"
    yield _valid(out, where)
    yield _near("convexity", operator(teachers[[0, 0, 0]], w), teachers[0], 1e-9, f"three times {_short(teachers[0])}")
    inherited = (out > 0) | (teachers == 0).any(0)
    yield "positivity inheritance", bool(inherited.all()), f"{where} gives {_short(out)}"
    raised = 0.9 * w + 0.1 * np.eye(3)[0]
    before, after = (_kl(teachers[0], m) for m in (out, operator(teachers, raised)))
    words = f"raising weight 0 {'leaves' if after == before else 'raises'} KL(p_0 ‖ mean) at {before:.3g}"
    yield "weight monotonicity", after < before or before < 1e-9, words
    tilted = np.abs(w + np.array([1e-7, -1e-7, 0]))
    yield _near("continuity", operator(teachers, tilted / tilted.sum()), out, 1e-3, f"weights moved by 1e-7: {where}")
    softer = operator(np.stack([soften(p, 1 + 1e-7) for p in teachers]), w)
    yield _near("temperature coherence", softer, out, 1e-3, f"T = 1 + 1e-7, {where}")


def _anchor(operator: Operator, rng: Generator, classes: int) -> Iterator[Check]:
    p, q, weight = _draw(rng, classes, zeros=False), _draw(rng, classes, zeros=False), float(rng.uniform(0.05, 0.9))
    out, where = np.asarray(operator(p, q, weight), float), f"λ = {weight:.3g} on p = {_short(p)}, q = {_short(q)}"
    yield _valid(out, where)
    yield _near("fixed point", operator(q, q, weight), q, 1e-9, f"p = q = {_short(q)}")
    start, here, closer = (_kl(q, m) for m in (p, out, operator(p, q, (1 + weight) / 2)))
    yield "monotonicity", closer < here or here < 1e-9, f"a larger λ does not bring M closer to q: {where}"
    bound = (1 - weight) * start
    yield "anchoring", here <= bound + 1e-9, f"KL(q‖M) = {here:.3g} above (1-λ) KL(q‖p) = {bound:.3g}: {where}"
    yield "positivity inheritance", bool((out > 0).all()), f"{where} gives {_short(out)}"
    yield _near("continuity", operator(p, q, weight + 1e-7), out, 1e-3, f"λ moved by 1e-7: {where}")


CHECKS = {"softening": _softening, "aggregation": _aggregation, "anchor": _anchor}
