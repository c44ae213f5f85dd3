"""The trainer: one visible loop for any number of players.

A method supplies two functions: `batch(step)`, a pure function of the step, and `loss(player, batch, step)`, a dict
of scalars with the key `"loss"`. The trainer does the rest: turns, learning rates, exact gradient accumulation,
clipping, records, evaluation, checkpoints, resume; `accelerate` the devices, mixed precision and processes.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import recursively_apply
from torch import Tensor, nn

from limbeck.distill.checkpoints import Checkpoint, Checkpoints, random_state, read_checkpoint, set_random_state
from limbeck.distill.players import Player, freeze
from limbeck.distill.processes import accelerator as default_accelerator
from limbeck.distill.terminal import progress_line, stop_request
from limbeck.errors import TrainingError

Loss = Callable[[str, Any, int], Mapping[str, Tensor]]
Batch = Callable[[int], Any]


@dataclass(frozen=True)
class TrainingResult:
    """What a training gave.

    Args:
        steps: steps done, from the very start.
        values: values of the last step (`train/student/loss`, `train/student/lr`, ...).
        evaluations: what `evaluate` returned, by step.
        seconds: wall time of this training, earlier calls that it went on from included.
        resumed_from: step at which this call took over, 0 for a fresh start.
        checkpoint: folder of the last checkpoint, None without `out`.
    """

    steps: int
    values: dict[str, float]
    evaluations: dict[int, dict[str, float]]
    seconds: float
    resumed_from: int
    checkpoint: str | None

    def summary(self) -> str:
        """One line a player and evaluation, for people."""
        resumed = f", from step {self.resumed_from:,}" if self.resumed_from else ""
        lines = [f"{self.steps:,} steps in {self.seconds:.1f} s{resumed}"]
        lines += [f"  {name} {value:.4g}" for name, value in self.values.items() if name.endswith("/loss")]
        for step, values in self.evaluations.items():
            lines.append(f"  step {step:,}: " + ", ".join(f"{name} {value:.4g}" for name, value in values.items()))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


class Trainer:
    """Train one or more players.

    An update of a player minimises `sum_i w_i loss_i / sum_i w_i` over the micro-batches `i` of one batch, where the
    loss function returns `loss_i` as a mean over `w_i` valid tokens and `w_i` under the key `"weight"` (equal weights
    without it). So one batch of 4 and 4 micro-batches of 1 give the same update, on one process or on several.

    Args:
        players: who learns, in the order in which they move within a step.
        loss: `loss(player_name, batch, step) -> {"loss": scalar, ...}`; every scalar is recorded, as
            `train/PLAYER/KEY`, except `"weight"`.
        batch: `batch(step) -> batch`, a pure function: a resumed training asks it for the same step again. With
            `accumulate` or several processes every tensor in it is split along its first dimension.
        steps: length of the training.
        out: folder of the checkpoints; None keeps nothing. If it holds checkpoints of this training, `run` goes on
            from the newest.
        config: settings that a checkpoint must agree with beside those the trainer sees (seed, data, recipe); JSON
            values.
        accumulate: micro-batches per batch.
        frozen: teachers; put in evaluation mode, moved to the device, never changed.
        generators: random generators that the loss draws from, by name; their states are saved with torch's global.
        recorder: called as `recorder(resume_after_step=step)`; gives a context manager with `write(**row)`. For
            instance `partial(RunRecorder, path, run="d32", params=25_248)`.
        record_every: steps between records. Evaluated steps and the last one are recorded too.
        columns: further columns of a record as a function of the steps done (`lambda step: {"tokens": 1024 * step}`).
        evaluate: `evaluate(step) -> {"loss": float, ...}`, called after `step` steps with the players in evaluation
            mode, without gradients, and on its own copy of the random state: measuring never changes the training.
        evaluate_at: after which steps (1 to `steps`).
        stop_when: asked with all evaluations, by step, whether they are reason to end early.
        checkpoint_every: steps between rolling checkpoints, of which the newest two stay. The last step is always
            saved.
        checkpoint_at: steps at which a milestone is saved that stays: where branches start.
        progress: show one line on a terminal.
        label: what the line calls the training.
        accelerator: device, mixed precision, processes with whole copies of the modules; by default what is there.

    Raises:
        TrainingError: a value that cannot work, a checkpoint of another configuration, a loss or parameter that is
            not finite.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> player = Player("student", model, torch.optim.SGD(model.parameters(), lr=0.1))
        >>> def loss(name, x, step):
        ...     return {"loss": (player.module(x) - 3 * x).square().mean()}
        >>> result = Trainer([player], loss, lambda step: torch.ones(4, 1), steps=100, progress=False).run()
        >>> round(model.weight.item(), 3), result.steps
        (3.0, 100)
    """

    def __init__(
        self,
        players: Sequence[Player],
        loss: Loss,
        batch: Batch,
        *,
        steps: int,
        out: Path | str | None = None,
        config: Mapping[str, Any] | None = None,
        accumulate: int = 1,
        frozen: Sequence[nn.Module] = (),
        generators: Mapping[str, torch.Generator] | None = None,
        recorder: Callable[..., AbstractContextManager[Any]] | None = None,
        record_every: int = 50,
        columns: Callable[[int], Mapping[str, Any]] | None = None,
        evaluate: Callable[[int], Mapping[str, float]] | None = None,
        evaluate_at: Collection[int] = (),
        stop_when: Callable[[Mapping[int, Mapping[str, float]]], bool] | None = None,
        checkpoint_every: int | None = None,
        checkpoint_at: Collection[int] = (),
        progress: bool = True,
        label: str = "training",
        accelerator: Accelerator | None = None,
    ) -> None:
        self.players, self.loss, self.batch, self.steps = list(players), loss, batch, steps
        self.config, self.accumulate, self.generators = dict(config or {}), accumulate, dict(generators or {})
        self.recorder, self.record_every, self.columns = recorder, record_every, columns
        self.evaluate, self.evaluate_at = evaluate, frozenset(evaluate_at)
        self.stop_when = stop_when or (lambda evaluations: False)
        self.checkpoint_every, self.checkpoint_at = checkpoint_every, frozenset(checkpoint_at)
        self.progress, self.label = progress, label
        self.checkpoints = None if out is None else Checkpoints(out)
        self.step = 0
        self.evaluations: dict[int, dict[str, float]] = {}
        self._latest: dict[str, dict[str, float]] = {}
        self._saved: Path | None = None
        self._began, self._seconds_before = time.perf_counter(), 0.0
        self._validate(frozen)

        self.accelerator = accelerator or default_accelerator()
        freeze(*frozen)
        for module in frozen:
            module.to(self.accelerator.device)
        for player in self.players:
            player.module, wrapped = self.accelerator.prepare(player.module, player.optimizer)
            # the wrapper only scales gradients, and costs a quarter of a millisecond a step
            player.optimizer = wrapped if self.accelerator.scaler else wrapped.optimizer

    # ---- the loop --------------------------------------------------------------------------------

    def run(self, start_from: Path | str | None = None) -> TrainingResult:
        """Train to the last step, going on from the newest checkpoint in `out` if there is one.

        Args:
            start_from: a checkpoint of another training with the same tensors, to branch from: its step, weights,
                optimiser and random states are taken over, schedules and settings are those of this trainer. A
                checkpoint of this training's own in `out` goes first.

        Raises:
            KeyboardInterrupt: after Ctrl-C or SIGTERM, with the step finished and saved.
        """
        self._began = time.perf_counter()
        resumed_from = self._restore(start_from)
        self._training_mode(True)
        main = self.accelerator.is_main_process
        records = self.recorder(resume_after_step=self.step) if self.recorder and main else nullcontext()
        with records as record, stop_request() as stop, progress_line(show=self.progress and main) as line:
            task = line.add_task(self.label, total=self.steps, completed=self.step, loss=math.nan)
            while self.step < self.steps and not self.stop_when(self.evaluations):
                pieces = self._pieces(self.batch(self.step))
                for player in self.players:
                    if player.turn(self.step):
                        self._latest[player.name] = self._update(player, pieces)
                self.step += 1
                shown = next(iter(self._latest.values()), {"loss": math.nan})
                line.update(task, completed=self.step, loss=shown["loss"])
                self._measure(record)
                rolling = self.checkpoint_every is not None and self.step % self.checkpoint_every == 0
                done = self.step == self.steps or self.stop_when(self.evaluations)
                if stop or rolling or self.step in self.checkpoint_at or done:
                    self._save()
                if stop and not done:
                    kept = f"saved in {self._saved}: run the same again to go on" if self._saved else "nothing saved"
                    raise KeyboardInterrupt(f"Stopped at step {self.step} of {self.steps}, {kept}.")
        saved = str(self._saved) if self._saved else None
        return TrainingResult(self.step, self._values(), self.evaluations, self._seconds(), resumed_from, saved)

    def _pieces(self, batch: Any) -> list[Any]:
        """This process's micro-batches of a batch, on the device."""
        count, device = self.accelerator.num_processes * self.accumulate, self.accelerator.device

        def piece(tensor: Tensor, index: int) -> Tensor:
            if count > 1 and (tensor.ndim == 0 or len(tensor) % count):
                raise TrainingError(
                    f"a batch tensor of shape {list(tensor.shape)} cannot be split into {count} equal micro-batches: "
                    "make its first dimension a multiple of accumulate (times the number of processes)."
                )
            return (tensor.tensor_split(count)[index] if count > 1 else tensor).to(device)

        first = self.accelerator.process_index * self.accumulate
        return [recursively_apply(piece, batch, index) for index in range(first, first + self.accumulate)]

    def _update(self, player: Player, pieces: list[Any]) -> dict[str, float]:
        """One update of one player over the micro-batches of a batch; returns what is recorded."""
        rate = player.set_learning_rate()
        player.optimizer.zero_grad()
        sums: dict[str, Tensor] = {}
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(player.module):
                with self.accelerator.autocast():
                    parts = dict(self.loss(player.name, piece, self.step))
                if "loss" not in parts:
                    raise TrainingError(f'the loss function must return the key "loss", got {list(parts)}.')
                weight = torch.as_tensor(parts.pop("weight", 1.0))
                self.accelerator.backward(parts["loss"] * weight)
            weighted = {"weight": weight} | {key: part.detach() * weight for key, part in parts.items()}
            sums = {key: value + sums[key] if sums else value for key, value in weighted.items()}
        dtype = torch.promote_types(sums["loss"].dtype, torch.float32)
        sizes = torch.stack([value.to(self.accelerator.device, dtype) for value in sums.values()])
        weight, *totals = self.accelerator.reduce(sizes).tolist()
        weight = max(weight, 1e-30)  # every token masked: gradients are 0, and stay 0
        values = {key: total / weight for key, total in zip(list(sums)[1:], totals, strict=True)}
        if not math.isfinite(values["loss"]):
            kept = f"The last good checkpoint is {self._saved}." if self._saved else "There is no checkpoint yet."
            raise TrainingError(
                f'player "{player.name}": the loss is {values["loss"]} at step {self.step} of {self.steps}. {kept} '
                "Lower the learning rate, clip the gradient (clip) or look at the batch of that step."
            )
        if weight != self.accelerator.num_processes:  # which processes have averaged over already
            for parameter in player.parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(weight / self.accelerator.num_processes)
        if player.clip is not None:
            values["grad_norm"] = float(self.accelerator.clip_grad_norm_(player.parameters, player.clip))
        player.optimizer.step()
        player.updates += 1
        if player.after is not None:
            player.after()
        return values | {"lr": rate}

    # ---- measuring -------------------------------------------------------------------------------

    def _values(self) -> dict[str, float]:
        return {f"train/{name}/{key}": value for name, values in self._latest.items() for key, value in values.items()}

    def _measure(self, record: Any) -> None:
        """Evaluate and record after a step where it is due."""
        evaluated: dict[str, float] = {}
        if self.evaluate and self.step in self.evaluate_at:
            self._training_mode(False)
            random = random_state(self.generators)
            with torch.no_grad():
                evaluated = {key: float(value) for key, value in self.evaluate(self.step).items()}
            set_random_state(random, self.generators)
            self._training_mode(True)
            self.evaluations[self.step] = evaluated
        if record and (evaluated or self.step % self.record_every == 0 or self.step == self.steps):
            columns = self.columns(self.step) if self.columns else {}
            record.write(step=self.step, **columns, **self._values(), **evaluated)

    def _training_mode(self, on: bool) -> None:
        for player in self.players:
            player.module.train(on)

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._began

    # ---- checkpoints -----------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the state after the current step; never one that is not finite."""
        if self.checkpoints is None:
            return
        for player in self.players:
            if not player.is_finite():
                raise TrainingError(
                    f'player "{player.name}": its module is not finite after step {self.step} of {self.steps}. '
                    "No checkpoint is written, the last good one stays."
                )
        if self.accelerator.is_main_process:
            players = {player.name: player.state() for player in self.players}
            tensors = {"players": players, "random": random_state(self.generators)}
            state: dict[str, Any] = {"fingerprint": self._fingerprint(), "latest": self._latest}
            state |= {"evaluations": self.evaluations, "seconds": self._seconds()}
            self._saved = self.checkpoints.save(self.step, tensors, state, milestone=self.step in self.checkpoint_at)
        self.accelerator.wait_for_everyone()

    def _restore(self, start_from: Path | str | None) -> int:
        """Take over the newest checkpoint of this training, or else that of `start_from`; return its step."""
        own = self.checkpoints.latest() if self.checkpoints else None
        checkpoint = own or (read_checkpoint(start_from) if start_from is not None else None)
        if checkpoint is None:
            return self.step
        self._require_agreement(checkpoint, branch=own is None)
        for player in self.players:
            player.load(checkpoint.tensors["players"][player.name])
        set_random_state(checkpoint.tensors["random"], self.generators)
        self.step, self._latest = checkpoint.step, checkpoint.state["latest"]
        if own is not None:
            self._saved, self._seconds_before = own.path, own.state["seconds"]
            self.evaluations = {int(step): values for step, values in own.state["evaluations"].items()}
        return self.step

    def _require_agreement(self, checkpoint: Checkpoint, *, branch: bool) -> None:
        """Refuse a checkpoint of another configuration; a branch needs only the same tensors and generators."""
        theirs, mine = checkpoint.state["fingerprint"], self._fingerprint()
        if branch:
            theirs, mine = _needed_by_a_branch(theirs), _needed_by_a_branch(mine)
        if differences := _differences(theirs, mine):
            go = "A branch needs the same tensors." if branch else "Use another `out`, or branch: run(start_from=...)."
            listed = "\n".join(f"  {difference}" for difference in differences[:8])
            raise TrainingError(f"{checkpoint.path} belongs to another configuration. {go}\n{listed}")
        if checkpoint.step > self.steps:
            raise TrainingError(f"{checkpoint.path} is at step {checkpoint.step}, beyond steps={self.steps}.")

    def _fingerprint(self) -> dict[str, Any]:
        players = {player.name: player.describe() for player in self.players}
        settings = {"steps": self.steps, "accumulate": self.accumulate, "config": self.config}
        settings |= {"generators": sorted(self.generators), "players": players}
        as_json: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        return as_json

    # ---- boundary --------------------------------------------------------------------------------

    def _validate(self, frozen: Sequence[nn.Module]) -> None:
        names = [player.name for player in self.players]
        if not names or len(set(names)) < len(names):
            raise TrainingError(f"players need different names, got {names}.")
        for name in ("steps", "accumulate", "record_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, got {getattr(self, name)}.")
        outside = sorted(step for step in self.evaluate_at | self.checkpoint_at if not 1 <= step <= self.steps)
        if outside:
            raise TrainingError(f"evaluate_at and checkpoint_at count steps done, 1 to {self.steps}; got {outside}.")
        taught = {parameter for module in frozen for parameter in module.parameters()}
        for player in self.players:
            if not taught.isdisjoint(player.parameters):
                raise TrainingError(
                    f'player "{player.name}" trains parameters of a frozen module: give the teacher its own copy.'
                )


def _needed_by_a_branch(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    players = fingerprint["players"].items()
    needed = {name: {key: player[key] for key in ("tensors", "optimised")} for name, player in players}
    return {"generators": fingerprint["generators"], "players": needed}


def _differences(theirs: Any, mine: Any, path: str = "") -> list[str]:
    """Where two trees of JSON values differ, in words."""
    if isinstance(theirs, dict) and isinstance(mine, dict):
        pairs = {key: (theirs.get(key, "absent"), mine.get(key, "absent")) for key in theirs | mine}
        return [word for key, pair in pairs.items() for word in _differences(*pair, f"{path}.{key}" if path else key)]
    return [] if theirs == mine else [f"{path}: {theirs} in the checkpoint, {mine} now"]
