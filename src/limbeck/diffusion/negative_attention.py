"""Negative prompts inside cross-attention: what a generator of one step can do where guidance cannot."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from limbeck.errors import ConfigError


def nasa(plus: Tensor, minus: Tensor, alpha: float) -> Tensor:
    """Return Z+ - alpha Z-; nothing is rescaled.

    Args:
        plus, minus: what the image reads in the prompt and in the negative prompt, [B, positions, width].
        alpha: strength.

    Example:
        >>> import torch
        >>> nasa(torch.ones(1, 1, 1), torch.ones(1, 1, 1), 0.25).item()
        0.75

    Source: Nguyen et al., SNOOPI: Supercharged One-step Diffusion Distillation with Proper Guidance (2024), arXiv
        2412.02687.
    """
    return plus - alpha * minus


@dataclass(frozen=True)
class Normalised:
    """Normalised attention guidance (NAG): away from the negative, by a bounded distance.

        Z = Z+ + phi (Z+ - Z-);  Z <- Z min(1, tau |Z+| / |Z|);  blend Z + (1 - blend) Z+,  |.| a position's L1 norm

    Both defaults are those of common ports, which call phi + 1 the scale (reconstructed: no text of the authors that
    states them was read).

    Args:
        tau: largest growth of the norm.
        blend: share of the result.

    Example:
        >>> import torch
        >>> Normalised(tau=2.0, blend=1.0)(torch.ones(1, 1, 1), -torch.ones(1, 1, 1), 4.0).item()
        2.0

    Source: Chen et al., Normalized Attention Guidance (2025), arXiv 2505.21179.
    """

    tau: float = 2.5
    blend: float = 0.25

    def __call__(self, plus: Tensor, minus: Tensor, phi: float) -> Tensor:
        """Return the mixture, see `nasa` for the arguments."""
        far = plus + phi * (plus - minus)
        size, most = (one.abs().sum(-1, keepdim=True) for one in (far, self.tau * plus))
        far = far * (most / size).nan_to_num(1.0).clamp(max=1.0)  # 0 / 0: nothing to shrink
        return self.blend * far + (1 - self.blend) * plus


@contextmanager
def negative(
    model: nn.Module,
    c_minus: Tensor,
    alpha: float,
    mask: Tensor | None = None,
    combine: Callable[[Tensor, Tensor, float], Tensor] = nasa,
) -> Iterator[None]:
    """Push a negative prompt out of every cross-attention of a model while the context lasts.

        Z+ = softmax(Q K+^T / sqrt(d)) V+,  Z- = softmax(Q K-^T / sqrt(d)) V-,  to_out(Z+ - alpha Z-)

    Queries and projections are those of the prompt: only K, V and the softmax of the negative are computed in
    addition. Strengths do not carry over from one network to another; the paper's best are 0.04 to 0.3 for students
    of Stable Diffusion and 0.8 for one of PixArt.

    Args:
        model: its cross-attentions are `diffusers` modules `Attention`.
        c_minus: the negative prompt, [B or 1, tokens, width], as the model reads prompts.
        alpha: strength; at 0 the second attention is not computed, and the output is that of the model alone.
        mask: which tokens of the negative count, bool [B or 1, tokens]; all by default.
        combine: `nasa`, or `Normalised()`, whose strength is phi.

    Raises:
        ConfigError: the model has no cross-attention.

    Example:
        >>> import torch
        >>> from diffusers.models.attention_processor import Attention
        >>> layer, x, prompt = Attention(8, 4, heads=2, dim_head=4), torch.ones(1, 3, 8), torch.ones(1, 2, 4)
        >>> with negative(layer, prompt, alpha=1.0):  # a prompt minus itself: only the bias of to_out is left
        ...     print(bool(torch.allclose(layer(x, prompt), layer.to_out[0].bias.expand(1, 3, 8))))
        True

    Source: as `nasa`, whose weights this has by default.
    """
    layers = [one for one in model.modules() if getattr(one, "is_cross_attention", False)]
    if not layers:
        raise ConfigError(f"{type(model).__name__} has no cross-attention of diffusers: no prompt to take away from")
    with ExitStack() as hooks:
        for layer in layers if alpha else []:
            side = _Side(layer, c_minus, alpha, mask, combine)
            hooks.callback(layer.to_q.register_forward_hook(side.hear).remove)  # type: ignore[union-attr]
            hooks.callback(layer.to_out[0].register_forward_pre_hook(side.mix).remove)  # type: ignore[index, union-attr]
        yield


@dataclass
class _Side:
    """The negative half of one attention: hears the queries, changes what is handed to the output projection."""

    layer: Any
    c_minus: Tensor
    alpha: float
    mask: Tensor | None
    combine: Callable[[Tensor, Tensor, float], Tensor]
    queries: Any = None

    def hear(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.queries = output

    def mix(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        layer, text = self.layer, self.c_minus
        text = layer.norm_encoder_hidden_states(text) if layer.norm_cross else text
        q, k, v = (one.unflatten(-1, (layer.heads, -1)).transpose(1, 2)
                   for one in (self.queries, layer.to_k(text), layer.to_v(text)))  # fmt: skip
        q, k = (q if layer.norm_q is None else layer.norm_q(q)), (k if layer.norm_k is None else layer.norm_k(k))
        k, v = (one.expand(len(q), -1, -1, -1) for one in (k, v))
        mask = None if self.mask is None else self.mask[:, None, None, :]
        minus = scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        return (self.combine(args[0], minus, self.alpha), *args[1:])
