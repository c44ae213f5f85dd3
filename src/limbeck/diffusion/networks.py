"""Networks inside a denoiser: a residual perceptron, and the U-Nets and transformers of diffusers."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from limbeck.diffusion.denoisers import Clock, Preconditioned
from limbeck.errors import ConfigError

TIME_SCALE = 1000.0
"""diffusers' models tell times by numbers up to about a thousand; its consistency pipelines multiply by this too."""
ANGLE_SCALE = 8.0
"""Of an angle: the derivative by the time grows with it."""
HIDDEN = -1e4
"""Added to an attention score, it leaves nothing."""


@dataclass(frozen=True)
class Sizes:
    """A network by its sizes.

    Args:
        width: of the residual perceptron; also of the convolutions of a U-Net at full resolution.
        blocks: residual blocks; of a U-Net, layers at each resolution.
        levels: resolutions of a U-Net, each half the one before and twice as wide; 0 for a perceptron.
        clock: what tells it the noise level, see `Preconditioned`; "angle" for consistency by tangents.
        heads: of a cross-attention to the classes after each block of a perceptron, by which a picture can be told
            several of them, see `ResidualPerceptron`; 0 tells one by modulation.
    """

    width: int = 256
    blocks: int = 3
    levels: int = 0
    clock: Clock = "log"
    heads: int = 0

    def build(
        self, shape: Sequence[int], classes: int = 0, data_std: float = 0.5, seed: int = 0, boundary: float = 0.0
    ) -> Preconditioned:
        """Return a denoiser that knows nothing yet: its network answers 0.

        Args:
            shape: of one picture or point.
            classes: that it is told; it then knows "no class" too.
            data_std: standard deviation of the data's values.
            seed: of the weights.
            boundary: see `Preconditioned`.

        Raises:
            ConfigError: sizes that are not positive, pictures too small for so many levels.

        Example:
            >>> denoiser = Sizes(width=16, blocks=1).build([2], classes=4)
            >>> denoiser(torch.zeros(3, 2), torch.ones(3), torch.tensor([0, 1, 4])).tolist()
            [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
        """
        if min(self.width, self.blocks) < 1 or min(self.levels, self.heads) < 0:
            raise ConfigError(f"width and blocks must be at least 1, levels and heads at least 0, got {self}")
        if self.heads and (self.width % self.heads or self.levels or not classes):
            raise ConfigError(f"heads: a perceptron with classes, of a width that they divide, has them, got {self}")
        if self.levels and (len(shape) != 3 or any(side % 2 ** (self.levels - 1) for side in shape[1:])):
            raise ConfigError(
                f"a U-Net of {self.levels} levels halves pictures {self.levels - 1} times: it cannot read "
                f"{list(shape)}. Use fewer levels, or levels: 0"
            )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            made = unet if self.levels else ResidualPerceptron
            return Preconditioned(made(shape, classes, self), data_std, boundary, self.clock)


class ResidualPerceptron(nn.Module):
    """A perceptron with residual blocks that the noise level and the class modulate.

        h <- h + SiLU(W (LayerNorm(h) (1 + a) + b)),  (a, b) = linear(SiLU(linear(Fourier(noise)) + class))

    With heads (`Sizes`) the class is no part of the modulation: after each block the hidden vector, one token, reads
    all classes that it is told, h <- h + attention(h, classes). Their order does not matter.

    The last layer begins at 0.

    Args:
        shape: of one picture or point; it is read as a vector.
        classes: that it is told; 0 for none.
        sizes: width and blocks of the residual trunk.
        clocks: numbers that tell the noise level, or the two ends of a jump (`TwoTimes`).
    """

    frequencies: Tensor

    def __init__(self, shape: Sequence[int], classes: int, sizes: Sizes, clocks: int = 1) -> None:
        super().__init__()
        self.shape, self.classes, self.sizes, self.clocks = list(shape), classes, sizes, clocks  # for folders
        size, width, blocks = math.prod(shape), sizes.width, range(sizes.blocks)
        slow, fast = torch.arange(1, 17) / 2, 2 * math.pi * torch.logspace(-2, 3, 16, base=2)
        self.register_buffer("frequencies", slow if sizes.clock == "angle" else fast, persistent=False)
        self.into, self.noise = nn.Linear(size, width), nn.Linear(32 * clocks, width)
        self.labels = nn.Embedding(classes + 1, width) if classes else None
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in blocks)
        self.modulations = nn.ModuleList(nn.Linear(width, 2 * width) for _ in blocks)
        self.maps = nn.ModuleList(nn.Linear(width, width) for _ in blocks)
        self.readers = nn.ModuleList(_reader(width, sizes.heads) for _ in (blocks if sizes.heads else ()))
        self.out = nn.Linear(width, size)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, noise: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map [B, ...] and the clocks, [B] or [B, clocks], to [B, ...].

        With heads, cond may be several classes, [B, n], of which those below 0 are padding.
        """
        angles = (noise.reshape(x.shape[0], -1, 1) * self.frequencies).flatten(1)
        told, prompt = self.noise(torch.cat([angles.sin(), angles.cos()], 1)), {}
        if self.labels is not None:
            none = self.labels.num_embeddings - 1
            cond = x.new_full(x.shape[:1], none, dtype=torch.long) if cond is None else cond
            if self.readers:
                tokens, mask = self.read(cond)
                prompt = {"encoder_hidden_states": tokens, "attention_mask": HIDDEN * ~mask[:, None]}
            else:
                told = told + self.labels(cond)
        told, h = silu(told), self.into(x.flatten(1))
        for k, (norm, modulation, map_) in enumerate(zip(self.norms, self.modulations, self.maps, strict=True)):
            a, b = modulation(told).chunk(2, 1)
            h = h + silu(map_(norm(h) * (1 + a) + b))
            h = h + self.readers[k](h[:, None], **prompt)[:, 0] if prompt else h
        return self.out(h).reshape(x.shape)  # type: ignore[no-any-return]

    def read(self, cond: Tensor) -> tuple[Tensor, Tensor]:
        """Return what attention reads of classes, [B] or [B, n]: [B, n, width], and which count, bool [B, n]."""
        assert self.labels is not None
        cond = cond.reshape(len(cond), -1)
        return self.labels(cond.clamp(min=0)), cond >= 0


def _reader(width: int, heads: int) -> nn.Module:
    """Cross-attention of one token to classes; that of diffusers, for `negative`."""
    from diffusers.models.attention_processor import Attention

    made: nn.Module = Attention(width, width, heads=heads, dim_head=width // heads)
    return made


class Diffusers(nn.Module):
    """A `UNet2DModel`, `DiTTransformer2DModel` or their like, called as limbeck calls networks.

    Args:
        model: called as `model(x, time, class_labels=...)`; its answer has `.sample`.
        time_scale: multiplies the time.
        classes: that the model is told; the label after them stands for "no class".
    """

    def __init__(self, model: nn.Module, time_scale: float = TIME_SCALE, classes: int = 0) -> None:
        super().__init__()
        self.model, self.time_scale, self.classes = model, time_scale, classes

    def forward(self, x: Tensor, time: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map [B, C, H, W] and [B] to [B, C, H, W]; a variance that the model predicts too is left out."""
        told: dict[str, Tensor] = {}
        if self.classes:
            told = {"class_labels": torch.full_like(time, self.classes, dtype=torch.long) if cond is None else cond}
        answer: Tensor = self.model(x, self.time_scale * time, **told).sample
        return answer[:, : x.shape[1]]


def unet(shape: Sequence[int], classes: int, sizes: Sizes) -> Diffusers:
    """Return a `UNet2DModel` of these sizes, with attention at its lowest resolution, whose last layer is 0."""
    from diffusers import UNet2DModel

    widths = [sizes.width * 2**k for k in range(sizes.levels)]
    last = sizes.levels - 1
    made: dict[str, Any] = {
        "sample_size": tuple(shape[1:]), "in_channels": shape[0], "out_channels": shape[0],
        "block_out_channels": widths, "layers_per_block": sizes.blocks, "norm_num_groups": math.gcd(8, sizes.width),
        "attention_head_dim": math.gcd(32, widths[-1]), "num_class_embeds": classes + 1 if classes else None,
        "down_block_types": ["AttnDownBlock2D" if k == last else "DownBlock2D" for k in range(sizes.levels)],
        "up_block_types": ["AttnUpBlock2D" if k == 0 else "UpBlock2D" for k in range(sizes.levels)],
    }  # fmt: skip
    model = UNet2DModel(**made)
    nn.init.zeros_(model.conv_out.weight)
    nn.init.zeros_(model.conv_out.bias)
    return Diffusers(model, TIME_SCALE if sizes.clock == "log" else ANGLE_SCALE, classes)
