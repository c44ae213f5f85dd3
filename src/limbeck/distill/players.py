"""Players: the participants of a training, each with its own optimiser, learning-rate schedule and turn.

Distilling a language model has one player, the student; distribution matching has three: student, fake score,
discriminator. Teachers do not play: they are frozen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import Optimizer

from limbeck.errors import TrainingError

Schedule = Callable[[int], float]
Turn = Callable[[int], bool]


def freeze(*modules: nn.Module) -> None:
    """Put teachers in evaluation mode (no dropout, running statistics stand still) and out of training, in place.

    Example:
        >>> teacher = nn.Linear(2, 2)
        >>> freeze(teacher)
        >>> teacher.training, teacher.weight.requires_grad
        (False, False)
    """
    for module in modules:
        module.eval().requires_grad_(False)


def digest(module: nn.Module) -> str:
    """What the weights and buffers of a module hash to: 16 characters.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> before = digest(layer)
        >>> _ = layer.weight.data.mul_(2)
        >>> digest(layer) == before
        False
    """
    content = save({name: one.detach().cpu().clone().contiguous() for name, one in module.state_dict().items()})
    return hashlib.sha256(content).hexdigest()[:16]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode and no gradients for a while; every part of the module gets its own mode back.

    Example:
        >>> network = nn.Dropout()
        >>> with evaluating(network):
        ...     mode = network.training
        >>> mode, network.training
        (False, True)
    """
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for one, mode in modes:
            one.training = mode


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
        module: what it trains. The trainer replaces it by the prepared module (wrapped for several processes), so a
            loss calls `player.module`.
        optimizer: a torch optimiser over (some of) the module's parameters, built with the peak learning rate.
        schedule: factor on the learning rate as a function of the updates made before; None keeps it constant.
        turn: at which steps it moves.
        clip: largest gradient norm (L2 over all its parameters); None does not clip.
        after: called after each of its updates (moving averages).
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
    after: Callable[[], None] | None = None
    updates: int = 0
    parameters: list[nn.Parameter] = field(init=False, repr=False)
    _bare: nn.Module = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._bare = self.module
        self.parameters = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        own = set(self.module.parameters())
        strange = sum(parameter not in own for parameter in self.parameters)
        if strange:
            raise TrainingError(
                f'player "{self.name}": {strange} of {len(self.parameters)} parameters of its optimiser '
                "are not in its module. Build the optimiser from module.parameters() after the module is final."
            )
        for group in self.optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])

    def set_learning_rate(self) -> float:
        """Set the learning rate of the coming update in every parameter group; return that of the first."""
        factor = 1.0 if self.schedule is None else self.schedule(self.updates)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        return float(self.optimizer.param_groups[0]["lr"])

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold of the player; the tensors are its own, not copies."""
        optimizer = self.optimizer.state_dict()["state"]
        return {"module": self._bare.state_dict(), "optimizer": optimizer, "updates": self.updates}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` gave, in place; learning rates and other settings stay those of this player."""
        self._bare.load_state_dict(state["module"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        self.updates = state["updates"]

    def is_finite(self) -> bool:
        """Whether no number of the module is NaN or infinite."""
        tensors = self._bare.state_dict().values()
        return all(bool(tensor.isfinite().all()) for tensor in tensors if isinstance(tensor, Tensor))

    def describe(self) -> dict[str, Any]:
        """What a checkpoint must agree with, as JSON values; a branch needs only `tensors` and `optimised`."""
        names = {parameter: name for name, parameter in self._bare.named_parameters()}
        groups = [
            {key: value for key, value in group.items() if key not in ("params", "lr")}
            | {"parameters": len(group["params"])}
            for group in self.optimizer.state_dict()["param_groups"]
        ]
        tensors = {name: tensor for name, tensor in self._bare.state_dict().items() if isinstance(tensor, Tensor)}
        return {
            "tensors": {name: f"{tensor.dtype} {list(tensor.shape)}" for name, tensor in tensors.items()},
            "optimised": [names[parameter] for parameter in self.parameters],
            "optimizer": groups,
            "schedule": _describe(self.schedule),
            "turn": _describe(self.turn),
            "clip": self.clip,
        }


def _describe(function: Callable[..., Any] | None) -> str:
    """Name of a function with the arguments that a partial fixes."""
    if isinstance(function, partial):
        fixed = [*map(repr, function.args), *(f"{key}={value!r}" for key, value in function.keywords.items())]
        return f"{_describe(function.func)}({', '.join(fixed)})"
    return "none" if function is None else getattr(function, "__qualname__", type(function).__qualname__)
