"""What networks say about a noisy picture, and how to say it otherwise."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from limbeck.errors import ConfigError

Kind = Literal["x0", "eps", "v", "u", "score"]
"""x0: the clean picture; eps: the noise; v = a eps - b x0; u = eps - x0; score = -eps / b."""


@dataclass(frozen=True)
class Prediction:
    """What a network says at x = a x0 + b eps, which can be said in every kind.

    Every kind but x0 is a mix of x0 and eps; with x it makes two linear equations for the two:
    x0 = (x - b eps) / a = (a x - b v) / (a^2 + b^2) = (x - b u) / (a + b) = (x + b^2 score) / a.

    Args:
        kind: of `value`: x0, eps, v, u, score.
        value: what was said, [B, ...].
        x: the noisy picture, [B, ...].
        a: share of the picture, a tensor that broadcasts with x.
        b: share of the noise.

    Example:
        >>> import torch
        >>> x0, eps, a, b = torch.tensor([2.0]), torch.tensor([1.0]), torch.tensor(0.8), torch.tensor(0.6)
        >>> Prediction("u", eps - x0, a * x0 + b * eps, a, b).to("x0")
        tensor([2.])
    """

    kind: Kind
    value: Tensor
    x: Tensor
    a: Tensor
    b: Tensor

    def to(self, kind: Kind) -> Tensor:
        """Say it in another kind; the same kind is returned as it is.

        Raises:
            ConfigError: x0 from a kind that only knows the noise where there is no picture (a = 0), or the noise from
                x0 where there is none (b = 0).
        """
        value, x, a, b = self.value, self.x, self.a, self.b
        match self.kind, kind:
            case have, wanted if have == wanted:
                return value
            case "v", "x0":
                return (a * x - b * value) / (a**2 + b**2)
            case "u", "x0":
                return (x - b * value) / (a + b)
            case _, "x0":
                return (x - b * self.to("eps")) / self._some(a, "picture", kind)
            case "v", "eps":
                return (b * x + a * value) / (a**2 + b**2)
            case "u", "eps":
                return (x + a * value) / (a + b)
            case "score", "eps":
                return -b * value
            case _, "eps":
                return (x - a * value) / self._some(b, "noise", kind)
            case _, "v":
                return a * self.to("eps") - b * self.to("x0")
            case _, "u":
                return self.to("eps") - self.to("x0")
        return -self.to("eps") / self._some(b, "noise", kind)

    def _some(self, share: Tensor, what: str, kind: Kind) -> Tensor:
        if bool((share < 1e-9).any()):  # cos(pi / 2) is 6e-17
            raise ConfigError(
                f"{self.kind} cannot be turned into {kind} where x holds no {what}: stay off that end of the schedule, "
                "or use a network that predicts v or u"
            )
        return share

    def ode_velocity(self, da: Tensor, db: Tensor) -> Tensor:
        """Velocity of the picture along the flow of probability: dx/dt = a' x0 + b' eps.

        Args:
            da: a', derivative of a by the time.
            db: b'.

        Example:
            >>> import torch
            >>> one, half = torch.tensor(1.0), torch.tensor(0.5)  # a = 1 - t, b = t at t = 1/2: dx/dt = u
            >>> Prediction("x0", 2 * one, 0.5 * 2 * one, half, half).ode_velocity(-one, one)
            tensor(-2.)
        """
        return da * self.to("x0") + db * self.to("eps")
