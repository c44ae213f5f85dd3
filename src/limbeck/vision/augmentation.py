"""The same random change of a picture for teacher and student, and again whenever it is asked for."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from limbeck.errors import ConfigError


@lru_cache(maxsize=4)
def _draws(seed: int, view: int, size: int) -> NDArray[np.float64]:
    return np.random.default_rng([seed, view]).random((size, 7))


@dataclass(frozen=True)
class Augmentation:
    """Random changes of pictures [N, C, H, W]; a change is a pure function of the example, the view and the seed.

    Args:
        shift: largest shift, as a share of height and width.
        rotate: largest rotation, degrees.
        scale: largest relative change of size.
        flip: mirror every other picture.
        erase: side of a square that is set to 0, as a share of height and width.
        views: different changes of a picture, taken in turn; 0 for a new one in every epoch.

    Raises:
        ConfigError: a share outside 0 to 1.

    Example:
        >>> pictures = torch.rand(3, 1, 8, 8)
        >>> once, again = (Augmentation(shift=0.2)(pictures, torch.arange(3), view=4, seed=0) for _ in range(2))
        >>> bool((once == again).all()), bool((once == pictures).all())
        (True, False)
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    flip: bool = False
    erase: float = 0.0
    views: int = 0

    def __post_init__(self) -> None:
        if not all(0 <= share < 1 for share in (self.shift, self.scale, self.erase)) or self.rotate < 0:
            raise ConfigError(f"shift, scale and erase are shares from 0 to 1, rotate degrees from 0; got {self}")

    def view(self, epoch: int) -> int:
        """Which view an epoch sees."""
        return epoch % self.views if self.views else epoch

    def __call__(self, pictures: Tensor, rows: Tensor, view: int, seed: int) -> Tensor:
        """Return the view of the examples of these rows.

        Args:
            pictures: [n, C, H, W].
            rows: their place in the data, [n]: another batch gives them the same view.
            view: number of the view.
            seed: of all draws.
        """
        if self == Augmentation(views=self.views):
            return pictures
        if pictures.ndim != 4:
            raise ConfigError(f"only pictures [N, C, H, W] can be augmented, got inputs {list(pictures.shape)}")
        size = 1 << int(rows.max()).bit_length()  # a longer draw begins with a shorter one
        u = torch.from_numpy(2 * _draws(seed, view, size)[rows.cpu().numpy()] - 1).to(pictures)
        angle, zoom = math.radians(self.rotate) * u[:, 0], 1 + self.scale * u[:, 1]
        mirror = torch.where(u[:, 2] < 0, -1.0, 1.0) if self.flip else torch.ones_like(angle)
        cos, sin = angle.cos() / zoom, angle.sin() / zoom
        lines = [[mirror * cos, -sin, 2 * self.shift * u[:, 3]], [mirror * sin, cos, 2 * self.shift * u[:, 4]]]
        moved = torch.stack([torch.stack(row, -1) for row in lines], 1)
        grid = F.affine_grid(moved, list(pictures.shape), align_corners=False)
        seen = F.grid_sample(pictures, grid, align_corners=False)
        x, y = (torch.linspace(-1, 1, side, device=seen.device) for side in (seen.shape[-1], seen.shape[-2]))
        across, down = ((axis - u[:, [k]]).abs() < self.erase for axis, k in ((x, 5), (y, 6)))
        return torch.where((down[:, :, None] & across[:, None])[:, None], 0.0, seen)
