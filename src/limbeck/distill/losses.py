"""The losses that limbeck knows by name, each with the paper it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from limbeck.errors import ConfigError, nearest

LossFunction = TypeVar("LossFunction", bound=Callable[..., Tensor])


@dataclass(frozen=True)
class Paper:
    """A publication.

    Args:
        title: full title.
        authors: first author, or all of few.
        year: of the first version.
        arxiv: identifier (`1503.02531`).
    """

    title: str
    authors: str
    year: int
    arxiv: str


@dataclass(frozen=True)
class Registered:
    """A loss and what is known about it.

    Args:
        name: the function's name.
        function: `name(student, teacher, target=None, *, ..., mask=None, reduction="mean")` on logits.
        paper: where it was proposed, or used as it is here.
        h: for an f-divergence, `h(u, **options) = f(u) - u f'(u)` of the ratio u = teacher / student, up
            to a constant. The gradient in the student's logits is then `q (h(u) - sum_w q_w h(u_w)) / temperature`.
    """

    name: str
    function: Callable[..., Tensor]
    paper: Paper
    h: Callable[..., Tensor] | None = None


_losses: dict[str, Registered] = {}


def register(paper: Paper, *, h: Callable[..., Tensor] | None = None) -> Callable[[LossFunction], LossFunction]:
    """Decorate a loss function to make it known under its name.

    Args:
        paper: its source.
        h: see `Registered`.

    Raises:
        ConfigError: another loss has the name.
    """

    def remember(function: LossFunction) -> LossFunction:
        name = function.__name__
        if name in _losses:
            raise ConfigError(
                f'a loss named "{name}" exists already ({_losses[name].paper.title}): choose another name.'
            )
        _losses[name] = Registered(name, function, paper, h)
        return function

    return remember


def get_loss(name: str) -> Registered:
    """Return a registered loss.

    Args:
        name: the function's name.

    Raises:
        ConfigError: no loss has that name.

    Example:
        >>> import limbeck.distill
        >>> get_loss("forward_kl").paper.arxiv
        '1503.02531'
    """
    if name not in _losses:
        raise ConfigError(f'unknown loss "{name}".{nearest(name, _losses)} Known: {", ".join(loss_names())}.')
    return _losses[name]


def loss_names() -> list[str]:
    """Names of all registered losses, sorted."""
    return sorted(_losses)
