"""Distilling a classifier: any network learns from any teacher, by any method, with one call."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbeck.distill import Trainer
from limbeck.distill.examples import Labelled
from limbeck.distill.processes import processes
from limbeck.distill.regime import Regime
from limbeck.errors import ConfigError
from limbeck.runs import RunRecorder
from limbeck.vision.augmentation import Augmentation
from limbeck.vision.beside import beside
from limbeck.vision.evaluation import Comparison, evaluate, flat
from limbeck.vision.methods import Method, method_of, require_fit
from limbeck.vision.slots import Lesson, Reading
from limbeck.vision.teachers import Answers, Kept, Module, Teacher, answers, teacher_of


@dataclass(frozen=True)
class Distilled:
    """A student that was trained.

    Args:
        student: the plain network, without what stood beside it in training.
        judged: student and teacher on examples that neither learnt from; None without any.
        method: its name.
        params: of the student; `extra_params` of the adapters that were trained and left behind.
        steps, seconds: of the training.
        evaluations: columns of `flat` by step.
        notes: what a reader should know.
    """

    student: nn.Module = field(repr=False)
    judged: Comparison | None
    method: str
    params: int
    extra_params: int
    steps: int
    seconds: float
    evaluations: Mapping[int, Mapping[str, float]] = field(repr=False)
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """What it is worth, in plain text."""
        extra = f", {self.extra_params:,} more in training" if self.extra_params else ""
        lines = [f"{self.method}: {self.params:,} parameters{extra}, {self.steps:,} steps in {self.seconds:.1f} s"]
        lines += self.judged.summary().splitlines() if self.judged else ["no held-out examples: not judged"]
        return "\n  ".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the network is not among them."""
        names = ("method", "params", "extra_params", "steps", "seconds", "evaluations", "notes")
        judged = self.judged.to_dict() if self.judged else None
        return {name: getattr(self, name) for name in names} | {"judged": judged, "notes": list(self.notes)}


def distill(
    teacher: Any,
    student: nn.Module,
    data: Labelled,
    *,
    loss: Method | str | Mapping[str, Any] = "kd",
    test: Labelled | None = None,
    regime: Regime | None = None,
    augmentation: Augmentation | None = None,
    classes: tuple[str, ...] | None = None,
    keep: Path | str | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    progress: bool = True,
    columns: Mapping[str, Any] | None = None,
) -> Distilled:
    """Train a student on what a teacher says about examples, and on their labels.

    Args:
        teacher: whatever `teacher_of` takes: a network, a function, an array of logits, an ONNX file, several of them;
            None for labels alone.
        student: any network that maps inputs [n, ...] to logits [n, C]; trained in place.
        data: what it learns from.
        loss: a method, its name (see `limbeck.vision.methods`), or its choices.
        test: examples to judge by; None judges nothing.
        regime: steps, batch, optimiser.
        augmentation: of pictures, the same for teacher and student.
        classes: names of the teacher's classes, where they are not those of the data.
        keep: folder in which the teacher's answers are kept, asked once for every view.
        seed: of the order, of the augmentation and of what the student draws itself (dropout).
        out: folder of records and checkpoints; the same call goes on after a stop.
        progress: one line on a terminal.
        columns: more columns of the run records.

    Raises:
        ConfigError: parts that do not fit, said before the first step.
        TrainingError: a loss that is not finite; `out` holds another training.

    Example:
        >>> from limbeck.vision import Network, labelled
        >>> x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
        >>> data = labelled(x, (x[:, 0] > 0).long())
        >>> teacher = lambda inputs: torch.stack([-4 * inputs[:, 0], 4 * inputs[:, 0]], 1)
        >>> student = Network(hidden=(4,)).build([4], 2, seed=0)
        >>> found = distill(teacher, student, data, test=data, regime=Regime(steps=200), progress=False)
        >>> found.judged.student.accuracy > 0.9
        True
    """
    method, regime, augmentation = method_of(loss), regime or Regime(), augmentation or Augmentation()
    require_fit(method, len(data.classes), int((data.labels >= 0).sum()))
    _require_test(data, test)
    if processes().num_processes > 1:
        raise ConfigError("classifiers are trained in one process: start without torchrun")
    told = teacher_of(student if teacher is None else teacher, data, classes)
    network = told.network if isinstance(told, Module) else None
    if teacher is None and not method.only_labels:
        raise ConfigError(f"{method.name} needs a teacher: give one, or learn from labels alone (ce)")
    comparer = _beside(method, student, network, data, seed)
    asked: Teacher = told
    if keep is not None:
        if method.features or method.views > 1:
            raise ConfigError(f"{method.name} needs more of the teacher than its answers: leave out keep")
        asked = Kept(told, data, augmentation, seed, keep)

    modules = nn.ModuleDict({"student": student, "beside": comparer})
    reading = Reading(data, regime.batch, augmentation, seed, method.views)
    lesson = Lesson(method, student, None if teacher is None else asked, network, comparer, regime.steps)

    judged_by: Any = student
    if test is not None and teacher is not None:  # asked once, whatever the number of evaluations
        judged_by, test = Answers(answers(told, test)), replace(test, rows=None)

    def measure(step: int) -> dict[str, float]:
        assert test is not None
        return {name: value for name, value in flat(evaluate(student, judged_by, test)).items() if value is not None}

    trainer = Trainer(
        [regime.player(modules)],
        lesson,
        reading,
        steps=regime.steps,
        out=None if out is None else Path(out) / "checkpoints",
        config=_identity(method, regime, augmentation, told, data, seed),
        recorder=None if out is None else _recorder(Path(out), method, student, data, seed, columns or {}),
        columns=lambda step: {"samples": step * reading.size},
        evaluate=measure if test is not None else None,
        evaluate_at=regime.evaluate_at,
        checkpoint_every=max(100, regime.steps // 10) if out is not None else None,
        progress=progress,
        label=_label(method, judged_by, test if teacher is not None else None),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        result = trainer.run()
    student.eval()
    comparison = evaluate(student, judged_by, test) if test is not None else None
    return Distilled(
        student=student,
        judged=comparison,
        method=method.name,
        params=_size(student),
        extra_params=_size(comparer),
        steps=result.steps,
        seconds=result.seconds,
        evaluations=result.evaluations,
        notes=tuple(_notes(method, comparison, told, data)) if teacher is not None else (),
    )


def _require_test(data: Labelled, test: Labelled | None) -> None:
    if test is not None and (test.classes != data.classes or test.inputs.shape[1:] != data.inputs.shape[1:]):
        raise ConfigError(
            f"the examples to judge by ({list(test.inputs.shape[1:])}, {len(test.classes)} classes) differ from those "
            f"to learn from ({list(data.inputs.shape[1:])}, {len(data.classes)} classes): give both the same classes, "
            "in the same order, and the same shape"
        )


def _beside(method: Method, student: nn.Module, teacher: nn.Module | None, data: Labelled, seed: int) -> nn.Module:
    """What is trained beside the student: nothing, or what compares features."""
    if not method.features:
        return nn.ModuleList()
    if teacher is None:
        raise ConfigError(f"{method.name} compares features: the teacher must be a network")
    return beside(method.feature_loss, method.features, student, teacher, data.inputs, data.labels, seed)


def _size(module: nn.Module) -> int:
    return sum(one.numel() for one in module.parameters())


def _label(method: Method, judged_by: Any, test: Labelled | None) -> str:
    if test is None:
        return method.name
    return f"{method.name} · teacher {100 * evaluate(judged_by, judged_by, test).teacher.accuracy:.1f} %"


def _identity(
    method: Method, regime: Regime, augmentation: Augmentation, told: Teacher, data: Labelled, seed: int
) -> dict[str, Any]:
    said = hashlib.sha256(told.describe().encode()).hexdigest()[:16] if not method.only_labels else ""
    settings = {"method": method.model_dump(mode="json"), "regime": asdict(regime), "data": data.digest()}
    return settings | {"augmentation": asdict(augmentation), "teacher": said, "seed": seed}


def _recorder(
    out: Path, method: Method, student: nn.Module, data: Labelled, seed: int, columns: Mapping[str, Any]
) -> Callable[..., RunRecorder]:
    known: dict[str, Any] = {"run": out.name, "params": _size(student), "seed": seed, "family": "classifier"}
    return partial(RunRecorder, out / "runs.jsonl", **known | {"recipe": method.name, "dataset": data.name, **columns})


def _notes(method: Method, judged: Comparison | None, told: Teacher, data: Labelled) -> list[str]:
    notes = []
    if judged and judged.student.loss - judged.student.loss_at_temperature > 0.1:
        notes.append(
            f"the student's probabilities are off: divide its logits by {judged.student.temperature:.2f} before use"
        )
    if method.loss == "pld" and method.options.get("weights", "teacher") == "teacher":
        sure = float(
            answers(told, data).softmax(-1).gather(-1, data.labels.clamp(min=0)[:, None])[data.labels >= 0].mean()
        )
        if sure > 0.97:
            notes.append(
                f"the teacher gives the true class {sure:.3f} on average: the ranking counts for nothing. Raise "
                "options: {teacher_temperature: 4}"
            )
    return notes
