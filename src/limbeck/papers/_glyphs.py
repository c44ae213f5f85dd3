"""Characters as pictures: digits and letters in the typefaces that a plotting library ships, read from its wheel."""

import io
from pathlib import PurePosixPath
from string import ascii_letters, digits
from typing import TYPE_CHECKING

import numpy as np

from limbeck.errors import LimbeckError
from limbeck.wheels import member_names, read_member

if TYPE_CHECKING:
    from limbeck.vision import Labelled

PACKAGE, FOLDER = "matplotlib", "matplotlib/mpl-data/fonts/ttf/"
CHARACTERS, SIDE, ROTATION, SHIFT, NOISE = digits + ascii_letters, 16, 10.0, 4, 0.08
WITHOUT_LETTERS = ("Siz", "cmex", "cmsy", "NonUni", "Display", "cmmi")
"""Parts of the names of typefaces of symbols."""


def glyphs(each: int, seed: int) -> "Labelled":
    """Return `each` noisy pictures [1, 16, 16] of every digit and letter, turned by up to 10° and moved by up to 2.

    Raises:
        LimbeckError: the wheel was not downloaded, or has no typefaces.
    """
    from PIL import Image, ImageDraw, ImageFont

    from limbeck.vision import labelled

    rng = np.random.default_rng([seed, 62])
    names = [name for name in member_names(PACKAGE) if name.startswith(FOLDER) and name.endswith(".ttf")]
    chosen = [n for n in sorted(names) if not any(part in PurePosixPath(n).name for part in WITHOUT_LETTERS)]
    if not chosen:
        raise LimbeckError(f"the wheel of {PACKAGE} has no typefaces. Download the pinned version with: make data")
    fonts = [ImageFont.truetype(io.BytesIO(read_member(PACKAGE, name)), 24) for name in chosen]
    pictures = []
    for character in CHARACTERS:
        for _ in range(each):
            page = Image.new("L", (48, 48))
            font = fonts[rng.integers(len(fonts))]
            ImageDraw.Draw(page).text((24, 24), character, 255, font, anchor="mm")
            turned = page.rotate(rng.uniform(-ROTATION, ROTATION), Image.Resampling.BILINEAR)
            x, y = rng.integers(-SHIFT, SHIFT + 1, 2).tolist()
            small = turned.crop((8 + x, 8 + y, 40 + x, 40 + y)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            pictures.append(np.asarray(small, float)[None] / 255 + rng.normal(0, NOISE, (1, SIDE, SIDE)))
    return labelled(np.stack(pictures), np.arange(len(CHARACTERS)).repeat(each), CHARACTERS, "characters")
