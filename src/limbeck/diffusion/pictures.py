"""Generated pictures on one sheet, the ways of samples through the plane, and quality against updates."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from limbeck.diffusion.denoisers import Preconditioned, Translated, spread
from limbeck.diffusion.features import to_pixels
from limbeck.diffusion.mixtures import Mixture
from limbeck.errors import ConfigError, nearest
from limbeck.files import write_bytes
from limbeck.fitting.picture import ACCENT, chart

TILE, GAP, MARGIN = 32, 2, 12
"""Pixels: smallest side of a shown picture, space between two, letter height of row names."""


def grid(samples: Tensor, columns: int = 10) -> Image.Image:
    """Return pictures in rows on a white sheet; small ones are enlarged by a whole factor to at least 32 pixels.

    Args:
        samples: pictures from -1 to 1, [n, 1 or 3, H, W].
        columns: pictures in a row.

    Raises:
        ConfigError: something else than pictures, or none.

    Example:
        >>> grid(torch.zeros(3, 1, 8, 8), columns=2).size
        (70, 70)
    """
    if samples.ndim != 4 or samples.shape[1] not in (1, 3) or not len(samples) or columns < 1:
        raise ConfigError(f"pictures must be [n, 1 or 3, H, W], in at least one column; got {list(samples.shape)}")
    factor = -(-TILE // min(samples.shape[2:]))
    x = (255 * to_pixels(samples.detach().cpu().float())).round().byte().expand(-1, 3, -1, -1)
    x = x.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    high, wide = x.shape[2] + GAP, x.shape[3] + GAP
    rows = -(-len(x) // columns)
    sheet = torch.full((rows * high + GAP, columns * wide + GAP, 3), 255, dtype=torch.uint8)
    for index, picture in enumerate(x):
        top, left = GAP + index // columns * high, GAP + index % columns * wide
        sheet[top : top + high - GAP, left : left + wide - GAP] = picture.permute(1, 2, 0)
    return Image.fromarray(sheet.numpy())


def save_grid(path: Path | str, samples: Tensor | Image.Image, columns: int = 10) -> Path:
    """Write pictures, or a sheet that is ready, as a PNG file that is whole or not there; return its path."""
    sheet = samples if isinstance(samples, Image.Image) else grid(samples, columns)
    content = io.BytesIO()
    sheet.save(content, format="PNG")
    return write_bytes(path, content.getvalue())


def contact_sheet(rows: Mapping[str, Tensor]) -> Image.Image:
    """Return several samples below each other, one row each, its name at the left.

    Args:
        rows: pictures from -1 to 1 by name ("teacher", "student, 1 step", "data"), [n, 1 or 3, H, W] each.

    Raises:
        ConfigError: no rows, or see `grid`.

    Example:
        >>> contact_sheet({"data": torch.zeros(4, 1, 8, 8), "student": torch.ones(4, 1, 8, 8)}).height
        72
    """
    if not rows:
        raise ConfigError("a contact sheet needs at least one row of pictures")
    strips = [grid(samples, len(samples)) for samples in rows.values()]
    font = ImageFont.load_default(MARGIN)
    left = int(max(font.getlength(name) for name in rows)) + MARGIN
    size = (left + max(strip.width for strip in strips), sum(strip.height for strip in strips))
    sheet, top = Image.new("RGB", size, "white"), 0
    for name, strip in zip(rows, strips, strict=True):
        sheet.paste(strip, (left, top))
        ImageDraw.Draw(sheet).text((MARGIN // 2, top + strip.height / 2), name, fill="black", font=font, anchor="lm")
        top += strip.height
    return sheet


@torch.no_grad()
def ways(model: nn.Module, data_std: float, sample: Callable[[], Tensor]) -> Tensor:
    """Return what the denoisers in a model are shown while it samples, and the samples, [calls + 1, n, ...].

    What is shown at noise level sigma is divided by sqrt(1 + sigma^2 / data_std^2), so that all of it fits one picture.

    Args:
        model: a teacher or a student.
        data_std: of the data's values.
        sample: what it does.

    Example:
        >>> from limbeck.diffusion.mixtures import mixture
        >>> law = mixture("ring8")
        >>> round(ways(law, 1.0, lambda: law(torch.full((1, 2), 3.0), torch.full((1,), 3.0)))[0, 0, 0].item(), 3)
        0.949
    """
    seen = list[Tensor]()

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        x, sigma = given[:2]
        seen.append(x / spread((1 + (sigma / data_std) ** 2).sqrt(), x))

    denoisers = [one for one in model.modules() if isinstance(one, Preconditioned | Translated | Mixture)]
    hooks = [one.register_forward_pre_hook(note) for one in denoisers]
    try:
        end = sample()
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack([*seen, end.to(seen[0])])


def trajectory_figure(law: Mixture, paths: Tensor, who: str = "", points: int = 1500, seed: int = 0) -> Any:
    """Return the ways of samples through the plane, over points of the law, as a plotly figure.

    Args:
        law: in two dimensions.
        paths: where each sample is after every step, [steps, n, 2]; see `ways`.
        who: makes the samples.
        points: of the law, shown light.
        seed: of those.

    Raises:
        ConfigError: paths of another shape.
    """
    if paths.ndim != 3 or paths.shape[2] != 2:
        raise ConfigError(f"paths must be [steps, n, 2], got {list(paths.shape)}")
    where = paths.detach().cpu().double().numpy()
    real = law.sample(points, seed)[0].numpy()
    # one trace for all lines: a gap parts two samples
    lines = np.concatenate([where, np.full_like(where[:1], np.nan)]).transpose(1, 0, 2).reshape(-1, 2)

    def dots(name: str, at: Any, colour: str, size: int) -> dict[str, Any]:
        marker = {"color": colour, "size": size}
        return {"name": name, "x": at[:, 0], "y": at[:, 1], "mode": "markers", "marker": marker}

    thin = {"width": 0.7, "color": ACCENT}
    traces = [
        dots("data", real, "lightgrey", 4),
        {"name": "paths", "x": lines[:, 0], "y": lines[:, 1], "mode": "lines", "line": thin, "opacity": 0.5},
        dots("end", where[-1], ACCENT, 5),
    ]
    steps = len(where) - 1
    title = f"{who}: {where.shape[1]} samples in {steps} step{'s' * (steps > 1)}".removeprefix(": ")
    return chart(title, "x", "y", traces).update_yaxes(scaleanchor="x")


def progress_figure(
    runs: Mapping[str, Mapping[int, Mapping[str, float]]], metric: str, floor: float | None = None
) -> Any:
    """Return a metric against updates of the student, a line for each run, as a plotly figure.

    Args:
        runs: judgements by updates, `judged` of a distillation, by name of the run.
        metric: which number of them.
        floor: what real data would get, dashed.

    Raises:
        ConfigError: no run has that metric.

    Example:
        >>> figure = progress_figure({"dmd": {100: {"jsd": 0.3}, 200: {"jsd": 0.1}}}, "jsd", floor=0.01)
        >>> figure.data[0].y
        (0.3, 0.1)
    """
    curves = {
        name: {at: said[metric] for at, said in judged.items() if metric in said} for name, judged in runs.items()
    }
    if not any(curves.values()):
        known = sorted({one for judged in runs.values() for said in judged.values() for one in said})
        raise ConfigError(f'no run has "{metric}".{nearest(metric, known)} They have: {", ".join(known) or "nothing"}')
    lines = {"mode": "lines+markers"}
    traces = [{"name": name, "x": [*own], "y": [*own.values()]} | lines for name, own in curves.items()]
    figure = chart(f"{metric} while the students learn", "updates of the student", metric, traces, log="y")
    if floor is not None:
        figure.add_hline(y=floor, line_dash="dash", line_color="grey", annotation_text="floor: real data")
    return figure
