"""How a network's answer changes along the ODE: the derivative that continuous consistency needs."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from limbeck.diffusion.denoisers import spread
from limbeck.diffusion.tangent_attention import tangent_attention
from limbeck.errors import ConfigError, TrainingError

TangentMode = Literal["exact", "finite", "semi", "discrete"]
H = 1e-4
STEP = 1e-3
TOLERANCE = 0.05


Field = Callable[[Tensor, Tensor], Tensor]
"""F(x, t) of the shape of x; what else it knows is held fixed."""


@torch.no_grad()
def tangent(
    field: Field, x: Tensor, t: Tensor, slope: Tensor, scale: Tensor, mode: TangentMode = "exact"
) -> tuple[Tensor, Tensor]:
    """Return F and J = scale dF/dt along the ODE, without gradients.

        dF/dt = dF/dx . dx/dt + partial dF/dt;  the scale goes into the tangents, which keeps them small

    exact: `torch.func.jvp`. finite: central differences. semi: exact in x, and in t the backward difference
    scale (cos(h) F(x, t) - F(x, t - h)) / sin(h). discrete: that difference between t and the step of the ODE before.
    The cos(h) of the last two, which is in the authors' code, costs an error of h / 2 |F|, h = 1e-4.

    Args:
        field: F.
        x: where, [B, ...].
        t: when, float64 [B].
        slope: dx/dt there, [B, ...].
        scale: [B], cos(t) sin(t) for consistency.
        mode: how; all but "exact" and "semi" work with every network.

    Raises:
        ConfigError: the network has a part without a forward derivative.

    Example:
        >>> t, x = torch.tensor([0.5], dtype=torch.float64), torch.tensor([[3.0]])
        >>> tangent(lambda x, t: x**2 + t[:, None].float(), x, t, slope=torch.ones(1, 1), scale=torch.tensor([0.1]))
        (tensor([[9.5000]]), tensor([[0.7000]]))

    Source: Lu, Song, Simplifying, Stabilizing and Scaling Continuous-Time Consistency Models (2024), arXiv 2410.11081;
        semi and discrete: Zheng et al. (2025), arXiv 2510.08431.
    """
    along, clock = spread(scale, x) * slope, scale.to(t.dtype)
    if mode == "finite":
        ahead, behind = (field(x + e * along, t + e * clock) for e in (STEP, -STEP))
        return field(x, t), (ahead - behind) / (2 * STEP)
    h = torch.full_like(t, H)
    if mode == "discrete":
        here, before = field(x, t), field(spread(h.cos(), x) * x - spread(h.sin(), x) * slope, t - h)
        return here, spread(scale / h.sin(), x) * (spread(h.cos(), x) * here - before)
    try:
        ticking = clock if mode == "exact" else torch.zeros_like(clock)
        with tangent_attention():
            pair = torch.func.jvp(field, (x, t), (along, ticking))
    except NotImplementedError as error:
        raise ConfigError(
            f"this network cannot be differentiated forwards ({str(error).splitlines()[0][:120]}): fused attention has "
            "no such derivative where limbeck.diffusion.tangent_attention cannot take its place, as in "
            'nn.MultiheadAttention. Use mode="finite", or run the training within '
            "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
        ) from error
    here, moved = pair[0], pair[1]
    if mode == "semi":
        moved = moved + spread(scale / h.sin(), x) * (spread(h.cos(), x) * here - field(x, t - h))
    return here, moved


def check_tangent(field: Field, x: Tensor, t: Tensor, slope: Tensor, scale: Tensor) -> float:
    """Compare the exact tangent with central differences, and return the relative difference.

    Args:
        field, x, t, slope, scale: see `tangent`.

    Raises:
        ConfigError: there is no exact tangent.
        TrainingError: the two differ by more than 5 %.
    """
    here, exact = tangent(field, x, t, slope, scale)
    _, finite = tangent(field, x, t, slope, scale, "finite")
    apart, finite, here = ((exact - finite).nan_to_num(), finite.nan_to_num(), here.nan_to_num())
    error = float(apart.norm() / (finite.norm() + STEP * here.norm()).clamp(min=1e-12))
    if not error < TOLERANCE:
        raise TrainingError(
            f"the network's tangent by torch.func.jvp and by differences do not agree (relative difference {error:.2g})"
            ": a part of it drops tangents (in-place operations, .item()), or answers anew at every call (dropout). "
            'Use mode="finite", and leave dropout out'
        )
    return error
