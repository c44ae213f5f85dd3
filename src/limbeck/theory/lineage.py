"""A lineage: every generation learns from the last one, anchored on the base teachers, and how far it drifts.

Source: Recursive Meta-Distillation: An Axiomatic Framework for Iterative Knowledge Refinement (Flouro, Chadwick, 2026,
arXiv 2601.13100). Reconstructed from its abstract.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from limbeck.fitting.model import Array
from limbeck.theory.operator_axioms import Operator, OperatorKind, require_admissible
from limbeck.theory.recursive_operators import Kind, aggregate, anchor, floored, kl, plateau, soften

SERIES = ("weights", "forward", "reverse", "variation", "agreement", "errors", "accuracy")
ROWS = {"softening": "(v),()->(v)", "aggregation": "(k,v),(k)->(v)", "anchor": "(v),(v),()->(v)"}
"""What an operator of one's own takes for each input, as in `numpy.vectorize`."""


@dataclass(frozen=True)
class Lineage:
    """What became of a recursive distillation, one entry a generation; divergences are means over inputs, in nats.

    Args:
        weights: λ.
        forward: KL(q‖p).
        reverse: KL(p‖q).
        variation: total variation between p and q.
        agreement: share of inputs where p and q prefer the same class.
        errors: ε, KL(q‖p) minus KL(q‖M).
        accuracy: share of inputs where p prefers the label; empty without labels.
        student: the last generation, [..., V].
        base: q, [..., V].
    """

    weights: tuple[float, ...]
    forward: tuple[float, ...]
    reverse: tuple[float, ...]
    variation: tuple[float, ...]
    agreement: tuple[float, ...]
    errors: tuple[float, ...]
    accuracy: tuple[float, ...]
    student: Array
    base: Array

    @property
    def plateau(self) -> float:
        """The bound ε/λ with the mean error and the last weight."""
        return plateau(max(float(np.mean(self.errors)), 0.0), self.weights[-1])

    @property
    def drifts(self) -> bool:
        """Whether an unanchored lineage moved away from its base in each of its last three generations."""
        return self.weights[-1] == 0 and len(self.forward) > 3 and bool((np.diff(self.forward[-4:]) > 0).all())

    def summary(self) -> str:
        """Return where the lineage came to and whether it holds."""
        accuracy = f", accuracy {self.accuracy[0]:.3f} → {self.accuracy[-1]:.3f}" if self.accuracy else ""
        drift = "unanchored drift: give every generation some weight of its base teachers"
        path = f"KL(base‖student) {self.forward[0]:.3g} → {self.forward[-1]:.3g} nats{accuracy}"
        end = drift if self.drifts else f"plateau at most {self.plateau:.3g}"
        return f"{len(self.forward)} generations, anchor {self.weights[-1]:g}: {path}; {end}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain numbers; the distributions are left out."""
        kept = {name: list(getattr(self, name)) for name in SERIES}
        return kept | {"plateau": self.plateau if math.isfinite(self.plateau) else None, "drifts": self.drifts}


def recursive_distill(
    teachers: ArrayLike, student_fit: Callable[[Array, int], ArrayLike], *, weight: float | Sequence[float],
    generations: int = 10, weights: ArrayLike | None = None, kind: Kind = "arithmetic", temperature: float = 1.0,
    start: ArrayLike | None = None, labels: ArrayLike | None = None, tolerance: float | None = None,
    inputs: ArrayLike | None = None, operators: Mapping[OperatorKind, Operator] | None = None,
) -> Lineage:  # fmt: skip
    """Let every generation learn from the last one, anchored on the base teachers, and measure how far it goes.

    q = aggregate(soften(teachers)); then, generation by generation, M = anchor(p, q, λ) and p = student_fit(M, t).

    Args:
        teachers: base teachers on the inputs, [K, ..., V].
        student_fit: trains a student on the meta-teacher [..., V] of a generation and returns its predictions there.
        weight: anchor λ, or one a generation.
        generations: how many, unless λ is given for each.
        weights: of the base teachers; equal by default.
        kind: of both means.
        temperature: softens the base teachers.
        start: predictions of generation 0; q by default.
        labels: true class of each input, [...].
        tolerance: stop once KL(q‖p) falls and is within this of ε/λ, or an unanchored lineage drifts; None to go on.
        inputs: places of those that all measures are means over; all by default.
        operators: to take in place of the ones here, see `validate_operator`.

    Raises:
        LimbeckError: weights that are none, predictions that are no distributions, an operator that breaks an axiom.

    Example:
        >>> exact = recursive_distill([[0.7, 0.3]], lambda target, t: target, weight=[0.5] * 4, start=[0.1, 0.9])
        >>> np.round(exact.variation, 4).tolist()
        [0.3, 0.15, 0.075, 0.0375]
    """
    given, on = floored(teachers), ... if inputs is None else np.asarray(inputs)
    own = {
        name: np.vectorize(require_admissible(operator, name, given.shape[-1]), signature=ROWS[name])
        for name, operator in (operators or {}).items()
    }
    mix, softening = own.get("anchor", partial(anchor, kind=kind)), own.get("softening", soften)
    base = np.stack([softening(teacher, temperature) for teacher in given])
    shares = np.full(len(base), 1 / len(base)) if weights is None else weights
    aggregation = own.get("aggregation", lambda many, w: aggregate(np.moveaxis(many, -2, 0), w, kind))
    q = aggregation(np.moveaxis(base, 0, -2), shares)
    p = q if start is None else floored(start)
    record: dict[str, list[float]] = {name: [] for name in SERIES}
    for t, anchored in enumerate([weight] * generations if isinstance(weight, int | float) else weight):
        target = mix(p, q, anchored)
        p = floored(student_fit(target, t))
        forward, best = float(kl(q, p)[on].mean()), p.argmax(-1)
        measured = {
            "weights": anchored, "forward": forward, "reverse": kl(p, q)[on].mean(),
            "variation": np.abs(p - q).sum(-1)[on].mean() / 2, "agreement": (best == q.argmax(-1))[on].mean(),
            "errors": forward - kl(q, target)[on].mean(),
        }  # fmt: skip
        if labels is not None:
            measured["accuracy"] = (best == np.asarray(labels))[on].mean()
        for name, value in measured.items():
            record[name].append(float(value))
        lineage = Lineage(**{name: tuple(values) for name, values in record.items()}, student=p, base=q)
        falling = anchored > 0 and t > 0 and forward < lineage.forward[-2]
        if tolerance is not None and (lineage.drifts or (falling and forward - lineage.plateau < tolerance)):
            break
    return lineage
