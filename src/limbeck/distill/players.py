"""Players: the participants of a training, each with its own optimiser, learning-rate schedule and turn.

Distilling a language model has one player, the student; distribution matching has three: student, fake score,
discriminator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.errors import TrainingError

Schedule = Callable[[int], float]
Turn = Callable[[int], bool]


def always(step: int) -> bool:
    """A player that moves at every step."""
    return True


def _at_phase(step: int, *, period: int, phase: int) -> bool:
    return step % period == phase


def every(period: int, *, phase: int = 0) -> Turn:
    """A player that moves at every `period`-th step, first at step `phase`.

    Example:
        >>> turn = every(5)
        >>> [step for step in range(11) if turn(step)]
        [0, 5, 10]
    """
    return partial(_at_phase, period=period, phase=phase)


@dataclass
class Player:
    """One participant.

    Args:
        name: part of the name of everything recorded about it (`train/student/loss`).
        module: what it trains. The trainer replaces it by the prepared module (moved, wrapped for several processes),
            so a loss calls `player.module`.
        optimizer: a torch optimiser over (some of) the module's parameters, built with the peak learning rate.
        schedule: factor on the learning rate as a function of the updates made before; None keeps it constant.
        turn: at which steps it moves.
        clip: largest gradient norm (L2 over all its parameters); None does not clip.
        updates: updates made so far.

    Raises:
        TrainingError: the optimiser holds a parameter that is not in the module.
    """

    name: str
    module: nn.Module
    optimizer: Optimizer
    schedule: Schedule | None = None
    turn: Turn = always
    clip: float | None = None
    updates: int = 0
    parameters: list[nn.Parameter] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        own = {id(parameter) for parameter in self.module.parameters()}
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        strange = sum(id(parameter) not in own for parameter in self.parameters)
        if strange:
            raise TrainingError(
                f'player "{self.name}": {strange} of {len(self.parameters)} parameters of its optimiser '
                "are not in its module. "
                "Build the optimiser from module.parameters() after the module is final."
            )
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def set_learning_rate(self) -> float:
        """Set the learning rate of the coming update in every parameter group; return that of the first."""
        factor = 1.0 if self.schedule is None else self.schedule(self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def tensors(self, module: nn.Module) -> dict[str, Tensor]:
        """Every tensor that makes up the player, by name: the module's state and the optimiser's.

        Args:
            module: the player's module as it was before it was prepared.
        """
        optimizer = {
            f"{self.name}/optimizer/{index}/{key}": value
            for index, entries in self.optimizer.state_dict()["state"].items()
            for key, value in entries.items()
            if isinstance(value, Tensor)
        }
        return {f"{self.name}/module/{key}": value for key, value in _unshared(module).items()} | optimizer

    def scalars(self) -> dict[str, Any]:
        """What a checkpoint must hold of the player beside its tensors."""
        plain = {
            f"{index}/{key}": value
            for index, entries in self.optimizer.state_dict()["state"].items()
            for key, value in entries.items()
            if not isinstance(value, Tensor)
        }
        return {"updates": self.updates, "optimizer": plain}

    def load(self, module: nn.Module, tensors: Mapping[str, Tensor], scalars: Mapping[str, Any]) -> None:
        """Take over the state of a checkpoint in place; learning rates and other settings stay those of this player.

        Args:
            module: the player's module as it was before it was prepared.
            tensors: all tensors of the checkpoint.
            scalars: what `scalars()` gave.
        """
        for key, value in _unshared(module).items():
            value.copy_(tensors[f"{self.name}/module/{key}"])
        prefix = f"{self.name}/optimizer/"
        state: dict[int, dict[str, Any]] = {}
        for name, entry in [
            *((k[len(prefix) :], t) for k, t in tensors.items() if k.startswith(prefix)),
            *scalars["optimizer"].items(),
        ]:
            index, _, key = name.partition("/")
            state.setdefault(int(index), {})[key] = entry
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.updates = scalars["updates"]

    def describe(self, module: nn.Module) -> dict[str, Any]:
        """What a checkpoint must agree with: shapes and settings, as JSON values."""
        groups = [
            {key: value for key, value in group.items() if key not in ("params", "lr")}
            | {"parameters": len(group["params"])}
            for group in self.optimizer.state_dict()["param_groups"]
        ]
        return {
            "tensors": {key: f"{value.dtype} {list(value.shape)}" for key, value in _unshared(module).items()},
            "optimizer": groups,
            "schedule": _describe(self.schedule),
            "turn": _describe(self.turn),
            "clip": self.clip,
        }


def _unshared(module: nn.Module) -> dict[str, Tensor]:
    """Tensors of a module's state, each memory once (tied weights appear under their first name)."""
    state: dict[str, Tensor] = module.state_dict()
    first: dict[Any, str] = {}
    for key, value in state.items():
        first.setdefault((value.data_ptr(), value.shape, value.stride()) if value.numel() else key, key)
    return {key: state[key] for key in first.values()}


def _describe(function: Callable[..., Any] | None) -> str:
    """Name of a function with the arguments that a partial fixes."""
    if isinstance(function, partial):
        fixed = [*map(repr, function.args), *(f"{key}={value!r}" for key, value in function.keywords.items())]
        return f"{_describe(function.func)}({', '.join(fixed)})"
    return "none" if function is None else getattr(function, "__qualname__", type(function).__qualname__)
