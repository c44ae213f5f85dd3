"""The trainer: one visible loop for any number of players.

A method supplies two functions: `batch(step)`, a pure function of the step, and `loss(player, batch, step)`, a dict
of scalars with the key `"loss"`. The trainer does the rest: turns, learning rates, exact gradient accumulation,
clipping, records, evaluation, checkpoints, resume.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limbeck.distill._agreement import require_agreement
from limbeck.distill._batches import take_piece
from limbeck.distill._devices import choose_accelerator
from limbeck.distill._random_state import random_state, set_random_state
from limbeck.distill.checkpoints import Checkpoints, read_checkpoint
from limbeck.distill.freezing import freeze
from limbeck.distill.interrupts import StopRequest
from limbeck.distill.players import Player
from limbeck.distill.progress import ProgressLine
from limbeck.distill.result import TrainingResult
from limbeck.errors import TrainingError

Loss = Callable[[str, Any, int], Mapping[str, Tensor]]
Batch = Callable[[int], Any]


class Recorder(Protocol):
    """Where records go: `limbeck.runs.RunRecorder` is one."""

    def write(self, **row: Any) -> None:
        """Append one record."""


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
        generators: random generators that the loss or batch draws from, by name; their states are saved with the
            global torch generator's.
        recorder: called as `recorder(resume_after_step=step)`; gives a context manager with `write(**row)`. For
            instance `partial(RunRecorder, path, run="d32", params=25_248)`.
        record_every: steps between records. Evaluated steps and the last one are recorded too.
        columns: further columns of a record as a function of the steps done (`lambda step: {"tokens": 1024 * step}`).
        evaluate: `evaluate(step) -> {"loss": float, ...}`, called after `step` steps with the players in evaluation
            mode, without gradients, and on its own copy of the random state: measuring never changes the training.
        evaluate_at: after which steps (1 to `steps`).
        checkpoint_every: steps between rolling checkpoints, of which the newest `keep` stay. The last step is always
            saved.
        checkpoint_at: steps at which a milestone is saved that stays: where branches start.
        progress: True shows one line on a terminal; a function is called as `progress(step, values)` at every record;
            False is silent.
        label: what the progress line calls the training.
        accelerator: an `accelerate.Accelerator` (device, mixed precision, processes with whole copies of the modules);
            by default one is made only where there is a GPU or a launcher.

    Raises:
        TrainingError: a value that cannot work, a checkpoint of another configuration, a loss or parameter that is
            not finite.

    Example:
        >>> model = nn.Linear(1, 1, bias=False)
        >>> player = Player("student", model, torch.optim.SGD(model.parameters(), lr=0.1))
        >>> def loss(player, x, step):
        ...     return {"loss": (model(x) - 3 * x).square().mean()}
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
        recorder: Callable[..., AbstractContextManager[Recorder]] | None = None,
        record_every: int = 50,
        columns: Callable[[int], Mapping[str, Any]] | None = None,
        evaluate: Callable[[int], Mapping[str, float]] | None = None,
        evaluate_at: Collection[int] = (),
        checkpoint_every: int | None = None,
        checkpoint_at: Collection[int] = (),
        keep: int = 2,
        progress: bool | Callable[[int, Mapping[str, float]], None] = True,
        label: str = "training",
        accelerator: Any = None,
    ) -> None:
        self.players, self.loss, self.batch, self.steps = list(players), loss, batch, steps
        self.config, self.accumulate, self.generators = dict(config or {}), accumulate, dict(generators or {})
        self.recorder, self.record_every, self.columns = recorder, record_every, columns
        self.evaluate, self.evaluate_at = evaluate, frozenset(evaluate_at)
        self.checkpoint_every, self.checkpoint_at = checkpoint_every, frozenset(checkpoint_at)
        self.progress, self.label = progress, label
        self.checkpoints = None if out is None else Checkpoints(out, keep=keep)
        self.step = 0
        self.values: dict[str, float] = {}
        self.evaluations: dict[int, dict[str, float]] = {}
        self._latest: dict[str, dict[str, Tensor | float]] = {}
        self._unchecked: list[tuple[int, str, Tensor]] = []
        self._saved: Path | None = None
        self._began, self._seconds_before = time.perf_counter(), 0.0
        self._validate(frozen, keep)

        self.accelerator = accelerator or choose_accelerator()
        self._modules = {player.name: player.module for player in self.players}
        freeze(*frozen)
        for module in frozen:
            module.to(self.accelerator.device)
        for player in self.players:
            player.module, player.optimizer = self.accelerator.prepare(player.module, player.optimizer)

    # ---- the loop --------------------------------------------------------------------------------

    def run(self, start_from: Path | str | None = None) -> TrainingResult:
        """Train to the last step, going on from the newest checkpoint in `out` if there is one.

        Args:
            start_from: a checkpoint of another training with the same tensors, to branch from: its step, weights,
                optimiser and random states are taken over, schedules and settings are those of this trainer. A
                checkpoint of this training's own in `out` goes first.
        """
        self._began = time.perf_counter()
        resumed_from = self._restore(start_from)
        self._training_mode(True)
        open_records: AbstractContextManager[Recorder | None] = nullcontext()
        if self.recorder is not None and self.accelerator.is_main_process:
            open_records = self.recorder(resume_after_step=self.step)
        show = self.progress is True and self.accelerator.is_main_process
        line = ProgressLine(self.label, self.steps, start=self.step, show=show)
        with open_records as record, StopRequest() as stop, line:
            while self.step < self.steps:
                pieces = self._pieces(self.batch(self.step))
                for player in self.players:
                    if player.turn(self.step):
                        self._latest[player.name] = self._update(player, pieces)
                self.step += 1
                line.update(self.step, self._shown_loss(), last=self.step == self.steps)
                self._measure(record)
                if stop.made or self._checkpoint_due():
                    self._save()
                if stop.made and self.step < self.steps:
                    raise KeyboardInterrupt(self._how_to_go_on())
        return TrainingResult(
            steps=self.step,
            values=dict(self.values),
            evaluations=dict(self.evaluations),
            seconds=self._seconds(),
            resumed_from=resumed_from,
            checkpoint=str(self._saved) if self._saved else None,
        )

    def _update(self, player: Player, pieces: list[Any]) -> dict[str, Tensor | float]:
        """One update of one player over the micro-batches of a batch; returns what is recorded."""
        rate = player.set_learning_rate()
        player.optimizer.zero_grad(set_to_none=True)
        alone = len(pieces) == 1 and self.accelerator.num_processes == 1
        sums: dict[str, Tensor | float] = {}
        total: Tensor | float = 0.0
        for index, piece in enumerate(pieces):
            last = index == len(pieces) - 1
            with nullcontext() if last else self.accelerator.no_sync(player.module):
                with self.accelerator.autocast():
                    parts = dict(self.loss(player.name, piece, self.step))
                if "loss" not in parts:
                    raise TrainingError(f'the loss function must return the key "loss", got {list(parts)}.')
                weight = parts.pop("weight", 1.0)
                weight = 1.0 if alone else weight  # of a batch in one piece, any weight cancels
                self._watch(player, parts["loss"])
                self.accelerator.backward(parts["loss"] * weight)
            sums = {key: sums.get(key, 0.0) + part.detach() * weight for key, part in parts.items()}
            total = total + weight
        if not alone:
            valid = self.accelerator.reduce(torch.as_tensor(total, device=self.accelerator.device).float())
            valid = valid.clamp(min=1e-30)  # every token masked: gradients are 0, and stay 0
            gradients = [parameter.grad for parameter in player.parameters if parameter.grad is not None]
            torch._foreach_div_(gradients, valid / self.accelerator.num_processes)
            sums = {key: self.accelerator.reduce(torch.as_tensor(value)) / valid for key, value in sums.items()}
        if player.clip is not None:
            sums["grad_norm"] = self.accelerator.clip_grad_norm_(player.parameters, player.clip)
        player.optimizer.step()
        player.updates += 1
        sums["lr"] = rate
        return sums

    # ---- losses ----------------------------------------------------------------------------------

    def _pieces(self, batch: Any) -> list[Any]:
        """This process's micro-batches of a batch, on the device."""
        count = self.accelerator.num_processes * self.accumulate
        first = self.accelerator.process_index * self.accumulate
        device = self.accelerator.device
        return [take_piece(batch, count, index, device) for index in range(first, first + self.accumulate)]

    def _watch(self, player: Player, loss: Tensor) -> None:
        """Stop at a loss that is not finite: at once on the CPU, at the next record where looking stalls the device."""
        self._unchecked.append((self.step, player.name, loss.detach()))
        if loss.device.type == "cpu":
            self._stop_if_not_finite()

    def _stop_if_not_finite(self) -> None:
        for step, name, loss in self._unchecked:
            if not math.isfinite(loss.item()):
                kept = f"The last good checkpoint is {self._saved}." if self._saved else "There is no checkpoint yet."
                raise TrainingError(
                    f'player "{name}": the loss is {loss.item()} at step {step} of {self.steps}. {kept} '
                    "Lower the learning rate, clip the gradient (Player(clip=1.0)) or look at the batch of that step."
                )
        self._unchecked.clear()

    def _shown_loss(self) -> Tensor | float | None:
        return next((self._latest[player.name]["loss"] for player in self.players if player.name in self._latest), None)

    # ---- measuring -------------------------------------------------------------------------------

    def _measure(self, record: Recorder | None) -> None:
        """Evaluate and record after a step where it is due."""
        evaluated = self._evaluate() if self.step in self.evaluate_at else {}
        if evaluated or self.step % self.record_every == 0 or self.step == self.steps:
            self._stop_if_not_finite()
            self.values = {
                f"train/{name}/{key}": float(part)
                for name, parts in self._latest.items()
                for key, part in parts.items()
            }
            columns = self.columns(self.step) if self.columns else {}
            if record is not None:
                record.write(step=self.step, **columns, **self.values, **evaluated)
            if callable(self.progress):
                self.progress(self.step, self.values | evaluated)

    def _read_values(self) -> dict[str, float]:
        return {
            f"train/{name}/{key}": float(part) for name, parts in self._latest.items() for key, part in parts.items()
        }

    def _evaluate(self) -> dict[str, float]:
        if self.evaluate is None:
            return {}
        self._training_mode(False)
        random = random_state(self.generators)
        with torch.no_grad():
            evaluated = {key: float(value) for key, value in self.evaluate(self.step).items()}
        set_random_state(random, self.generators)
        self._training_mode(True)
        self.evaluations[self.step] = evaluated
        return evaluated

    def _training_mode(self, on: bool) -> None:
        for player in self.players:
            player.module.train(on)

    # ---- checkpoints -----------------------------------------------------------------------------

    def _checkpoint_due(self) -> bool:
        rolling = self.checkpoint_every is not None and self.step % self.checkpoint_every == 0
        return rolling or self.step in self.checkpoint_at or self.step == self.steps

    def _save(self) -> None:
        """Write the state after the current step; never one that is not finite."""
        if self.checkpoints is None:
            return
        self._stop_if_not_finite()
        tensors = random_state(self.generators)
        for player in self.players:
            mine = player.tensors(self._modules[player.name])
            broken = next(
                (name for name, tensor in mine.items() if tensor.is_floating_point() and not tensor.isfinite().all()),
                None,
            )
            if broken:
                raise TrainingError(
                    f"{broken} is not finite after step {self.step}: no checkpoint is written, the last good one stays."
                )
            tensors |= mine
        state = {
            "fingerprint": self._fingerprint(),
            "players": {player.name: player.scalars() for player in self.players},
            "latest": {name: {key: float(part) for key, part in parts.items()} for name, parts in self._latest.items()},
            "evaluations": self.evaluations,
            "seconds": self._seconds(),
        }
        if self.accelerator.is_main_process:
            self._saved = self.checkpoints.save(self.step, tensors, state, milestone=self.step in self.checkpoint_at)
        self.accelerator.wait_for_everyone()

    def _restore(self, start_from: Path | str | None) -> int:
        """Take over the newest checkpoint of this training, or else that of `start_from`; return its step."""
        own = self.checkpoints.latest() if self.checkpoints else None
        checkpoint = own or (read_checkpoint(start_from) if start_from is not None else None)
        if checkpoint is None:
            return self.step
        require_agreement(checkpoint, self._fingerprint(), branch=own is None)
        for player in self.players:
            player.load(self._modules[player.name], checkpoint.tensors, checkpoint.state["players"][player.name])
        set_random_state(checkpoint.tensors, self.generators)
        self.step = checkpoint.step
        self._latest = checkpoint.state["latest"]
        if own is not None:
            self._saved, self.values = own.path, self._read_values()
            self._seconds_before = checkpoint.state["seconds"]
            self.evaluations = {int(step): values for step, values in checkpoint.state["evaluations"].items()}
        return self.step

    def _fingerprint(self) -> dict[str, Any]:
        players = {player.name: player.describe(self._modules[player.name]) for player in self.players}
        settings = {
            "steps": self.steps,
            "accumulate": self.accumulate,
            "generators": sorted(self.generators),
            "config": self.config,
            "players": players,
        }
        as_json: dict[str, Any] = json.loads(json.dumps(settings, default=str))
        return as_json

    def _seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._began

    def _how_to_go_on(self) -> str:
        if self.checkpoints is None:
            return f"Stopped at step {self.step} of {self.steps}. Nothing was saved: give `out` to keep checkpoints."
        where = self.checkpoints.folder
        return f"Stopped at step {self.step} of {self.steps}, saved in {where}. Run the same again to go on."

    # ---- boundary --------------------------------------------------------------------------------

    def _validate(self, frozen: Sequence[nn.Module], keep: int) -> None:
        names = [player.name for player in self.players]
        if not names or len(set(names)) < len(names) or any("/" in name for name in names):
            raise TrainingError(f'players need different names without "/", got {names}.')
        counts = {"steps": self.steps, "accumulate": self.accumulate, "record_every": self.record_every, "keep": keep}
        for name, value in counts.items():
            if value < 1:
                raise TrainingError(f"{name} must be at least 1, got {value}.")
        outside = sorted(step for step in self.evaluate_at | self.checkpoint_at if not 1 <= step <= self.steps)
        if outside:
            raise TrainingError(f"evaluate_at and checkpoint_at count steps done, 1 to {self.steps}; got {outside}.")
        taught = {id(parameter) for module in frozen for parameter in module.parameters()}
        for player in self.players:
            if any(id(parameter) in taught for parameter in player.parameters):
                raise TrainingError(
                    f'player "{player.name}" trains parameters of a frozen module: give the teacher its own copy.'
                )
