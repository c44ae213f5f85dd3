"""What all trainings of this room share: where records and checkpoints go, and that the moving average is judged."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from limbeck.diffusion.averages import Average
from limbeck.distill import Player, Trainer, TrainingResult
from limbeck.distill.trainer import Batch, Loss
from limbeck.runs import RunRecorder


def run(
    players: Sequence[Player],
    loss: Loss,
    batch: Batch,
    *,
    steps: int,
    average: Average[Any],
    out: Path | str | None,
    config: Mapping[str, Any],
    known: Mapping[str, Any],
    columns: Callable[[int], Mapping[str, Any]],
    judge: Callable[[Any], Mapping[str, float]] | None = None,
    judge_at: Collection[int] = (),
    stop_when: Callable[[Mapping[int, Mapping[str, float]]], bool] | None = None,
    frozen: Sequence[nn.Module] = (),
    record_every: int = 1,
    checkpoint_every: int = 100,
    progress: bool = True,
    label: str = "training",
) -> TrainingResult:
    """Train, and keep records and checkpoints in a folder; the same call goes on after a stop.

    Args:
        players, loss, batch, steps, config, columns, stop_when, frozen, progress, label: see `Trainer`.
        average: whose module is judged.
        out: folder of runs.jsonl and checkpoints/; None keeps nothing.
        known: columns of the records that stay the same.
        judge: numbers about the averaged network.
        judge_at: after which steps.
        record_every: steps between records; at least a hundredth of all.
        checkpoint_every: steps between checkpoints.
    """
    folder = None if out is None else Path(out)
    said: dict[str, Any] = {"family": "diffusion", **known}
    return Trainer(
        players,
        loss,
        batch,
        steps=steps,
        out=None if folder is None else folder / "checkpoints",
        config=config,
        frozen=frozen,
        recorder=None if folder is None else partial(RunRecorder, folder / "runs.jsonl", run=folder.name, **said),
        record_every=max(record_every, steps // 100),
        columns=columns,
        evaluate=None if judge is None else lambda step: judge(average.module),
        evaluate_at=judge_at,
        stop_when=stop_when,
        checkpoint_every=checkpoint_every,
        progress=progress,
        label=label,
    ).run()
