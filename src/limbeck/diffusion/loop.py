"""What all trainings of this room share: where records and checkpoints go, and that the moving average is judged."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

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
    known: Mapping[str, Any],
    judge: Callable[[Any], Mapping[str, float]] | None = None,
    judge_at: Collection[int] = (),
    record_every: int = 1,
    **how: Any,
) -> TrainingResult:
    """Train, and keep records and checkpoints in a folder; the same call goes on after a stop.

    Args:
        players, loss, batch, steps: see `Trainer`.
        average: whose module is judged.
        out: folder of runs.jsonl and checkpoints/; None keeps nothing.
        known: columns of the records that stay the same.
        judge: numbers about the averaged network.
        judge_at: after which steps.
        record_every: steps between records; at least a hundredth of all.
        how: the rest of what `Trainer` takes.
    """
    folder = None if out is None else Path(out)
    if folder is not None:
        said: dict[str, Any] = {"run": folder.name, "family": "diffusion", **known}
        how |= {"out": folder / "checkpoints", "recorder": partial(RunRecorder, folder / "runs.jsonl", **said)}
    if judge is not None:
        how |= {"evaluate": lambda step: judge(average.module), "evaluate_at": judge_at}
    return Trainer(players, loss, batch, steps=steps, record_every=max(record_every, steps // 100), **how).run()
