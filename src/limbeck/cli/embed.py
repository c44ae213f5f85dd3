"""`limbeck embed`: one embedding for a family of models, which can be cut at the size of any of them."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import limbeck as lb
from limbeck.cli.arguments import option, quantities, shown
from limbeck.errors import LimbeckError
from limbeck.files import write_bytes

Family = Annotated[list[Path], typer.Argument(help="Matrices [rows, width], .npy, .npz or .parquet; or model folders.")]
Fitted = Annotated[Path, typer.Argument(help="What limbeck embed fit wrote.")]
Texts = Annotated[Path | None, option("For model folders: a file with one text a line.")]
Layers = Annotated[Any, quantities("Of one model folder: the layers that are the family, as 1,3,6.")]
Pool = Annotated[str, option("Rows of texts: token, mean (a row a text) or first.")]


@shown()
def embed_fit(
    family: Family, out: Annotated[Path, option("File of what is fitted.")] = Path("family.safetensors"),
    texts: Texts = None, layers: Layers = None, pool: Pool = "token",
    regression: Annotated[str, option("pcr, linear or ridge.")] = "pcr",
    penalty: Annotated[float, option("Of ridge.")] = 1.0,
    chain: Annotated[str, option("consistent, or official as in the authors' code.")] = "consistent",
) -> Any:  # fmt: skip
    """Fit reverse distillation to embeddings of the same rows by models of growing width; no labels are needed.

    Example: limbeck embed fit family/*.npy --out family.safetensors

    Example: limbeck embed fit models/small models/large --texts corpus.txt

    Rows are read once, a batch at a time. Files and folders are sorted by width.
    """
    fitted = lb.embeddings.ReverseDistiller(regression, penalty, chain)  # type: ignore[arg-type]
    for batch in _batches(family, texts, layers, pool):
        fitted.partial_fit(batch)
    fitted.save(out)
    return fitted.to_dict() | {"saved": str(out)}, f"{fitted.summary()}\nsaved: {out}"


@shown()
def embed_apply(
    fitted: Fitted, family: Family, out: Annotated[Path, option("File of the vectors, .npy.")] = Path("vectors.npy"),
    width: Annotated[int | None, option("Cut at the model of this width; the largest given.")] = None,
    texts: Texts = None, layers: Layers = None, pool: Pool = "mean",
) -> Any:  # fmt: skip
    """Write the vectors of a fitted family: the smallest model's embedding, and what each larger one adds.

    Example: limbeck embed apply family.safetensors family/*.npy --width 640 --out vectors.npy
    """
    found = lb.embeddings.ReverseDistiller.load(fitted)
    if width not in (None, *found.widths_):
        raise LimbeckError(f"no model of the family has width {width}: choose one of {found.widths_}.")
    level = None if width is None else found.widths_.index(width)
    vectors = np.concatenate([found.transform(batch, level) for batch in _batches(family, texts, layers, pool)])
    np.save(file := BytesIO(), vectors)
    write_bytes(out, file.getvalue())
    said = "{} vectors of width {}".format(*vectors.shape)
    return {"vectors": str(out), "rows": len(vectors), "width": vectors.shape[1]}, f"{out}: {said}"


@shown()
def embed_assess(
    fitted: Fitted, family: Family,
    labels: Annotated[Path, option("File with one label a line: classes, or numbers with a fraction.")],
    texts: Texts = None, layers: Layers = None, pool: Pool = "mean",
) -> Any:  # fmt: skip
    """Say from a few labels whether the family gets worse with size, and whether to use the fitted vectors or raw ones.

    Example: limbeck embed assess family.safetensors labelled/*.npy --labels labels.txt
    """
    values = np.genfromtxt(labels.read_text().splitlines(), dtype=None, delimiter="\t")
    matrices = map(np.concatenate, zip(*_batches(family, texts, layers, pool), strict=True))
    return lb.embeddings.assess(lb.embeddings.ReverseDistiller.load(fitted), list(matrices), values)


def _batches(family: list[Path], texts: Path | None, layers: list[float] | None, pool: str) -> Iterable[list[Any]]:
    """Give the batches of a family, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    batches, count = lb.embeddings.open_family(family, texts, layers=[int(one) for one in layers or ()], pool=pool)
    console = Console(stderr=True)
    return track(batches, "embedding", total=count, console=console, disable=not console.is_terminal)
