"""Generations of classifiers: a network learns from itself again and again, or a lineage from its base teachers.

Self-distillation mixes the labels with what the last generation says; a lineage mixes a base teacher with it. Every
generation is a folder of its own, and one that is finished is never trained again.

Source: Even your Teacher Needs Guidance (Borup, Andersen, 2021, arXiv 2102.13088); Recursive Meta-Distillation (Flouro,
Chadwick, 2026, arXiv 2601.13100). Reconstructed for networks: the estimate of the weight, and the whole lineage.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import nn

from limbeck.distill.examples import Labelled, require_apart
from limbeck.distill.regime import Regime
from limbeck.errors import ConfigError
from limbeck.fitting.model import Array
from limbeck.settings import Count, Number, Settings
from limbeck.theory import Lineage, choose_lambda, optimal_alpha, recursive_distill
from limbeck.vision.augmentation import Augmentation
from limbeck.vision.evaluation import Comparison, Judgement, evaluate, judge
from limbeck.vision.methods import Method, method_of
from limbeck.vision.teachers import Answers, Module, answers, log_probabilities, teacher_of
from limbeck.vision.training import distill

Student = Callable[[int], nn.Module]
"""Makes the student of a generation, by its number."""


@dataclass(frozen=True)
class Generation:
    """One student.

    Args:
        weight: α of the labels, or λ of the base teachers.
        unclipped: the estimate of α before it was brought between 0 and 1; None where it was given.
        distance: on the validation examples: squared error of probabilities or nats from the labels, or
            KL(base‖student).
        judged: on the test examples, beside the teacher that it had, the first beside itself; or beside the base.
    """

    weight: float
    unclipped: float | None
    distance: float
    judged: Comparison

    def summary(self) -> str:
        """One line."""
        estimate = "" if self.unclipped is None else f" (unclipped {self.unclipped:.2f})"
        alike = f"{100 * self.judged.agreement:.1f} % answered like its teacher"
        return f"weight {self.weight:.2f}{estimate}, {self.distance:.4f} off; {self.judged.student.summary()}; {alike}"


@dataclass(frozen=True)
class Generations:
    """Students, each of which learnt from the one before.

    Args:
        students: one a generation.
        generations: what each is worth.
        best: number of the one to keep: nearest to the labels on the validation examples, or the last of a lineage.
        notes: what a reader should know.
        decays: the first generation again with other weight decays: its validation distance by them.
        baseline: the best of these on the test examples.
        lineage: divergences from the base on the validation examples.
    """

    students: tuple[nn.Module, ...] = field(repr=False)
    generations: tuple[Generation, ...]
    best: int
    notes: tuple[str, ...]
    decays: Mapping[float, float] = field(default_factory=dict)
    baseline: Judgement | None = None
    lineage: Lineage | None = None

    @property
    def student(self) -> nn.Module:
        """The one to keep."""
        return self.students[self.best]

    def summary(self) -> str:
        """One line a generation, and the notes."""
        lines = [f"{number}: {one.summary()}" for number, one in enumerate(self.generations)]
        return "\n  ".join([f"{len(lines)} generations, {self.best} is kept", *lines, *self.notes])

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the networks are not among them."""
        each = [vars(one) | {"judged": one.judged.to_dict()} for one in self.generations]
        decays = {f"{one:g}": cost for one, cost in self.decays.items()}
        baseline, lineage = (one and one.to_dict() for one in (self.baseline, self.lineage))
        said = {"generations": each, "best": self.best, "notes": [*self.notes], "decays": decays}
        return said | {"baseline": baseline, "lineage": lineage}


def method(loss: str, alpha: float) -> Method:
    """Labels with a weight α and a teacher with the rest, by "ce" or by "mse_prob".

    Raises:
        ConfigError: another loss.

    Example:
        >>> method("ce", 0.25).weight.start
        0.75
    """
    if loss == "ce":
        return method_of({"temperature": 1, "weight": 1 - alpha, "ce_weight": alpha})
    if loss != "mse_prob":
        raise ConfigError(f'loss must be "mse_prob" or "ce", got "{loss}"')
    squares = {"loss": "squared_probabilities", "options": {"alpha": alpha}}
    return method_of(squares | {"temperature": 1, "weight": 1, "ce_weight": 0})


def distill_generations(
    student: Student, data: Labelled, *, valid: Labelled, test: Labelled, rounds: int = 4,
    alpha: float | Sequence[float] | Literal["estimate"] = "estimate", loss: Literal["mse_prob", "ce"] = "mse_prob",
    decays: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2), regime: Regime | None = None,
    augmentation: Augmentation | None = None, seed: int = 0, out: Path | str | None = None, progress: bool = True,
) -> Generations:  # fmt: skip
    """Let a network learn labels, and then every generation from the last one and the labels.

    `alpha loss(student, y) + (1 - alpha) loss(student, last generation)`. The estimate of α needs one more training
    a round, of a student that hears its teacher alone: with validation probabilities f_0 of that and f_1 of the first
    network, α = <y - f_0, f_1 - f_0> / |f_1 - f_0|², or the α whose mixture of the two has the least cross-entropy.

    Args:
        student: makes the network of a generation; the same start each time makes the estimate less noisy.
        data: what all learn from, every example with a label.
        valid: chooses α, the generation and the weight decay.
        test: is only judged by.
        rounds: generations after the first.
        alpha: weight of the labels, one for each round, or "estimate".
        loss: mean square of probabilities, or cross-entropy.
        decays: weight decays of the baseline, beside the regime's own.
        regime, augmentation, seed, progress: see `distill`.
        out: one folder a training; the same call goes on after a stop.

    Raises:
        ConfigError: missing labels, weights that do not fit, validation examples among the others.

    Example:
        >>> from limbeck.vision import Network, labelled
        >>> x = torch.randn(90, 4, generator=torch.Generator().manual_seed(0))
        >>> parts = [labelled(one, (one[:, 0] > 0).long(), ("no", "yes")) for one in x.split(30)]
        >>> found = distill_generations(
        ...     lambda number: Network().build([4], 2, seed=0), parts[0], valid=parts[1], test=parts[2], rounds=1,
        ...     regime=Regime(steps=30), decays=(), progress=False)
        >>> len(found.generations), found.decays.keys()
        (2, dict_keys([0.0]))
    """
    schedule: list[Any] = [alpha] * rounds if isinstance(alpha, float | int | str) else list(alpha)
    fitting = (one == "estimate" or (isinstance(one, float | int) and 0 <= one <= 1) for one in schedule)
    if len(schedule) != rounds or not all(fitting):
        raise ConfigError(f'alpha must be from 0 to 1, one or {rounds} of them, or "estimate"; got {alpha}')
    if min(int(part.labels.min()) for part in (data, valid, test)) < 0:
        raise ConfigError("self-distillation needs every label: leave out the examples that have none")
    require_apart(valid, data, test)
    regime, truth = regime or Regime(), np.eye(len(valid.classes))[valid.labels.numpy()]

    def learn(name: str, number: int, teacher: nn.Module | None, weight: float, decay: float) -> nn.Module:
        network = student(number)
        told = network if teacher is None and loss == "mse_prob" else teacher
        distill(
            told, network, data, loss=method(loss, weight), regime=replace(regime, weight_decay=decay), seed=seed,
            augmentation=augmentation, progress=progress, out=None if out is None else Path(out) / name,
            columns={"recipe": "self-distillation", "alpha": weight},
        )  # fmt: skip
        return network

    def distance(p: Array) -> float:
        return float(((p - truth) ** 2).sum(-1).mean() if loss == "mse_prob" else -np.log((p * truth).sum(-1)).mean())

    own, students, generations = regime.weight_decay, list[nn.Module](), list[Generation]()
    for number, weight in enumerate([1.0, *schedule]):
        last, unclipped, network = students[-1] if students else None, None, None
        if weight == "estimate":
            network = learn(f"generation-{number}-taught", number, last, 0.0, own)
            kind: Any = "squared" if loss == "mse_prob" else "cross_entropy"
            mixing = optimal_alpha(probabilities(students[0], valid), probabilities(network, valid), truth, loss=kind)
            weight, unclipped = mixing.alpha, mixing.unclipped
        if network is None or weight > 0:
            network = learn(f"generation-{number}", number, last, float(weight), own)
        judged = evaluate(network, network if last is None else last, test)
        generations.append(Generation(float(weight), unclipped, distance(probabilities(network, valid)), judged))
        students.append(network)
    tuned = {own: students[0]} | {one: learn(f"decay-{one:g}", 0, None, 1.0, one) for one in decays if one != own}
    losses = {one: distance(probabilities(network, valid)) for one, network in tuned.items()}
    decay = min(losses, key=lambda one: losses[one])
    best = min(range(len(generations)), key=lambda one: generations[one].distance)
    baseline = judge(answers(Module(tuned[decay]), test), test.labels)
    note = f"labels alone, tuned weight decay {decay:g}: {losses[decay]:.4f} off; {baseline.summary()}"
    notes = [note]
    if all(one.unclipped is not None and one.weight == 1 for one in generations[1:]):
        notes.append("every estimate puts all weight on the labels: distilling this network into itself gains nothing")
    return Generations(tuple(students), tuple(generations), best, tuple(notes), losses, baseline)


def distill_lineage(
    teachers: Sequence[Any], student: Student, data: Labelled, *, valid: Labelled, test: Labelled, rounds: int = 10,
    anchor: float | Sequence[float] | Literal["auto"] = 0.3, target: float | None = None,
    tolerance: float | None = 1e-3, loss: Literal["mse_prob", "ce"] = "ce", regime: Regime | None = None,
    seed: int = 0, out: Path | str | None = None, progress: bool = True, **how: Any,
) -> Generations:  # fmt: skip
    """Let every generation learn from the last one, anchored with a weight λ on the base teachers.

    No label is learnt, and nothing is augmented. Divergences are larger on the validation examples than on those that
    students learn from.

    Args:
        teachers: the base, each whatever `teacher_of` takes.
        student: makes the network of a generation.
        data: what students learn from.
        valid: what the stop and λ are measured on.
        test: is only judged by.
        rounds: generations, unless λ is given for each.
        anchor: λ, or "auto": the least whose plateau ε/λ is below `target`, with the ε of the first generation, which
            is the same for every λ.
        target: divergence from the base that is acceptable, nats.
        tolerance: stop within so much of the predicted plateau, or at an unanchored drift; None to go on.
        loss: cross-entropy, or mean square of probabilities.
        regime, seed, progress: see `distill`.
        out: one folder a generation; the same call goes on after a stop.
        how: weights, kind, temperature and operators of `limbeck.theory.recursive_distill`.

    Raises:
        ConfigError: "auto" without a target; validation examples among the others.
        LimbeckError: an operator that breaks an axiom; a target that no λ reaches.
    """
    if (anchor == "auto") != (target is not None):
        raise ConfigError('anchor: "auto" and target, the divergence in nats that is acceptable, need each other')
    require_apart(valid, data, test)
    parts, sizes = (data, valid, test), np.cumsum([len(data), len(valid)])
    joined = [torch.cat(one) for one in zip(*((part.inputs, part.labels, part.places) for part in parts), strict=True)]
    pool = Labelled(joined[0], joined[1], data.classes, data.name, joined[2])
    said = [answers(teacher_of(one, pool), pool).double().softmax(-1).numpy() for one in teachers]
    students: dict[int, nn.Module] = {}

    def fit(meta: Array, number: int) -> Array:
        if number not in students:
            students[number] = student(number)
            distill(
                log_probabilities(torch.from_numpy(meta)).float(), students[number], replace(data, rows=None),
                loss=method(loss, 0.0), regime=regime, seed=seed, progress=progress, columns={"recipe": "lineage"},
                out=None if out is None else Path(out) / f"generation-{number}",
            )  # fmt: skip
        return probabilities(students[number], pool)

    how |= {"labels": pool.labels, "inputs": range(*sizes), "tolerance": tolerance}
    notes, weight = list[str](), anchor if not isinstance(anchor, str) else 1.0
    if target is not None:
        error = recursive_distill(said, fit, weight=1.0, generations=1, **how).errors[0]
        weight = choose_lambda(max(error, 1e-9), target)
        notes.append(f"λ = {weight:.3g}: the first generation adds {error:.4f} nats, and {target:g} are acceptable")
    lineage = recursive_distill(said, fit, weight=weight, generations=rounds, **how)
    notes.append(lineage.summary())
    base = Answers(log_probabilities(torch.from_numpy(lineage.base[sizes[1] :])).float())
    generations = [
        Generation(weight, None, distance, evaluate(students[number], base, replace(test, rows=None)))
        for number, (weight, distance) in enumerate(zip(lineage.weights, lineage.forward, strict=True))
    ]
    return Generations(tuple(students.values()), tuple(generations), len(students) - 1, tuple(notes), lineage=lineage)


class GenerationSettings(Settings):
    """The group `generations` of a recipe: self-distillation, or a lineage of its teachers where `anchor` is given.

    Args:
        rounds, alpha, anchor, target, loss: see `distill_generations` and `distill_lineage`.
        valid: share of the examples to learn from that chooses weights instead.
    """

    rounds: Count = Field(default=4, gt=0)
    alpha: Number | Literal["estimate"] = "estimate"
    anchor: Number | Literal["auto"] | None = None
    target: Number | None = Field(default=None, gt=0)
    loss: Literal["mse_prob", "ce"] = "mse_prob"
    valid: Number = Field(default=0.25, gt=0, lt=1)

    def run(self, base: Any, student: Student, data: Labelled, augmentation: Augmentation, **how: Any) -> Generations:
        """Split the examples and begin."""
        learn, valid = data.split(how["seed"], self.valid, unlabelled=True)
        how |= {"valid": valid, "rounds": self.rounds, "loss": self.loss}
        if self.anchor is None:
            return distill_generations(student, learn, alpha=self.alpha, augmentation=augmentation, **how)
        return distill_lineage([base], student, learn, anchor=self.anchor, target=self.target, **how)


def probabilities(network: nn.Module, data: Labelled) -> Array:
    """What a network says about all examples, [N, C]."""
    return np.asarray(answers(Module(network), data).double().softmax(-1).numpy())
