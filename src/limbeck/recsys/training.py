"""Training a click network: alone, from a teacher that is there, or beside one that learns on the same batches."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from limbeck.distill import Regime, Trainer
from limbeck.distill.players import digest
from limbeck.errors import ConfigError
from limbeck.recsys.batches import ClickBatch, reading
from limbeck.recsys.clicks import Clicks
from limbeck.recsys.cost import Cost
from limbeck.recsys.evaluation import ClickJudgement, judge
from limbeck.recsys.networks import share_tables
from limbeck.runs import RunRecorder

Way = Literal["ce", "kd", "online"]


def soft_clicks(student: Tensor, teacher: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Cross-entropy of softened click probabilities, a mean over the batch.

    -mean[ q ln p + (1 - q) ln(1 - p) ] with p = sigmoid(student / t), q = sigmoid(teacher / t), detached.

    Args:
        student, teacher: logits, any shape.
        temperature: t.

    Source: Exploring Scaling Laws of CTR Model for Online Performance Improvement (Lai et al., 2025, arXiv 2508.15326).

    Example:
        >>> round(float(soft_clicks(torch.zeros(3), torch.zeros(3))), 4)
        0.6931
    """
    target = (teacher.detach() / temperature).sigmoid()
    return binary_cross_entropy_with_logits(student / temperature, target)


@dataclass(frozen=True)
class Lesson:
    """What a student learns from.

    Args:
        way: "ce" labels alone; "kd" labels and a teacher that stays as it is; "online" labels and a teacher that learns
            them on the same batches, both from scratch.
        temperature: t of `soft_clicks`.
        weight: of it; None is t^2, which undoes the 1/t^2 of its gradient (reconstructed: the paper only says that the
            weight compensates).
    """

    way: Way = "online"
    temperature: float = 2.0
    weight: float | None = None

    @property
    def scale(self) -> float:
        """The weight as a number."""
        return self.temperature**2 if self.weight is None else self.weight


def one_epoch(
    clicks: Clicks, batch: int = 256, learning_rate: float = 2e-3, share: float = 1.0, epochs: float = 1.0
) -> Regime:
    """How click networks are trained unless said otherwise: Adam at a constant rate, every training event once.

    More epochs over-fit the tables of users and items: the AUC falls from the second on.

    Example:
        >>> from limbeck.recsys.clicks import synthetic
        >>> one_epoch(synthetic()).steps
        125
    """
    events = max(1, round(share * len(clicks.train)))
    size = min(batch, events)
    return Regime(max(1, round(epochs * (events // size))), size, learning_rate, schedule="constant")


@dataclass(frozen=True)
class TrainedClicks:
    """A click network that was trained.

    Args:
        student: the network.
        judged: the student on the test events; `teacher_judged` its teacher.
        cost: of the student.
        steps, seconds: of the training.
        evaluations: columns of `ClickJudgement` by step.
    """

    student: nn.Module = field(repr=False)
    judged: ClickJudgement
    teacher_judged: ClickJudgement | None
    cost: Cost
    steps: int
    seconds: float
    evaluations: Mapping[int, Mapping[str, float]] = field(repr=False)

    def summary(self) -> str:
        """What it is worth, in plain text."""
        head = (
            f"{self.cost.params:,} parameters, {self.cost.params_total:,} with tables; {self.cost.latency_ms:.1f} ms "
        )
        lines = [
            f"{head}for 200 items; {self.steps:,} steps in {self.seconds:.1f} s",
            f"student {self.judged.summary()}",
        ]
        return "\n  ".join(lines + ([f"teacher {self.teacher_judged.summary()}"] if self.teacher_judged else []))

    def to_dict(self) -> dict[str, Any]:
        """JSON values; the network is not among them."""
        teacher = self.teacher_judged.to_dict() if self.teacher_judged else None
        record = {name: getattr(self, name) for name in ("steps", "seconds", "evaluations")}
        return record | {"judged": self.judged.to_dict(), "teacher_judged": teacher, "cost": self.cost.to_dict()}


def train_clicks(
    network: nn.Module,
    clicks: Clicks,
    *,
    teacher: nn.Module | None = None,
    lesson: Lesson | None = None,
    positions: Tensor | None = None,
    regime: Regime | None = None,
    tables_shared: bool = False,
    seed: int = 0,
    out: Path | str | None = None,
    progress: bool = True,
    columns: Mapping[str, Any] | None = None,
) -> TrainedClicks:
    """Train a click network on the first events of every user and judge it on the last.

    L = L_ce(student) + L_ce(teacher) + weight * soft_clicks(student, teacher), each where the way has it, see `Lesson`.

    Args:
        network: the student, trained in place.
        clicks: the log.
        teacher: None learns labels alone.
        lesson: how the teacher is used; "online" by default.
        positions: training events, all by default.
        regime: one epoch by default, see `one_epoch`.
        tables_shared: student and teacher use the teacher's tables of features (same widths, method "online").
        seed: of the order of the events.
        out: folder of records and checkpoints; the same call goes on after a stop.
        progress: one line on a terminal.
        columns: more columns of the run records.

    Raises:
        ConfigError: parts that do not fit.
        TrainingError: a loss that is not finite; `out` holds another training.

    Source: Exploring Scaling Laws of CTR Model for Online Performance Improvement (Lai et al., 2025, arXiv 2508.15326).

    Example:
        >>> from limbeck.recsys import Suan, synthetic
        >>> log = synthetic(users=40, events=50)
        >>> found = train_clicks(Suan().build(log.schema, 0), log, progress=False)
        >>> found.steps, found.judged.examples
        (6, 400)
    """
    lesson = Lesson("ce") if teacher is None else lesson or Lesson()
    if teacher is not None and lesson.way == "ce":
        raise ConfigError("labels alone need no teacher: leave it out, or choose kd or online")
    where = clicks.train if positions is None else positions
    regime = regime or one_epoch(clicks, share=len(where) / len(clicks.train))
    if tables_shared:
        if teacher is None or lesson.way != "online":
            raise ConfigError("tables are shared with a teacher that learns beside the student: method online")
        share_tables(network, teacher)
    both = nn.ModuleDict({"student": network})
    if teacher is not None and lesson.way == "online":
        both["teacher"] = teacher

    def loss(player: str, batch: ClickBatch, step: int) -> dict[str, Tensor]:
        said = network(batch)
        parts = {"labels": binary_cross_entropy_with_logits(said, batch.label)}
        if teacher is not None:
            taught = teacher(batch)
            if lesson.way == "online":
                parts["teacher"] = binary_cross_entropy_with_logits(taught, batch.label)
            parts["distillation"] = lesson.scale * soft_clicks(said, taught, temperature=lesson.temperature)
        return {"loss": torch.stack(list(parts.values())).sum(), **parts}

    def measure(step: int) -> dict[str, float]:
        judged = judge(network, clicks)
        return judged.to_dict() | {"error": 1 - judged.auc}

    length = max(int(one.length) for one in (network, teacher) if one is not None)  # type: ignore[arg-type]
    cost = Cost.of(network, clicks)
    known: dict[str, Any] = {
        "params": cost.params,
        "params_total": cost.params_total,
        "latency_ms": cost.latency_ms,
        "seed": seed,
    }
    known |= {"family": "clicks", "recipe": lesson.way, "dataset": clicks.name, **(columns or {})}
    identity: dict[str, Any] = {"lesson": asdict(lesson), "regime": asdict(regime), "data": clicks.digest()}
    identity |= {"events": hashlib.sha256(where.numpy().tobytes()).hexdigest()[:16], "seed": seed}
    if teacher is not None and lesson.way == "kd":
        identity["teacher"] = digest(teacher)
    trainer = Trainer(
        [regime.player(both)],
        loss,
        reading(clicks, where, length, regime.batch, seed),
        steps=regime.steps,
        out=None if out is None else Path(out) / "checkpoints",
        config=identity,
        frozen=[teacher] if teacher is not None and lesson.way == "kd" else [],
        recorder=None if out is None else partial(RunRecorder, Path(out) / "runs.jsonl", run=Path(out).name, **known),
        columns=lambda step: {
            "samples": step * regime.batch, "flops": step * regime.batch * cost.flops_per_sample,
        },
        evaluate=measure,
        evaluate_at=regime.evaluate_at,
        checkpoint_every=max(100, regime.steps // 5) if out is not None else None,
        progress=progress,
        label=lesson.way,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        result = trainer.run()
    both.eval()
    judged: dict[str, Any] = dict(result.evaluations[regime.steps])
    del judged["error"]
    return TrainedClicks(
        network, ClickJudgement(**judged | {"examples": int(judged["examples"])}),
        None if teacher is None else judge(teacher, clicks), cost, result.steps, result.seconds, result.evaluations,
    )  # fmt: skip
